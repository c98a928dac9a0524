"""Redact on the digits: which ids go, from where, and what is left of the model."""

import pytest
import torch
from torch import nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work
from expunge.changes.deletion import DeletionState, deletion_state
from expunge.changes.redaction import Redacted
from expunge.changes.weights import digest_of
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.redact import Redact
from expunge.methods.retrain import Retrain
from expunge.problem import Access
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.run_file.made import make

EIGHTS = Request("the eights", Rows("label", ("8",)))
THREES = Request("the threes", Rows("label", ("3",)))


@pytest.fixture
def deployment(digits_work: Work, digits_model: nn.Module) -> Deployment:
    return Deployment(
        digits_model,
        digits_work.recipe.family,
        digits_work.data[Role.TRAIN],
        digits_work.table,
        Sum(),
        recipe=digits_work.recipe,
    )


def test_the_rows_of_the_request_go_and_no_other(deployment: Deployment) -> None:
    [change] = deployment.unlearn(EIGHTS, Redact(stores=("index", "memory")), Run()).changes
    assert isinstance(change, Redacted)
    train = deployment.train
    labels = train.batch(torch.arange(len(train)), {"label"})["label"].tolist()
    eights = {name for name, label in zip(train.ids, labels, strict=True) if label == 8}
    assert {store: set(ids) for store, ids in change.removed.items()} == {
        "index": eights,
        "memory": eights,
    }
    assert change.facts == {"method": "redact", "request": EIGHTS.digest()}


def test_the_weights_stay_and_the_state_says_so(deployment: Deployment) -> None:
    before = digest_of(deployment.model)
    deployment.forget(EIGHTS, Redact(), Run())
    assert digest_of(deployment.model) == before
    assert deletion_state(deployment.history) == DeletionState.SUPPRESSED
    deployment.forget(THREES, GradientAscent(1, 1e-4), Run())
    assert deletion_state(deployment.history) == DeletionState.SUPPRESSED  # the weakest answer
    deployment.revoke(EIGHTS)
    assert deletion_state(deployment.history) == DeletionState.EDITED


def test_what_follows_is_not_shown_the_removed_rows(deployment: Deployment) -> None:
    whole = len(deployment.problem(THREES, Retrain()).data[Role.RETAIN])
    deployment.forget(EIGHTS, Redact(), Run())
    left = deployment.problem(THREES, Retrain()).data[Role.RETAIN]
    assert len(left) == whole - 104  # the eights


def test_it_reads_ids_and_nothing_else() -> None:
    assert Redact().unlearns_with == Access({Role.FORGET: frozenset()})
    assert Redact().unlearns_with.describe() == "forget (ids)"


@pytest.mark.parametrize("stores", [(), ("",), ("index", "")])
def test_a_store_without_a_name_is_refused(stores: tuple[str, ...]) -> None:
    with pytest.raises(ExpungeError, match="Redact was given the stores"):
        Redact(stores)


def test_a_run_file_names_stores_as_a_list() -> None:
    assert make(Redact, {"stores": ["graph", "memory"]}) == Redact(("graph", "memory"))
