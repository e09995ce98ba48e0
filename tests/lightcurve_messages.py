"""Messages as the mesh sends them to the store: one image of a field after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from trapline.common import ids
from trapline.schemas.columns import Array, Kind, Link, ids_to_array
from trapline.schemas.header import Place
from trapline.schemas.image import Band, Beam, Image, Quality, Reason
from trapline.schemas.images import Images
from trapline.schemas.lightcurves import POINTS, STATES, Lightcurves
from trapline.schemas.message import Message, decode, encode
from trapline.schemas.transients import Transients
from trapline.schemas.triage import SCHEMA as TRIAGE
from trapline.schemas.triage import Triage

START_US = 1_700_000_000_123_457
STEP_US = 1_000_000
BAND = Band("60.1 MHz", 60.1e6, 195312.5)


def place(channel: str, seq: int, epoch: int = 0, partition: str = "0") -> Place:
    return Place(channel, partition, epoch, seq)


def image(number: int, **changes: Any) -> Image:
    t_us = START_US + number * STEP_US
    fields: dict[str, Any] = {
        "id": ids.fact_id(t_us, "image", number),
        "origin": f"/data/{number}.fits",
        "instrument": "aartfaac",
        "band": BAND,
        "stokes": "I",
        "t_start_us": t_us,
        "exposure_s": 1.0,
        "shape": (1024, 1020),
        "unit": "Jy",
        "wcs": "CTYPE1  = 'RA---SIN'",
        "beam": Beam(0.3, 0.2, 12.0),
        "centre_ra_deg": 83.6,
        "centre_dec_deg": 22.0,
        "radius_deg": 40.0,
        "margin_px": 10,
        "noise": 2.5,
    }
    return Image(**fields | changes)


def images_message(number: int, *, dataset: str = "default", **changes: Any) -> Message[Images]:
    of = image(number, **changes)
    return Message(Images(schema="trapline.images/1.0", id=of.id, dataset=dataset, image=of))


def rejected(number: int) -> Message[Images]:
    """Input that nothing could be read from but its bytes."""
    quality = Quality(rejected=True, reasons=[Reason("header", "no key BMAJ, BMIN", None, None)], flags=["no WCS"])
    of = Image(id=ids.unreadable_id("default", f"{number}".encode()), origin=f"/data/bad{number}", quality=quality)
    return Message(Images(schema="trapline.images/1.0", id=of.id, image=of))


def founding_sources(count: int, number: int = 0) -> list[bytes]:
    t_us = START_US + number * STEP_US
    return [ids.blind_source_id(t_us, image(number).id, rank) for rank in range(count)]


def object_ids(count: int, number: int = 0) -> list[bytes]:
    """Objects that were founded by the first sources of an image."""
    t_us = START_US + number * STEP_US
    return [ids.object_id(t_us, source) for source in founding_sources(count, number)]


def lightcurves_message(
    number: int,
    objects: list[bytes],
    *,
    seed: int = 0,
    kind: Kind = Kind.BLIND,
    dataset: str = "default",
    **header: Any,
) -> Message[Lightcurves]:
    """One point for each object in an image, with states."""
    of = header.pop("image", None) or image(number)
    t_us = of.t_start_us or 0
    rng = np.random.default_rng([seed, number])
    n = len(objects)
    sources = [ids.forced_source_id(t_us, of.id, o, kind) for o in objects]
    columns = POINTS.empty(n)
    floats = [c.name for c in POINTS.columns if c.dtype in ("f4", "f8")]
    columns |= {c.name: _random(rng, c.dtype, n) for c in POINTS.columns if c.name in floats}
    columns |= {
        "point_id": ids_to_array(ids.point_id(t_us, o, s) for o, s in zip(objects, sources, strict=True)),
        "object_id": ids_to_array(objects),
        "source_id": ids_to_array(sources),
        "kind": np.full(n, kind, np.uint8),
        "link": np.full(n, Link.NEW if number == 0 else Link.ONE_TO_ONE, np.uint8),
        "flags": rng.integers(0, 256, n).astype(np.uint32),
        "n": np.full(n, number + 1, np.uint32),
        "n_blind": np.full(n, number + 1, np.uint32),
        "first_seen_us": np.full(n, START_US, np.int64),
        "object_ra_deg": np.linspace(80, 90, n) + rng.normal(0, 1e-3, n),
        "object_dec_deg": np.linspace(20, 25, n) + rng.normal(0, 1e-3, n),
    }
    return Message(
        Lightcurves(
            schema="trapline.lightcurves/1.0",
            id=ids.record_id(t_us, "trapline.lightcurves", of.id),
            dataset=dataset,
            image=of,
            **header,
        ),
        columns | states(objects, number, rng, t_us),
    )


def states(objects: list[bytes], number: int, rng: np.random.Generator, t_us: int) -> dict[str, Array]:
    n = len(objects)
    columns: dict[str, Array] = {c.name: _random(rng, c.dtype, n) for c in STATES.columns if c.dtype == "f8"}
    columns |= {
        "object_id": ids_to_array(objects),
        "n": np.full(n, number + 1, np.uint32),
        "n_blind": np.full(n, number + 1, np.uint32),
        "last_seen_us": np.full(n, t_us, np.int64),
    }
    return STATES.prefixed(columns)


def event(number: int, object_id: bytes, opening: int = 0, **changes: Any) -> Message[Transients]:
    of = image(number)
    t_us = of.t_start_us or 0
    fields: dict[str, Any] = {
        "schema": "trapline.transients/1.0",
        "id": ids.record_id(t_us, "trapline.transients", of.id, object_id),
        "event_id": ids.event_id(START_US + opening * STEP_US, object_id, "flare", image(opening).id),
        "object_id": object_id,
        "kind": "flare",
        "image_id": of.id,
        "t_us": t_us,
        "ra_deg": 83.0,
        "dec_deg": 22.0,
        "pos_err_ew_deg": 0.01,
        "pos_err_ns_deg": 0.02,
        "band": BAND,
        "flux_peak": 12.0,
        "flux_peak_err": 1.0,
        "significance": 7.5,
        "rule": {"mean": 2.0, "limit": 6.5},
        "n": 20,
    }
    return Message(Transients(**fields | changes))


def travelled(message: Message[Any]) -> Message[Any]:
    """What arrives of a message: read-only views of packed frames."""
    return decode([bytes(frame) for frame in encode(message)])


def _random(rng: np.random.Generator, dtype: str, n: int) -> Array:
    return rng.normal(10, 3, n).astype(dtype)


def verdict(number: int = 0, said: str = "reject", **changes: Any) -> Message[Triage]:
    """Return what a person says of the event of an example object."""
    fields: dict[str, Any] = {
        "schema": TRIAGE,
        "id": ids.fact_id(number, "verdict", number),
        "dataset": "default",
        "event_id": ids.fact_id(0, "event of a verdict"),
        "object_id": ids.fact_id(0, "object of a verdict"),
        "verdict": said,
        "t_us": 1_767_225_600_000_000 + number,
    }
    return Message(Triage(**{**fields, **changes}))
