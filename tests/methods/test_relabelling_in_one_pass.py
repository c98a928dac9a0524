"""Random labels and SalUn in one pass: each row once an epoch, in batches that mix both sets."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.delta import Delta
from expunge.changes.weights import digest_of, parameters_of
from expunge.data.samples import ROW, Batch
from expunge.deployment import Deployment
from expunge.descent.forget_terms import MixedTargets
from expunge.descent.player import Setting
from expunge.descent.selections import Saliency
from expunge.descent.sources import PART
from expunge.errors import ExpungeError
from expunge.families.abilities import UnitLosses
from expunge.families.classifier import Classifier
from expunge.families.language import Language
from expunge.families.regressor import Regressor
from expunge.methods.protocol import Method, missing, unlearn
from expunge.methods.random_label_mixed import RandomLabelMixed
from expunge.methods.salun_mixed import SalUnMixed
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask

THREES = Request("the threes", Rows("label", ("3",)))
Trained = Callable[[int], Deployment]
BOTH = (RandomLabelMixed, SalUnMixed)
EPOCHS, ROWS = 3, 64


@dataclass(frozen=True)
class Spied(Classifier):
    """A classifier that keeps every batch under whose labels a loss was taken."""

    seen: list[Batch] = field(default_factory=list, repr=False, compare=False)

    def losses(self, model: nn.Module, batch: Batch) -> UnitLosses:
        self.seen.append(batch)
        return super().losses(model, batch)


def moved(method: Method, problem: Problem) -> nn.Module:
    [change] = unlearn(method, problem, Run()).changes
    assert isinstance(change, Delta)
    return change.applied_to(problem.model)


def share_correct(problem: Problem, model: nn.Module, role: Role) -> float:
    return float(accuracy(ask(problem.family, model, problem.data[role], Run()))[0])


def true_labels(problem: Problem) -> Tensor:
    """Of the pool: the forget rows first."""
    parts = [problem.data[role] for role in (Role.FORGET, Role.RETAIN)]
    return torch.cat([part.batch(torch.arange(len(part)))["label"] for part in parts])


@pytest.fixture
def batches(trained: Trained) -> tuple[Problem, list[Batch]]:
    """What three epochs showed the model."""
    method, family = RandomLabelMixed(EPOCHS, batch_size=ROWS), Spied(classes=10)
    problem = replace(trained(0).problem(THREES, method), family=family)
    method.descent().minimise(problem, Run())
    return problem, family.seen


def test_each_row_comes_once_an_epoch_in_batches_that_mix(
    batches: tuple[Problem, list[Batch]],
) -> None:
    problem, seen = batches
    rows = len(problem.data[Role.FORGET]) + len(problem.data[Role.RETAIN])
    order = torch.cat([batch[ROW] for batch in seen])
    assert len(order) == EPOCHS * rows
    epochs = order.view(EPOCHS, rows)
    assert all(sorted(epoch.tolist()) == list(range(rows)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    mixed = [batch for batch in seen if 0 < int(batch[PART].sum()) < len(batch[PART])]
    assert len(mixed) > 0.9 * len(seen)


def test_forget_rows_have_other_labels_anew_each_epoch_and_retain_rows_their_own(
    batches: tuple[Problem, list[Batch]],
) -> None:
    problem, seen = batches
    forget, own = len(problem.data[Role.FORGET]), true_labels(problem)
    shown = torch.empty(EPOCHS, len(own), dtype=torch.int64)
    order = torch.cat([batch[ROW] for batch in seen]).view(EPOCHS, -1)
    labels = torch.cat([batch["label"] for batch in seen]).view(EPOCHS, -1)
    for epoch in range(EPOCHS):
        shown[epoch, order[epoch]] = labels[epoch]
    assert (shown[:, forget:] == own[forget:]).all()
    assert (shown[:, :forget] != own[:forget]).all()
    assert (shown[0, :forget] != shown[1, :forget]).double().mean() > 0.7
    assert set(shown[:, :forget].flatten().tolist()) == set(range(10)) - {3}


def test_the_loss_weighs_every_row_of_a_batch_alike(trained: Trained) -> None:
    problem = trained(0).problem(THREES, RandomLabelMixed())
    family = Spied(classes=10)
    setting = Setting(
        replace(problem, family=family), {"model": problem.model}, lambda: problem.model, Run()
    )
    parts = [problem.data[role].batch(torch.arange(n)) for role, n in PARTS]
    fields = ("image", "label")
    batch = {name: torch.cat([part[name] for part in parts]) for name in fields}
    batch[PART] = torch.tensor([0] * 4 + [1] * 12)
    value = MixedTargets().value(setting, batch, None)
    [seen] = family.seen
    logits = problem.model(batch["image"])
    each = nn.functional.cross_entropy(logits, seen["label"], reduction="none")
    assert torch.allclose(value, each.sum() / 16)
    assert torch.equal(batch["label"][:4], torch.full((4,), 3))  # the batch itself stays


PARTS = ((Role.FORGET, 4), (Role.RETAIN, 12))


@pytest.mark.parametrize("kind", BOTH)
def test_a_class_is_forgotten_and_the_rest_kept(
    kind: type[RandomLabelMixed | SalUnMixed], trained: Trained
) -> None:
    method = kind(learning_rate=0.01, batch_size=ROWS)
    problem = trained(0).problem(THREES, method)
    after = moved(method, problem)
    assert share_correct(problem, after, Role.FORGET) < 0.2
    assert share_correct(problem, after, Role.RETAIN) > 0.97


def test_salun_leaves_the_other_weights_bit_for_bit(trained: Trained) -> None:
    method = SalUnMixed(2, 0.05, weight_decay=0.1, batch_size=ROWS, kept=0.3)
    problem = trained(0).problem(THREES, method)
    after, before = parameters_of(moved(method, problem)), parameters_of(problem.model)
    for name, mask in Saliency(0.3).select(problem.model, problem, Run()).items():
        assert mask is not None
        assert torch.equal(after[name][~mask], before[name][~mask])
        assert not torch.equal(after[name][mask], before[name][mask]) or not mask.any()


def test_salun_on_all_weights_is_random_label(trained: Trained) -> None:
    whole, relabelling = SalUnMixed(2, 0.01, kept=1.0), RandomLabelMixed(2, 0.01)
    problem = trained(0).problem(THREES, whole)
    assert digest_of(moved(whole, problem)) == digest_of(moved(relabelling, problem))


@pytest.mark.parametrize("kind", BOTH)
def test_families_without_classes_are_refused(
    kind: type[RandomLabelMixed | SalUnMixed], trained: Trained
) -> None:
    problem = trained(0).problem(THREES, kind())
    assert kind().unlearns_with == Access.to(Role.FORGET, Role.RETAIN)
    with pytest.raises(ExpungeError, match="lacks HasNeutral"):
        unlearn(kind(), replace(problem, family=Regressor()), Run())
    language = replace(problem, family=Language(refusals=((1, 2),)))
    assert [lack.clause for lack in missing(kind(), language)] == [
        "the family 'language' lacks HasLogits"
    ]
