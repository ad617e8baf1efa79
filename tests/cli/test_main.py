"""
The console script: choosing a command, and what happens when it fails.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from twisted_llama import __version__
from twisted_llama.cli.main import COMMANDS, Command, main
from twisted_llama.errors import StartupError

Stub = Callable[[Callable[[], int]], None]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """
    Puts a command "stub" in place, which does what it is given.
    """

    def install(action: Callable[[], int]) -> None:
        module = ModuleType("stub_command")
        vars(module)["add_arguments"] = lambda parser: parser.add_argument("--number", type=int)
        vars(module)["run"] = lambda args, out, err: action()
        monkeypatch.setitem(sys.modules, "stub_command", module)
        monkeypatch.setitem(COMMANDS, "stub", Command("stub_command", "stand in for a command"))

    return install


def fail_with(error: BaseException) -> Callable[[], int]:
    """
    An action that fails.
    """

    def action() -> int:
        raise error

    return action


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version line names the gateway, Python and Twisted."""
    assert main(["version"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"llama-gateway {__version__} (Python 3.")
    assert "Twisted" in out


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """All commands are listed, although none is imported."""
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert name in out
        assert command.summary in out


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["--nonsense"], ["version", "extra"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage is status 2 and explained on stderr."""
    assert main(arguments) == 2
    assert "usage: llama-gateway" in capsys.readouterr().err


def test_arguments_come_from_the_process_by_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The entry point calls main() without arguments."""
    monkeypatch.setattr(sys, "argv", ["llama-gateway", "version"])
    assert main() == 0


def test_status_is_the_commands(stub: Stub) -> None:
    """What a command returns is the exit status."""
    stub(lambda: 7)
    assert main(["stub", "--number", "5"]) == 7
    assert main(["stub", "--number", "five"]) == 2


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StartupError("PORT 80 is taken. Choose another."), "PORT 80 is taken. Choose another."),
        (KeyboardInterrupt(), "interrupted"),
        (PermissionError(13, "Permission denied", "/x"), "[Errno 13] Permission denied: '/x'"),
    ],
)
def test_refusals_are_one_line(
    error: BaseException, line: str, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stops a command is said in one line, without a traceback."""
    stub(fail_with(error))
    assert main(["stub"]) == 1
    assert capsys.readouterr().err == f"llama-gateway: {line}\n"


def test_defects_keep_their_traceback(stub: Stub) -> None:
    """A defect of ours is not hidden."""
    stub(fail_with(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["stub"])


def test_missing_module_breaks_only_its_own_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that cannot be imported says so; the others work."""
    monkeypatch.setitem(COMMANDS, "broken", Command("twisted_llama.cli.no_such_module", "fail"))
    assert main(["broken"]) == 1
    assert "'broken' cannot be loaded: No module named" in capsys.readouterr().err
    assert main(["version"]) == 0
    assert main(["--help"]) == 0


def run_python(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """
    Run code in a fresh interpreter.
    """
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, **options
    )


def test_version_imports_nothing_slow() -> None:
    """The quick command stays quick: neither the reactor nor the settings are imported."""
    done = run_python(
        "import sys; from twisted_llama.cli.main import main; main(['version']);"
        "print([m for m in ('twisted.internet', 'pydantic', 'yaml') if m in sys.modules])"
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_settings_import_no_twisted() -> None:
    """Settings are values only."""
    done = run_python(
        "import sys, twisted_llama.settings;"
        "print(any(name.startswith('twisted.') for name in sys.modules))"
    )
    assert done.stdout.strip() == "False"


def test_reader_that_leaves_early() -> None:
    """Output into a pipe that was closed ends quietly."""
    done = run_python(
        "import os, sys; from twisted_llama.cli.main import main\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        "sys.exit(main(['config', 'docs']))"
    )
    assert (done.returncode, done.stderr) == (1, "")
