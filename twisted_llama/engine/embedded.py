"""
The embedded engine: llama.cpp's own HTTP server from the C{xllamacpp} wheel,
as a program that understands llama-server's command line.

Run as C{python -m twisted_llama.engine.embedded -m MODEL --port PORT ...}.  It
dies with its parent and ends with status 0 at SIGTERM or SIGINT.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from twisted_llama.engine.embedded_flags import Assignment, UsageError, parse_flags
from twisted_llama.engine.tether import die_with_parent

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def read_keys(text: str) -> list[str]:
    """
    @param text: a key file's, one key a line; C{#} begins a comment.
    """
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def apply(assignments: Sequence[Assignment], parameters: Any, library: Any) -> None:
    """
    Set what the command line asks for.

    @param parameters: C{xllamacpp.CommonParams}.
    @param library: C{xllamacpp}, for its enumerations.
    @raise UsageError: the key file cannot be read.
    """
    for assignment in assignments:
        value = assignment.value
        if assignment.enum is not None:
            value = getattr(getattr(library, assignment.enum), str(value))
        if assignment.target == "api_key_file":
            parameters.api_keys = _keys_of(Path(str(value)))
        elif assignment.target == "reranking":
            parameters.embedding = True
            parameters.pooling_type = library.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
        else:
            *path, name = assignment.target.split(".")
            owner = parameters
            for step in path:
                owner = getattr(owner, step)
            setattr(owner, name, value)


def _keys_of(path: Path) -> list[str]:
    try:
        return read_keys(path.read_text("utf-8"))
    except OSError:
        raise UsageError('error while handling argument "--api-key-file": cannot read it') from None


def _end(_signal_number: int, _frame: FrameType | None) -> None:
    # Nothing is left to save, and a long answer must not hold us up.
    os._exit(0)


def serve(argv: Sequence[str]) -> int:
    """
    Load the model and serve until a signal comes.

    @return: the exit status, if it could not be loaded.
    """
    import xllamacpp

    try:
        assignments = parse_flags(argv)
        parameters = xllamacpp.CommonParams()
        # llama-server's default, which is "as many slots as it sees fit".
        parameters.n_parallel = -1
        apply(assignments, parameters, xllamacpp)
    except UsageError as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 1
    for number in _STOP_SIGNALS:
        signal.signal(number, _end)
    while server is not None:
        signal.pause()
    return 0  # pragma: no cover - the loop ends in a signal


def main(argv: Sequence[str]) -> int:
    """
    @param argv: the arguments, without the program's name.
    @return: the exit status.
    """
    die_with_parent(os.getppid())
    for number in _STOP_SIGNALS:
        # While the model loads no Python code runs, so the kernel must end us.
        signal.signal(number, signal.SIG_DFL)
    return serve(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
