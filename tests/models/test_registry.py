"""
Which engine serves a request.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.models.registry import Registry


@given(st.none() | st.text())
def test_one_model_is_what_everybody_means(model: str | None) -> None:
    """
    Whatever name the client gives, as clients of single-model servers do.
    """
    assert Registry({"little.gguf": "engine"}).pick(model) == "engine"


@given(st.dictionaries(st.text(), st.integers(), min_size=2), st.none() | st.text())
def test_several_are_picked_by_name(engines: dict[str, int], model: str | None) -> None:
    """
    And only by the exact one.
    """
    registry = Registry(engines)
    assert registry.names() == list(engines)
    for name, engine in engines.items():
        assert registry.pick(name) == engine
    if model not in engines:
        with pytest.raises(KeyError):
            registry.pick(model)


def test_what_it_was_made_from_may_change() -> None:
    """
    It keeps its own list.
    """
    engines = {"a": 1, "b": 2}
    registry = Registry(engines)
    engines["c"] = 3
    assert registry.names() == ["a", "b"]
