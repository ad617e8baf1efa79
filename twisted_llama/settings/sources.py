"""
Where values are written: the environment, the command line, and a YAML file,
which has a module of its own.

Each source gives the same: by field name, the text (or list of texts) as it was
written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches

from attrs import frozen

from twisted_llama.settings.problems import Problem
from twisted_llama.settings.reading import quoted


@frozen
class Given:
    """
    One value as it was written.

    @ivar name: the environment variable, under the name that was used.
    @ivar origin: where; see L{Problem.origin}.
    @ivar value: text, a list of texts, or (from Python) anything.
    """

    name: str
    origin: str
    value: object


@frozen
class Written:
    """
    All that one source holds.
    """

    values: Mapping[str, Given]
    problems: tuple[Problem, ...] = ()


def is_unset(value: object) -> bool:
    """
    Whether a value means that there is none: docker compose passes variables
    that it does not know as empty ones.
    """
    return value is None or (isinstance(value, str) and not value.strip())


def from_environment(environ: Mapping[str, str], names: Collection[str]) -> Written:
    """
    Take our settings out of an environment that holds much else.
    """
    return Written(
        {
            name: Given(name.upper(), "environment", environ[name.upper()])
            for name in names
            if not is_unset(environ.get(name.upper()))
        }
    )


def from_overrides(overrides: Mapping[str, object], names: Collection[str]) -> Written:
    """
    Take what the command line named.
    """
    values = {}
    problems = []
    for name, value in overrides.items():
        if name not in names:
            problems.append(unknown(name, "command line", names))
        elif not is_unset(value):
            values[name] = Given(name.upper(), "command line", value)
    return Written(values, tuple(problems))


def unknown(name: str, origin: str, names: Collection[str]) -> Problem:
    """
    A name that is no setting's, and the one that may be meant.
    """
    close = get_close_matches(name.lower(), names, n=1)
    all_names = "'llama-gateway config docs' lists all settings."
    cure = f"Did you mean {close[0]}?" if close else all_names
    shown = name if name.isidentifier() else quoted(name)
    return Problem(shown, origin, "there is no such setting", cure)
