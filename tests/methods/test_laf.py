"""LAF: what it reads and moves, the small check on digits, and the form with a repair.

The small check removes a class of the digits with the preset on the shipped classifier.
"""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work, digits_classifier_work
from expunge.changes.weights import digest_of, parameters_of
from expunge.data.samples import Batch, Samples, TensorSamples
from expunge.deployment import Deployment
from expunge.descent.length import batches_of
from expunge.errors import AccessError, ExpungeError, IntegrityError
from expunge.methods.laf import CLASSES, LAF, REACH, ROWS, STEPS
from expunge.methods.laf_repaired import LAFRepaired
from expunge.methods.presets import AtPreset, preset_of
from expunge.methods.protocol import Artifact, Method, unlearn
from expunge.methods.retrain import Retrain
from expunge.models.mlp import small_digits_classifier
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals.ask import predict

SHORT = LAF(epochs=2, vae_epochs=1, vae_steps=0, extractor_learning_rate=1e-3)
FEW = LAF(vae_steps=150)
ZEROES = Request("the noughts", Rows("label", ("0",)), labels=(0,))


@cache
def work() -> Work:
    return digits_classifier_work()


@cache
def original() -> nn.Module:
    return work().recipe.make(work().data, Run()).model


def problem_of(request: Request, train: TensorSamples | None = None) -> Problem:
    """With the training rows beside it, as a deployment has before the first request."""
    rows = train or work().data[Role.TRAIN]
    family, table = work().recipe.family, work().table
    deployment = Deployment(original(), family, rows, table, Sum(), recipe=work().recipe)
    return deployment.problem(request, LAF())


def drawn_rows() -> Request:
    """40 % of the rows of each of the classes 5 to 9, as in the paper."""
    train = work().data[Role.TRAIN]
    labels = train.batch(torch.arange(len(train)), {"label"})["label"]
    ids: list[str] = []
    for mine in range(5, 10):
        places = (labels == mine).nonzero().reshape(-1)
        order = torch.randperm(len(places), generator=torch.Generator().manual_seed(mine))
        ids += [train.ids[i] for i in places[order[: round(0.4 * len(places))]].tolist()]
    return Request("some rows", Rows("id", tuple(ids)))


@cache
def prepared() -> Artifact:
    """The autoencoder of all rows, which every answer of the small check has in common."""
    return FEW.prepare(problem_of(ZEROES), Run())


def at_preset(problem: Problem, **fields: Any) -> LAF:
    found = preset_of(replace(FEW, **fields), problem)
    assert isinstance(found, LAF)
    return found


@cache
def after(name: str) -> nn.Module:
    """The original after one of several answers to the removal of a class, or of rows."""
    problem = problem_of(drawn_rows() if name == "rows" else ZEROES)
    method = at_preset(problem)
    if name == "extraction":
        method = at_preset(problem, alignment_learning_rate=0.0)
    if name == "swapped":
        forget, retain = (problem.data[role] for role in (Role.FORGET, Role.RETAIN))
        data = {**problem.data, Role.FORGET: retain, Role.RETAIN: forget}
        problem = replace(problem, data=data)
        epochs = -(-STEPS // batches_of(len(retain), method.batch_size))
        method = replace(method, epochs=epochs)
    return unlearn(method, problem, Run(), prepared()).applied_to(original())


def moved(method: Method, problem: Problem) -> nn.Module:
    return unlearn(method, problem, Run()).applied_to(problem.model)


def right(model: nn.Module, samples: Samples) -> float:
    return float(predict(work().recipe.family, model, samples, Run()).share_right()[0])


def kept_and_gone(model: nn.Module, request: Request = ZEROES) -> tuple[float, float]:
    """Accuracy on retain and on forget rows."""
    data = problem_of(request).data
    return right(model, data[Role.RETAIN]), right(model, data[Role.FORGET])


# ---- what it reads ----


@dataclass(frozen=True)
class WithoutLabels:
    """Samples whose labels raise when they are read; ``read`` counts those of permitted rows."""

    samples: Samples

    def __getattr__(self, name: str) -> Any:
        return getattr(self.samples, name)

    def __len__(self) -> int:
        return len(self.samples)

    def select(self, rows: Tensor) -> "WithoutLabels":
        return WithoutLabels(self.samples.select(rows))

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        if fields is None or "label" in fields:
            raise AccessError("a label was read")
        return self.samples.batch(rows, fields)


def without_labels(problem: Problem) -> Problem:
    shut: dict[Role, Samples] = {r: WithoutLabels(s) for r, s in problem.data.items()}
    return replace(problem, data=shut)


@pytest.mark.parametrize("method", [SHORT, replace(SHORT, of_retain=True)])
def test_no_label_is_ever_read(method: LAF) -> None:
    problem = without_labels(problem_of(ZEROES))
    with pytest.raises(AccessError, match="a label was read"):
        moved(replace(LAFRepaired(), epochs=1, vae_epochs=1, vae_steps=0), problem)
    assert digest_of(moved(method, problem)) != digest_of(problem.model)
    found = preset_of(method, problem)
    assert isinstance(found, LAF)
    assert found.temperature == CLASSES
    told = (method.prepares_with | method.unlearns_with).describe()
    assert "label" not in told
    trains = "" if method.of_retain else "train (image), "
    assert told == f"{trains}forget (image), retain (image)"


def test_other_labels_give_the_same_bits() -> None:
    rows = work().data[Role.TRAIN]
    assert isinstance(rows, TensorSamples)
    turned = rows.with_column("label", (rows.columns["label"] + 3) % 10)
    found = [moved(SHORT, problem_of(ZEROES, train)) for train in (rows, turned)]
    assert digest_of(found[0]) == digest_of(found[1]) != digest_of(original())


def test_the_head_keeps_its_bits_and_everything_below_moves() -> None:
    found = parameters_of(moved(SHORT, problem_of(ZEROES)))
    for name, before in parameters_of(original()).items():
        assert torch.equal(found[name], before) == name.startswith("layers.5")


# ---- what is published, and the preset ----


def test_the_defaults_are_those_of_the_card() -> None:
    method = LAF()
    assert (method.latent, method.epochs, method.temperature) == (8, 20, 5.0)
    assert (method.extractor_learning_rate, method.alignment_learning_rate) == (5e-5, 1e-4)
    assert (method.vae_epochs, method.vae_learning_rate) == (10, 1e-3)
    unlearning, alignment = method.unlabelled().players
    assert unlearning.batches == alignment.batches is not None
    for player in (unlearning, alignment):
        assert player.optimiser.weight_decay == 0  # type: ignore[attr-defined]


def test_the_preset_leads_as_far_as_its_reach_in_the_published_ratio() -> None:
    for request, temperature in ((ZEROES, CLASSES), (drawn_rows(), ROWS)):
        problem = problem_of(request)
        found = preset_of(LAF(), problem)
        assert isinstance(found, LAF)
        steps = found.epochs * batches_of(len(problem.data[Role.FORGET]), found.batch_size)
        assert steps >= STEPS
        assert found.alignment_learning_rate == REACH.adam_rate(problem, steps)
        assert found.extractor_learning_rate == found.alignment_learning_rate / 2
        assert found.temperature == temperature
        assert (found.latent, found.vae_steps) == (LAF().latent, LAF().vae_steps)


def test_a_step_that_is_left_out_stays_so_in_the_preset() -> None:
    problem = problem_of(ZEROES)
    for name in ("extractor_learning_rate", "alignment_learning_rate"):
        method = LAF(**{name: 0.0})  # type: ignore[arg-type]
        found = preset_of(method, problem)
        assert isinstance(found, LAF)
        assert getattr(found, name) == 0.0
        assert len(found.unlabelled().players) == 1
    assert LAF(extractor_learning_rate=0.0).prepares_with.describe() == "nothing"


def test_what_was_prepared_for_something_else_is_refused() -> None:
    problem = problem_of(ZEROES)
    artifact = SHORT.prepare(problem, Run())
    SHORT.unlearn(problem, artifact, Run())
    other = replace(problem, model=small_digits_classifier())
    with pytest.raises(IntegrityError, match="prepare it again"):
        SHORT.unlearn(other, artifact, Run())
    with pytest.raises(IntegrityError, match="prepare it again"):
        replace(SHORT, latent=4).unlearn(problem, artifact, Run())


@pytest.mark.parametrize(
    "given",
    [
        {"batch_size": 0},
        {"epochs": 0},
        {"vae_epochs": 0},
        {"vae_steps": -1},
        {"vae_learning_rate": 0.0},
    ],
)
def test_what_is_below_its_least_is_refused(given: dict[str, Any]) -> None:
    for kind in (LAF, LAFRepaired):
        with pytest.raises(ExpungeError, match="at least 1 of each is expected, 0 or more"):
            kind(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"extractor_learning_rate": 0.0, "alignment_learning_rate": 0.0},
        {"alignment_learning_rate": -1e-4},
        {"temperature": 0.0},
        {"latent": 0},
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any]) -> None:
    for kind in (LAF, LAFRepaired):
        with pytest.raises(ExpungeError, match="rates of at least 0"):
            kind(**given)


def test_a_model_without_a_head_is_refused() -> None:
    bent = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))
    with pytest.raises(ExpungeError, match="ends in a linear layer"):
        moved(SHORT, replace(problem_of(ZEROES), model=bent))


# ---- the small check ----


def test_a_class_is_forgotten_without_its_label_and_the_others_stay() -> None:
    kept, gone = kept_and_gone(original())
    kept_after, gone_after = kept_and_gone(after("whole"))
    assert gone - gone_after > 0.6
    assert kept - kept_after < 0.08


def test_without_the_alignment_the_others_are_lost() -> None:
    assert kept_and_gone(after("extraction"))[0] < kept_and_gone(after("whole"))[0] - 0.2


def test_with_the_roles_swapped_the_others_go() -> None:
    others, zeroes = kept_and_gone(after("swapped"))
    assert others < 0.5
    assert zeroes > 0.9


def test_rows_of_classes_that_stay_are_not_driven_to_zero() -> None:
    known, left, oracle = (
        kept_and_gone(model, drawn_rows())
        for model in (original(), after("rows"), moved(Retrain(), problem_of(drawn_rows())))
    )
    assert oracle[1] - 0.15 < left[1] <= known[1]
    assert known[0] - left[0] < 0.03


# ---- the repair ----


def repaired(labelled: int = 30) -> LAFRepaired:
    same = {name: getattr(SHORT, name) for name in ("epochs", "vae_epochs", "vae_steps")}
    rate = SHORT.extractor_learning_rate
    return LAFRepaired(**same, extractor_learning_rate=rate, labelled=labelled, repair_epochs=3)


def test_the_repair_is_laf_with_another_head() -> None:
    problem = problem_of(ZEROES)
    before, found = (parameters_of(moved(m, problem)) for m in (SHORT, repaired()))
    for name, tensor in before.items():
        assert torch.equal(found[name], tensor) != name.startswith("layers.5")


def test_no_more_labels_are_read_than_said() -> None:
    read: set[str] = set()

    class Counted(TensorSamples):
        def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
            if fields is None or "label" in fields:
                read.update(self.ids[row] for row in rows.tolist())
            return super().batch(rows, fields)

    problem = problem_of(ZEROES)
    data: dict[Role, Samples] = {
        role: Counted(s.ids, s.subjects, s.columns)  # type: ignore[attr-defined]
        for role, s in problem.data.items()
    }
    counted = replace(problem, data=data)
    preset_of(LAFRepaired(), counted)
    assert not read
    moved(repaired(30), counted)
    assert len(read) == 30
    assert read <= set(problem.data[Role.RETAIN].ids)
    assert repaired().unlearns_with.describe() == "forget (image), retain (image, label)"


def test_the_repair_fits_the_labelled_rows_better() -> None:
    """The extractor is led far enough astray that there is something to repair."""
    rough = replace(repaired(200), extractor_learning_rate=3e-3, repair_epochs=20)
    plain = LAF(**{field.name: getattr(rough, field.name) for field in fields(LAF)})
    problem = problem_of(ZEROES)
    before, found = (moved(method, problem) for method in (plain, rough))
    assert kept_and_gone(found)[0] > kept_and_gone(before)[0] + 0.02


def test_a_repair_without_labels_is_refused() -> None:
    with pytest.raises(ExpungeError, match="does without any"):
        LAFRepaired(labelled=0)


def test_both_find_their_preset_at_every_request() -> None:
    for method in (LAF(), LAFRepaired()):
        assert isinstance(AtPreset.of(method), AtPreset)
