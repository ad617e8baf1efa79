"""
The corpora are other people's and no part of this project: where they are not, there is nothing
to run, and nothing that was left out.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import ROOT

NAMED = Path(os.environ.get("TEST_CORPORA", ROOT.parent / "shared" / "corpora"))
DIRECTORY = NAMED.parent if NAMED.name == "data" else NAMED

collect_ignore = [] if (DIRECTORY / "http11probe.py").is_file() else ["test_corpora.py"]
