"""
C{llama-gateway version}: what is installed.
"""

from __future__ import annotations

import argparse
import platform
from typing import TextIO

import twisted
from twisted_llama import __version__


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    There are none.
    """


def run(args: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    """
    Print the versions that a bug report needs.
    """
    print(
        f"llama-gateway {__version__} "
        f"(Python {platform.python_version()}, Twisted {twisted.__version__})",
        file=out,
    )
    return 0
