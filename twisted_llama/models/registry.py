"""
The models that requests can be sent to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

EngineT = TypeVar("EngineT")


class Registry(Generic[EngineT]):
    """
    Names of models, and what serves them.

    With one model, as when the settings name one, every request is for it,
    whatever name its client gives: clients of single-model servers send any.
    """

    def __init__(self, engines: Mapping[str, EngineT]) -> None:
        """
        @param engines: at least one.
        """
        self._engines = dict(engines)
        self._only = next(iter(self._engines.values())) if len(self._engines) == 1 else None

    def names(self) -> list[str]:
        """
        The models' names.
        """
        return list(self._engines)

    def pick(self, model: str | None = None) -> EngineT:
        """
        The engine for a request.

        @param model: the name that the client gave.

        @raise KeyError: if several models are served and none has that name.
        """
        if self._only is not None:
            return self._only
        if model is None:
            raise KeyError(model)
        return self._engines[model]
