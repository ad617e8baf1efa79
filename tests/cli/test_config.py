"""
C{llama-gateway config}.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from twisted_llama.cli.main import main
from twisted_llama.settings import describe_settings, markdown_table


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    None of our settings comes from the environment of the tests.
    """
    for name in [*(each.name for each in describe_settings()), "GATEWAY_CONFIG", "BACKEND_PORT"]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """
    A good configuration file.
    """
    path = tmp_path / "gateway.yaml"
    path.write_text("ctx: 4096\nredis_url: redis://:hush@cache\n")
    return path


@pytest.mark.parametrize("before", [True, False])
def test_show(
    before: bool,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every setting is a line: name, value, source; secrets are masked."""
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("BACKEND_API_KEY", "hush-hush")
    option = ["--config", str(config)]
    assert main(["config", *option, "show"] if before else ["config", "show", *option]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in out.splitlines()}
    assert rows["PORT"] == ["9000", "environment"]
    assert rows["CTX"] == ["4096", f"file {config}: ctx"]
    assert rows["NGL"] == ["99", "default"]
    assert rows["REDIS_URL"] == ["********", f"file {config}: redis_url"]
    assert rows["BACKEND_API_KEY"] == ["********", "environment"]
    assert len(rows) == len(describe_settings())
    assert "hush" not in out
    ports = [line for line in out.splitlines() if line.startswith("PORT")]
    columns = {line.index(rows[line.split()[0]][0]) for line in ports}
    assert len(columns) == 1


def test_check(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A good configuration is OK; warnings go to stderr."""
    monkeypatch.setenv("BACKEND_PORT", "8090")
    assert main(["config", "check", "--config", str(config)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "configuration OK\n"
    assert captured.err.startswith("warning: BACKEND_PORT (environment) is deprecated")


@pytest.mark.parametrize("action", ["check", "show"])
def test_all_problems_are_said(
    action: str,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A bad configuration is refused with all its problems, without secrets."""
    config.write_text("prot: 1\nbackend_api_key: hush hush\n")
    monkeypatch.setenv("GATEWAY_CONFIG", str(config))
    monkeypatch.setenv("AUTH_ENABLED", "nope")
    assert main(["config", action]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("llama-gateway: 3 problems in the configuration:\n")
    for part in ("Did you mean port?", "BACKEND_API_KEY", "AUTH_ENABLED (environment)"):
        assert part in captured.err
    assert "hush" not in captured.err


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is refused in one line."""
    assert main(["config", "check", "--config", str(tmp_path / "none.yaml")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("llama-gateway: --config (command line): ")
    assert err.count("\n") == 1


def test_docs(capsys: pytest.CaptureFixture[str]) -> None:
    """The table is printed as it is."""
    assert main(["config", "docs"]) == 0
    assert capsys.readouterr().out == markdown_table()


def test_action_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    """Without an action the usage is shown."""
    assert main(["config"]) == 2
    assert "ACTION" in capsys.readouterr().err
