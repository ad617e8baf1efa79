"""
Every setting with its default, bounds, documentation and source; no behaviour.
"""

from twisted_llama.settings.documentation import (
    SettingDoc,
    describe_settings,
    effective,
    markdown_table,
)
from twisted_llama.settings.loading import LoadedSettings
from twisted_llama.settings.problems import Problem, SettingsError
from twisted_llama.settings.schema import Settings

__all__ = [
    "LoadedSettings",
    "Problem",
    "SettingDoc",
    "Settings",
    "SettingsError",
    "describe_settings",
    "effective",
    "markdown_table",
]
