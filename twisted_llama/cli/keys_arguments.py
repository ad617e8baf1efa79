"""
What can be said to C{llama-gateway keys}, and what it means.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from twisted_llama.auth.keyfile import BadField, is_key_id, parse_expires, parse_rate
from twisted_llama.auth.keyfile_edit import EditRefused
from twisted_llama.errors import StartupError

DEFAULT_NAME = "default"
DEFAULT_OVERLAP = "24h"

_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhdw])").fullmatch
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

_NAMES = {
    "generate": "make a new key and show it once",
    "list": "show all keys, without their secrets",
    "rotate": "replace the secret of a key; rate and expiry stay",
    "remove": "remove a key",
}


class WrongUsage(Exception):
    """
    The arguments do not fit together; exit status 2.
    """


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Declare the sub-commands and options.  The options stand on both levels
    without defaults: with them, a sub-command would overwrite what was given
    before it.
    """
    _add_options(parser)
    commands = parser.add_subparsers(dest="keys_command", required=True, metavar="COMMAND")
    for name, purpose in _NAMES.items():
        command = commands.add_parser(name, help=purpose, description=purpose)
        _add_options(command)
        if name != "list":
            command.add_argument(
                "positional_name",
                nargs="?",
                default=argparse.SUPPRESS,
                metavar="NAME",
                help="the key id (as --name)",
            )
        if name in ("generate", "rotate"):
            command.add_argument(
                "--hashed",
                action="store_true",
                default=argparse.SUPPRESS,
                help="keep only the SHA-256 of the secret in the file",
            )
        if name == "rotate":
            command.add_argument(
                "--keep-old",
                nargs="?",
                const=DEFAULT_OVERLAP,
                default=argparse.SUPPRESS,
                metavar="DURATION",
                help=f"the old secret stays valid so long, as 30d or 12h ({DEFAULT_OVERLAP} "
                "if none is given)",
            )


def _add_options(parser: argparse.ArgumentParser) -> None:
    def option(*names: str, **details: str) -> None:
        parser.add_argument(*names, default=argparse.SUPPRESS, **details)  # type: ignore[arg-type]  # all are str

    option("--file", metavar="PATH", help="the key file (default: AUTH_KEYS_FILE)")
    option("--quiet", action="store_true", help="print the key alone")
    option("--name", metavar="NAME", help=f"the key id (generate: '{DEFAULT_NAME}' if not given)")
    option("--rate-limit", metavar="N", help="requests per minute for this key")
    option("--expires", metavar="WHEN", help="30d, 12h, or an ISO-8601 date or time")


def key_file(args: argparse.Namespace, environ: Mapping[str, str]) -> Path:
    """
    The file to work on: C{--file}, or the one that the gateway's settings name.

    @raise EditRefused: when the settings cannot tell.
    """
    given: str | None = getattr(args, "file", None)
    if given is not None:
        if not given:
            raise EditRefused("--file is empty: give the path of the key file.")
        return Path(given)
    named = environ.get("AUTH_KEYS_FILE")
    if named:
        return Path(named)
    # Only now: reading all settings takes longer than everything else here.
    from twisted_llama.settings import Settings

    try:
        loaded = Settings.load(environ, getattr(args, "config", None), None)
    except StartupError as problem:
        first_line = (str(problem).splitlines() or ["they are wrong"])[0]
        raise EditRefused(
            f"Cannot tell the key file from the settings ({first_line}): give --file."
        ) from None
    return loaded.settings.auth_keys_file


def name_of(args: argparse.Namespace) -> str | None:
    """
    The key id that was given, by option or by place.

    @raise WrongUsage: when two were.
    @raise EditRefused: when it is none.
    """
    by_option: str | None = getattr(args, "name", None)
    by_place: str | None = getattr(args, "positional_name", None)
    if by_option is not None and by_place is not None and by_option != by_place:
        raise WrongUsage(f"two names were given, '{by_option}' and '{by_place}': give one.")
    name = by_place if by_option is None else by_option
    if name is not None and not is_key_id(name):
        raise EditRefused(f"A name is 1 to 64 of A-Z a-z 0-9 _ -, not {name!r}.")
    return name


def needed_name(args: argparse.Namespace) -> str:
    """
    The key id, which this command cannot do without.

    @raise WrongUsage: when none was given.
    """
    name = name_of(args)
    if name is None:
        command = args.keys_command
        raise WrongUsage(f"which key? Say 'keys {command} NAME'; 'keys list' shows the names.")
    return name


def rate_of(args: argparse.Namespace) -> int | None:
    """
    The requests per minute that were given.

    @raise EditRefused: when it is no positive number.
    """
    given: str | None = getattr(args, "rate_limit", None)
    try:
        return None if given is None else parse_rate(given)
    except BadField:
        raise EditRefused(
            f"--rate-limit is a whole number of requests per minute, at least 1, not {given!r}."
        ) from None


def expires_of(args: argparse.Namespace, now: float) -> str | None:
    """
    The expiry that was given, as the file is to have it.

    @raise EditRefused: when it is no time, or a past one.
    """
    given: str | None = getattr(args, "expires", None)
    if given is None:
        return None
    if _DURATION(given):
        return after(given, now, "--expires")
    try:
        moment = parse_expires(given)
    except BadField:
        raise EditRefused(
            "--expires is a duration (30d, 12h) or an ISO-8601 date or time "
            f"(2027-01-31, 2027-01-31T12:00:00Z), not {given!r}."
        ) from None
    if moment <= now:
        raise EditRefused(f"--expires {given} has passed already: give a later time.")
    return given


def after(duration: str, now: float, option: str) -> str:
    """
    The time so long after now, as the file has it.

    @raise EditRefused: when it is no duration, or ends after the year 9999.
    """
    parts = _DURATION(duration)
    if parts is None:
        raise EditRefused(f"{option} takes a duration such as 30d or 12h, not {duration!r}.")
    try:
        return iso(now + int(parts[1]) * _SECONDS[parts[2]])
    except (ValueError, OverflowError):
        raise EditRefused(f"{option} {duration} is too long: give a shorter time.") from None


def refuse_options(args: argparse.Namespace, *names: str) -> None:
    """
    Insist that none of these was given.

    @raise WrongUsage: when an option was given that would change nothing.
    """
    for name in names:
        if hasattr(args, name):
            option = "--" + name.replace("_", "-")
            raise WrongUsage(f"{option} has no meaning for 'keys {args.keys_command}'.")


def iso(moment: float) -> str:
    """
    A time (seconds since the epoch) as the file and the table have it, in UTC.
    """
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
