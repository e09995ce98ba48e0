"""Visits: when, where, and what is seen in them."""

import numpy as np
import pytest

from trapline.common.sky import separation_deg, tangent_offsets
from trapline.common.wcs import parse_wcs
from trapline.schemas.columns import Kind, array_to_ids, ids_to_array
from trapline.schemas.header import Place
from trapline.schemas.message import Message, decode, encode
from trapline.schemas.watchlist import REMEASURE_SCHEMA, Remeasure
from trapline.survey.config import Pointing, SurveyConfig
from trapline.survey.core import answer, bodies_apart, images_message, sources_message, tiles_of
from trapline.survey.detections import Truth, detections, flux_at, shining
from trapline.survey.events import bodies_in, transients_in
from trapline.survey.visits import visit_at, visit_of

CONFIG = SurveyConfig(variables=800, noise_detections=400, transients=30, moving=40)
PLACE = Place("images", "0", 0, 7)


def sources_of(config, visit):
    for tile in tiles_of(config, visit, "default"):
        images = images_message(tile.image, "default")
        yield tile, sources_message(config, visit, tile, images, PLACE)


@pytest.mark.parametrize("number", [0, 1, 799, 800, 801, 5000])
def test_a_visit_is_found_by_its_time(number):
    visit = visit_of(CONFIG, number)
    assert visit_at(CONFIG, visit.t_us) == visit
    assert visit_at(CONFIG, visit.t_us + 1) is None


def test_nights_follow_one_another_each_day():
    per_night = CONFIG.visits_per_night
    assert per_night == 800
    first, next_night = visit_of(CONFIG, 0), visit_of(CONFIG, per_night)
    assert next_night.t_us - first.t_us == 86_400_000_000
    assert visit_of(CONFIG, per_night - 1).t_us - first.t_us == (per_night - 1) * 45_000_000
    assert visit_at(CONFIG, first.t_us + per_night * 45_000_000) is None, "between the nights"


def test_drawn_pointings_keep_to_their_declinations():
    config = CONFIG.model_copy(update={"pointings": (), "dec_min_deg": -60.0, "dec_max_deg": 0.0})
    dec = np.array([visit_of(config, k).dec_deg for k in range(500)])
    assert dec.min() >= -60
    assert dec.max() <= 0
    # Uniform on the sphere: half of the area between sin -60 and 0 is below asin(sin(-60) / 2).
    assert 0.42 < np.mean(dec < np.degrees(np.arcsin(np.sin(np.radians(-60)) / 2))) < 0.58


def test_several_pointings_take_turns():
    pointings = (Pointing(ra_deg=1, dec_deg=2), Pointing(ra_deg=3, dec_deg=4))
    config = CONFIG.model_copy(update={"pointings": pointings})
    assert [visit_of(config, k).ra_deg for k in range(4)] == [1, 3, 1, 3]


def test_numbers_are_what_the_configuration_says():
    found = [detections(CONFIG, visit_of(CONFIG, k)) for k in range(30)]
    truth = np.concatenate([f["truth"] for f in found])
    expected = {Truth.NOISE: 400, Truth.STAR: 800 * 0.9, Truth.MOVING: 40 * 0.9}
    for kind, mean in expected.items():
        assert np.sum(truth == kind) / 30 == pytest.approx(mean, rel=0.15), kind
    shining_now = [np.sum(shining(CONFIG, visit_of(CONFIG, k))["truth"] == Truth.TRANSIENT) for k in range(0, 400, 20)]
    assert np.mean(shining_now) == pytest.approx(30, rel=0.3)


def test_a_transient_rises_and_declines():
    config = CONFIG.model_copy(update={"transients": 400.0})
    born = transients_in(config, visit_of(config, 50))
    newest = born["transient"][born["age"] == 0][0]
    curve = []
    for k in range(50, 50 + 25):
        rows = transients_in(config, visit_of(config, k))
        curve += rows["flux_njy"][rows["transient"] == newest].tolist()
    assert len(curve) == config.rise_visits + config.decline_visits
    assert np.argmax(curve) in (config.rise_visits - 1, config.rise_visits)
    assert curve[-1] < 0.2 * max(curve)


def test_positions_scatter_by_their_errors():
    pulls = []
    for k in range(10):
        visit = visit_of(CONFIG, k)
        for tile, sources in sources_of(CONFIG, visit):
            real = tile.found["truth"] == Truth.STAR
            east, north = tangent_offsets(
                sources.arrays["ra_deg"][real],
                sources.arrays["dec_deg"][real],
                tile.found["ra_deg"][real],
                tile.found["dec_deg"][real],
            )
            pulls += [east / sources.arrays["pos_err_ew_deg"][real], north / sources.arrays["pos_err_ns_deg"][real]]
    pulls = np.concatenate(pulls)
    assert abs(pulls.mean()) < 0.05
    assert pulls.std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("pointing", [(30.0, -20.0), (0.1, 60.0), (200.0, -89.0)], ids=str)
def test_detectors_share_the_field_and_know_where_they_look(pointing):
    config = CONFIG.model_copy(
        update={"tiles": 3, "tile_px": 512, "pointings": (Pointing(ra_deg=pointing[0], dec_deg=pointing[1]),)}
    )
    visit = visit_of(config, 3)
    total = 0
    for tile, sources in sources_of(config, visit):
        wcs, columns = parse_wcs(tile.image.wcs), sources.arrays
        ra, dec = wcs.to_sky(columns["x"], columns["y"])
        assert separation_deg(ra, dec, columns["ra_deg"], columns["dec_deg"]).max() < 1e-9
        assert ((tile.x >= -0.5) & (tile.x < 511.5) & (tile.y >= -0.5) & (tile.y < 511.5)).all()
        assert np.array_equal(np.lexsort((tile.x, tile.y)), np.arange(len(tile.x)))
        centre = wcs.to_sky(255.5, 255.5)
        assert separation_deg(*centre, tile.image.centre_ra_deg, tile.image.centre_dec_deg) < 1e-9
        total += len(tile.found)
    assert total == len(detections(config, visit))


def test_images_differ_and_come_again():
    tiles = [t for k in (0, 1) for t in tiles_of(CONFIG.model_copy(update={"tiles": 2}), visit_of(CONFIG, k), "a")]
    assert len({t.image.id for t in tiles}) == 8
    again = next(iter(tiles_of(CONFIG.model_copy(update={"tiles": 2}), visit_of(CONFIG, 1), "a")))
    assert again.image.id == tiles[4].image.id
    assert np.array_equal(again.found, tiles[4].found)
    other = next(iter(tiles_of(CONFIG.model_copy(update={"tiles": 2, "seed": 2}), visit_of(CONFIG, 1), "a")))
    assert other.image.id != again.image.id


def test_bodies_are_kept_apart_wherever_they_have_gone():
    for k in (0, 400):
        visit = visit_of(CONFIG, k)
        tile = next(iter(tiles_of(CONFIG, visit, "default")))
        rest, apart = bodies_apart(tile)
        assert len(rest.found) + len(apart) == len(tile.found)
        assert not np.any(rest.found["truth"] == Truth.MOVING)
        assert np.sum(apart["truth"] == Truth.MOVING) > 10
    first, later = bodies_in(CONFIG, visit_of(CONFIG, 0)), bodies_in(CONFIG, visit_of(CONFIG, 400))
    moved = separation_deg(first["ra_deg"], first["dec_deg"], later["ra_deg"], later["dec_deg"])
    assert (moved > 1 / 3600).all()
    assert (moved < 0.5).all()


def request_for(image, ra, dec):
    ids = ids_to_array(bytes([k]) * 16 for k in range(len(ra)))
    kinds = np.full(len(ra), Kind.FORCED, "u1")
    header = Remeasure(schema=REMEASURE_SCHEMA, id=b"r" * 16, image_place=image, sources_place=image)
    return Message(header, {"object_id": ids, "ra_deg": np.array(ra), "dec_deg": np.array(dec), "kind": kinds})


def test_forced_fluxes_are_the_truth_and_noise_that_comes_again():
    config = CONFIG.model_copy(update={"moving": 0.0})
    visit = visit_of(config, 4)
    _, blind = next(iter(sources_of(config, visit)))
    everything = shining(config, visit)[:250]
    request = request_for(PLACE, everything["ra_deg"], everything["dec_deg"])
    forced = answer(config, request, decode(encode(blind)))
    assert forced.header.request == request.header.id
    columns = forced.arrays
    pulls = (columns["flux_int"] - everything["flux_njy"]) / columns["flux_int_err"]
    assert abs(pulls.mean()) < 0.2
    assert pulls.std() == pytest.approx(1.0, abs=0.15)
    again = answer(config, request, decode(encode(blind))).arrays
    assert all(np.array_equal(columns[name], again[name], equal_nan=True) for name in columns)
    backwards = answer(config, Message(request.header, {k: v[::-1] for k, v in request.arrays.items()}), blind)
    assert np.array_equal(backwards.arrays["flux_int"][::-1], columns["flux_int"]), "each alone"
    assert len(set(array_to_ids(columns["source_id"]))) == len(everything)


def test_where_nothing_shines_the_true_flux_is_zero():
    visit = visit_of(CONFIG, 4)
    assert flux_at(CONFIG, visit, np.array([31.234567]), np.array([-20.1234])).tolist() == [0.0]


def test_a_request_for_another_survey_is_refused():
    _, blind = next(iter(sources_of(CONFIG, visit_of(CONFIG, 4))))
    other = CONFIG.model_copy(update={"cadence_s": 46.0})
    with pytest.raises(ValueError, match="none of this survey"):
        answer(other, request_for(PLACE, [1.0], [2.0]), blind)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"snr_min": 10, "snr_max": 5}, "snr_min = 10.0 must not be above snr_max = 5.0"),
        ({"exposure_s": 50, "cadence_s": 45}, "exposure_s"),
        ({"detection_fraction": 1.5}, "detection_fraction"),
        ({"pointings": [{"ra_deg": 360, "dec_deg": 0}]}, "ra_deg"),
    ],
    ids=["range", "exposure", "fraction", "pointing"],
)
def test_settings_that_cannot_be_are_refused(wrong, why):
    with pytest.raises(ValueError, match=why):
        SurveyConfig(**wrong)
