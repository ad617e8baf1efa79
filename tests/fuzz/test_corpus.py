"""
What fuzzing has shown once holds: every kept input is played again.
"""

from __future__ import annotations

import pytest

from fuzz.corpus import TARGETS, check_of, corpus_of, inputs


@pytest.mark.parametrize("target", TARGETS)
def test_every_kept_input(target: str) -> None:
    """
    No promise is broken.
    """
    check = check_of(target)
    assert any(corpus_of(target).iterdir())
    for name, octets in inputs(target).items():
        try:
            check(octets)
        except BaseException as problem:
            problem.add_note(f"input of {target}: {name}, {octets!r}")
            raise


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_at_all(target: str) -> None:
    check_of(target)(b"")
