from __future__ import annotations

import numpy as np
import pytest

from trapline.common.table import GrowingTable

ROW = np.dtype([("id", "u1", (4,)), ("value", "f8")])


def test_rows_stay_as_the_table_grows() -> None:
    table = GrowingTable(ROW)
    for count in (0, 1, 15, 1, 100, 0, 7):
        rows = table.extend(count)
        assert len(rows) == count
        assert (table.rows["value"][rows] == 0).all()
        table.rows["value"][rows] = rows * 2.0
    assert table.rows["value"].tolist() == [2.0 * k for k in range(124)]


def test_growing_copies_each_row_a_bounded_number_of_times() -> None:
    table, allocations, held = GrowingTable(ROW), 0, 0
    for _ in range(10_000):
        table.extend(1)
        allocations += len(table._rows) != held
        held = len(table._rows)
    assert allocations < 15
    assert held < 20_000


def test_columns_come_back() -> None:
    table = GrowingTable(ROW)
    table.extend(5)
    table.rows["id"] = np.arange(20).reshape(5, 4)
    columns = table.columns("t.")
    again = GrowingTable.from_columns(ROW, columns, "t.")
    assert again.rows.tobytes() == table.rows.tobytes()
    table.rows["value"] = 1.0
    assert columns["t.value"].tolist() == [0.0] * 5, "columns are copies"
    again.extend(40)
    assert again.rows["id"][:5].tolist() == table.rows["id"].tolist()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"value": None}, "value"),
        ({"value": np.zeros(4)}, "different lengths"),
        ({"value": np.zeros(5, "f4")}, "value is float32"),
        ({"id": np.zeros((5, 3), "u1")}, "id is uint8"),
    ],
)
def test_columns_of_another_table_are_refused_by_name(change: dict[str, np.ndarray | None], text: str) -> None:
    table = GrowingTable(ROW)
    table.extend(5)
    arrays = {name: array for name, array in (table.columns() | change).items() if array is not None}
    with pytest.raises(ValueError, match=text):
        GrowingTable.from_columns(ROW, arrays)
