"""
Gateways that live for one test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.logger import globalLogPublisher

from tests.assembly.life import Life

MakeLife = Callable[..., Life]


@pytest.fixture
def make_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeLife]:
    """
    Makes gateways; after the test each is ended, and nothing may be left of it.
    """
    monkeypatch.setattr("twisted_llama.assembly.gateway.raise_file_limit", lambda: None)
    made: list[Life] = []

    def make(**given: object) -> Life:
        life = Life(tmp_path, **given)
        globalLogPublisher.addObserver(life.events.append)
        made.append(life)
        return life

    yield make
    for life in made:
        globalLogPublisher.removeObserver(life.events.append)
        if not life.service._stopping:
            life.stop()
        life.reactor.advance(100)
        life.settle()
        life.reactor.advance(100)
        if not life.engine.stopped.called:
            life.engine.stopped.callback(None)
        life.settle()
        assert life.listens == [False, False]
        assert life.reactor.getDelayedCalls() == []
