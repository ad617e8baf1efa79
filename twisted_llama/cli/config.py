"""
C{llama-gateway config}: show, check or document the settings.
"""

from __future__ import annotations

import argparse
import os
from typing import TextIO

from twisted_llama.settings import LoadedSettings, Settings, effective, markdown_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Declare C{show}, C{check} and C{docs}; C{--config} may stand before or after them.
    """
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings")
    also_after = argparse.ArgumentParser(add_help=False)
    # Without a default, so that it does not undo a --config that stands before.
    also_after.add_argument(
        "--config", metavar="FILE", default=argparse.SUPPRESS, help="YAML file of settings"
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, summary in (
        ("show", "print the effective settings and where each comes from"),
        ("check", "say what is wrong with the settings, if anything"),
        ("docs", "print the table of all settings, in Markdown"),
    ):
        actions.add_parser(name, parents=[also_after], help=summary, description=summary)


def run(args: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    """
    Do what was asked for.

    @raise SettingsError: with everything that is wrong with the settings.
    """
    if args.action == "docs":
        print(markdown_table(), end="", file=out)
        return 0
    loaded = Settings.load(os.environ, args.config)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=err)
    if args.action == "show":
        _show(loaded, out)
    else:
        print("configuration OK", file=out)
    return 0


def _show(loaded: LoadedSettings, out: TextIO) -> None:
    rows = effective(loaded)
    name_width = max(len(name) for name, _, _ in rows)
    # One long value must not push the sources of all others out of sight.
    value_width = min(40, max(len(value) for _, value, _ in rows))
    for name, value, source in rows:
        print(f"{name:<{name_width}}  {value:<{value_width}}  {source}", file=out)
