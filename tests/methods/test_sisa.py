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
from expunge.learning.sharded.slices import ShardedSlices
from expunge.learning.sharded.tree import SliceTree
from expunge.methods.protocol import unlearn
from expunge.methods.s3t import S3T
from expunge.methods.sisa import SISA
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.storage import digest

LEARNER = ShardedCheckpoints(2, 3, 1e-3, 2, 32, below="never saw the rows")


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

    def shifted(seed: int) -> nn.Module:
        model = own.builder(seed)
        with torch.no_grad():
            next(model.parameters()).add_(1e-3)
        return model

    def frozen(seed: int) -> nn.Module:
        model = own.builder(seed)
        next(model.parameters()).requires_grad_(False)
        return model

    for wrong, said in (
        (own.with_seed(4), "start: .* was given, .* is expected; seed: 4 was given, 3 is expected"),
        (replace(own, learner=replace(LEARNER, slices=4)), "slices: 4 was given, 3 is expected"),
        (replace(own, learner=replace(LEARNER, epochs=1)), "epochs: 1 was given, 2 is expected"),
        (replace(own, learner=replace(LEARNER, learning_rate=1e-2)), "learning_rate: 0.01"),
        (replace(own, learner=replace(LEARNER, batch_size=16)), "batch_size: 16"),
        (replace(own, learner=replace(LEARNER, below="unknown")), "below: unknown was given"),
        (replace(own, builder=shifted), "start: [0-9a-f]{64} was given"),
        (replace(own, builder=frozen), r"frozen: \['.*'\] was given, \[\] is expected"),
        (replace(own, learner=ShardedSlices()), "the recipe has ShardedSlices"),
    ):
        deployment.recipe = wrong
        with pytest.raises(ExpungeError, match=said) as refused:
            deployment.forget(request(deployment, (0, 1), 1), SISA(), Run())
        assert "give the recipe that the model was made with" in str(refused.value)
    with pytest.raises(ExpungeError, match="sharded-slices"):
        deployment.forget(request(deployment, (0, 0), 1), S3T(), Run())


@pytest.mark.parametrize(
    ("below", "state", "said"),
    [
        ("never saw the rows", DeletionState.EXACT, "declared never to have seen the rows"),
        ("unknown", DeletionState.EDITED, "they may have been trained on the rows"),
    ],
)
def test_exact_is_said_only_where_what_training_starts_from_is_free_of_the_rows(
    deployment: Deployment, below: str, state: DeletionState, said: str
) -> None:
    own = deployment.recipe
    assert own is not None
    learner = replace(LEARNER, below=below)  # type: ignore[arg-type]
    recipe = replace(own, learner=learner)
    made = recipe.make({Role.TRAIN: deployment.train}, Run())
    other = Deployment(
        made.model, recipe.family, deployment.train, deployment.table, Sum(),
        recipe=recipe, record=made.record,
    )  # fmt: skip
    [change] = other.forget(request(other, (0, 2), 1), SISA(), Run()).changes
    assert isinstance(change, Replacement)
    assert f"starts from are not covered ({said}" in str(change.facts["certified"])
    assert deletion_state(other.history) is state


def test_the_rows_must_be_those_of_the_record(deployment: Deployment) -> None:
    problem = deployment.problem(request(deployment, (0, 2), 1), SISA())
    forget, retain = problem.data[Role.FORGET], problem.data[Role.RETAIN]
    strange = replace(forget, ids=("row of nobody",))  # type: ignore[type-var]
    with pytest.raises(ExpungeError, match="'row of nobody' is to be removed and is not there"):
        unlearn(SISA(), replace(problem, data={**problem.data, Role.FORGET: strange}), Run())
    fewer = retain.select(torch.arange(3, len(retain)))
    with pytest.raises(ExpungeError, match="the record lacks 0, and it has 3 that are neither"):
        unlearn(SISA(), replace(problem, data={**problem.data, Role.RETAIN: fewer}), Run())
    with pytest.raises(ExpungeError, match="Of the 240 retained rows the record lacks 1, and it"):
        more = {**problem.data, Role.RETAIN: deployment.train}
        unlearn(SISA(), replace(problem, data=more), Run())


def test_what_lies_below_is_one_of_two() -> None:
    with pytest.raises(ExpungeError, match="'sharded-checkpoints' got 'clean'"):
        ShardedCheckpoints(below="clean")  # type: ignore[arg-type]
