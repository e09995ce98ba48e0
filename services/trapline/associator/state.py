"""All that the associator remembers between images."""

from __future__ import annotations

from dataclasses import dataclass, field

from trapline.associator.catalogue import Catalogue
from trapline.associator.coverage import Band, Coverage
from trapline.associator.statistics import BandStatistics


@dataclass(slots=True)
class Sky:
    """What is known of one dataset."""

    catalogue: Catalogue = field(default_factory=Catalogue)
    bands: dict[Band, BandStatistics] = field(default_factory=dict[Band, BandStatistics])
    coverage: Coverage = field(default_factory=Coverage)
    watermark_us: int | None = None
    """newest start of a measured image, microseconds since 1970-01-01 UTC"""
    n_measured: int = 0
    """images measured so far: numbers them in the order of folding"""


@dataclass(slots=True)
class AssociatorState:
    """The state of the fold: `step` changes it, a snapshot holds it."""

    skies: dict[str, Sky] = field(default_factory=dict[str, Sky])
    """by name of the dataset"""
    folded: dict[bytes, None] = field(default_factory=dict[bytes, None])
    """ids of the images folded, in that order"""

    def remember(self, image_id: bytes, limit: int) -> None:
        """Note that an image was folded, and forget the one folded longest ago when there are more than `limit`."""
        self.folded[image_id] = None
        if len(self.folded) > limit:
            del self.folded[next(iter(self.folded))]
