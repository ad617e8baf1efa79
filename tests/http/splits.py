"""
Bytes cut into pieces at any places, as a network cuts them.
"""

from __future__ import annotations

from hypothesis import strategies as st


@st.composite
def split(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """
    C{data} in pieces, none of them empty.
    """
    if len(data) < 2:
        return [data] if data else []
    cuts = sorted(draw(st.sets(st.integers(1, len(data) - 1), max_size=12)))
    ends = [*cuts, len(data)]
    return [data[start:end] for start, end in zip([0, *cuts], ends, strict=True)]
