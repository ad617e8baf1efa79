"""
What every test may ask for, and the word at the end on tests left out.

A test that needs what this machine may lack calls the C{require} fixture: it is skipped with
the reason and the cure, or fails where C{REQUIRE_ALL_TESTS=1} says that nothing may be
left out (C{.ci/run} does).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
REQUIRE_ALL = os.environ.get("REQUIRE_ALL_TESTS") == "1"

settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough",
    settings.get_profile("ci"),
    derandomize=False,
    max_examples=2000,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

Require = Callable[[object, str], None]


@pytest.fixture(scope="session")
def require() -> Require:
    """
    C{require(condition, "redis-server is missing: apt-get install redis-server")}.
    """

    def required(condition: object, missing_and_cure: str) -> None:
        if condition:
            return
        if REQUIRE_ALL:
            pytest.fail(f"{missing_and_cure} (REQUIRE_ALL_TESTS=1)")
        pytest.skip(missing_and_cure)

    return required


@pytest.fixture(scope="session")
def demo_model(require: Require) -> Path:
    """
    A small real model: C{TEST_MODEL_PATH}, or the demo model, fetched once into the source tree's
    C{data/models}.
    """
    named = os.environ.get("TEST_MODEL_PATH")
    if named:
        return Path(named)
    from twisted_llama.cli.demo_model import DEMO_MODEL, FetchFailed, fetch

    try:
        return fetch(DEMO_MODEL, ROOT / "data" / "models")
    except FetchFailed as problem:
        require(False, f"{problem} For the tests: TEST_MODEL_PATH.")
        raise


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """
    Say how many tests were left out, or that none was.
    """
    stats = terminalreporter.stats
    left_out = len(stats.get("skipped", ())) + len(stats.get("deselected", ()))
    if stats.get("error"):
        return
    if left_out:
        terminalreporter.write_line(
            f"Tests left out: {left_out} (reasons and cures above).", yellow=True
        )
    else:
        terminalreporter.write_line("No test was left out.")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """
    With C{REQUIRE_ALL_TESTS=1} a run that left a test out has failed.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if REQUIRE_ALL and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
