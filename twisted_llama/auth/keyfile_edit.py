"""
Changes to the file of keys, as functions from its bytes to its new bytes.

Pure.  Every line that a change is not about keeps its bytes: comments, blank
lines, line ends, and lines that the parser would skip.  After each change the
result is parsed again, so that a secret that was to go is really gone.
"""

from __future__ import annotations

from twisted_llama.auth.keyfile import (
    BadField,
    KeyEntry,
    Keyfile,
    format_line,
    parse_expires,
    parse_keyfile,
)

_BOM = "\ufeff"


class EditRefused(Exception):
    """
    The change cannot be made; C{str()} is one line that says what to do.
    """


def read_keyfile(content: bytes) -> Keyfile:
    """
    Parse the bytes of a file.

    @raise EditRefused: when they are not UTF-8, as the gateway would refuse them.
    """
    return parse_keyfile(_text_of(content))


def with_key(
    content: bytes,
    key_id: str,
    api_key: str,
    requests_per_minute: int | None = None,
    expires: str | None = None,
) -> bytes:
    """
    Add a key at the end.

    @param api_key: the secret, or C{sha256=} and its digest.
    @raise EditRefused: when there is a key of that id, or a field is wrong.
    """
    if entries_of(content, key_id):
        raise EditRefused(
            f"There is a key '{key_id}' already: use 'llama-gateway keys rotate {key_id}' to "
            "replace its secret, or give another --name."
        )
    text = _text_of(content)
    newline = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    separator = "" if text.endswith("\n") or text in ("", _BOM) else newline
    line = _formatted(key_id, api_key, requests_per_minute, expires)
    changed = (text + separator + line + newline).encode()
    if not entries_of(changed, key_id):
        raise EditRefused(f"The secret for '{key_id}' is in the file already: take another.")
    return changed


def without_key(content: bytes, key_id: str) -> bytes:
    """
    Remove every line of a key.

    @raise EditRefused: when there is no such key, or its secret would stay in
        force under another id.
    """
    removed = _existing(content, key_id)
    named = _lines_of(content, key_id)
    bom, lines = _split(content)
    changed = _join(bom, [line for index, line in enumerate(lines) if index not in named])
    _insist_gone(changed, removed)
    return changed


def with_new_secret(
    content: bytes,
    key_id: str,
    api_key: str,
    *,
    requests_per_minute: int | None = None,
    expires: str | None = None,
    old_expires: str | None = None,
) -> bytes:
    """
    Replace the secret of a key in place.  Where the key has several lines the
    last valid one is the current one; the others go, unless old secrets are
    to be kept.

    @param requests_per_minute: a new rate; the old one stays if C{None}.
    @param expires: a new expiry; the old one stays if C{None}.
    @param old_expires: keep the current line, valid until then or until its own
        expiry if that is sooner; C{None} ends the old secrets at once.
    @raise EditRefused: when there is no such key, a field is wrong, or an old
        secret would stay in force under another id.
    """
    entries = _existing(content, key_id)
    current = entries[-1]
    index = current.line - 1
    bom, lines = _split(content)
    line = lines[index]
    end = "\r" if line.endswith("\r") else ""
    _, old_secret, limits = (*line.strip().split(":", 2), "")[:3]
    rate = current.requests_per_minute if requests_per_minute is None else requests_per_minute
    until = _expires_text(limits, current) if expires is None else expires
    new_line = _formatted(key_id, api_key, rate, until) + end
    if old_expires is None:
        gone = _lines_of(content, key_id) - {index}
        lines[index] = new_line
        lines = [line for number, line in enumerate(lines) if number not in gone]
        changed = _join(bom, lines)
        _insist_gone(changed, entries)
        return changed
    old_until = _moment(old_expires)
    if current.expires is None or current.expires > old_until:
        line = _formatted(key_id, old_secret, current.requests_per_minute, old_expires) + end
    lines[index : index + 1] = [line, new_line]
    return _join(bom, lines)


def entries_of(content: bytes, key_id: str) -> list[KeyEntry]:
    """
    The valid lines of a key, in order.
    """
    return [entry for entry in read_keyfile(content).entries if entry.key_id == key_id]


def _existing(content: bytes, key_id: str) -> list[KeyEntry]:
    """
    @raise EditRefused: when the key has no valid line.
    """
    entries = entries_of(content, key_id)
    if not entries:
        raise EditRefused(
            f"There is no key '{key_id}': see 'llama-gateway keys list' for those that are."
        )
    return entries


def _insist_gone(changed: bytes, removed: list[KeyEntry]) -> None:
    """
    A line that was skipped as a duplicate comes into force when the line
    before it goes.

    @raise EditRefused: when a removed secret would still open the gateway.
    """
    table = read_keyfile(changed).entries
    for entry in removed:
        survivor = table.find(entry.digest)
        if survivor is not None:
            raise EditRefused(
                f"The secret of '{entry.key_id}' stands in the file a second time, for "
                f"'{survivor.key_id}': remove that line first."
            )


def _lines_of(content: bytes, key_id: str) -> set[int]:
    """
    Which lines (from 0) belong to a key: the skipped ones too, because a
    duplicate would come into force once the valid line is gone.
    """
    _, lines = _split(content)
    first_field = f"{key_id}:"
    return {index for index, line in enumerate(lines) if line.strip().startswith(first_field)}


def _split(content: bytes) -> tuple[str, list[str]]:
    """
    The byte order mark or nothing, and the lines as the parser counts them,
    without their LF; the last one is empty if the file ends in LF.
    """
    text = _text_of(content)
    bom = _BOM if text.startswith(_BOM) else ""
    return bom, text.removeprefix(bom).split("\n")


def _join(bom: str, lines: list[str]) -> bytes:
    """
    Undo L{_split}.
    """
    text = "\n".join(lines)
    if text.startswith(_BOM):
        # A line that was skipped for the mark in it would be a key at the top of the file.
        bom = _BOM
    return (bom + text).encode()


def _expires_text(limits: str, entry: KeyEntry) -> str | None:
    """
    The expiry as it is written in C{rate:expires}, or C{expires} alone.
    """
    if entry.expires is None:
        return None
    if entry.requests_per_minute is None:
        return limits.removeprefix(":")
    return limits.partition(":")[2]


def _moment(expires: str) -> float:
    """
    @raise EditRefused: when it is no expiry.
    """
    try:
        return parse_expires(expires)
    except BadField as problem:
        raise EditRefused(f"Cannot write the key: {problem}.") from None


def _formatted(
    key_id: str, api_key: str, requests_per_minute: int | None, expires: str | None
) -> str:
    """
    @raise EditRefused: when a field does not follow the grammar.
    """
    try:
        return format_line(key_id, api_key, requests_per_minute, expires)
    except BadField as problem:
        raise EditRefused(f"Cannot write the key: {problem}.") from None


def _text_of(content: bytes) -> str:
    """
    @raise EditRefused: when the bytes are not UTF-8.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise EditRefused(
            f"The key file is not UTF-8 text (line {line}): save it as UTF-8 first."
        ) from None
