"""A mesh whose sky is split among associators stores and announces what a mesh with one does."""

import csv
import io

import numpy as np
import pytest

from mesh_runs import SMALL_SKY, exports, process, trapline
from trapline.associator.regions import domain_of
from trapline.common.testing.postgres import fresh_database

pytestmark = pytest.mark.timeout(300)

SETTINGS = """
[transient_finder]
variable_thresholds = "fixed"
warm_up = 2
"""
SPLIT = """
[associator]
replicas = 2
margin_deg = "3 deg"
regions = [
    {{ owner = "0", cells = "{}" }},
    {{ owner = "1", cells = "{}" }},
]
"""
# Every second cell of 15 degrees: the borders run through the field and its sources.
CELLS = {owner: "2/" + ",".join(map(str, range(int(owner), 192, 2))) for owner in "01"}


def test_two_regions_give_the_rows_of_one(postgres, tmp_path):
    done = trapline("simulate", "--frames", "20", "--fits", str(tmp_path), cwd=tmp_path, env=SMALL_SKY)
    assert done.returncode == 0, done.stderr
    found = []
    for name, more in (("whole", ""), ("split", SPLIT.format(*CELLS.values()))):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "mesh.toml").write_text(SETTINGS + more)
        with fresh_database(postgres) as dsn:
            report = process(*sorted(tmp_path.glob("*.fits")), store=dsn, cwd=directory)
            found.append((report, exports({"TRAPLINE__DATABASE__DSN": dsn}, tmp_path)))
    (report, tables), (again, split) = found
    for table, text in tables.items():
        rows = [sorted(csv.reader(io.StringIO(t))) for t in (text, split[table])]
        assert rows[0] == rows[1], table
        assert len(rows[0]) > 1, table
    assert report["images"] == again["images"]
    objects = list(csv.DictReader(io.StringIO(tables["objects"])))
    at = (np.array([float(row[name]) for row in objects]) for name in ("ra_deg", "dec_deg"))
    owned = domain_of(CELLS, "0", 3.0).owns(*at)
    assert 0 < owned.sum() < len(owned)
