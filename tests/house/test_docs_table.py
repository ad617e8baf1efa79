"""
The site's table of settings is made from the schema.
"""

from __future__ import annotations

from tests.house.tree import ROOT
from twisted_llama.settings import describe_settings, markdown_table


def test_the_configuration_page_has_the_directive_and_no_table_of_its_own() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert "```{settings-table}\n```" in page
    assert "| `PORT` |" not in page


def test_the_table_has_every_setting_with_its_meaning() -> None:
    table = markdown_table()
    for setting in describe_settings():
        assert f"| `{setting.name}` |" in table
        assert setting.doc
        assert setting.doc in table
