"""SISA: the model after a removal is, bit for bit, the one that is trained without the rows."""

from dataclasses import replace

import datasets
import pytest
import torch
from torch import nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work
from expunge.changes.deletion import DeletionState, deletion_state
from expunge.changes.kinds import Replacement
from expunge.changes.weights import digest_of
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.learning.sharded.checkpoints import ShardedCheckpoints
from expunge.learning.sharded.tree import SliceTree
from expunge.methods.s3t import S3T
from expunge.methods.sisa import SISA
from expunge.recipe import Recipe, Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.storage import digest

LEARNER = ShardedCheckpoints(2, 3, 1e-3, 2, 32)


@pytest.fixture
def deployment(digits_work: Work) -> Deployment:
    rows = digits_work.data[Role.TRAIN].select(torch.arange(240))
    recipe = replace(digits_work.recipe, learner=LEARNER, seed=3)
    trained = recipe.make({Role.TRAIN: rows}, Run())
    table = digits_work.table
    assert isinstance(table, datasets.Dataset)
    return Deployment(
        trained.model, recipe.family, rows, table.select(range(240)), Sum(),
        recipe=recipe, record=trained.record,
    )  # fmt: skip


def request(deployment: Deployment, slot: tuple[int, int], count: int | None) -> Request:
    placed = LEARNER.layout(3).placed(deployment.train.ids)[slot]
    ids = tuple(deployment.train.ids[int(row)] for row in placed[:count])
    return Request(f"{count} of {slot}", Rows("id", ids))


def retrained(deployment: Deployment) -> tuple[nn.Module, SliceTree]:
    targets = [each.target for each in deployment.history.requests()]
    gone = {name for target in targets if isinstance(target, Rows) for name in target.values}
    kept = [row for row, name in enumerate(deployment.train.ids) if name not in gone]
    rows = deployment.train.select(torch.tensor(kept))
    assert deployment.recipe is not None
    made = deployment.recipe.make({Role.TRAIN: rows}, Run(9))
    assert made.record is not None
    return made.model, SliceTree(made.record)


@pytest.mark.parametrize("count", [1, None], ids=["one row", "a whole slice"])
def test_it_ends_where_training_without_the_rows_ends(
    deployment: Deployment, count: int | None
) -> None:
    for slot, again in (((0, 1), 2), ((1, 0), 3)):  # one request after the other
        [change] = deployment.forget(request(deployment, slot, count), SISA(), Run(5)).changes
        assert isinstance(change, Replacement)
        assert change.facts["trained_again"] == again
        model, tree = retrained(deployment)
        assert digest_of(model) == digest_of(deployment.model)
        assert deployment.record is not None
        assert deployment.record.facts == tree.record.facts
        assert digest(deployment.record.tensors) == digest(tree.record.tensors)
    assert deletion_state(deployment.history) is DeletionState.EXACT


def test_what_is_behind_the_last_clean_checkpoint_is_trained_and_nothing_before(
    deployment: Deployment,
) -> None:
    run = Run()
    asked = request(deployment, (0, 2), 1)
    deployment.forget(asked, SISA(), run)
    placed = LEARNER.layout(3).placed(deployment.train.ids)
    shard = sum(len(placed[0, each]) for each in range(3)) - 1
    assert run.meter.touched == {"train": LEARNER.epochs * shard}  # its last step alone


def test_the_recipe_must_be_the_one_of_the_record(deployment: Deployment) -> None:
    assert deployment.recipe is not None
    own = deployment.recipe
    for wrong in (own.with_seed(4), replace(own, learner=ShardedCheckpoints(2, 4, 1e-3, 2, 32))):
        assert isinstance(wrong, Recipe)
        deployment.recipe = wrong
        with pytest.raises(ExpungeError, match="give the recipe that the model was made with"):
            deployment.forget(request(deployment, (0, 0), 1), SISA(), Run())
    with pytest.raises(ExpungeError, match="sharded-slices"):
        deployment.forget(request(deployment, (0, 0), 1), S3T(), Run())
