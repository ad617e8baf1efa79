"""
The C{settings-table} directive: the table of every setting, made from the schema itself.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from twisted_llama.settings import markdown_table


class SettingsTable(SphinxDirective):
    """
    Puts the table where it stands; it takes no arguments.
    """

    def run(self) -> list[nodes.Node]:
        """
        Parse the table as if it stood in the page.
        """
        return self.parse_text_to_nodes(markdown_table())


def setup(app: Sphinx) -> dict[str, bool]:
    """
    Register the directive.
    """
    app.add_directive("settings-table", SettingsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
