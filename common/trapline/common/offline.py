"""Keeps astropy off the network: a telescope's computer may have none, and no image waits for a download.

Astropy looks for newer tables of leap seconds and of the Earth's rotation once its own are half a year old, that is, on
every machine that is not updated twice a year. Leap seconds are announced half a year ahead, so that a newer astropy
has them; the Earth's rotation enters nothing that we compute. Imported for what it does by whatever uses times or
frames of astropy.
"""

from __future__ import annotations

from astropy.utils import iers

iers.conf.auto_download = False
