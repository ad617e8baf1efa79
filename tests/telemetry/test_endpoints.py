"""
Tests of the labels of endpoints.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.telemetry.endpoints import ENDPOINTS, endpoint_label


@pytest.mark.parametrize(
    ("path", "label"),
    [
        (b"/v1/chat/completions", "/v1/chat/completions"),
        (b"/v1/models", "/v1/models"),
        (b"/v1/models/some.gguf", "/v1/models/*"),
        (b"/v1/unheard/of", "/v1/*"),
        (b"/ping", "/ping"),
        (b"/metrics", "/metrics"),
        (b"/reload", "/reload"),
        (b"/tokenize", "/tokenize"),
        (b"/", "other"),
        (b"/v1", "other"),
        (b"other", "other"),
        (b"/v1/*", "/v1/*"),
    ],
)
def test_label(path: bytes, label: str) -> None:
    """Known paths are their own label, others share one."""
    assert endpoint_label(path) == label


@given(st.one_of(st.binary(), st.binary().map(b"/v1/".__add__)))
def test_every_path_has_a_label_of_the_list(path: bytes) -> None:
    """No client can make a label."""
    assert endpoint_label(path) in ENDPOINTS


def test_labels_are_listed_once() -> None:
    """The list has no doubles."""
    assert len(set(ENDPOINTS)) == len(ENDPOINTS)
