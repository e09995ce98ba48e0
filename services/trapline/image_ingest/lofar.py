"""The noise that a LOFAR image cannot be below: thermal, of the stations that took part.

After ASTRON's page on the sensitivity of the array, and Nijboer, Pandey-Pommier & de Bruyn 2009 (arXiv:1308.4267).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

C_M_S = 299_792_458.0
BOLTZMANN = 1.380649e-23
JANSKY = 1e-26

SKY_K = 60.0
"""brightness temperature of the sky at 1 m, at galactic latitudes above 10 deg"""

# Effective area (m2) of a Dutch station's low-band selections (ASTRON's table 1): each dipole has its share of the
# ground, or a third of the wavelength squared where that is less.
_LBA_MHZ = (15.0, 30.0, 45.0, 60.0, 75.0)
_LBA_M2 = {
    "LBA_INNER": (419.77, 419.77, 415.37, 347.37, 239.67),
    "LBA_OUTER": (1973.4, 1343.5, 693.61, 398.18, 256.00),
    "LBA_SPARSE": (1148.6, 869.14, 558.64, 371.19, 247.43),
}
_LBA_INTERNATIONAL_DIPOLES = 96
# The receiver adds this fraction of the sky's temperature in the low band (MHz), and so much in the high band.
_LBA_RECEIVER = ((10.0, 40.0, 55.0, 70.0, 80.0, 90.0), (0.1, 0.7, 0.9, 0.6, 0.3, 0.0))
_HBA_RECEIVER_K = 200.0
_HBA_ELEMENT_M2 = 1.5625
_HBA_ELEMENTS = {"core": 24 * 16, "remote": 48 * 16, "international": 96 * 16}


@dataclass(frozen=True, slots=True)
class Stations:
    """What observed: the selection of antennas, and how many stations of each kind."""

    antenna_set: str
    """LBA_INNER, LBA_OUTER, LBA_SPARSE..., or HBA..."""
    core: int
    remote: int
    international: int = 0


def thermal_noise_jy(stations: Stations, freq_hz: float, bandwidth_hz: float, exposure_s: float) -> float | None:
    """Return the noise of a naturally weighted image of both polarisations, in Jy/beam.

    None when it cannot be said: fewer than two stations, no bandwidth, no exposure, or unknown antennas.
    """
    count = {"core": stations.core, "remote": stations.remote, "international": stations.international}
    if bandwidth_hz <= 0 or exposure_s <= 0 or freq_hz <= 0 or min(count.values()) < 0 or sum(count.values()) < 2:
        return None
    inverse = {}
    for kind, number in count.items():
        area = effective_area_m2(stations.antenna_set, kind, freq_hz)
        if area is None:
            return None
        inverse[kind] = (number, 1.0 / sefd_jy(area, freq_hz))
    # The sum over all pairs of stations of 1 / (SEFD_i SEFD_j).
    total = sum(number * one for number, one in inverse.values())
    pairs = (total**2 - sum(number * one**2 for number, one in inverse.values())) / 2
    return 1.0 / math.sqrt(4 * bandwidth_hz * exposure_s * pairs)


def sefd_jy(area_m2: float, freq_hz: float) -> float:
    """Return the system equivalent flux density of a station of this effective area."""
    sky = SKY_K * (C_M_S / freq_hz) ** 2.55
    low = freq_hz < 100e6
    receiver = sky * float(np.interp(freq_hz / 1e6, *_LBA_RECEIVER)) if low else _HBA_RECEIVER_K
    return float(2 * BOLTZMANN * (sky + receiver) / area_m2 / JANSKY)


def effective_area_m2(antenna_set: str, kind: str, freq_hz: float) -> float | None:
    """Return the effective area of a core, remote or international station; None for antennas we do not know."""
    wavelength = C_M_S / freq_hz
    name = antenna_set.strip().upper()
    if name.startswith("HBA"):
        return _HBA_ELEMENTS[kind] * min(wavelength**2 / 3, _HBA_ELEMENT_M2)
    if not name.startswith("LBA"):
        return None
    table = next((areas for known, areas in _LBA_M2.items() if name.startswith(known)), _LBA_M2["LBA_OUTER"])
    dutch = float(np.exp(np.interp(np.log(freq_hz / 1e6), np.log(_LBA_MHZ), np.log(table))))
    return _LBA_INTERNATIONAL_DIPOLES / 48 * dutch if kind == "international" else dutch
