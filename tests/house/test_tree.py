"""
What must hold of the tree as a whole.
"""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

from tests.house.tree import ROOT, git, source_files
from twisted_llama.settings import describe_settings

SETTINGS = {each.name for each in describe_settings()}
# Put together, so that this file does not hold them.
FORBIDDEN = [
    "/" + "work/",
    "/" + "root/",
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "debian" + ".org",
    "npmjs" + ".org",
]


def test_no_file_names_a_machine_or_a_registry() -> None:
    """
    The sources work anywhere: no path of one machine, no host of a package registry.
    """
    found = []
    for path in source_files():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {each}" for each in FORBIDDEN if each in text]
    assert found == []


def test_nothing_of_twisted_is_overwritten() -> None:
    """
    C{twisted/plugins} is laid beside Twisted's own: an C{__init__.py} would replace it.
    """
    kept = [path for path in source_files() if path.is_relative_to(ROOT / "twisted")]
    assert [path.name for path in kept if path.name == "__init__.py"] == []
    assert {path.parent for path in kept} == {ROOT / "twisted" / "plugins"}


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/quickstart.md"])
def test_every_make_command_that_is_told_of_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    told = re.findall(r"^(?:\$ )?make ((?:[a-z]+ ?)+)", text, re.MULTILINE)
    told += re.findall(r"`make ([a-z]+)", text)
    named = {target for command in told for target in command.split()}
    assert named
    assert named <= make_targets()


def test_every_command_of_the_console_script_that_is_told_of_exists() -> None:
    from twisted_llama.cli.main import COMMANDS

    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    told = {
        name
        for page in pages
        for name in re.findall(r"llama-gateway ([a-z]+)", page.read_text())
        if "_build" not in page.parts
    }
    # "twistd llama-gateway" is followed by prose once in a while.
    assert {"serve", "keys", "config", "bench", "doctor"} <= told
    assert told & {"generate", "show", "check"} == set()
    assert set(COMMANDS) >= {"serve", "keys", "config", "bench", "doctor", "version"}


def test_compose_sets_only_settings_that_exist() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    assert set(services) == {"inference-gpu", "inference-cpu"}
    for service in services.values():
        assert set(service["environment"]) <= SETTINGS
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert "BASE_IMAGE" in service["build"]["args"]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cpu"])
def test_images_start_the_gateway_itself_as_a_plain_user(name: str) -> None:
    """
    No shell between the container's signals and the gateway, no root, no secret argument kept.
    """
    text = (ROOT / "docker" / name).read_text()
    final = text[text.rindex("\nFROM ") :]
    assert 'ENTRYPOINT ["/opt/gateway/bin/twistd", "--nodaemon", "--pidfile=", ' in final
    assert "\nUSER 10001:10001\n" in final
    assert "\nARG " not in final
    assert "DATA_DIR=" not in text, "it would hide the platform's volume"


def test_the_images_differ_only_in_what_they_stand_on() -> None:
    cuda, cpu = (
        (ROOT / "docker" / name).read_text().partition("# The operating system")[2]
        for name in ("Dockerfile", "Dockerfile.cpu")
    )
    assert cuda == cpu


def test_the_systemd_unit_sets_only_settings_that_exist() -> None:
    unit = (ROOT / "docs" / "systemd" / "llama-gateway.service").read_text()
    named = set(re.findall(r"^Environment=([A-Z_]+)=", unit, re.MULTILINE))
    assert named
    assert named <= SETTINGS


@pytest.mark.parametrize("name", ["ci.yml", "cd.yml", "docs.yml"])
def test_workflows_are_yaml_with_jobs(name: str) -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    assert workflow["jobs"]
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert re.fullmatch(r"[\w/-]+@v\d+", step.get("uses", "a/b@v1"))


def test_the_coverage_floor_never_sinks() -> None:
    """
    The floor in pyproject.toml is at least the highest of the last commits.
    """
    floor = _floor((ROOT / "pyproject.toml").read_text())
    commits = (git("log", "-n", "30", "--format=%H", "--", "pyproject.toml") or "").split()
    earlier = [git("show", f"{commit}:pyproject.toml") for commit in commits]
    assert floor >= max([90.0, *(_floor(text) for text in earlier if text)])


def _floor(pyproject: str) -> float:
    coverage = tomllib.loads(pyproject).get("tool", {}).get("coverage", {})
    return float(coverage.get("report", {}).get("fail_under", 0))
