"""
Choosing a checker by its description.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.cred.strcred import ICheckerFactory, InvalidAuthArgumentString
from zope.interface.verify import verifyObject

import twisted.plugins
import twisted_llama
from twisted_llama.auth.checker_factory import KeyfileCheckerFactory
from twisted_llama.auth.checkers import KeyfileChecker
from twisted_llama.auth.selection import known_kinds, make_checker
from twisted_llama.errors import StartupError

FOREIGN_PLUGIN = """
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.strcred import ICheckerFactory
from twisted.plugin import IPlugin
from zope.interface import implementer

from twisted_llama.auth.credentials import IApiKey


@implementer(ICredentialsChecker)
class OneForAll:
    credentialInterfaces = (IApiKey,)

    def __init__(self, name):
        self.name = name

    def requestAvatarId(self, credentials):
        return self.name


@implementer(ICheckerFactory, IPlugin)
class Factory:
    authHelp = "Lets everyone in under one name."
    argStringFormat = "The name."
    credentialInterfaces = (IApiKey,)

    def __init__(self, kind):
        self.authType = kind

    def generateChecker(self, argstring):
        if self.authType == "none":
            return None
        if self.authType == "broken":
            raise RuntimeError
        return OneForAll(argstring)


one_for_all = Factory("one-for-all")
broken = Factory("broken")
none = Factory("none")
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of another package that brings checkers of its own."""
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "foreign_checkers.py").write_text(FOREIGN_PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    path = [*twisted.plugins.__path__, str(plugins)]
    monkeypatch.setattr(twisted.plugins, "__path__", path)
    yield tmp_path
    sys.modules.pop("twisted.plugins.foreign_checkers", None)


def test_our_own(tmp_path: Path) -> None:
    """C{keyfile:PATH}, colons and all, not loaded yet."""
    checker = make_checker(f"keyfile:{tmp_path}/a:b.txt")
    assert isinstance(checker, KeyfileChecker)
    assert checker.path == tmp_path / "a:b.txt"
    assert checker.count == 0


def test_the_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell does it behind the colon."""
    monkeypatch.setenv("HOME", "/home/gateway")
    checker = make_checker("keyfile:~/keys.txt")
    assert isinstance(checker, KeyfileChecker)
    assert str(checker.path) == "/home/gateway/keys.txt"


@pytest.mark.parametrize("description", ["", "nosuch", "nosuch:secret-argument"])
def test_an_unknown_kind_is_answered_with_those_known(description: str) -> None:
    """And without the argument."""
    with pytest.raises(StartupError, match=r"no such kind.*keyfile") as caught:
        make_checker(description)
    assert "secret-argument" not in str(caught.value)


def test_a_checker_of_passwords_is_refused() -> None:
    """Twisted has many, and none of them takes an API key."""
    with pytest.raises(StartupError, match=r"cannot check API keys.*keyfile") as caught:
        make_checker("memory:admin:password")
    assert "password" not in str(caught.value)
    assert "memory" not in known_kinds()


def test_an_empty_path_is_refused() -> None:
    """With an example."""
    with pytest.raises(StartupError, match=r"keyfile:/data/api_keys\.txt"):
        make_checker("keyfile")
    factory = KeyfileCheckerFactory()
    verifyObject(ICheckerFactory, factory)
    with pytest.raises(InvalidAuthArgumentString):
        factory.generateChecker(" ")


def test_another_package_brings_its_own(foreign: Path) -> None:
    """It is listed beside ours."""
    checker = make_checker("one-for-all:guests")
    assert checker.requestAvatarId(None) == "guests"
    assert known_kinds() == "broken, keyfile, none, one-for-all"


@pytest.mark.parametrize(
    ("kind", "message"), [("broken", "RuntimeError"), ("none", "cannot check API keys")]
)
def test_a_foreign_factory_that_fails(foreign: Path, kind: str, message: str) -> None:
    """Start-up ends with a message, whatever the plugin raised or returned."""
    with pytest.raises(StartupError, match=f"--auth {kind}: .*{message}"):
        make_checker(kind)


def test_no_kind_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then something is wrong with the installation."""
    monkeypatch.setattr(twisted.plugins, "__path__", [])
    with pytest.raises(StartupError, match="installed"):
        make_checker("keyfile:/data/api_keys.txt")


@pytest.mark.slow
def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    """With nothing but the module search path."""
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "foreign_checkers.py").write_text(FOREIGN_PLUGIN)
    ours = Path(twisted_llama.__file__).parent.parent
    program = (
        "from twisted_llama.auth.selection import known_kinds, make_checker\n"
        "print(make_checker('one-for-all:guests').requestAvatarId(None), known_kinds())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ours}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "guests broken, keyfile, none, one-for-all\n", done.stderr
