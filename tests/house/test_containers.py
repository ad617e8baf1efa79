"""
How little the gateway may do in a container or as a service: what the files that start it say.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.house.tree import ROOT

DOCKERFILES = ["Dockerfile", "Dockerfile.cpu"]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(
    (ROOT / "docker" / "compose.yaml").read_text()
)["services"]
UNIT = (ROOT / "docs" / "systemd" / "llama-gateway.service").read_text()


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_last_word_on_the_user_is_a_plain_one(name: str) -> None:
    """
    By number, so that C{runAsNonRoot} of Kubernetes can be sure of it.
    """
    text = (ROOT / "docker" / name).read_text()
    final = text[text.rindex("\nFROM ") :]
    assert re.findall(r"^USER (.*)$", final, re.MULTILINE) == ["10001:10001"]
    assert final.index("\nUSER ") > final.rindex("\nRUN ")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_program_belongs_to_root(name: str) -> None:
    """
    The user owns its data and cannot change what it runs.
    """
    text = (ROOT / "docker" / name).read_text()
    assert re.findall(r"chown .*", text) == ["chown -R gateway:gateway /data; \\"]
    assert "COPY --chown" not in text


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_nothing_but_serve(name: str) -> None:
    """
    A read-only root, no capability, no way to another user, and Docker's own seccomp profile:
    whatever C{security_opt} says of seccomp would replace that.
    """
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    open_doors = {"privileged", "cap_add", "user", "devices", "pid", "ipc", "network_mode"}
    assert open_doors.isdisjoint(service)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_writes_to_its_data_and_to_memory_alone(name: str) -> None:
    service = SERVICES[name]
    assert [volume.rpartition(":")[2] for volume in service["volumes"]] == ["/data"]
    (temporary,) = service["tmpfs"]
    assert re.fullmatch(r"/tmp:.*size=\d+m", temporary)


def test_no_page_or_workflow_opens_what_is_closed() -> None:
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/workflows/*"), ROOT / "README.md"]
    opened = re.compile(r"--privileged|--cap-add|seccomp[=:]unconfined|apparmor[=:]unconfined")
    assert [page.name for page in pages if opened.search(page.read_text())] == []


def test_ci_starts_the_image_as_compose_does() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    for flag in ("--read-only", "--cap-drop ALL", "--security-opt no-new-privileges"):
        assert flag in workflow


@pytest.mark.parametrize(
    "line",
    [
        "User=llama-gateway",
        "NoNewPrivileges=true",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "ProtectSystem=strict",
        "ReadWritePaths=/var/lib/llama-gateway",
        "ProtectHome=true",
        "PrivateTmp=true",
        "SystemCallFilter=@system-service",
    ],
)
def test_the_unit_allows_as_little(line: str) -> None:
    assert f"\n{line}\n" in UNIT
