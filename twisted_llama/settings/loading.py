"""
From sources to settings: precedence, validation, and all problems in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from attrs import frozen
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from twisted_llama.settings.documentation import describe
from twisted_llama.settings.problems import Problem, SettingsError
from twisted_llama.settings.reading import quoted
from twisted_llama.settings.schema import Settings, default_instance_id, platform_data_dir
from twisted_llama.settings.sources import (
    Given,
    Written,
    from_environment,
    from_overrides,
    is_unset,
)

CONFIG_VARIABLE = "GATEWAY_CONFIG"
# The older name of a setting, and its name now.
RENAMED = {"backend_port": "port_backend"}


@frozen
class LoadedSettings:
    """
    Settings, and how they came about.

    @ivar settings: the effective settings.
    @ivar sources: by field name: C{command line}, C{environment}, C{file PATH: KEY}
        or C{default}.
    @ivar warnings: what is not wrong, but should be looked at; no secrets.
    """

    settings: Settings
    sources: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def load(
    environ: Mapping[str, str],
    config_path: str | None,
    overrides: Mapping[str, object],
    exists: Callable[[Path], bool],
) -> LoadedSettings:
    """
    See L{Settings.load}.
    """
    fields = Settings.model_fields
    names = [*fields, *RENAMED]
    sources = [
        _from_named_file(environ, config_path, names),
        from_environment(_without_links(environ), names),
        from_overrides(overrides, names),
    ]
    given: dict[str, Given] = {}
    for source in sources:
        given.update(source.values)
    warnings = [*_renamed(given), *_misspelt(environ, names)]

    defaults = {
        "data_dir": platform_data_dir(exists),
        "instance_id": default_instance_id(environ.get("HOSTNAME")),
    }
    settings, problems = _validated(given, defaults)
    problems = [*(each for source in sources for each in source.problems), *problems]
    if settings is None or problems:
        raise SettingsError(problems)

    origins = {name: given[name].origin if name in given else "default" for name in fields}
    if settings.mock_backend:
        origins["engine"] = origins["mock_backend"]
    if "backend_host" in given and settings.engine != "external":
        warnings.append("BACKEND_HOST is not used, because ENGINE is not 'external'.")
    return LoadedSettings(settings, origins, tuple(warnings))


def _from_named_file(
    environ: Mapping[str, str], config_path: str | None, names: Collection[str]
) -> Written:
    if config_path is not None:
        path, named_by, named_in = config_path, "--config", "command line"
    else:
        path, named_by, named_in = environ.get(CONFIG_VARIABLE, ""), CONFIG_VARIABLE, "environment"
        if is_unset(path):
            return Written({})
    # Imported here, since YAML is a megabyte that a gateway without such a file need
    # not hold.
    from twisted_llama.settings.yaml_file import from_file

    return from_file(path, named_by, named_in, names)


def _without_links(environ: Mapping[str, str]) -> Mapping[str, str]:
    """
    Leave out what Kubernetes sets in every pod beside a service named "backend":
    C{BACKEND_PORT=tcp://10.0.0.1:80} is not meant for us.
    """
    old_names = [name.upper() for name in RENAMED]
    return {
        name: value
        for name, value in environ.items()
        if not (name in old_names and value.startswith("tcp://"))
    }


def _renamed(given: dict[str, Given]) -> list[str]:
    """
    Move values from old names to new ones, where these are not set themselves.

    @return: a warning for each old name.
    """
    warnings = []
    for old, new in RENAMED.items():
        written = given.pop(old, None)
        if written is None:
            continue
        fate = f"; its value is ignored, because {new.upper()} is set" if new in given else ""
        given.setdefault(new, written)
        warnings.append(
            f"{written.name} ({written.origin}) is deprecated: use {new.upper()} instead{fate}."
        )
    return warnings


def _misspelt(environ: Mapping[str, str], names: Collection[str]) -> list[str]:
    """
    Point at environment variables that are nearly, but not quite, ours.
    """
    known = [*(name.upper() for name in names), CONFIG_VARIABLE]
    prefixes = tuple({name.partition("_")[0] + "_" for name in known if "_" in name})
    warnings = []
    for name in sorted(environ):
        if name not in known and name.startswith(prefixes):
            close = get_close_matches(name, known, n=1, cutoff=0.9)
            if close:
                shown = name if name.isidentifier() else quoted(name)
                warnings.append(
                    f"{shown} (environment) is not a setting and is ignored. "
                    f"Did you mean {close[0]}?"
                )
    return warnings


def _validated(
    given: Mapping[str, Given], defaults: Mapping[str, object]
) -> tuple[Settings | None, list[Problem]]:
    """
    Validate in two rounds: the second, without the values that the first refused, finds
    those that are good by themselves but not together.
    """
    values: dict[str, Any] = {**defaults, **{name: each.value for name, each in given.items()}}
    try:
        return Settings(**values), []
    except ValidationError as refused:
        bad = {str(error["loc"][0]) for error in refused.errors() if error["loc"]}
        problems = _problems(refused, given, set())
    if bad:
        try:
            Settings(**{name: value for name, value in values.items() if name not in bad})
        except ValidationError as refused:
            problems += _problems(refused, given, bad)
    return None, problems


def _problems(refused: ValidationError, given: Mapping[str, Given], bad: set[str]) -> list[Problem]:
    """
    Say pydantic's findings in our words.

    @param bad: fields whose values are reported already.
    """
    problems = []
    for error in refused.errors(include_url=False, include_input=False):
        if error["type"] == "default_factory_not_called":
            # It follows from another setting, which is reported.
            continue
        names = error.get("ctx", {}).get("names") or [str(error["loc"][0])]
        names = [name for name in names if name not in bad]
        if not error["loc"] and len(names) < 2:
            # The disagreement was with the default of a setting that was refused.
            continue
        written = [given.get(name, Given(name.upper(), "default", None)) for name in names]
        wrong, cure = _said(error, written[0].value)
        name = ", ".join(each.name for each in written)
        origin = ", ".join(dict.fromkeys(each.origin for each in written))
        problems.append(Problem(name, origin, wrong, cure))
    return problems


def _said(error: ErrorDetails, value: object) -> tuple[str, str]:
    context = error.get("ctx", {})
    if "cure" in context:
        return context["wrong"], context["cure"]
    setting = describe(str(error["loc"][0]))
    shown = "it" if setting.private else quoted(value)
    if setting.bounds_text:
        several = "one of: " if setting.type_text == "choice" else ""
        return f"{shown} is not allowed", f"Use {several}{setting.bounds_text}."
    return f"{shown} is not of the right kind", f"Use: {setting.type_text}."
