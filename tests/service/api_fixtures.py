"""Fixtures of the tests of the API, which name this module as a plugin: ledgers behind it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_world import MODEL, World, asked
from torch import nn


@pytest.fixture(scope="session")
def made_world(tmp_path_factory: pytest.TempPathFactory, digits_model: nn.Module) -> World:
    """A ledger with a model and accounts; to be copied."""
    return World.make(tmp_path_factory.mktemp("world") / "ledger", digits_model)


@pytest.fixture(scope="session")
def lived_world(made_world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """One whose first request was published; nobody may change it."""
    world = made_world.copy(tmp_path_factory.mktemp("lived") / "ledger")
    with world.asking() as client:
        body = asked("writer 3", name="a person")
        assert client("requester").post(f"/v1/models/{MODEL}/requests", json=body).is_success
    world.working.work()
    return world


@pytest.fixture
def world(made_world: World, tmp_path: Path) -> Iterator[World]:
    """A copy of the first, for one test."""
    own = made_world.copy(tmp_path / "ledger")
    yield own
    own.ledger.database.close()


@pytest.fixture
def lived(lived_world: World, tmp_path: Path) -> Iterator[World]:
    """A copy of the second, for one test."""
    own = lived_world.copy(tmp_path / "lived")
    yield own
    own.ledger.database.close()
