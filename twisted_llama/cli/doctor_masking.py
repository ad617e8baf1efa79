"""
Takes secrets out of text that is going to be shared.

What looks like a secret is masked wherever it stands, and so is every secret
that this machine's settings and key file hold, whatever it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from twisted_llama.telemetry.clean_text import MASK, redacted

_SECRET_NAME = re.compile(r"(?i)(key|token|secret|passw|credential|redis_url)").search
# Names with such words in them whose values are no secrets.
_HARMLESS_NAMES = frozenset({"AUTH_KEYS_FILE", "KEEPALIVE_TIMEOUT"})
_SHORTEST = 6
# Beyond so many, secrets are looked up word by word instead of one after the other.
_MANY = 500
_WORD = re.compile(r"[A-Za-z0-9_-]{16,}")
_URL_PASSWORD = re.compile(r"://[^/\s@]*:([^/\s@]+)@")


class Masking:
    """
    @param secrets: known secrets; those too short to be told from ordinary words
        are left alone.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {secret for secret in secrets if len(secret) >= _SHORTEST}
        self._words = known if len(known) > _MANY else set()
        # Longer ones first: one may be a part of another.
        self._texts = sorted(known - self._words, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """
        The text without any secret.
        """
        text = redacted(text)
        for secret in self._texts:
            text = text.replace(secret, MASK)
        if self._words:
            text = _WORD.sub(lambda word: MASK if word[0] in self._words else word[0], text)
        return text


def environment_secrets(environ: Mapping[str, str]) -> Iterator[str]:
    """
    Values of variables whose names say that they are secret, with the passwords
    of addresses by themselves too.
    """
    for name, value in environ.items():
        if _SECRET_NAME(name) and name not in _HARMLESS_NAMES:
            yield value.strip()
            yield from _URL_PASSWORD.findall(value)


def keyfile_secrets(text: str) -> Iterator[str]:
    """
    Whatever might be a secret in a key file, bad lines too: every field but
    numbers and dates, for who wrote the fields in the wrong order.
    """
    for line in text.splitlines():
        fields = [part.strip() for part in line.strip().lstrip("#").split(":")]
        # The first field is the public name, unless there is nothing but a secret.
        for part in fields[1:] if len(fields) > 1 else fields:
            secret = part.removeprefix("sha256=")
            if len(secret) >= 16 and " " not in secret:
                yield secret
