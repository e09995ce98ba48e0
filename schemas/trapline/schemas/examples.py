"""One made-up message of each schema: what the golden files hold and the documentation shows."""

from __future__ import annotations

import numpy as np

from trapline.schemas.columns import Array, Table, array_to_ids, ids_to_array
from trapline.schemas.described import SCHEMA as SCHEMAS
from trapline.schemas.described import Described
from trapline.schemas.header import Header, Place
from trapline.schemas.image import Band, Beam, Image, Quality, Reason
from trapline.schemas.images import SCHEMA as IMAGES
from trapline.schemas.images import Images
from trapline.schemas.lightcurves import PENDING, POINTS, STATES, Fork, Lightcurves
from trapline.schemas.lightcurves import SCHEMA as LIGHTCURVES
from trapline.schemas.message import Message
from trapline.schemas.sources import COLUMNS, Sources
from trapline.schemas.sources import SCHEMA as SOURCES
from trapline.schemas.status import DEAD_LETTERS_SCHEMA, STATUS_SCHEMA, DeadLetter, Reading, Status
from trapline.schemas.transients import RECENT, SUPPRESSED_SCHEMA, Suppressed, Transients
from trapline.schemas.transients import SCHEMA as TRANSIENTS
from trapline.schemas.triage import SCHEMA as TRIAGE
from trapline.schemas.triage import Triage
from trapline.schemas.watchlist import POSITIONS, REMEASURE_SCHEMA, WATCHLIST_SCHEMA, Remeasure, Watchlist

_T_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00 UTC
_WCS = "".join(
    card.ljust(80)
    for card in (
        "WCSAXES =                    2",
        "CRPIX1  =                  2.0",
        "CRPIX2  =                  1.5",
        "CDELT1  =                 -0.1",
        "CDELT2  =                  0.1",
        "CTYPE1  = 'RA---SIN'",
        "CTYPE2  = 'DEC--SIN'",
        "CRVAL1  =                359.9",
        "CRVAL2  =                 52.9",
        "RADESYS = 'ICRS'",
    )
)


def example_id(number: int) -> bytes:
    """Return an id that is easy to recognise."""
    return bytes([0] * 6 + [0x80, 0, 0x80, 0, 0, 0, 0, 0, 0, number])


def example_image(*, place: Place | None = None, wcs: str | None = _WCS) -> Image:
    """Return an image of 3 x 2 pixels."""
    return Image(
        id=example_id(1),
        place=place,
        origin="tcp://imager:5100, image 41",
        quality=Quality(rejected=False, flags=["exposure_unknown"]),
        instrument="aartfaac",
        band=Band(name="60.0-60.2 MHz", freq_hz=60.1e6, bandwidth_hz=195312.5),
        stokes="I",
        t_start_us=_T_US,
        exposure_s=1.0,
        shape=(2, 3),
        unit="Jy",
        wcs=wcs,
        beam=Beam(major_deg=0.5, minor_deg=0.4, pa_deg=12.0),
        centre_ra_deg=359.9,
        centre_dec_deg=52.9,
        radius_deg=0.2,
        margin_px=0,
        noise=0.25,
    )


def example_table(table: Table, rows: int = 2) -> dict[str, Array]:
    """Return arrays of a table with small, different numbers."""
    arrays = table.empty(rows)
    for i, (name, array) in enumerate(arrays.items()):
        if array.ndim == 2:
            arrays[name] = ids_to_array([example_id(16 + rows * i + row) for row in range(rows)])
        else:
            arrays[name] = (np.arange(rows) + i).astype(array.dtype)
    return arrays


def example_messages() -> list[Message[Header]]:
    """Return one message of each built-in schema."""
    place = Place("images", "0", 0, 41)
    return [*_images(), *_measured(place), *_judged(), *_asked(place), *_reported(place)]


def _images() -> list[Message[Header]]:
    pixels = np.arange(6, dtype=np.float32).reshape(2, 3)
    header = Images(
        schema=IMAGES, id=example_id(2), producer="image_ingest/0", t_pub_us=_T_US + 1, image=example_image()
    )
    return [Message(header, {"pixels": pixels})]


def _measured(place: Place) -> list[Message[Header]]:
    sources = Sources(
        schema=SOURCES,
        id=example_id(3),
        producer="source_extractor/1",
        parents=[example_id(2)],
        image=example_image(place=place),
        rms_min=0.2,
        rms_max=0.3,
        detection_threshold=8.0,
        analysis_threshold=3.0,
    )
    points = example_table(POINTS)
    lightcurves = Lightcurves(
        schema=LIGHTCURVES,
        id=example_id(4),
        producer="associator/0",
        parents=[example_id(3)],
        consumed=[place, Place("sources", "1", 0, 20)],
        image=example_image(place=place, wcs=None),
        limit_low=1.8,
        limit_high=2.7,
        forks=[Fork(parent=example_id(5), children=[example_id(6), example_id(7)])],
        retired=[example_id(5)],
    )
    event = Transients(
        schema=TRANSIENTS,
        id=example_id(8),
        producer="transient_finder/0",
        event_id=example_id(9),
        object_id=array_to_ids(points["object_id"])[0],
        kind="new_source",
        image_id=example_id(1),
        t_us=_T_US,
        ra_deg=359.95,
        dec_deg=52.9,
        pos_err_ew_deg=0.01,
        pos_err_ns_deg=0.01,
        band=Band(name="60.0-60.2 MHz", freq_hz=60.1e6, bandwidth_hz=195312.5),
        flux_peak=5.0,
        flux_peak_err=0.3,
        significance=12.0,
        certain=True,
        rule={"limit_low": 1.8, "limit_high": 2.7, "warm_up": 10.0},
        limits_image=example_id(10),
        n=1,
    )
    return [
        Message(sources, example_table(COLUMNS)),
        Message(lightcurves, {**points, **example_table(STATES), **example_table(PENDING)}),
        Message(event, example_table(RECENT)),
        Message(_suppressed(event), example_table(RECENT)),
    ]


def _judged() -> list[Message[Header]]:
    said = Triage(
        schema=TRIAGE,
        id=example_id(17),
        producer="dashboard/0",
        event_id=example_id(9),
        object_id=example_id(16),
        verdict="reject",
        note="a satellite",
        person="observer",
        t_us=_T_US + 60_000_000,
    )
    return [Message(said)]


def _suppressed(event: Transients) -> Suppressed:
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return Suppressed(**fields | {"schema": SUPPRESSED_SCHEMA, "id": example_id(18), "veto": "near_edge"})


def _asked(place: Place) -> list[Message[Header]]:
    watchlist = Watchlist(schema=WATCHLIST_SCHEMA, id=example_id(11), version=17, full=False)
    remeasure = Remeasure(schema=REMEASURE_SCHEMA, id=example_id(12), image_place=place)
    return [Message(watchlist, example_table(POSITIONS)), Message(remeasure, example_table(POSITIONS))]


def _reported(place: Place) -> list[Message[Header]]:
    status = Status(
        schema=STATUS_SCHEMA,
        id=example_id(13),
        service="source_extractor",
        replica="1",
        host="telescope",
        pid=4711,
        version="0.1.0",
        state="running",
        started_us=_T_US,
        t_us=_T_US + 5_000_000,
        health_port=40001,
        reading=[Reading(channel="images", partition="0", seq=42, lag_records=1)],
        written={"sources/1": 21},
        counters={"handled": 21.0},
        busy_s=0.9,
    )
    dead = DeadLetter(
        schema=DEAD_LETTERS_SCHEMA,
        id=example_id(14),
        service="source_extractor",
        place=place,
        image_id=example_id(1),
        input=b"\x80",
        traceback="ValueError: no header",
        attempts=3,
    )
    described = Described(
        schema=SCHEMAS,
        id=example_id(16),
        producer="flare_finder/0",
        channel="flares",
        message="plugin.flares/1.0",
        json_schema='{"title": "plugin.flares/1.0"}',
    )
    return [Message(status), Message(dead), Message(described)]


def rejected_example() -> Message[Header]:
    """Return what is announced of input that no image could be read from."""
    reasons = [Reason(check="header", text="cut: 100 of 2880 bytes")]
    image = Image(id=example_id(15), origin="half.fits", quality=Quality(rejected=True, reasons=reasons))
    return Message(Images(schema=IMAGES, id=example_id(16), image=image))
