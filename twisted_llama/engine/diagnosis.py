"""
From an exit and the last lines of output to a reason in plain words.

Pure, and never raises.  A reason says what happened and what to do; it never
repeats a path or anything else that an engine printed, except the names of a
library and of an argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from attrs import frozen

_LINES_JUDGED = 60
_WRONG_CPU = (
    "illegal instruction: this engine was built for another kind of CPU. Take a build for "
    "this CPU, build it here, or use ENGINE=embedded."
)
_OUT_OF_MEMORY = (
    "out of memory: the model or its context does not fit. Lower CTX or NGL, take a smaller "
    "quantisation, or give the machine or container more memory."
)
_KILLED = (
    "killed by the system, most likely out of memory. Lower CTX, take a smaller quantisation, "
    "or give the machine or container more memory."
)
_BAD_MODEL = (
    "bad model file: the engine could not load it. Check that the download is complete and "
    "that this version of llama.cpp knows the model's architecture."
)
_PORT_TAKEN = "port taken: another program listens on PORT_BACKEND. Stop it or choose another port."
_NOT_FOUND = (
    "the engine's program was not found. Set LLAMA_SERVER_BIN to llama-server, or install the "
    "embedded engine: pip install 'twisted-llama[embedded]'."
)
_NOT_EXECUTABLE = (
    "the engine's program cannot be run. Check that LLAMA_SERVER_BIN is executable and made "
    "for this machine."
)


@frozen
class _Symptom:
    """
    Words of an engine's output and what they mean.
    """

    pattern: re.Pattern[str]
    explain: Callable[[re.Match[str]], str]


def _symptom(pattern: str, explain: Callable[[re.Match[str]], str] | str) -> _Symptom:
    if isinstance(explain, str):
        reason = explain
        return _Symptom(re.compile(pattern, re.IGNORECASE), lambda _match: reason)
    return _Symptom(re.compile(pattern, re.IGNORECASE), explain)


def _missing_library(match: re.Match[str]) -> str:
    return (
        f"missing library: {match['library']} was not found. Install it, or add its directory "
        "to LD_LIBRARY_PATH."
    )


def _unknown_argument(match: re.Match[str]) -> str:
    return (
        f"unknown argument: this engine does not know {match['argument']}. Remove it from "
        "EXTRA_ARGS, or take a version of the engine that has it."
    )


def _bad_argument(match: re.Match[str]) -> str:
    return (
        f"bad argument: this engine does not accept the value given for {match['argument']}. "
        "Correct it in EXTRA_ARGS."
    )


_ARGUMENT = r"[\"']?(?P<argument>-{1,2}[a-z0-9][a-z0-9_-]{0,63})"

# The order is from the cause to its consequences: an engine that ran out of
# memory, or found its port taken, also says that it failed to load the model.
_SYMPTOMS: tuple[_Symptom, ...] = (
    _symptom(
        r"error while loading shared libraries: (?:\S*/)?(?P<library>[\w.+-]{1,128})",
        _missing_library,
    ),
    _symptom(
        rf"(?:invalid|unknown|unrecognized) (?:argument|option)s?:? {_ARGUMENT}", _unknown_argument
    ),
    _symptom(rf"error while handling argument {_ARGUMENT}", _bad_argument),
    _symptom(r"illegal instruction|AMX is not ready", _WRONG_CPU),
    _symptom(
        r"out of memory|OutOfDeviceMemory|OutOfHostMemory|cudaMalloc failed|bad_alloc|MemoryError"
        r"|(?:failed|unable|cannot) to allocate|failed to create context"
        r"|failed to fit .* (?:device )?memory",
        _OUT_OF_MEMORY,
    ),
    _symptom(
        r"couldn'?t bind|failed to bind|\bbind\(\)|address already in use|EADDRINUSE", _PORT_TAKEN
    ),
    _symptom(
        r"failed to load model|error loading model|invalid magic|unknown model architecture"
        r"|model loading error|failed to open GGUF|tensor .* not found|model is corrupted",
        _BAD_MODEL,
    ),
)
_BY_SIGNAL = {
    "SIGILL": _WRONG_CPU,
    "SIGKILL": _KILLED,
    "SIGTERM": "stopped by SIGTERM, which this gateway did not send.",
    "SIGINT": "stopped by SIGINT, which this gateway did not send.",
}
_BY_CODE = {
    126: _NOT_EXECUTABLE,
    127: _NOT_FOUND,
    # A program started by a shell script reports a signal as 128 and its number.
    132: _WRONG_CPU,
    137: _KILLED,
}


def diagnose(code: int | None, signal_name: str | None, lines: Sequence[str]) -> str:
    """
    @param code: the exit code, if there was one.
    @param signal_name: the signal's name, if one that we did not send ended it.
    @param lines: what the engine printed, oldest first; the end of it is judged.
    @return: one line that says what happened and what to do.
    """
    if signal_name == "SIGILL":
        return _WRONG_CPU
    said = "\n".join(lines[-_LINES_JUDGED:])
    for symptom in _SYMPTOMS:
        match = symptom.pattern.search(said)
        if match is not None:
            return symptom.explain(match)
    if signal_name is not None:
        return _BY_SIGNAL.get(
            signal_name, f"crashed with {signal_name}. Its last lines of output may say why."
        )
    if code == 0:
        return "the engine ended by itself without an error. Its last lines of output may say why."
    return _BY_CODE.get(
        code if code is not None else -1,
        f"ended with exit code {code}. Its last lines of output may say why.",
    )
