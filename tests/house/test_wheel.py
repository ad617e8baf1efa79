"""
The built wheel, installed in a clean environment, gives Twisted its command.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.house.tree import ROOT, source_files

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Built from a copy of what is in the repository, so that nothing left over gets in.
    """
    directory = tmp_path_factory.mktemp("wheel")
    tree = directory / "tree"
    for path in source_files():
        top = path.relative_to(ROOT).parts[0]
        if top in ("twisted_llama", "twisted", "pyproject.toml", "README.md", "LICENSE"):
            copy = tree / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    pip("wheel", "--no-deps", "--wheel-dir", str(directory), str(tree))
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean_python(wheel: Path) -> Path:
    """
    The interpreter of an environment that has the wheel and, from here, what it depends on.
    """
    environment = wheel.parent / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    (packages,) = environment.glob("lib/python*/site-packages")
    # A path inside a .pth file is only a path: an editable install of ours, itself a line of
    # another .pth file, is not found through it.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def pip(*arguments: str) -> None:
    # What can be imported from elsewhere would count as installed.
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def run(python: Path, *arguments: str) -> str:
    surroundings = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [str(python), *arguments],
        cwd=python.parent,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_carries_the_plugins_and_nothing_else_of_twisted(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert sorted(name for name in names if name.startswith("twisted/")) == [
        "twisted/plugins/llama_gateway.py",
        "twisted/plugins/llama_gateway_auth.py",
    ]
    assert "twisted_llama/py.typed" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "twisted",
        "twisted_llama",
    }
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_twistd_lists_the_gateway(clean_python: Path) -> None:
    help_text = run(clean_python, "-c", "from twisted.scripts.twistd import run; run()", "--help")
    assert any(line.split()[:1] == ["llama-gateway"] for line in help_text.splitlines())


def test_the_key_file_is_a_checker_there(clean_python: Path) -> None:
    script = (
        "from twisted.cred.strcred import findCheckerFactories as found;"
        "print(*(each.authType for each in found()))"
    )
    assert "keyfile" in run(clean_python, "-c", script).split()


def test_the_package_is_that_of_the_wheel(clean_python: Path) -> None:
    where = run(clean_python, "-c", "import twisted_llama; print(twisted_llama.__file__)")
    assert Path(where.strip()).is_relative_to(clean_python.parent.parent)


def test_the_console_script_says_its_version(clean_python: Path) -> None:
    script = clean_python.parent / "llama-gateway"
    assert script.is_file()
    assert run(clean_python, str(script), "version").strip()
