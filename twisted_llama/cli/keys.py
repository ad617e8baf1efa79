"""
C{llama-gateway keys}: makes, lists, replaces and removes API keys in the file
that the gateway watches, so that a change is in force a few seconds later.
"""

from __future__ import annotations

import argparse
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TextIO

from twisted_llama.auth.keyfile import KeyEntry
from twisted_llama.auth.keyfile_edit import (
    EditRefused,
    entries_of,
    read_keyfile,
    with_key,
    with_new_secret,
    without_key,
)
from twisted_llama.auth.keyfile_write import read_content, rewrite
from twisted_llama.cli.keys_arguments import (
    DEFAULT_NAME,
    WrongUsage,
    add_arguments,
    after,
    expires_of,
    iso,
    key_file,
    name_of,
    needed_name,
    rate_of,
    refuse_options,
)

__all__ = ["add_arguments", "run"]


def run(
    args: argparse.Namespace,
    out: TextIO,
    err: TextIO,
    *,
    environ: Mapping[str, str] | None = None,
    wall_clock: Callable[[], float] = time.time,
) -> int:
    """
    Do what was asked.

    @param args: what a parser with L{add_arguments} parsed.
    @param environ: names the key file if C{--file} does not; the process's
        own environment by default.
    @return: the exit status: 0 done, 1 refused (one line on C{err} says what
        to do), 2 wrong usage.
    """
    try:
        path = key_file(args, os.environ if environ is None else environ)
        commands = {"generate": _generate, "list": _list, "rotate": _rotate, "remove": _remove}
        commands[args.keys_command](args, path, out, err, wall_clock())
    except WrongUsage as problem:
        err.write(f"llama-gateway keys: {problem}\n")
        return 2
    except EditRefused as problem:
        err.write(f"llama-gateway keys: {problem}\n")
        return 1
    return 0


def _generate(args: argparse.Namespace, path: Path, out: TextIO, err: TextIO, now: float) -> None:
    name = name_of(args) or DEFAULT_NAME
    rate = rate_of(args)
    expires = expires_of(args, now)
    secret, stored = _new_secret(args)
    rewrite(path, lambda content: with_key(content, name, stored, rate, expires))
    _show_secret(args, name, secret, path, out)


def _rotate(args: argparse.Namespace, path: Path, out: TextIO, err: TextIO, now: float) -> None:
    name = needed_name(args)
    rate = rate_of(args)
    expires = expires_of(args, now)
    overlap = getattr(args, "keep_old", None)
    old_expires = None if overlap is None else after(overlap, now, "--keep-old")
    secret, stored = _new_secret(args)
    changed = rewrite(
        path,
        lambda content: with_new_secret(
            content,
            name,
            stored,
            requests_per_minute=rate,
            expires=expires,
            old_expires=old_expires,
        ),
    )
    _show_secret(args, name, secret, path, out)
    if _expired(entries_of(changed, name)[-1], now):
        err.write(
            f"llama-gateway keys: '{name}' keeps its expiry, which has passed: "
            f"use 'keys rotate {name} --expires 30d' to make it valid.\n"
        )


def _remove(args: argparse.Namespace, path: Path, out: TextIO, err: TextIO, now: float) -> None:
    refuse_options(args, "rate_limit", "expires")
    name = needed_name(args)
    rewrite(path, lambda content: without_key(content, name))
    if not _quiet(args):
        out.write(f"Removed key '{name}' from {path}.\n")


def _list(args: argparse.Namespace, path: Path, out: TextIO, err: TextIO, now: float) -> None:
    refuse_options(args, "rate_limit", "expires")
    content = read_content(path)
    if content is None:
        err.write(
            f"llama-gateway keys: there is no key file {path} yet; "
            "'llama-gateway keys generate' makes it.\n"
        )
    keyfile = read_keyfile(content or b"")
    only = name_of(args)
    entries = [entry for entry in keyfile.entries if only in (None, entry.key_id)]
    for row in _table(entries, now):
        out.write(row + "\n")
    out.write(f"{len(entries)} key(s) configured\n")
    for problem in keyfile.problems:
        err.write(f"{path}, line {problem.line}: {problem.reason} (the line is ignored)\n")


def _table(entries: list[KeyEntry], now: float) -> Iterator[str]:
    """
    Aligned rows, with a head if there are any.
    """
    if not entries:
        return
    rows = [("KEY ID", "RATE/MIN", "EXPIRES", "STATUS")]
    rows += [
        (
            entry.key_id,
            "default" if entry.requests_per_minute is None else str(entry.requests_per_minute),
            "never" if entry.expires is None else iso(entry.expires),
            "expired" if _expired(entry, now) else "active",
        )
        for entry in entries
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _show_secret(args: argparse.Namespace, name: str, secret: str, path: Path, out: TextIO) -> None:
    """
    Print the secret, for the only time.
    """
    if _quiet(args):
        out.write(f"{secret}\n")
        return
    out.write(
        f"Key id:  {name}\n"
        f"API key: {secret}\n"
        f"Saved in {path}. Copy the key now: it is not shown again.\n"
    )


def _new_secret(args: argparse.Namespace) -> tuple[str, str]:
    """
    A new secret, and what the file is to hold of it.
    """
    secret = "sk-" + secrets.token_urlsafe(32)
    if getattr(args, "hashed", False):
        return secret, "sha256=" + sha256(secret.encode()).hexdigest()
    return secret, secret


def _expired(entry: KeyEntry, now: float) -> bool:
    return entry.expires is not None and entry.expires <= now


def _quiet(args: argparse.Namespace) -> bool:
    return bool(getattr(args, "quiet", False))
