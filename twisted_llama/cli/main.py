"""
The console script C{llama-gateway}.

A command's module is imported when that command was chosen, not before, so
that C{llama-gateway version} is quick and a command whose requirements are not
installed does not take the others with it.  Such a module has

  - C{add_arguments(parser: argparse.ArgumentParser) -> None}
  - C{run(args: argparse.Namespace, out: TextIO, err: TextIO) -> int}

Exit status: 0 done, 1 refused, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from attrs import frozen

from twisted_llama.errors import StartupError

PROGRAM = "llama-gateway"


@frozen
class Command:
    """
    A command of the console script.

    @ivar module: where it is.
    @ivar summary: what it does, in a few words.
    """

    module: str
    summary: str


COMMANDS = {
    "serve": Command("twisted_llama.cli.serve", "run the gateway in the foreground"),
    "keys": Command("twisted_llama.cli.keys", "generate, list, rotate and remove API keys"),
    "config": Command("twisted_llama.cli.config", "show or check the settings"),
    "bench": Command("twisted_llama.cli.bench", "measure an OpenAI-compatible server"),
    "doctor": Command("twisted_llama.cli.doctor", "collect what a bug report needs"),
    "version": Command("twisted_llama.cli.version", "print the version"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    @param argv: the arguments after the program's name; default: those of the process.
    @return: the exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except BrokenPipeError:
        # Whoever read our output has left.  Python flushes stdout once more as it
        # ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _refused("interrupted")
    except (StartupError, OSError) as problem:
        return _refused(str(problem))


def _run(arguments: list[str]) -> int:
    chosen = arguments[0] if arguments and arguments[0] in COMMANDS else None
    module = None
    if chosen is not None:
        try:
            module = import_module(COMMANDS[chosen].module)
        except ImportError as problem:
            return _refused(
                f"'{chosen}' cannot be loaded: {problem}. "
                "Install twisted-llama with all that it requires."
            )
    try:
        args = _parser(chosen, module).parse_args(arguments)
    except SystemExit as stop:
        # 0 after --help, 2 after wrong usage.
        return int(stop.code or 0)
    assert module is not None, "argparse lets nothing else pass"
    status: int = module.run(args, sys.stdout, sys.stderr)
    sys.stdout.flush()
    return status


def _parser(chosen: str | None, module: ModuleType | None) -> argparse.ArgumentParser:
    """
    A parser that lists all commands, but knows the arguments of the chosen one only.
    """
    parser = argparse.ArgumentParser(
        PROGRAM, description="A gateway in front of llama.cpp's llama-server."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.summary, description=command.summary)
        if name == chosen and module is not None:
            module.add_arguments(subparser)
    return parser


def _refused(why: str) -> int:
    print(f"{PROGRAM}: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
