"""
Paths: one plain spelling, or none.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.errors import MalformedRequest
from twisted_llama.http.target import judge_target


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/ping", b"/ping", b""),
        (b"/ping?", b"/ping", b"?"),
        (b"/ping?x=/../y;z//", b"/ping", b"?x=/../y;z//"),
        (b"/v1/models/", b"/v1/models/", b""),
        (b"/v1/models/a.b-c_d~e", b"/v1/models/a.b-c_d~e", b""),
        (b"/%761/%6dodels", b"/v1/models", b""),
        (b"/v1/models/%7Ex%2Dy%5fz", b"/v1/models/~x-y_z", b""),
        (b"/v1/models/caf%c3%a9", b"/v1/models/caf%C3%A9", b""),
        (b"/v1/models/a%20b", b"/v1/models/a%20b", b""),
        (b"/v1/models/a:b@c,d=e+f$g&h!i*j(k)'l", b"/v1/models/a:b@c,d=e+f$g&h!i*j(k)'l", b""),
        (b"/PING", b"/PING", b""),
        (b"/.well-known/x", b"/.well-known/x", b""),
    ],
)
def test_plain(target: bytes, path: bytes, query: bytes) -> None:
    assert judge_target(target) == (path, query)


@pytest.mark.parametrize(
    "path",
    [
        b"//",
        b"//ping",
        b"/v1//models",
        b"/v1/../ping",
        b"/v1/..",
        b"/../v1",
        b"/./ping",
        b"/ping/.",
        b"/ping.",
        b"/ping./x",
        b"/...",
        b"/%2e%2e/ping",
        b"/.%2e/ping",
        b"/%2E",
        b"/v1/%2e%2e%2fping",
        b"/v1%2fmodels",
        b"/v1%2Fmodels",
        b"/v1\\models",
        b"/v1%5cmodels",
        b"/ping;x",
        b"/ping;/v1",
        b"/ping%3bx",
        b"/ping%00",
        b"/ping%0a",
        b"/ping%0d%0a",
        b"/ping%7f",
        b"/ping%09",
        b"/%",
        b"/%2",
        b"/%zz",
        b"/%u002e",
        b"/%252e%252e/ping",
        b"/%25",
        b"/ping%3fx",
        b"/ping%23x",
        b"/ping#x",
        b"/ping?x#y",
        b"/ping%22",
        b"/a|b",
        b"/a^b",
        b"/a`b",
        b"/a{b}",
        b"/a<b>",
        b'/a"b',
        b"/\xc0\xae\xc0\xae/ping",
        b"ping",
        b"",
        b"*",
    ],
)
def test_ambiguous(path: bytes) -> None:
    with pytest.raises(MalformedRequest):
        judge_target(path)


@given(
    st.lists(
        st.sampled_from(
            [
                b"/",
                b"v1",
                b"ping",
                b".",
                b"..",
                b"%2e",
                b"%2f",
                b"%61",
                b"%",
                b"?",
                b";",
                b"\\",
                b"~",
            ]
        ),
        max_size=10,
    )
)
def test_judged_twice_is_judged_once(parts: list[bytes]) -> None:
    """
    What was judged plain is plain for whoever judges it next.
    """
    try:
        path, query = judge_target(b"/" + b"".join(parts))
    except MalformedRequest:
        return
    assert judge_target(path + query) == (path, query)
    assert b"//" not in path
    assert not any(part in (b".", b"..") for part in path.split(b"/"))


@given(st.binary(max_size=60))
def test_any_bytes_are_judged(target: bytes) -> None:
    try:
        path, _ = judge_target(target)
    except MalformedRequest:
        return
    assert path.startswith(b"/")
