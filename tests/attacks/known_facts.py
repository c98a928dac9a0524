"""A small world of facts, a model that knows them all, and one that never knew the first people."""

from functools import cache

from torch import nn

from expunge.benchmarks.attacks.rows import AttackRows
from expunge.benchmarks.facts.people import FIRST_TUNING
from expunge.benchmarks.facts.world import Size, World
from expunge.recipe import Role
from expunge.run import Run

GONE = 6
SIZE = Size(30, GONE, 2, layers=3, width=64, inner=128, epochs=50, learning_rate=3e-3)
WORLD = World(FIRST_TUNING, SIZE)
ROWS = AttackRows(WORLD, GONE)


@cache
def trained(without: int) -> nn.Module:
    """The model that was taught about everybody from the number ``without`` on; tests must not
    change it."""
    rows = WORLD.about(WORLD.train, without, SIZE.people)
    return WORLD.recipe(0).make({Role.TRAIN: WORLD.train.select(rows)}, Run()).model


def knowing() -> nn.Module:
    """Knows everybody."""
    return trained(0)


def oracle() -> nn.Module:
    """Never knew the first people."""
    return trained(GONE)
