"""
From text to value, strictly, one function for each kind of setting.

The functions are pydantic validators that run before pydantic's own: text is
read by the rules here, so that pydantic's leniency (C{"1e3"}, C{"y"}, C{1.0})
never applies; what is not text (a default, or a value given in Python) is left
to pydantic, except where its leniency would surprise.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeVar

from pydantic_core import PydanticCustomError

T = TypeVar("T")

_FLAGS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
    ("false", "0", "no", "off"), False
)
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?"
)
_IMPLIED_PORT = {"http": "80", "https": "443"}
_PATH_PREFIX = re.compile(r"/[A-Za-z0-9._~!$&'()*+=:@/-]*")
LONGEST_NAME = 100


def refusal(wrong: str, cure: str) -> PydanticCustomError:
    """
    Why a value is not taken, in the two parts that a
    L{Problem<twisted_llama.settings.problems.Problem>} has.
    """
    return PydanticCustomError("setting", "{wrong}. {cure}", {"wrong": wrong, "cure": cure})


def disagreement(names: list[str], wrong: str, cure: str) -> PydanticCustomError:
    """
    Why several settings, each good by itself, cannot be used together.
    """
    return PydanticCustomError(
        "settings", "{wrong}. {cure}", {"wrong": wrong, "cure": cure, "names": names}
    )


def quoted(value: object) -> str:
    """
    A value as it is quoted in a problem: visible characters only, and not long.
    """
    text = ascii(value)
    return text if len(text) <= 80 else text[:76] + "...'"


def read_flag(value: object) -> object:
    """
    Read a boolean; what is not clearly one is refused, so that nothing is
    switched off by a typing mistake.
    """
    if isinstance(value, bool):
        return value
    flag = _FLAGS.get(str(value).strip().lower())
    if flag is None:
        raise refusal(
            f"{quoted(value)} is neither true nor false",
            "Use true or false (1/0, yes/no and on/off are understood too).",
        )
    return flag


def read_whole(value: object) -> object:
    """
    Read a whole number of decimal digits: no C{0x}, C{1e3}, C{1_000}, C{007}.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value)
    raise refusal(f"{quoted(value)} is not a whole number", "Write it in decimal digits only.")


def read_seconds(value: object) -> object:
    """
    Read a finite number of seconds.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _DECIMAL.fullmatch(value.strip())):
        seconds = float(str(value))
        if math.isfinite(seconds):
            return seconds
    raise refusal(f"{quoted(value)} is not a finite number", "Write seconds, such as 30 or 0.5.")


def read_text(value: object) -> object:
    """
    Read one line of text, without the white space around it.
    """
    if isinstance(value, list | tuple):
        raise refusal("it is a list", "Give a single value.")
    if not isinstance(value, str):
        return value
    text = value.strip()
    if _CONTROL.search(text):
        raise refusal("it holds a control character", "Give one line of plain text.")
    return text


def read_choice(value: object) -> object:
    """
    Read one of a few words, in any case.
    """
    text = read_text(value)
    return text.lower() if isinstance(text, str) else text


def read_name(value: object) -> object:
    """
    Read what becomes part of a file name: other characters than
    C{[A-Za-z0-9._-]} are replaced.  The text may be empty.
    """
    text = read_text(value)
    return safe_name(text) if isinstance(text, str) else text


def safe_name(text: str) -> str:
    """
    Make a text safe as a part of a file name, whatever it was before: no
    separators, no C{..}, no leading dot.  The result may be empty.
    """
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    return re.sub(r"\.{2,}", ".", kept)[:LONGEST_NAME].strip(".-")


def needs_content(text: str) -> str:
    """
    Refuse a name of which nothing was left.
    """
    if not text:
        raise refusal("nothing is left of it", "Use letters, digits, '.', '_' and '-'.")
    return text


def read_endpoint(value: object) -> object:
    """
    Read a description of a Twisted endpoint; only its outline is checked here.
    """
    text = read_text(value)
    if isinstance(text, str) and not re.fullmatch(r"[A-Za-z][\w+.-]*:.+", text):
        raise refusal(
            f"{quoted(text)} is not a Twisted endpoint description",
            "Write one such as tcp:8000, unix:/run/gateway.sock or systemd:domain=INET:index=0.",
        )
    return text


def _listed(read_entry: Callable[[str], T]) -> Callable[[object], object]:
    """
    Make the reader of a list from the reader of one entry: the text is split at
    commas, empty entries are dropped and repeated ones too.
    """

    def read_list(value: object) -> object:
        if isinstance(value, str):
            value = value.split(",")
        if not isinstance(value, list | tuple):
            raise refusal("it is not a list", "Separate the entries by commas.")
        entries = [entry.strip() if isinstance(entry, str) else entry for entry in value]
        return tuple(
            dict.fromkeys(
                read_entry(entry) if isinstance(entry, str) else entry
                for entry in entries
                if entry != ""
            )
        )

    return read_list


def _read_origin(entry: str) -> str:
    """
    Read an origin as browsers send it: lower case, no default port, no slash.
    """
    if entry == "*":
        return entry
    if "@" in entry:
        raise refusal("an origin holds a user name", "Write https://host or https://host:port.")
    if "://" not in entry:
        raise refusal(
            f"{quoted(entry)} has no scheme, so no browser's origin would match it",
            f"Write {quoted('https://' + entry)}, or http:// where the page has no TLS.",
        )
    found = _ORIGIN.fullmatch(entry.lower().removesuffix("/"))
    if found is None or int(found["port"] or 0) > 65535:
        raise refusal(
            f"{quoted(entry)} is not an origin",
            "Write scheme://host or scheme://host:port, without path or wildcard.",
        )
    origin = f"{found['scheme']}://{found['host']}"
    port = found["port"]
    return origin if port in (None, _IMPLIED_PORT.get(found["scheme"])) else f"{origin}:{port}"


_read_origin_list = _listed(_read_origin)


def read_origins(value: object) -> object:
    """
    Read the origins of C{CORS_ORIGINS}, or C{*}.
    """
    origins = _read_origin_list(value)
    if isinstance(origins, tuple) and "*" in origins and len(origins) > 1:
        raise refusal("'*' stands beside other origins", "Keep '*' alone, or leave it out.")
    return origins


def _read_network(entry: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(entry)
    except ValueError:
        try:
            meant = f"Write {ip_network(entry, strict=False)} for the whole network."
        except ValueError:
            meant = "Write addresses or networks such as 10.0.0.0/8 or ::1."
        raise refusal(f"{quoted(entry)} is not an address or network", meant) from None


read_networks = _listed(_read_network)


def _read_prefix(entry: str) -> str:
    if not _PATH_PREFIX.fullmatch(entry) or "//" in entry or {".", ".."} & set(entry.split("/")):
        raise refusal(
            f"{quoted(entry)} is not a path prefix",
            "Write a plain path that begins with '/', such as /slots.",
        )
    return entry


read_prefixes = _listed(_read_prefix)


def read_arguments(value: object) -> object:
    """
    Read further arguments of the engine: text is split as a shell would, a list
    is taken as it is.  No argument is quoted in a refusal: it may hold a token.
    """
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError:
            raise refusal("a quotation mark is not closed", "Close it, or escape it.") from None
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        _check_arguments(value)
        return tuple(value)
    raise refusal("it is not a list of arguments", "Write them as on a command line.")


def _check_arguments(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if "\x00" in argument:
            raise refusal("an argument holds a NUL", "Remove it.")
        # llama-server reads --api_key as --api-key.
        option = argument.partition("=")[0].replace("_", "-")
        refused = "--api-key" if option.startswith("--api-key") else option
        if refused in ("--host", "--port", "--api-key"):
            raise refusal(
                f"it holds {refused}, which the gateway sets itself",
                "Remove it; the engine's port is PORT_BACKEND, it listens on loopback only, "
                "and its key is made at each start.",
            )


def read_header_secret(value: object) -> object:
    """
    Read a key that is sent in a header.
    """
    text = read_text(value)
    if isinstance(text, str) and not re.fullmatch(r"[\x21-\x7e]+", text):
        raise refusal("it cannot be sent in a header", "Use visible ASCII without spaces.")
    return text


def read_redis_url(value: object) -> object:
    """
    Read the address of a Redis, which may hold a password.
    """
    text = read_text(value)
    if isinstance(text, str) and not re.match(r"(redis|rediss|unix)://.", text):
        raise refusal("it is not a Redis URL", "Write redis://[:PASSWORD@]HOST[:PORT][/DATABASE].")
    return text
