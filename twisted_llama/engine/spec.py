"""
What engine is wanted: one frozen value, made once at start-up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from attrs import field, frozen

EngineKind = Literal["llama-server", "embedded", "mock", "external"]


@frozen(kw_only=True)
class EngineSpec:
    """
    Everything that a supervisor needs to know about its engine.

    @ivar kind: which program runs the model.
    @ivar binary: the program, for C{llama-server} only.
    @ivar model_path: the GGUF file; L{None} for C{external}, optional for C{mock}.
    @ivar model_bytes: its size, 0 if there is none.
    @ivar host: where the engine listens; a child always listens on 127.0.0.1.
    @ivar port: its port; 0 lets every start of a child choose a free one.
    @ivar ctx: context size in tokens.
    @ivar ngl: layers to put on the GPU.
    @ivar threads: CPU threads, 0 for the engine's own choice.
    @ivar extra_args: further arguments, already split.
    @ivar load_timeout: seconds from the start until it must be ready.
    @ivar health_timeout: seconds one question about its health may take.
    @ivar connect_timeout: seconds a connection to it may take.
    @ivar max_restarts: crashes in a row after which it is started again; 0 for never.
    @ivar api_key: the key of an C{external} engine; a child gets a random one.
    """

    kind: EngineKind
    binary: Path | None = None
    model_path: Path | None = None
    model_bytes: int = 0
    host: str = "127.0.0.1"
    port: int = 8080
    ctx: int = 16384
    ngl: int = 99
    threads: int = 0
    extra_args: tuple[str, ...] = ()
    load_timeout: float = 600.0
    health_timeout: float = 2.0
    connect_timeout: float = 10.0
    max_restarts: int = 5
    api_key: str | None = field(default=None, repr=False)

    @property
    def model_name(self) -> str | None:
        """
        The model's file name, which is all of its path that is ever shown.
        """
        return None if self.model_path is None else self.model_path.name
