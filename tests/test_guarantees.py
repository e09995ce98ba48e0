"""The table of guarantees in README.md is kept: each fault has a test, and each test that it names exists."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = re.findall(r"^\| (?!fault|-)(.+?) \| (.+) \|$", (TESTS / "README.md").read_text(), re.MULTILINE)
NAMED = sorted({name for _, cell in ROWS for name in re.findall(r"`([^`]+::[^`]+)`", cell)})


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_the_table_names_exists(name):
    path, _, function = name.partition("::")
    tree = ast.parse((TESTS / path).read_text())
    assert function in {node.name for node in ast.walk(tree) if hasattr(node, "name")}


def test_every_fault_has_its_tests_or_says_why_not():
    assert len(ROWS) >= 14
    assert [fault for fault, cell in ROWS if "::" not in cell and "nothing to break" not in cell] == []
