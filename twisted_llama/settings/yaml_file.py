"""
Settings in a YAML file.

A scalar is taken as its literal text, so that a value means in the file what it
means in the environment: C{worker_type: no} is the word "no", and C{ctx: 0x100}
is refused in both.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import yaml

from twisted_llama.settings.problems import Problem
from twisted_llama.settings.sources import Given, Written, is_unset, unknown

_YAML = "tag:yaml.org,2002:"
_QUOTE_IT = "Indent with spaces, and quote values that hold one of : # { [ & * ! | > ' \" % @ `."


def from_file(path: str, named_by: str, named_in: str, names: Collection[str]) -> Written:
    """
    Read a YAML file: one mapping of setting names to scalars or lists of scalars.
    Nothing of the file's text but its keys gets into a problem.

    @param named_by: what named the file: C{GATEWAY_CONFIG} or C{--config}.
    @param named_in: where that stood.
    """

    def unusable(wrong: str, cure: str) -> Written:
        return Written({}, (Problem(named_by, named_in, f"{path!r} {wrong}", cure),))

    try:
        node = yaml.compose(Path(path).read_text("utf-8-sig"), Loader=yaml.SafeLoader)
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else None
        return unusable(
            f"cannot be read: {reason or 'it is not a text file in UTF-8'}",
            "Name a readable YAML file.",
        )
    except (yaml.YAMLError, RecursionError) as problem:
        mark = getattr(problem, "problem_mark", None)
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return unusable(f"is not valid YAML{place}", _QUOTE_IT)
    if node is None:
        return Written({})
    if not isinstance(node, yaml.MappingNode):
        return unusable("does not hold settings", "Write one 'name: value' on each line.")
    return _from_mapping(node, path, names)


def _from_mapping(node: yaml.MappingNode, path: str, names: Collection[str]) -> Written:
    values: dict[str, Given] = {}
    problems = []
    seen = set()
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
        line = key_node.start_mark.line + 1
        if key not in names:
            problems.append(unknown(key, f"file {path}, line {line}", names))
            continue
        name, origin = key.upper(), f"file {path}: {key}"
        if key in seen:
            wrong = f"it is set again in line {line}"
            problems.append(Problem(name, origin, wrong, "Keep one of the two."))
            continue
        seen.add(key)
        try:
            value = _value(value_node)
        except _NotASetting as wrong_shape:
            problems.append(Problem(name, origin, str(wrong_shape), "Give a value or a list."))
            continue
        if not is_unset(value):
            values[key] = Given(name, origin, value)
    return Written(values, tuple(problems))


class _NotASetting(Exception):
    """
    A YAML value of a shape that no setting has.
    """


def _value(node: yaml.Node) -> str | list[str] | None:
    if isinstance(node, yaml.SequenceNode):
        return [_scalar(each) or "" for each in node.value]
    return _scalar(node)


def _scalar(node: yaml.Node) -> str | None:
    if not isinstance(node, yaml.ScalarNode):
        raise _NotASetting("it holds a mapping or a nested list")
    if not node.tag.startswith(_YAML):
        raise _NotASetting("it has a tag of its own ('!')")
    return None if node.tag == f"{_YAML}null" else str(node.value)
