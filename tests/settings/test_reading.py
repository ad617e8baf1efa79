"""
Text is read strictly, and what is refused is explained.
"""

from __future__ import annotations

import math
import re
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from twisted_llama.settings import reading

TRUE = ("true", "1", "yes", "on")
FALSE = ("false", "0", "no", "off")


def cased(words: tuple[str, ...]) -> st.SearchStrategy[str]:
    """
    One of the words, each letter in either case.
    """
    return st.sampled_from(words).flatmap(
        lambda word: st.tuples(*(st.sampled_from([c.lower(), c.upper()]) for c in word)).map(
            "".join
        )
    )


@given(cased(TRUE), cased(FALSE))
def test_flag_words(true: str, false: str) -> None:
    """The words for true and false are known in any case."""
    assert reading.read_flag(f" {true} ") is True
    assert reading.read_flag(false) is False


@given(st.text().filter(lambda text: text.strip().lower() not in TRUE + FALSE))
def test_flag_refuses_everything_else(text: str) -> None:
    """No other text is ever a flag."""
    with pytest.raises(PydanticCustomError, match="neither true nor false"):
        reading.read_flag(text)


def test_flag_takes_native_booleans() -> None:
    """A flag from Python is kept; 1 and 0 are flags, 2 is not."""
    assert (reading.read_flag(True), reading.read_flag(0)) == (True, False)
    with pytest.raises(PydanticCustomError):
        reading.read_flag(2)


@given(st.integers(min_value=-(10**17), max_value=10**17))
def test_whole_round_trip(number: int) -> None:
    """What str() makes of a number is read as that number."""
    assert reading.read_whole(str(number)) == number
    assert reading.read_whole(number) == number


@pytest.mark.parametrize(
    "text", ["1e3", "0x10", "1_000", "1.0", "007", "+5", "٣", "", "1 2", "9" * 5000, True, 1.0, [1]]
)
def test_whole_refuses(text: object) -> None:
    """Everything but plain decimal digits is refused."""
    with pytest.raises(PydanticCustomError, match="not a whole number"):
        reading.read_whole(text)


@given(st.floats(min_value=0, max_value=1e15, allow_nan=False))
def test_seconds_round_trip(seconds: float) -> None:
    """What repr() makes of a finite number is read as that number."""
    assert reading.read_seconds(repr(seconds)) == seconds
    assert reading.read_seconds(seconds) == seconds


@given(st.text())
def test_seconds_are_finite_or_refused(text: str) -> None:
    """No text is read as infinity or as not a number."""
    try:
        seconds = reading.read_seconds(text)
    except PydanticCustomError:
        return
    assert isinstance(seconds, float)
    assert math.isfinite(seconds)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "1_0", "0x1p3", "ten", math.inf])
def test_seconds_refuse(text: object) -> None:
    """Python's other spellings of floats are refused."""
    with pytest.raises(PydanticCustomError):
        reading.read_seconds(text)


@given(st.text())
def test_names_are_safe_in_paths(text: str) -> None:
    """Whatever the text was, the name is one harmless path segment, and stays itself."""
    name = reading.safe_name(text)
    assert re.fullmatch(r"[A-Za-z0-9._-]{0,100}", name)
    assert ".." not in name
    assert not name.startswith(".")
    assert reading.safe_name(name) == name


def test_name_of_a_path() -> None:
    """Separators become hyphens."""
    assert reading.read_name(" ../../etc/pass wd ") == "etc-pass-wd"


@given(st.sampled_from("\x00\x01\t\n\r\x7f"))
def test_text_refuses_control_characters(control: str) -> None:
    """A control character inside a text is refused."""
    with pytest.raises(PydanticCustomError, match="control"):
        reading.read_text(f"a{control}b")


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", ()),
        ("*", ("*",)),
        (
            "https://a.example, http://localhost:3000,",
            ("https://a.example", "http://localhost:3000"),
        ),
        ("https://A.Example/", ("https://a.example",)),
        ("https://a:443,http://a:80,https://a", ("https://a", "http://a")),
        ("http://[::1]:8080", ("http://[::1]:8080",)),
        ("chrome-extension://abc", ("chrome-extension://abc",)),
    ],
)
def test_origins(text: str, origins: tuple[str, ...]) -> None:
    """Origins are brought into the form in which browsers send them."""
    assert reading.read_origins(text) == origins
    assert reading.read_origins(list(text.split(","))) == origins


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a.example", "no scheme"),
        ("null", "no scheme"),
        ("https://a/path", "not an origin"),
        ("https://*.a", "not an origin"),
        ("https://a:99999", "not an origin"),
        ("https://a b", "not an origin"),
        ("*,https://a", "beside"),
        ("https://user:word@a", "user name"),
    ],
)
def test_origins_refused(text: str, reason: str) -> None:
    """An origin that no browser would send is refused, without showing passwords."""
    with pytest.raises(PydanticCustomError, match=reason) as caught:
        reading.read_origins(text)
    assert "word" not in str(caught.value)


@given(st.lists(st.ip_addresses().map(ip_network), unique=True))
def test_networks_round_trip(networks: list[object]) -> None:
    """Networks are read back from their text."""
    assert reading.read_networks(",".join(map(str, networks))) == tuple(networks)
    assert reading.read_networks(tuple(networks)) == tuple(networks)


def test_networks_refused() -> None:
    """Host bits are not guessed away, but what was probably meant is said."""
    with pytest.raises(PydanticCustomError, match=r"Write 10\.0\.0\.0/8"):
        reading.read_networks("10.0.0.1/8")
    with pytest.raises(PydanticCustomError, match="such as"):
        reading.read_networks("proxy.example")


def test_prefixes() -> None:
    """A prefix begins with a slash and is a normalised path."""
    assert reading.read_prefixes("/slots, /lora-adapters,/") == ("/slots", "/lora-adapters", "/")
    for bad in ("slots", "/a//b", "/a/../b", "/./a", "/a?b", "/%2e", "/a;b", "/a\\b", "/a b"):
        with pytest.raises(PydanticCustomError, match="not a path prefix"):
            reading.read_prefixes(bad)
    with pytest.raises(PydanticCustomError, match="not a list"):
        reading.read_prefixes(7)


def test_arguments_are_split_as_in_a_shell() -> None:
    """Quotes group, a list is taken as it is."""
    assert reading.read_arguments("-b 512 --alias 'my model'") == (
        "-b",
        "512",
        "--alias",
        "my model",
    )
    assert reading.read_arguments(["--alias", "my model"]) == ("--alias", "my model")
    assert reading.read_arguments("") == ()


@pytest.mark.parametrize("form", ["{} x", "{}=x", "-b 1 {}"])
@pytest.mark.parametrize(
    "option", ["--host", "--port", "--api-key", "--api-key-file", "--api_key", "--api-key-hush"]
)
def test_arguments_that_are_the_gateways_own(form: str, option: str) -> None:
    """Listening and keys are not for extra arguments, in any spelling the engine knows."""
    with pytest.raises(PydanticCustomError, match="gateway sets itself") as caught:
        reading.read_arguments(form.format(option))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("bad", ["'open", ["a\x00b"], [1], 5])
def test_arguments_refused(bad: object) -> None:
    """What cannot be a command line is refused."""
    with pytest.raises(PydanticCustomError):
        reading.read_arguments(bad)


def test_similar_options_pass() -> None:
    """Only the options themselves are refused."""
    assert reading.read_arguments("--reuse-port --hostile 1") == ("--reuse-port", "--hostile", "1")


@pytest.mark.parametrize(
    ("read", "good", "bad"),
    [
        (reading.read_endpoint, "unix:/run/gateway.sock", "8000"),
        (reading.read_header_secret, "sk-abc", "hush hush"),
        (reading.read_redis_url, "redis://:hush@cache:6379/0", "http://:hush@cache"),
    ],
)
def test_outlines(read: object, good: str, bad: str) -> None:
    """Endpoints, keys and addresses are checked in outline; secrets are not quoted."""
    assert callable(read)
    assert read(good) == good
    assert read(None) is None
    with pytest.raises(PydanticCustomError) as caught:
        read(bad)
    assert "hush" not in str(caught.value)


def test_quoted_is_short_and_visible() -> None:
    """A quoted value fits a line and shows control characters as escapes."""
    assert reading.quoted("a\nb") == r"'a\nb'"
    assert len(reading.quoted("x" * 500)) == 80
