"""
How the site is built; C{make docs}.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "twisted_llama"
author = "The twisted_llama developers"
project_copyright = f"2026, {author}"
release = version = version_of("twisted-llama")

extensions = ["myst_parser", "settings_table"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_ext"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"twisted_llama {release}"
pygments_style = "friendly"


def _fit_into_the_site(app: Sphinx, docname: str, source: list[str]) -> None:
    # A link to a file outside of docs/ works in the repository; here it is its path.
    source[0] = re.sub(r"\[[^\]]+\]\((?:\.\./)+([^)]+\.\w+)\)", _path_outside, source[0])
    # Listed if they are there; a toctree would warn of a pattern that matches nothing.
    if docname == "index":
        pages = [*HERE.glob("performance*.md"), *HERE.glob("reliability*.md")]
        pages += HERE.glob("grafana/*.md")
        names = sorted(str(page.relative_to(HERE).with_suffix("")) for page in pages)
        source[0] = source[0].replace("MEASUREMENTS\n", "".join(f"{name}\n" for name in names))


def _path_outside(link: re.Match[str]) -> str:
    return link[0] if (HERE / link[1]).exists() else f"`{link[1]}`"


def setup(app: Sphinx) -> None:
    """
    Adapt each page as it is read.
    """
    app.connect("source-read", _fit_into_the_site)
