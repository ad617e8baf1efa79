"""
What fuzzing has shown once holds: every kept input is played again.
"""

from __future__ import annotations

import pytest

from fuzz.corpus import TARGETS, check_of, inputs


@pytest.mark.parametrize("target", TARGETS)
def test_every_kept_input(target: str) -> None:
    """
    No promise is broken.
    """
    check = check_of(target)
    files = inputs(target)
    assert files, f"there is no corpus of {target}"
    for file in files:
        try:
            check(file.read_bytes())
        except BaseException as problem:
            problem.add_note(f"input: fuzz/corpus/{target}/{file.name}")
            raise


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_at_all(target: str) -> None:
    check_of(target)(b"")
