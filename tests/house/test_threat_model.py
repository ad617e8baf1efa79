"""
The page on threats names the tests of each row: they exist.
"""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.house.tree import ROOT

PAGE = (ROOT / "docs" / "threat-model.md").read_text()
ROWS = re.findall(r"^\| (C\d+) \|", PAGE, re.MULTILINE)
TESTS = dict(re.findall(r"^(C\d+)\n: (.*(?:\n  .*)*)", PAGE, re.MULTILINE))
#: What waits for pages of administration and for more than one model.
LATER = {7, 27, 28, 30, 37}


@cache
def names_in(path: str) -> set[str]:
    """
    The functions, classes and values that a file of tests defines.
    """
    tree = ast.parse((ROOT / "tests" / path).read_text())
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    values = [node for node in tree.body if isinstance(node, ast.Assign)]
    return defined | {ast.unparse(target) for node in values for target in node.targets}


def test_no_threat_is_left_out() -> None:
    assert sorted(int(number[1:]) for number in ROWS) == sorted(set(range(1, 41)) - LATER)
    assert TESTS.keys() == set(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_names_tests_that_exist(row: str) -> None:
    named = re.findall(r"`(\w+/test_\w+\.py)::(\w+)`", TESTS[row])
    assert len(named) == TESTS[row].count("\n") + 1
    for path, name in named:
        assert name in names_in(path), f"{path}::{name}"


def test_the_page_can_be_found() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    assert "\nsecurity\nthreat-model\n" in index
    for page in ("docs/security.md", "SECURITY.md"):
        assert "threat-model.md" in (ROOT / page).read_text()
