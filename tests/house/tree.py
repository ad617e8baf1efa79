"""
The source tree, as the tests of this room look at it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def git(*arguments: str) -> str | None:
    """
    What git prints about the tree; C{None} where it is no repository or git is missing.
    """
    if shutil.which("git") is None:
        return None
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else None


def source_files() -> list[Path]:
    """
    Every file that is, or would be, in the repository.
    """
    listed = git("ls-files", "--cached", "--others", "--exclude-standard")
    if listed is None:
        return [path for path in (ROOT / "twisted_llama").rglob("*.py") if path.is_file()]
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]
