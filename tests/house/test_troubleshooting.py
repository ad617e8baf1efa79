"""
Every error has an entry with cause and cure in docs/troubleshooting.md.
"""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from tests.house.tree import ROOT
from twisted_llama import errors

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
# Raised with one line for the operator as their first argument.
FOR_OPERATORS = {"StartupError", "FetchFailed"}


def error_codes() -> set[str]:
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass)]
    return {
        each.__dict__["code"]
        for each in classes
        if issubclass(each, errors.GatewayError) and "code" in each.__dict__
    }


@pytest.mark.parametrize("code", sorted(error_codes()))
def test_every_code_that_clients_see_has_an_entry(code: str) -> None:
    assert f"\n### `{code}` (" in PAGE


def test_every_entry_is_of_a_code_that_exists() -> None:
    documented = set(re.findall(r"^### `(\w+)` \(", PAGE, re.MULTILINE))
    # The contract's name for a model that is not served; many models come later.
    assert documented - error_codes() <= {"model_not_found"}


def operators_lines() -> list[str]:
    """
    The longest constant part of every line that ends a start.
    """
    found = []
    for path in sorted((ROOT / "twisted_llama").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and _name(node.func) in FOR_OPERATORS:
                parts = _constants(node.args[0])
                # Some are made of facts alone.
                found += [part for part in [max(parts, key=len, default="")] if len(part) >= 12]
    return found


def _name(function: ast.expr) -> str:
    return getattr(function, "id", None) or getattr(function, "attr", "")


def _constants(message: ast.expr) -> list[str]:
    if isinstance(message, ast.JoinedStr):
        return [
            part.value
            for part in message.values
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
    if isinstance(message, ast.Constant) and isinstance(message.value, str):
        return [message.value]
    return []


@pytest.mark.parametrize("line", operators_lines())
def test_every_line_that_ends_a_start_is_explained(line: str) -> None:
    """
    Something that the page quotes is in it.
    """
    quoted = [each for each in re.findall(r"`([^`\n]+)`", PAGE) if len(each) >= 8]
    assert any(_normal(each) in _normal(line) for each in quoted), line


def _normal(text: str) -> str:
    return " ".join(text.replace("make serve:", "").split()).strip(" .:…")
