"""
Gateways in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.api.world import World

MakeWorld = Callable[..., World]


@pytest.fixture
def make_world() -> Iterator[MakeWorld]:
    """
    Makes gateways with the given L{options <tests.api.world.Options>}.  Of whatever a test did
    with them nothing may be left in the end.
    """
    made: list[World] = []

    def make(**options: Any) -> World:
        made.append(World(**options))
        return made[-1]

    yield make
    for world in made:
        for client in world.clients:
            client.leave()
        world.assert_nothing_left()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """
    A gateway as it is by default.
    """
    return make_world()
