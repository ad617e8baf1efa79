"""
The table of settings, and the list of effective ones.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from twisted_llama.settings import Settings, describe_settings, effective, markdown_table
from twisted_llama.settings.documentation import MASK, describe, shown


def test_every_setting_is_described() -> None:
    """Each field has a text, a type and a default that can be read."""
    docs = describe_settings()
    assert [each.name.lower() for each in docs] == list(Settings.model_fields)
    for each in docs:
        assert each.doc.endswith(".")
        assert each.type_text
        assert each.default_text


@pytest.mark.parametrize(
    ("name", "default", "type_text", "bounds"),
    [
        ("port", "8000", "whole number", "at least 0, at most 65535"),
        ("max_concurrent_requests", "-", "whole number", "at least 1"),
        ("auth_enabled", "true", "true or false", ""),
        ("queue_timeout", "300", "seconds", "more than 0, at most 31536000"),
        ("log_format", "text", "choice", "text, json"),
        ("models_dir", "$DATA_DIR/models", "path", ""),
        ("cors_origins", "-", "comma-separated list", ""),
        ("extra_args", "-", "shell words", ""),
        ("redis_url", "-", "secret", ""),
    ],
)
def test_description(name: str, default: str, type_text: str, bounds: str) -> None:
    """Defaults, types and bounds come from the schema."""
    each = describe(name)
    assert (each.default_text, each.type_text, each.bounds_text) == (default, type_text, bounds)
    assert each.secret is (name == "redis_url")


def test_markdown_table_has_a_row_for_each() -> None:
    """The table is Markdown of four columns."""
    lines = markdown_table().splitlines()
    assert len(lines) == 2 + len(Settings.model_fields)
    assert all(line.count("|") == 5 for line in lines)
    assert lines[2].startswith("| `PORT` | `8000` | whole number: at least 0, at most 65535 |")


def test_effective_rows() -> None:
    """Rows are in the schema's order, with values as text and their sources."""
    environ = {"TRUSTED_PROXIES": "10.0.0.0/8,::1", "AUTH": "keyfile:/k", "REDIS_URL": "redis://h"}
    rows = {
        name: (value, source) for name, value, source in effective(Settings.load(environ, None))
    }
    assert next(iter(rows)) == "PORT"
    assert rows["TRUSTED_PROXIES"] == ("10.0.0.0/8,::1/128", "environment")
    assert rows["AUTH"] == ("keyfile:/k", "environment")
    assert rows["REDIS_URL"] == (MASK, "environment")
    assert rows["AUTH_ENABLED"] == ("true", "default")
    assert rows["QUEUE_TIMEOUT"] == ("300", "default")
    assert rows["MODEL_PATH"] == ("-", "default")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "-"),
        (("-b", "5"), "-b 5"),
        (("--hf-token", "hush", "-b", "5"), f"--hf-token {MASK} -b 5"),
        (("-hft", "hush"), f"-hft {MASK}"),
        (("--my-password=hush",), f"'--my-password={MASK}'"),
        (("--ssl-key-file", "--hush", "x"), f"--ssl-key-file {MASK} x"),
    ],
)
def test_arguments_that_sound_secret_are_masked(arguments: tuple[str, ...], expected: str) -> None:
    """The engine's other arguments stay readable."""
    assert shown("extra_args", arguments) == expected


def test_shown_on_one_line() -> None:
    """What cannot be printed is shown escaped."""
    assert shown("model_path", Path("/a\udcff")) == r"/a\udcff"
    assert "\n" not in shown("extra_args", ("a\nb",))
