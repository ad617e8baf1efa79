"""
C{llama-gateway serve}: the gateway in the foreground, as C{twistd} runs it.
"""

from __future__ import annotations

import argparse
import sys
from typing import TextIO


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Describe the command line.
    """
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings")
    parser.add_argument("--auth", metavar="CHECKER", help="what checks keys, as keyfile:PATH")


def run(args: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    """
    Serve until a signal ends it.

    @return: the exit status.
    """
    from twisted.scripts import twistd

    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "llama-gateway"]
    if args.config is not None:
        sys.argv += ["--config", args.config]
    if args.auth is not None:
        sys.argv += ["--auth", args.auth]
    twistd.run()
    return 0
