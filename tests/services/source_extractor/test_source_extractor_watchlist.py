"""The watchlist and what is measured for it: a cache whose rows a request gives again to the last bit."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from extractor_skies import PIXEL_DEG as PX
from extractor_skies import Field, astropy_wcs, grid_field, make_image, round_beam
from trapline.common.ids import fact_id, forced_source_id
from trapline.common.region import on_array
from trapline.schemas.columns import Array, Flag, Kind, SchemaError, array_to_ids, ids_to_array
from trapline.schemas.header import Place
from trapline.schemas.image import Band, Beam, Image, Quality, Reason
from trapline.schemas.images import SCHEMA as IMAGES_SCHEMA
from trapline.schemas.images import Images
from trapline.schemas.message import Message, decode, encode
from trapline.schemas.sources import COLUMNS
from trapline.schemas.watchlist import REMEASURE_SCHEMA, Remeasure
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure_again, measure_image
from trapline.source_extractor.mesh import Meshes
from trapline.source_extractor.scene import prepare
from trapline.source_extractor.watched import Watched, measure_watched
from trapline.source_extractor.watchlist import LEAVES, Watchlist, Watchlists

PLACE = Place("images", "0", 0, 3)
SETTINGS = ExtractorConfig()
IMAGE = make_image((240, 300), round_beam(4), margin_px=10, band=Band("test", 60e6, 1e5))
FIELD: Field = grid_field(1, IMAGE, spacing_px=48, snr=(20, 90))


def ids(count: int, first: int = 0) -> list[bytes]:
    return [fact_id(0, "test", first + i) for i in range(count)]


def positions(ids_: list[bytes], ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, kind: int) -> dict[str, Array]:
    kinds = np.full(len(ids_), kind, np.uint8)
    return {
        "object_id": ids_to_array(ids_),
        "ra_deg": np.asarray(ra_deg, float),
        "dec_deg": np.asarray(dec_deg, float),
        "kind": kinds,
    }


def at_pixels(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    ra, dec = astropy_wcs(IMAGE).all_pix2world(x, y, 0)
    return np.asarray(ra), np.asarray(dec)


def record(image: Image = IMAGE) -> Message[Images]:
    header = Images(schema=IMAGES_SCHEMA, id=b"r" * 16, dataset="night", trace="00-aa-bb-01", image=image)
    return Message(header, {"pixels": FIELD.pixels})


def watching(seed: int = 5, count: int = 60) -> Watchlists:
    """Return a list of positions all over the image, some on sources, some beside them, some off the array."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([FIELD.x, FIELD.x + 5.0, rng.uniform(-20, 320, count)])
    y = np.concatenate([FIELD.y, FIELD.y + 2.0, rng.uniform(-20, 260, count)])
    held = Watchlist()
    held.update(17, positions(ids(len(x)), *at_pixels(x, y), Kind.FORCED), full=True)
    return Watchlists((held,))


def request(rows: dict[str, Array]) -> Message[Remeasure]:
    header = Remeasure(
        schema=REMEASURE_SCHEMA,
        id=b"q" * 16,
        image_place=PLACE,
        sources_place=Place("sources", "0", 0, 9),
        trace="00-cc-dd-01",
    )
    return Message(header, rows)


def bits(columns: dict[str, Array]) -> dict[str, bytes]:
    return {name: column.tobytes() for name, column in columns.items()}


def test_forced_rows_follow_the_blind_ones_and_say_what_they_are() -> None:
    lists = watching()
    answer = measure_image(record(), SETTINGS, PLACE, lists)
    assert COLUMNS.check(answer.arrays) == len(answer.arrays["kind"])
    assert answer.header.watchlist_version == 17
    blind = answer.arrays["kind"] == Kind.BLIND
    assert not blind[np.argmin(blind) :].any(), "blind rows come first"
    plain = measure_image(record(), SETTINGS, PLACE)
    assert plain.header.watchlist_version is None
    for name, column in plain.arrays.items():
        np.testing.assert_array_equal(answer.arrays[name][blind], column)
    forced = {name: column[~blind] for name, column in answer.arrays.items()}
    assert forced["source_id"].tobytes() == b"".join(
        forced_source_id(IMAGE.t_start_us or 0, IMAGE.id, id_, Kind.FORCED) for id_ in array_to_ids(forced["object_id"])
    )
    np.testing.assert_array_equal(forced["ra_deg"], forced["watch_ra_deg"])
    assert np.isnan(forced["pos_err_ew_deg"]).all()
    back = decode([bytes(frame) for frame in encode(answer)])
    assert set(back.arrays) == {column.name for column in COLUMNS.columns}


def test_a_position_on_a_source_has_its_flux_and_an_empty_one_has_none() -> None:
    n = len(FIELD.x)
    answer = measure_image(record(), SETTINGS, PLACE, watching())
    rows = {id_: i for i, id_ in enumerate(array_to_ids(answer.arrays["object_id"])) if any(id_)}
    on = [rows[id_] for id_ in ids(n)]
    pull = (answer.arrays["flux_int"][on] - FIELD.peak) / answer.arrays["flux_int_err"][on]
    assert np.abs(pull).max() < 5.0
    assert pull.std() == pytest.approx(1.0, abs=0.4)
    beside = [rows[id_] for id_ in ids(n, n)]
    pull = answer.arrays["flux_int"][beside] / answer.arrays["flux_int_err"][beside]
    assert np.abs(pull).max() < 5.0, "the source beside it is taken apart"
    assert (answer.arrays["flags"][beside] & Flag.BLENDED).all()


def test_a_request_is_answered_with_the_bits_that_the_cache_would_have_had() -> None:
    cached = measure_image(record(), SETTINGS, PLACE, watching())
    forced = np.nonzero(cached.arrays["kind"] == Kind.FORCED)[0]
    blind, meshes = measure_image(record(), SETTINGS, PLACE), Meshes()
    for rows in (forced, forced[::-1][:7], forced[3:4]):
        names = {"object_id": "object_id", "ra_deg": "watch_ra_deg", "dec_deg": "watch_dec_deg", "kind": "kind"}
        asked = request({name: cached.arrays[column][rows] for name, column in names.items()})
        answer = measure_again(asked, record(), blind, SETTINGS)
        for _ in range(2):  # the first makes the mesh of the noise known, the second uses it
            assert bits(measure_again(asked, record(), blind, SETTINGS, meshes).arrays) == bits(answer.arrays)
        assert meshes.of(IMAGE.id) is not None
        assert (answer.header.request, answer.header.trace) == (b"q" * 16, "00-cc-dd-01")
        assert answer.header.id != blind.header.id
        for name, column in answer.arrays.items():
            np.testing.assert_array_equal(column, cached.arrays[name][rows], err_msg=name)


def test_the_meshes_of_the_newest_images_are_kept() -> None:
    meshes = Meshes(most=2)
    for image in (b"a", b"b", b"a", b"c", b"d"):
        meshes.keep(image, prepare(FIELD.pixels, IMAGE, SETTINGS).noise.mesh)
    assert [meshes.of(image) is not None for image in (b"a", b"b", b"c", b"d")] == [False, False, True, True]
    meshes.keep(b"e", None)
    assert meshes.of(b"e") is None


def test_every_position_of_a_request_gets_a_row_whatever_became_of_the_pixels() -> None:
    blind = measure_image(record(), SETTINGS, PLACE)
    far = positions(ids(3), [0.0, 150.0, np.nan], [-80.0, 35.0, 0.0], Kind.BACKFILL)
    for images in (None, record()):
        answer = measure_again(request(far), images, blind, SETTINGS)
        assert array_to_ids(answer.arrays["object_id"]) == ids(3)
        lost = np.isnan(answer.arrays["flux_int"])
        assert lost.tolist() == [True, images is None, True]
        np.testing.assert_array_equal((answer.arrays["flags"] & Flag.NO_PIXELS) != 0, lost)


def test_a_rejected_image_has_no_forced_rows() -> None:
    quality = Quality(rejected=True, reasons=[Reason("flat")])
    rejected = msgspec.structs.replace(IMAGE, quality=quality)
    answer = measure_image(record(rejected), SETTINGS, PLACE, watching())
    assert COLUMNS.check(answer.arrays) == 0


def test_changes_move_add_and_remove() -> None:
    held, [a, b, c] = Watchlist(), ids(3)
    held.update(1, positions([a, b], [150.0, 150.001], [35.0, 35.0], Kind.FORCED), full=True)
    held.update(2, positions([b, c], [150.01, 150.02], [35.0, 35.0], Kind.MONITORED), full=False)
    held.update(3, positions([a, ids(1, 99)[0]], [0.0, 0.0], [0.0, 0.0], LEAVES), full=False)
    near = held.near(IMAGE)
    assert dict(zip(array_to_ids(near.object_id), near.ra_deg.tolist(), strict=True)) == {b: 150.01, c: 150.02}
    assert near.kind.tolist() == [Kind.MONITORED] * 2
    assert (len(held), held.version) == (2, 3)
    held.update(4, positions([a], [150.0], [35.0], Kind.FORCED), full=True)
    assert array_to_ids(held.near(IMAGE).object_id) == [a]


def test_a_list_that_comes_and_goes_does_not_grow() -> None:
    held = Watchlist()
    for turn in range(40):
        fresh = ids(500, 500 * turn)
        held.update(2 * turn, positions(fresh, np.full(500, 150.0), np.full(500, 35.0), Kind.FORCED), full=False)
        keep, gone = fresh[:5], fresh[5:]
        held.update(2 * turn + 1, positions(gone, np.zeros(495), np.zeros(495), LEAVES), full=False)
        assert set(keep) <= set(array_to_ids(held.near(IMAGE).object_id))
    assert len(held) == 200
    assert len(held._table) < 4000


def test_only_what_an_image_may_hold_is_looked_at_across_ra_zero_and_at_a_pole() -> None:
    ra, dec = np.meshgrid(np.arange(0.0, 360.0, 7.5), np.arange(-90.0, 90.1, 7.5))
    held = Watchlist()
    held.update(0, positions(ids(ra.size), ra.ravel(), dec.ravel(), Kind.FORCED), full=True)
    assert len(Watchlists((held, held)).near(IMAGE).kind) <= 2
    for lon, lat in ((0.0, 0.0), (359.999, 15.0), (12.0, 90.0), (0.0, -90.0)):
        near = held.near(make_image((240, 300), round_beam(4), CRVAL1=lon, CRVAL2=lat))
        assert len(near) >= 1, (lon, lat)
        assert np.abs(near.dec_deg - lat).max() < 1.0


def test_a_list_with_a_wrong_column_is_refused_and_changes_nothing() -> None:
    held = Watchlist()
    held.update(1, positions(ids(1), [150.0], [35.0], Kind.FORCED), full=True)
    wrong = positions(ids(1, 7), [150.0], [35.0], Kind.FORCED)
    wrong["ra_deg"] = wrong["ra_deg"].astype(np.float32)
    with pytest.raises(SchemaError, match="ra_deg"):
        held.update(2, wrong, full=True)
    assert (held.version, len(held)) == (1, 1)


@pytest.mark.parametrize("beam", [Beam(4 * PX, 4 * PX, 0), Beam(30 * PX, 3 * PX, 90), Beam(14 * PX, 9 * PX, 20)],
                         ids=["round", "long", "large"])  # fmt: skip
@pytest.mark.parametrize("broken", [False, True], ids=["whole", "with holes"])
def test_one_position_is_measured_about_itself_and_to_the_last_bit(beam: Beam, broken: bool) -> None:
    image = make_image((700, 500), beam, margin_px=4, band=Band("test", 60e6, 1e5))
    field = grid_field(3, image, spacing_px=60, snr=(20, 90))
    if broken:
        field.pixels[300:320, 100:140] = np.nan
    rng = np.random.default_rng(7)
    x, y = rng.uniform(-5, 505, 60), rng.uniform(-5, 705, 60)
    x[:20], y[:20] = field.x[:20] + 3, field.y[:20]
    y[20:24] = [0.0, 0.4, 698.9, 699.2]
    sky = astropy_wcs(image).all_pix2world(x, y, 0)
    blind_px = np.stack([field.x, field.y], axis=-1)
    whole = prepare(field.pixels, image, SETTINGS)
    for number in range(len(x)):
        watched = Watched.of(positions(ids(1), *(np.asarray(axis)[number : number + 1] for axis in sky), Kind.BACKFILL))
        _, about_y = on_array(image, watched.ra_deg, watched.dec_deg)
        part = prepare(field.pixels, image, SETTINGS, about_y=about_y)
        again = prepare(field.pixels, image, SETTINGS, about_y=about_y, known=whole.noise.mesh)
        expected, *found = (bits(measure_watched(s, watched, blind_px, SETTINGS)) for s in (whole, part, again))
        assert found == [expected, expected]
