"""What a survey keeps: history, score, and the log of its visits."""

import math
from dataclasses import fields, replace
from html.parser import HTMLParser

import numpy as np
import pytest

from trapline.common.sky import separation_deg
from trapline.schemas.columns import Link, ids_to_array
from trapline.schemas.lightcurves import POINTS
from trapline.survey.extrapolate import Assumptions, extrapolate
from trapline.survey.extrapolate import lines as extrapolated
from trapline.survey.history import History
from trapline.survey.page import page
from trapline.survey.reading import Run, differences, read_run, side_by_side, text
from trapline.survey.report import line, lines, summary
from trapline.survey.score import Score
from trapline.survey.visitlog import VisitLog, VisitLogError, VisitRow, load_taken, read_rows, save_taken


def object_id(number):
    return number.to_bytes(16, "big")


def points(rows):
    """Return rows of `lightcurves`: (object, ra, dec, flux, link, source) each."""
    arrays = POINTS.empty(len(rows))
    arrays["object_id"] = ids_to_array(object_id(r[0]) for r in rows)
    arrays["object_ra_deg"], arrays["object_dec_deg"] = np.array([r[1:3] for r in rows], float).reshape(-1, 2).T
    arrays["flux_int"] = np.array([r[3] for r in rows], float)
    arrays["link"] = np.array([r[4] for r in rows], "u1")
    arrays["source_id"] = ids_to_array(object_id(r[5]) for r in rows)
    return arrays


def test_history_is_what_a_list_of_points_per_object_would_be():
    random = np.random.default_rng(3)
    history, naive, where = History(), {}, {}
    for t_us in range(0, 40_000, 1000):
        rows = []
        for _ in range(random.integers(0, 60)):
            number = int(random.integers(0, 80))
            where.setdefault(number, (float(random.uniform(359, 361)) % 360, float(random.uniform(88, 90))))
            rows.append((number, *where[number], float(random.normal()), Link.ONE_TO_ONE, 0))
            naive.setdefault(number, []).append((t_us, rows[-1][3]))
        history.add(t_us, points(rows))
    for centre in ((0.0, 89.0), (180.0, 89.9), (359.5, 88.2)):
        near = history.near(*centre, 0.7)
        expected = {n for n, (ra, dec) in where.items() if separation_deg(ra, dec, *centre) <= 0.7}
        ids = {int.from_bytes(history.objects.rows["object_id"][n].tobytes(), "big"): n for n in near}
        assert set(ids) == expected
        curves = history.of(near, 11_000)
        found = curves.rows()
        assert len(curves) == len(found)
        assert all((curves.of(k)["object"] == number).all() for k, number in enumerate(near))
        for number, row in ids.items():
            mine = sorted((p["t_us"], p["flux"]) for p in found[found["object"] == row])
            assert mine == sorted(p for p in naive[number] if p[0] >= 11_000)
            assert history.objects.rows["n"][row] == len(naive[number])
    assert history.n_points == sum(map(len, naive.values()))


def test_a_window_that_moves_keeps_what_is_in_it():
    random = np.random.default_rng(8)
    history, came = History(), []
    for step in range(60):
        # As with forced points of a new object, older ones come after newer ones.
        t_us = 1000 * (step if random.random() < 0.7 else max(0, step - int(random.integers(0, 20))))
        numbers = random.integers(0, 12, int(random.integers(0, 30))).tolist()
        history.add(t_us, points([(n, float(n), 2.0, float(step), Link.ONE_TO_ONE, 0) for n in numbers]))
        came += [(t_us, n, float(step)) for n in numbers]
        if step % 7 == 3:
            since = 1000 * (step - 15)
            near = history.near(5.0, 2.0, 4.5)
            found = history.of(near, since).rows()
            ids = [int.from_bytes(history.objects.rows["object_id"][n].tobytes(), "big") for n in found["object"]]
            expected = sorted(p for p in came if p[0] >= since and 1 <= p[1] <= 9)
            assert sorted(zip(found["t_us"].tolist(), ids, found["flux"].tolist(), strict=True)) == expected


def test_an_empty_history_knows_nothing():
    history = History()
    assert len(history.add(0, points([]))) == 0
    assert len(history.of(history.near(1.0, 2.0, 3.0), 0)) == 0
    assert history.number_of(object_id(1)) is None


def test_joining_is_judged_by_what_founded_an_object():
    history = History()
    score = Score(history)
    star, other, transient, noise = 1, 5, 2, -1

    def visit(t_us, rows, truth):
        arrays = points(rows)
        sources = ids_to_array(object_id(row[5]) for row in rows)
        return score.judge(sources, np.array(truth), arrays, history.add(t_us, arrays))

    first = visit(0, [(1, 0, 0, 1, Link.NEW, 10), (2, 1, 0, 1, Link.NEW, 11)], [star, noise])
    assert (first.detections, first.again, first.joined) == (2, 0, 0)
    second = visit(
        1,
        [
            (1, 0, 0, 1, Link.ONE_TO_ONE, 12),  # the star to its object
            (2, 1, 0, 1, Link.ONE_TO_ONE, 13),  # noise to noise: belongs nowhere
            (3, 2, 0, 1, Link.NEW, 14),  # the star again
            (4, 3, 0, 1, Link.NEW, 15),
        ],
        [star, noise, star, transient],
    )
    assert (second.again, second.right, second.joined, second.duplicates) == (2, 1, 2, 1)
    third = visit(2, [(1, 0, 0, 1, Link.ONE_TO_ONE, 16)], [other])
    assert (third.again, third.right, third.joined) == (0, 0, 1)
    assert (score.total.completeness, score.total.purity) == (0.5, pytest.approx(1 / 3))
    for number in (1, 2, 4, 99):
        score.events.add(object_id(number))
    assert (score.transients_detected, score.announced()) == ({transient}, 1)


def row(number=0, **values):
    blank = {f.name: {"int": 0, "float": 0.5, "str": "r"}[f.type] for f in fields(VisitRow)}
    return VisitRow(**{**blank, "visit": number, **values})


def test_a_log_comes_back_and_a_cut_line_is_not_there_yet(tmp_path):
    log = VisitLog(tmp_path / "survey")
    written = [row(0, forced_s=math.inf), row(1, filter="g"), row(2)]
    for one in written:
        log.append(one)
    assert VisitLog(tmp_path / "survey").rows == written
    text = log.path.read_text()
    log.path.write_text(text[:-5])
    assert list(read_rows(log.path)) == written[:2]


def test_a_kill_in_the_middle_of_a_line_costs_that_line_only(tmp_path):
    log = VisitLog(tmp_path)
    for number in range(3):
        log.append(row(number))
    log.path.write_text(log.path.read_text()[:-5])
    again = VisitLog(tmp_path)
    assert [r.visit for r in again.rows] == [0, 1]
    again.append(row(2))
    assert [r.visit for r in read_rows(log.path)] == [0, 1, 2]


def test_a_line_that_is_none_is_named(tmp_path):
    log = VisitLog(tmp_path)
    log.append(row(0))
    log.path.write_text(log.path.read_text() + "1,2,three\n")
    with pytest.raises(VisitLogError, match="line 3"):
        list(read_rows(log.path))


def test_a_summary_compares_the_ends_and_leaves_the_warm_up_out():
    rows = [row(0, store_s=9.0)] + [row(k, store_s=1.0 + (k > 50)) for k in range(1, 101)]
    assert summary(rows)["growth"] == pytest.approx(2.0)
    assert summary(rows)["seconds"]["store_s"] == pytest.approx(1.5, abs=0.5)
    assert summary(rows[:30])["growth"] is None
    assert summary([]) == {"visits": 0}
    assert len(list(lines(summary([])))) == 1
    lost = [replace(r, lost=1, store_s=math.nan) for r in rows[:3]]
    assert summary(lost)["lost"] == 3
    assert any("3 lost" in text for text in lines(summary(lost)))


def test_a_line_of_the_table_names_what_went_wrong():
    assert "LOST" in line(row(0, lost=1, late=1), heading=True)
    assert line(row(0, late=1), heading=False).endswith("late\n")
    assert len(line(row(0), heading=True).splitlines()) == 2


def test_a_year_is_what_the_steady_visits_take_times_their_number():
    assumed = Assumptions(visits_per_night=100, nights=200, cadence_s=45.0, steady_from=2)
    rows = [row(k, detections=1000 if k < 2 else 100, forced=50, alerts=1, points=2000) for k in range(4)]
    found = extrapolate(rows, {"associator": 8.0, "database_dumper": 28.0}, 600_000, assumed)
    visit, year = found["per_visit"], found["per_year"]
    assert (visit["detections"], visit["forced"], visit["points"], visit["alerts"]) == (100, 50, 150, 1)
    assert found["bytes_per_point"] == 300
    assert year["visits"] == 20_000
    assert year["points"] == 3_000_000
    assert year["bytes"] == 900_000_000
    assert visit["work_s"] == 9.0
    assert year["work_h"] == 50.0
    assert found["cores"] == pytest.approx(0.2)
    assert found["regions"] == pytest.approx(7.0 / 45)
    told = "\n".join(extrapolated(found, assumed))
    assert "200 nights of 100 visits" in told
    assert "900 MB a year" in told
    assert "1 region(s)" in told
    assert "it will be more" not in told
    growing = [row(k, detections=100, forced=100 * k, points=2000, objects=50 * k) for k in range(6)]
    found = extrapolate(growing, {}, 600_000, assumed)
    assert found["per_visit"]["objects"] == 50
    assert "grow, by 57 %" in "\n".join(extrapolated(found, assumed))
    assert extrapolate([], {}, 0, assumed) == {}
    assert "nothing" in next(extrapolated({}, assumed))


def test_runs_are_told_side_by_side():
    night = [row(k, t_us=k * 45_000_000, store_s=0.25, detections=10) for k in range(6)]
    slow = [replace(r, store_s=0.75) for r in night]
    told = list(text([Run("fast", night, {"store_bytes": 10}, {"associator": 1.0}), Run("slow", slow, {}, {})], 300))
    (times,) = (line for line in told if line.startswith("store_s"))
    assert times.split() == ["store_s", "0.2500", "0.7500"]
    assert any("300 nights of 800 visits, one every 45 s" in line for line in told)


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="survey run --directory"):
        read_run(tmp_path)


def test_runs_side_by_side_begin_with_the_settings_that_differ():
    rows = [row(k, t_us=k * 45_000_000) for k in range(4)]
    settings = {"survey.history_s": 10, "associator.method": "deruiter"}
    runs = [Run("a", rows, {"settings": settings}, {}), Run("b", rows, {"settings": {**settings, "survey.x": 3}}, {})]
    assert differences(runs) == [("survey.x", ["-", "3"])]
    assert side_by_side(runs)[0] == ("survey.x", ["-", "3"])
    assert any(line.split() == ["survey.x", "-", "3"] for line in text(runs, 300))


class Tags(HTMLParser):
    """Counts what is open, and keeps the text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("visits", [0, 1, 30])
def test_a_page_holds_everything_and_nothing_of_it_is_markup(visits):
    rows = [row(k, t_us=k * 45_000_000, detections=9, objects=k, points=10 * k, late=1) for k in range(visits)]
    runs = [Run("<b>&", rows, {"settings": {"survey.seed": 1}}, {"associator": 1.0}), Run("other", rows, {}, {})]
    tags = Tags(page(runs, 300))
    assert tags.open == []
    assert "<b>&" in "".join(tags.texts)
    assert any("what a year would take" in found for found in tags.texts)
    assert "survey.seed" in tags.texts


def test_what_a_run_took_comes_back_or_is_named(tmp_path):
    directory = tmp_path / "survey"
    assert load_taken(directory) == {}
    save_taken(directory, {"store_bytes": 3})
    assert load_taken(directory) == {"store_bytes": 3}
    (directory / "taken.json").write_text("[1")
    with pytest.raises(VisitLogError, match="remove it"):
        load_taken(directory)
