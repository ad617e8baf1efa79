"""
Which engine, found where: from the settings to an L{EngineSpec}.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from twisted_llama.engine.model_file import ModelFile, find_model
from twisted_llama.engine.spec import EngineKind, EngineSpec
from twisted_llama.errors import StartupError

if TYPE_CHECKING:
    from twisted_llama.settings import Settings

IMAGE_BINARY = Path("/app/llama-server")
_CURE = (
    "Install the embedded engine (pip install 'twisted-llama[embedded]'), or install "
    "llama.cpp's llama-server and set LLAMA_SERVER_BIN to it, or set ENGINE=external to use "
    "one that runs elsewhere, or ENGINE=mock to try a client without a model."
)


def _xllamacpp_is_installed() -> bool:
    # Looked up, not imported: it loads hundreds of megabytes of libraries.
    return importlib.util.find_spec("xllamacpp") is not None


@frozen
class Surroundings:
    """
    Where engines are looked for.

    @ivar search_path: the C{PATH} to look for C{llama-server} in.
    @ivar image_binary: where llama.cpp's container images keep it.
    @ivar embedded_is_installed: whether the embedded engine can be imported.
    """

    search_path: str | None = None
    image_binary: Path = IMAGE_BINARY
    embedded_is_installed: Callable[[], bool] = _xllamacpp_is_installed


def resolve_engine(settings: Settings, surroundings: Surroundings | None = None) -> EngineSpec:
    """
    Find the engine and the model that the settings ask for.

    @raise StartupError: there is no such engine or model; the message says
        what to do.
    """
    kind, binary = _find_program(settings, surroundings or Surroundings())
    model = _find_model(settings, kind)
    external = kind == "external"
    key = settings.backend_api_key
    return EngineSpec(
        kind=kind,
        binary=binary,
        model_path=None if model is None else model.path,
        model_bytes=0 if model is None else model.size_bytes,
        host=settings.backend_host if external else "127.0.0.1",
        port=settings.port_backend,
        ctx=settings.ctx,
        ngl=settings.ngl,
        threads=settings.threads,
        extra_args=tuple(settings.extra_args),
        load_timeout=settings.load_timeout,
        health_timeout=settings.health_timeout,
        connect_timeout=settings.backend_connect_timeout,
        max_restarts=settings.max_restarts,
        api_key=key.get_secret_value() if external and key is not None else None,
    )


def _find_model(settings: Settings, kind: EngineKind) -> ModelFile | None:
    named = settings.model_path is not None or bool(settings.model_name)
    if kind == "external" or (kind == "mock" and not named):
        return None
    if kind == "mock":
        # The mock engine never reads the file, so a name is all that it needs.
        path = settings.model_path or settings.models_dir / str(settings.model_name)
        return ModelFile(path, 0)
    return find_model(
        model_path=settings.model_path,
        models_dir=settings.models_dir,
        model_name=settings.model_name,
    )


def _find_program(settings: Settings, surroundings: Surroundings) -> tuple[EngineKind, Path | None]:
    wanted = settings.engine
    if wanted in ("external", "mock"):
        return wanted, None
    if wanted == "embedded":
        if surroundings.embedded_is_installed():
            return "embedded", None
        raise StartupError(
            "ENGINE=embedded, but the embedded engine is not installed: "
            "pip install 'twisted-llama[embedded]'."
        )
    binary = _find_binary(settings.llama_server_bin, surroundings)
    if binary is not None:
        return "llama-server", binary
    if wanted == "auto" and surroundings.embedded_is_installed():
        return "embedded", None
    raise StartupError(
        "No engine was found: LLAMA_SERVER_BIN is not set, and there is no "
        f"{surroundings.image_binary} and no llama-server on PATH. {_CURE}"
    )


def _find_binary(configured: Path | None, surroundings: Surroundings) -> Path | None:
    if configured is not None:
        return _check_binary(configured, surroundings)
    if _is_program(surroundings.image_binary):
        return surroundings.image_binary
    found = shutil.which("llama-server", path=surroundings.search_path)
    return None if found is None else Path(found).absolute()


def _check_binary(configured: Path, surroundings: Surroundings) -> Path:
    if configured.name == str(configured) and not configured.exists():
        found = shutil.which(configured.name, path=surroundings.search_path)
        configured = configured if found is None else Path(found)
    if _is_program(configured):
        return configured.absolute()
    problem = "does not exist"
    if configured.is_dir():
        problem = "is a directory"
    elif configured.exists():
        problem = "is not executable (chmod +x it)"
    raise StartupError(
        f"LLAMA_SERVER_BIN={configured} {problem}. Set it to the llama-server program, or unset "
        "it to have one looked for."
    )


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
