"""
What the images install: named to the last hash, and in step with pyproject.toml.
"""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.tree import ROOT

LOCKS = ["build.lock", "requirements.lock", "requirements-embedded.lock"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
EVERYWHERE = [*PROJECT["dependencies"], *EXTRAS["redis"], *EXTRAS["tls"]]
ASKED_FOR = {
    "build.lock": [
        line
        for line in (ROOT / "docker" / "build.in").read_text().splitlines()
        if not line.startswith("#")
    ],
    "requirements.lock": EVERYWHERE,
    "requirements-embedded.lock": [*EVERYWHERE, *EXTRAS["embedded"]],
}


def locked(name: str) -> dict[str, str]:
    """
    @return: the version of each package of a lock.
    """
    text = (ROOT / "docker" / name).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_is_a_release_or_a_hash(name: str) -> None:
    """
    No index, no address, no path, no release without a hash.
    """
    text = (ROOT / "docker" / name).read_text()
    comment, _, rest = text.partition("\n")
    assert comment.startswith("# ")
    entries = re.findall(
        r"[a-z0-9-]+==\S+(?: ; [^\n\\]+)? (?:\\\n    --hash=sha256:[0-9a-f]{64} ?)+\n", rest
    )
    assert "".join(entries) == rest
    assert len(entries) == len(locked(name))


@pytest.mark.parametrize("name", LOCKS)
def test_it_holds_what_is_asked_for(name: str) -> None:
    """
    After a change of pyproject.toml: C{make lock}.
    """
    versions = locked(name)
    for line in ASKED_FOR[name]:
        asked = Requirement(line)
        version = versions[canonicalize_name(asked.name)]
        assert asked.specifier.contains(version), f"{asked}: locked is {version}"


def test_with_the_engine_there_is_the_engine_and_nothing_else() -> None:
    plain, embedded = locked("requirements.lock"), locked("requirements-embedded.lock")
    assert plain.items() < embedded.items()
    assert embedded.keys() - plain.keys() == {"xllamacpp"}


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cpu"])
def test_images_install_nothing_else(name: str) -> None:
    """
    Each C{pip install} either checks hashes or sees no index.
    """
    text = (ROOT / "docker" / name).read_text()
    installs = re.findall(r"pip (?:install|wheel) .*", text)
    assert len(installs) == 4
    for install in installs:
        assert ("--require-hashes --only-binary :all:" in install) != ("--no-index" in install)
    assert "COPY --from=build /sbom.cdx.json /usr/share/doc/twisted-llama/" in text


def test_the_locks_get_into_the_build() -> None:
    assert "!docker/*.lock" in (ROOT / ".dockerignore").read_text().splitlines()
