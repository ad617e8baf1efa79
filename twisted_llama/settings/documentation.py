"""
Settings as people read them: the table of what there is, and the list of what
is in force.  Secrets are never shown.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from attrs import frozen
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from twisted_llama.settings.schema import Settings

if TYPE_CHECKING:
    from twisted_llama.settings.loading import LoadedSettings

MASK = "********"
UNSET = "-"
_SECRET_OPTION = re.compile(r"--?(hft|.*(token|key|password|secret).*)", re.IGNORECASE)
_TYPE_TEXTS: dict[Any, str] = {
    bool: "true or false",
    int: "whole number",
    float: "seconds",
    Path: "path",
    str: "text",
    SecretStr: "secret",
}


@frozen
class SettingDoc:
    """
    What there is to know about a setting.

    @ivar name: the environment variable; in lower case, the key in the file.
    @ivar default_text: the default, or how it is found.
    @ivar type_text: what kind of value it takes.
    @ivar bounds_text: the smallest and largest, or the choices; may be empty.
    @ivar doc: what it is for.
    @ivar secret: whether it is never shown.
    """

    name: str
    default_text: str
    type_text: str
    bounds_text: str
    doc: str
    secret: bool

    @property
    def private(self) -> bool:
        """
        Whether its value may hold a secret, among other things.
        """
        return self.secret or self.name in ("AUTH", "EXTRA_ARGS")


def describe_settings() -> list[SettingDoc]:
    """
    Every setting, in the order of the schema.
    """
    return [describe(name) for name in Settings.model_fields]


def describe(name: str) -> SettingDoc:
    """
    One setting.

    @param name: the name of its field.
    """
    field = Settings.model_fields[name]
    kind, metadata = _kind_and_bounds(field)
    extra = field.json_schema_extra
    derived = str(extra["default_text"]) if isinstance(extra, dict) else ""
    if get_origin(kind) is tuple:
        type_text = "shell words" if name == "extra_args" else "comma-separated list"
    else:
        type_text = "choice" if get_origin(kind) is Literal else _TYPE_TEXTS[kind]
    return SettingDoc(
        name=name.upper(),
        default_text=derived or _text(field.default),
        type_text=type_text,
        bounds_text=_bounds_text(kind, metadata),
        doc=field.description or "",
        secret=kind is SecretStr,
    )


def markdown_table() -> str:
    """
    The table of the documentation's configuration page.
    """
    rows = [("Variable", "Default", "Value", "What it is for"), ("---",) * 4]
    for each in describe_settings():
        value = f"{each.type_text}: {each.bounds_text}" if each.bounds_text else each.type_text
        # A default is a value, or a phrase that says how it is found.
        is_phrase = each.default_text == UNSET or " " in each.default_text
        default = each.default_text if is_phrase else f"`{each.default_text}`"
        rows.append((f"`{each.name}`", default, value, each.doc))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def effective(loaded: LoadedSettings) -> list[tuple[str, str, str]]:
    """
    What is in force: environment variable, value as it may be shown, source.
    """
    return [
        (name.upper(), shown(name, getattr(loaded.settings, name)), loaded.sources[name])
        for name in Settings.model_fields
    ]


def shown(name: str, value: object) -> str:
    """
    A setting's value on one line, without the secrets in it.
    """
    if isinstance(value, SecretStr):
        return MASK
    text = _text(value)
    if name == "extra_args" and isinstance(value, tuple):
        masked = shlex.join(_masked_arguments(value)).replace(f"'{MASK}'", MASK)
        text = masked or UNSET
    elif name == "auth" and not text.startswith("keyfile:"):
        # Other checkers may take a password as their argument.
        text = re.sub(r":.*", f":{MASK}", text)
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _masked_arguments(arguments: tuple[str, ...]) -> list[str]:
    """
    Mask what follows an option that sounds as if it took a secret.
    """
    masked = []
    secret_follows = False
    for argument in arguments:
        option, equals, _ = argument.partition("=")
        sounds_secret = _SECRET_OPTION.fullmatch(option) is not None
        if secret_follows:
            masked.append(MASK)
        else:
            masked.append(f"{option}={MASK}" if sounds_secret and equals else argument)
        secret_follows = sounds_secret and not equals and not secret_follows
    return masked


def _text(value: object) -> str:
    if value is None or value in ("", ()):
        return UNSET
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kind_and_bounds(field: FieldInfo) -> tuple[Any, list[Any]]:
    """
    The type of a field without C{None}, and what else is said about it.
    """
    kind, metadata = field.annotation, list(field.metadata)
    if get_origin(kind) in (Union, UnionType):
        kind = next(each for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) is Annotated:
        kind, *inner = get_args(kind)
        for each in inner:
            metadata += each.metadata if isinstance(each, FieldInfo) else [each]
    return kind, metadata


def _bounds_text(kind: Any, metadata: list[Any]) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    low = high = ""
    for each in metadata:
        if isinstance(each, annotated_types.Ge):
            low = f"at least {each.ge}"
        elif isinstance(each, annotated_types.Gt):
            low = f"more than {each.gt}"
        elif isinstance(each, annotated_types.Le):
            high = f"at most {each.le}"
    return ", ".join(filter(None, (low, high)))
