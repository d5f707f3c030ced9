"""The worlds of the contract suite; after every test the log must fold to the state rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.folding import assert_replay_is_state
from fakes.worlds import House, MemoryWorld, PostgresWorld, World


@pytest.fixture(params=["memory", "memory of another process", "postgres"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Give an empty database of each kind; replay = state is checked at the end."""
    made: World
    if request.param == "postgres":
        made = PostgresWorld(request.getfixturevalue("database_url"))
    else:
        made = MemoryWorld()
    try:
        yield made
        assert_replay_is_state(made.commits(), made.rows())
    finally:
        made.close()


@pytest.fixture
def house(world: World, request: pytest.FixtureRequest) -> Iterator[House]:
    """Give ledgers over that database, closed before it is."""
    made = House(world, remote="another process" in str(request.node.callspec.params["world"]))
    yield made
    made.close_ledgers()
