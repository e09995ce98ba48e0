"""What really was in an image, for whoever wants to know how well it was measured."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from trapline.simulator.config import SimulatorConfig
from trapline.simulator.sky import Catalogue, fixed_sources
from trapline.simulator.telescope import Pointing
from trapline.simulator.transients import transients_until

IN_IMAGE = np.dtype(
    [
        ("name", "U16"),
        ("kind", "U9"),
        ("ra_deg", "f8"),
        ("dec_deg", "f8"),
        ("x", "f8"),
        ("y", "f8"),
        ("flux_jy", "f8"),
    ]
)

UNITS = {
    "ra_deg": "deg",
    "dec_deg": "deg",
    "flux_jy": "Jy",
    "period_s": "s",
    "phase_rad": "rad",
}


@dataclass(frozen=True, slots=True)
class Truth:
    """One image without its noise: when, where, and the sources that shine in it.

    `sources` has the columns of `IN_IMAGE`: ICRS positions, 0-based pixels, and flux densities in Jy, which are also
    the peaks in Jy/beam, since all sources are points. Sources whose centre is off the array or below the horizon are
    left out.
    """

    band: int
    frame: int
    freq_hz: float
    t_start_us: int
    exposure_s: float
    pointing: Pointing
    rms_jy_per_beam: float
    sources: Catalogue

    def to_json(self) -> str:
        """Return one line of JSON, sources by columns."""
        sources = self.sources
        return json.dumps(
            {
                "frame": self.frame,
                "band": self.band,
                "freq_hz": self.freq_hz,
                "t_start_us": self.t_start_us,
                "exposure_s": self.exposure_s,
                "centre_ra_deg": self.pointing.ra_deg,
                "centre_dec_deg": self.pointing.dec_deg,
                "rms_jy_per_beam": self.rms_jy_per_beam,
                "transients_on": sources["name"][sources["kind"] == "transient"].tolist(),
                "sources": {name: sources[name].tolist() for name in IN_IMAGE.names or ()},
            },
            allow_nan=False,
        )


def catalogue_table(config: SimulatorConfig, frames: int) -> Table:
    """Return the steady and variable sources and the transients of the first `frames` frames, units included.

    The configuration is in the table's `meta`: with it, every image can be made again.
    """
    sources = np.concatenate([fixed_sources(config), transients_until(config, frames)])
    return Table(sources, units=UNITS, meta={"frames": frames, "config": config.model_dump(mode="json")})
