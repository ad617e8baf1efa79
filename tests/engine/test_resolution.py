"""
Which engine is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from twisted_llama.engine.resolution import Surroundings, resolve_engine
from twisted_llama.engine.spec import EngineSpec
from twisted_llama.errors import StartupError


@frozen
class Secret:
    """
    As pydantic's.
    """

    value: str

    def get_secret_value(self) -> str:
        return self.value


@frozen(kw_only=True)
class FakeSettings:
    """
    The settings that matter here.
    """

    engine: str = "auto"
    llama_server_bin: Path | None = None
    model_path: Path | None = None
    models_dir: Path = Path("/models")
    model_name: str | None = None
    backend_host: str = "10.0.0.1"
    port_backend: int = 8080
    ctx: int = 1
    ngl: int = 2
    threads: int = 3
    extra_args: tuple[str, ...] = ("--x",)
    load_timeout: float = 4
    health_timeout: float = 5
    backend_connect_timeout: float = 6
    max_restarts: int = 7
    backend_api_key: Secret | None = Secret("key")


@pytest.fixture
def world(tmp_path: Path) -> tuple[FakeSettings, Surroundings, Path]:
    """
    A model, a directory for programs, and no engine.
    """
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    (tmp_path / "bin").mkdir()
    settings = FakeSettings(model_path=tmp_path / "m.gguf")
    surroundings = Surroundings(
        str(tmp_path / "bin"), tmp_path / "app" / "llama-server", lambda: False
    )
    return settings, surroundings, tmp_path


def program(path: Path, mode: int = 0o755) -> Path:
    """
    Make a program.
    """
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def resolve(settings: Any, surroundings: Surroundings) -> EngineSpec:
    return resolve_engine(settings, surroundings)


def test_order_of_auto(world: tuple[FakeSettings, Surroundings, Path]) -> None:
    """
    From the last resort to the first choice.
    """
    settings, surroundings, root = world
    with pytest.raises(StartupError, match=r"twisted-llama\[embedded\].*LLAMA_SERVER_BIN"):
        resolve(settings, surroundings)
    surroundings = evolve(surroundings, embedded_is_installed=lambda: True)
    assert resolve(settings, surroundings).kind == "embedded"
    on_path = program(root / "bin" / "llama-server")
    assert resolve(settings, surroundings).binary == on_path
    in_image = program(root / "app" / "llama-server")
    assert resolve(settings, surroundings).binary == in_image
    chosen = program(root / "mine" / "server")
    spec = resolve(evolve(settings, llama_server_bin=chosen), surroundings)
    assert (spec.kind, spec.binary) == ("llama-server", chosen)
    assert resolve(evolve(settings, engine="embedded"), surroundings).kind == "embedded"


def test_values_are_carried_over(world: tuple[FakeSettings, Surroundings, Path]) -> None:
    """
    And a child never gets the host and key of an external engine.
    """
    settings, surroundings, root = world
    program(root / "bin" / "llama-server")
    spec = resolve(settings, surroundings)
    assert spec.model_name == "m.gguf"
    assert spec.model_bytes == 4
    assert (spec.host, spec.api_key, spec.ctx, spec.ngl, spec.threads) == (
        "127.0.0.1",
        None,
        1,
        2,
        3,
    )
    assert (spec.load_timeout, spec.health_timeout, spec.connect_timeout) == (4, 5, 6)
    assert (spec.max_restarts, spec.extra_args, spec.port) == (7, ("--x",), 8080)


def test_external_needs_nothing_here(world: tuple[FakeSettings, Surroundings, Path]) -> None:
    """
    No model and no program; its key is not shown.
    """
    _, surroundings, _ = world
    spec = resolve(FakeSettings(engine="external"), surroundings)
    assert (spec.kind, spec.host, spec.api_key, spec.model_path) == (
        *("external", "10.0.0.1"),
        *("key", None),
    )
    assert "'key'" not in repr(spec)
    assert (
        resolve(FakeSettings(engine="external", backend_api_key=None), surroundings).api_key is None
    )


def test_mock_reads_no_model(world: tuple[FakeSettings, Surroundings, Path]) -> None:
    """
    A name is taken as it is.
    """
    _, surroundings, _ = world
    assert resolve(FakeSettings(engine="mock"), surroundings).model_path is None
    named = resolve(FakeSettings(engine="mock", model_name="not-there.gguf"), surroundings)
    assert named.model_name == "not-there.gguf"


def test_explicit_engines_that_are_missing(
    world: tuple[FakeSettings, Surroundings, Path],
) -> None:
    """
    An engine that was asked for is never replaced by another.
    """
    settings, surroundings, _ = world
    with pytest.raises(StartupError, match="not installed"):
        resolve(evolve(settings, engine="embedded"), surroundings)
    installed = evolve(surroundings, embedded_is_installed=lambda: True)
    with pytest.raises(StartupError, match="No engine was found"):
        resolve(evolve(settings, engine="llama-server"), installed)


def test_bad_binary(world: tuple[FakeSettings, Surroundings, Path]) -> None:
    """
    LLAMA_SERVER_BIN is never silently passed over.
    """
    settings, surroundings, root = world
    for path, problem in (
        (root / "none", "does not exist"),
        (root, "is a directory"),
        (program(root / "plain", 0o644), "not executable"),
    ):
        with pytest.raises(StartupError, match=problem):
            resolve(evolve(settings, llama_server_bin=path), surroundings)


def test_binary_by_name(world: tuple[FakeSettings, Surroundings, Path]) -> None:
    """
    A bare name is looked up on PATH.
    """
    settings, surroundings, root = world
    with pytest.raises(StartupError, match="does not exist"):
        resolve(evolve(settings, llama_server_bin=Path("my-server")), surroundings)
    found = program(root / "bin" / "my-server")
    spec = resolve(evolve(settings, llama_server_bin=Path("my-server")), surroundings)
    assert spec.binary == found


def test_real_surroundings_can_be_asked() -> None:
    """
    Looking for the embedded engine does not import it.
    """
    assert Surroundings().embedded_is_installed() in (True, False)
