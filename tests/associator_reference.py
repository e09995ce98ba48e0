"""The associator as slow and obvious as can be: Python objects, every pair, every image, sums over all points."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from astropy import units as u
from astropy_healpix import HEALPix

from trapline.common.region import covers
from trapline.schemas.image import Image


@dataclass
class Measurement:
    ra: float
    dec: float
    ew: float
    ns: float
    flux: float
    flux_err: float
    band: str
    source: bytes


@dataclass
class Star:
    name: bytes
    points: list[Measurement] = field(default_factory=list)

    def position(self) -> tuple[float, float, float, float]:
        """Return the weighted mean (ra, dec, error east-west, error north-south) of all points at once."""
        first = self.points[0]
        offsets = [gnomonic(p.ra, p.dec, first.ra, first.dec) for p in self.points]
        w_ew, w_ns = [p.ew**-2 for p in self.points], [p.ns**-2 for p in self.points]
        east = math.fsum(w * e for w, (e, _) in zip(w_ew, offsets, strict=True)) / math.fsum(w_ew)
        north = math.fsum(w * n for w, (_, n) in zip(w_ns, offsets, strict=True)) / math.fsum(w_ns)
        ra, dec = inverse_gnomonic(east, north, first.ra, first.dec)
        return ra, dec, math.fsum(w_ew) ** -0.5, math.fsum(w_ns) ** -0.5

    def variability(self, band: str) -> tuple[int, float, float]:
        """Return (N, V, eta) by the textbook formulas."""
        points = [p for p in self.points if p.band == band]
        n, fluxes, weights = len(points), [p.flux for p in points], [p.flux_err**-2 for p in points]
        if n == 1:
            return 1, 0.0, 0.0
        mean, square = math.fsum(fluxes) / n, math.fsum(f * f for f in fluxes) / n
        w = math.fsum(weights) / n
        wf = math.fsum(a * b for a, b in zip(weights, fluxes, strict=True)) / n
        wff = math.fsum(a * b * b for a, b in zip(weights, fluxes, strict=True)) / n
        v = math.sqrt(max(n / (n - 1) * (square - mean**2), 0.0)) / mean
        return n, v, n / (n - 1) * (wff - wf**2 / w)


def gnomonic(ra: float, dec: float, ra0: float, dec0: float) -> tuple[float, float]:
    """Return (east, north) in degrees in the plane that touches the sky at (ra0, dec0): Snyder 1987, section 22."""
    d, a, d0 = math.radians(dec), math.radians(ra - ra0), math.radians(dec0)
    cos_c = math.sin(d0) * math.sin(d) + math.cos(d0) * math.cos(d) * math.cos(a)
    east = math.cos(d) * math.sin(a) / cos_c
    north = (math.cos(d0) * math.sin(d) - math.sin(d0) * math.cos(d) * math.cos(a)) / cos_c
    return math.degrees(east), math.degrees(north)


def inverse_gnomonic(east: float, north: float, ra0: float, dec0: float) -> tuple[float, float]:
    """Return (ra, dec): Snyder 1987, equations 20-14 and 20-15."""
    x, y, d0 = math.radians(east), math.radians(north), math.radians(dec0)
    rho = math.hypot(x, y)
    if rho == 0:
        return ra0, dec0
    c = math.atan(rho)
    dec = math.asin(math.cos(c) * math.sin(d0) + y * math.sin(c) * math.cos(d0) / rho)
    a = math.atan2(x * math.sin(c), rho * math.cos(d0) * math.cos(c) - y * math.sin(d0) * math.sin(c))
    return (ra0 + math.degrees(a)) % 360, math.degrees(dec)


def separation(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    """Return the distance in degrees (Vincenty's formula)."""
    d1, d2, a = math.radians(dec1), math.radians(dec2), math.radians(ra2 - ra1)
    across = math.hypot(
        math.cos(d2) * math.sin(a), math.cos(d1) * math.sin(d2) - math.sin(d1) * math.cos(d2) * math.cos(a)
    )
    along = math.sin(d1) * math.sin(d2) + math.cos(d1) * math.cos(d2) * math.cos(a)
    return math.degrees(math.atan2(across, along))


def deruiter(p: Measurement, star: tuple[float, float, float, float]) -> float:
    """Return the de Ruiter radius of a source to the mean of an object."""
    ra, dec, ew, ns = star
    if max(abs(p.dec), abs(dec)) > 80:
        middle = [a + b for a, b in zip(vector(p.ra, p.dec), vector(ra, dec), strict=True)]
        ra0 = math.degrees(math.atan2(middle[1], middle[0]))
        dec0 = math.degrees(math.atan2(middle[2], math.hypot(middle[0], middle[1])))
        e1, n1 = gnomonic(p.ra, p.dec, ra0, dec0)
        e2, n2 = gnomonic(ra, dec, ra0, dec0)
        east, north = e1 - e2, n1 - n2
    else:
        east = ((p.ra - ra + 180) % 360 - 180) * math.cos(math.radians((p.dec + dec) / 2))
        north = p.dec - dec
    return math.sqrt(east**2 / (p.ew**2 + ew**2) + north**2 / (p.ns**2 + ns**2))


def vector(ra: float, dec: float) -> tuple[float, float, float]:
    a, d = math.radians(ra), math.radians(dec)
    return math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d)


@dataclass
class Pair:
    """A source (by rank) and an object that may be one."""

    rank: int
    star: Star
    r: float


Points = list[tuple[int, Star, float | None, str]]
"""(rank of the source, object, radius to it before, how they were joined)"""


@dataclass
class Reference:
    limit_deg: float
    method: str = "deruiter"
    deruiter_radius: float = 5.68
    stars: list[Star] = field(default_factory=list)
    forks: dict[bytes, list[bytes]] = field(default_factory=dict)

    def fold(self, found: list[Measurement], name_child: Callable[[bytes, bytes], bytes]) -> Points:
        """Return the points of the sources of an image, in order of rank and then name of the object."""
        pairs = list(self.candidates(found))
        kept = self.reduced(pairs) if self.method == "deruiter" else self.nearest(pairs)
        points: Points = []
        for pair in kept:
            rivals = [other for other in kept if other.star is pair.star]
            sharers = [other for other in kept if other.rank == pair.rank]
            if len(rivals) > 1:
                child = Star(name_child(pair.star.name, found[pair.rank].source), list(pair.star.points))
                self.forks.setdefault(pair.star.name, []).append(child.name)
                points.append((pair.rank, child, pair.r, "forked"))
            else:
                points.append((pair.rank, pair.star, pair.r, "shared" if len(sharers) > 1 else "one to one"))
        points += [
            (rank, Star(p.source), None, "new") for rank, p in enumerate(found) if all(k.rank != rank for k in kept)
        ]
        self.stars = [star for star in self.stars if star.name not in self.forks]
        for rank, star, _, how in points:
            star.points.append(found[rank])
            self.stars += [star] if how in ("forked", "new") else []
        return sorted(points, key=lambda point: point[0])

    def candidates(self, found: list[Measurement]) -> Iterator[Pair]:
        means = [star.position() for star in self.stars]
        for rank, p in enumerate(found):
            for star, mean in zip(self.stars, means, strict=True):
                if separation(p.ra, p.dec, mean[0], mean[1]) <= self.limit_deg:
                    r = deruiter(p, mean)
                    if r < self.deruiter_radius:
                        yield Pair(rank, star, r)

    @staticmethod
    def reduced(pairs: list[Pair]) -> list[Pair]:
        """Return the pairs without many-to-many: as the rule says, source by source."""
        kept = []
        for rank in sorted({pair.rank for pair in pairs}):
            mine = [pair for pair in pairs if pair.rank == rank]
            crowds = [pair for pair in mine if sum(other.star is pair.star for other in pairs) > 1]
            if len(mine) > 1 and crowds:
                mine = [min(mine, key=lambda pair: (pair.r, pair.star.name))]
            kept += sorted(mine, key=lambda pair: pair.star.name)
        return kept

    @staticmethod
    def nearest(pairs: list[Pair]) -> list[Pair]:
        """Return the closest pair, then the closest of those that are left, and so on."""
        kept: list[Pair] = []
        for pair in sorted(pairs, key=lambda pair: (pair.r, pair.star.name, pair.rank)):
            if not any(pair.rank == k.rank or pair.star is k.star for k in kept):
                kept.append(pair)
        return kept


@dataclass
class Earlier:
    """An earlier image of a band, for limits."""

    image: Image
    low: float
    high: float


def limits(earlier: list[Earlier], ra: float, dec: float, order: int) -> tuple[int, Earlier | None]:
    """Return how many of these images cover the cell of a position, and the best of them: every image is asked."""
    healpix = HEALPix(nside=2**order, order="nested")
    cell = healpix.lonlat_to_healpix(ra * u.deg, dec * u.deg)
    lon, lat = healpix.healpix_to_lonlat(cell)
    covering = [e for e in earlier if bool(covers(e.image, np.array([lon.deg]), np.array([lat.deg]))[0])]
    return len(covering), min(covering, key=lambda e: (e.low, e.high), default=None)
