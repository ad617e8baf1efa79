"""
The programs of C{bench/} import each other as siblings, not as a package.
"""

import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import Require

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))


@pytest.fixture
def compiler(require: Require) -> None:
    """
    There is a C compiler.
    """
    require(shutil.which("cc"), "no C compiler: install gcc")
