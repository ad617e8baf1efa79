"""
Fuzzes one target: C{python -m fuzz.one TARGET [libFuzzer's options]}.
"""

from __future__ import annotations

import contextlib
import io
import sys
from importlib import import_module
from pathlib import Path

import atheris  # type: ignore[import-untyped]  # it has no types
from twisted.logger import globalLogBeginner

ROOT = Path(__file__).resolve().parent.parent

#: What is looked into for each target.  All else runs as quickly as ever.
INSTRUMENTED = {
    "channel": ("twisted_llama.http", "twisted_llama.api", "twisted_llama.admission"),
    "relay": ("twisted_llama.http", "twisted_llama.api.passthrough"),
    "keyfile": ("twisted_llama.auth",),
    "settings": ("twisted_llama.settings",),
    "sse": ("twisted_llama.http.sse",),
    "head": ("twisted_llama.http",),
}


def names_to_leave_alone(wanted: tuple[str, ...]) -> list[str]:
    """
    The modules that are not looked into; atheris itself chooses by whole
    distributions only.
    """
    # Found by their files: importing them here would be too early.
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in (ROOT / "twisted_llama").rglob("*.py")
    ]
    return [name for name in modules if not f"{name}.".startswith(tuple(f"{w}." for w in wanted))]


def main() -> None:
    """
    Fuzz until libFuzzer has had enough.
    """
    target = sys.argv.pop(1)
    left_alone = names_to_leave_alone(INSTRUMENTED[target])
    with (
        contextlib.redirect_stderr(io.StringIO()),
        atheris.instrument_imports(["twisted_llama"], left_alone, enable_loader_override=False),
    ):
        check = import_module(f"fuzz.{target}").check
    # Nothing is kept for a log file that will never be named.
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    # libFuzzer has a shell start it again by this when it puts a corpus together.
    again = f"{sys.executable} -m fuzz.one {target}"
    atheris.Setup([again, *sys.argv[1:]], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
