"""The ridge head as a learner: phases, streams, records, and what it refuses."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from expunge.benchmarks.shipped import Work
from expunge.changes.weights import digest_of, parameters_of
from expunge.data.samples import Batch, Samples, TensorSamples
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.classifier import Classifier
from expunge.families.heads import head_of
from expunge.learning.supervised.ridge import Recursion, Resolve, Sign, Solver
from expunge.learning.supervised.ridge_head import GATHERED, RidgeHead, kept_by
from expunge.models.random_features import RandomReLU
from expunge.recipe import Record, Role, Trained
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask
from expunge.storage import Bundle

FAMILY = Classifier(classes=10)
SOLVERS: tuple[Solver, ...] = (Resolve(), Recursion())


def network(width: int = 200) -> nn.Module:
    """No backbone: random features of the pixels, and a head without a bias."""
    return nn.Sequential(nn.Flatten(), RandomReLU(64, width), nn.Linear(width, 10, bias=False))


@pytest.fixture(scope="module")
def rows(digits_work: Work) -> TensorSamples:
    found = digits_work.data[Role.TRAIN]
    assert isinstance(found, TensorSamples)
    return found


def taken(rows: Samples, start: int, end: int) -> Samples:
    return rows.select(torch.arange(start, end))


def fitted(learner: RidgeHead, rows: Samples) -> Trained:
    return learner.fit(network(), FAMILY, {Role.TRAIN: rows}, Run())


def same(one: Record | None, other: Record | None) -> bool:
    assert one is not None
    assert other is not None
    return dict(one.facts) == dict(other.facts) and all(
        torch.equal(one.tensors[name], other.tensors[name]) for name in other.tensors
    )


def apart(one: Trained, other: Trained) -> float:
    found, wanted = (kept_by(each.record).solved.head for each in (one, other))
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("solver", SOLVERS)
def test_phases_end_where_learning_everything_at_once_does(
    solver: Solver, rows: TensorSamples
) -> None:
    """Five classes, then the others in two more phases; the sums are equal in every bit."""
    learner = RidgeHead(0.1, solver)
    first = rows.columns["label"] < 5
    second = (rows.columns["label"] >= 5) & (torch.arange(len(rows)) % 2 == 0)
    phases = [rows.select(p.nonzero()[:, 0]) for p in (first, second, ~(first | second))]
    trained = fitted(learner, phases[0])
    assert kept_by(trained.record).solved.head[:, 5:].abs().sum() == 0
    for phase in phases[1:]:
        trained = learner.added(trained, FAMILY, phase, Run())
    whole = fitted(learner, rows)
    assert apart(trained, whole) < 1e-10
    found, wanted = kept_by(trained.record), kept_by(whole.record)
    assert torch.equal(found.solved.sums.gram, wanted.solved.sums.gram)
    assert torch.equal(found.rows.contents, wanted.rows.contents)
    if solver == Resolve():
        assert same(trained.record, whole.record)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_removed_row_can_come_back(solver: Solver, rows: TensorSamples) -> None:
    learner = RidgeHead(0.1, solver)
    start = fitted(learner, rows)
    kept = kept_by(start.record)
    gone = learner.moved(kept, start.model, FAMILY, taken(rows, 0, 5), Run(), -1)
    less = learner.trained(start.model, gone)
    back = learner.added(less, FAMILY, taken(rows, 0, 5), Run())
    assert apart(less, start) > 1e-4
    assert apart(back, start) < 1e-10
    if solver == Resolve():
        assert same(back.record, start.record)
        assert digest_of(back.model) == digest_of(start.model)
    with pytest.raises(ExpungeError, match="is there already"):
        learner.added(start, FAMILY, taken(rows, 0, 5), Run())
    with pytest.raises(IntegrityError, match="not the one of the training record"):
        learner.added(replace(less, record=start.record), FAMILY, taken(rows, 0, 5), Run())


def test_only_the_head_moves_and_it_classifies(digits_work: Work, digits_model: nn.Module) -> None:
    """On the trained backbone, whose last layer has a bias."""
    trained = RidgeHead(1.0).fit(digits_model, FAMILY, digits_work.data, Run())
    name, _ = head_of(digits_model)
    for key, weights in parameters_of(trained.model).items():
        assert torch.equal(weights, parameters_of(digits_model)[key]) != key.startswith(name)
    assert float(accuracy(ask(FAMILY, trained.model, digits_work.test, Run()))[0]) > 0.93
    kept = kept_by(trained.record).solved.head
    _, head = head_of(trained.model)
    assert head.bias is not None
    assert torch.equal(head.bias, kept[-1].float())  # the record keeps what the layer rounds


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_record_is_stored_and_says_how_it_was_learned(
    solver: Solver, rows: TensorSamples, tmp_path: Path
) -> None:
    learner = RidgeHead(0.5, solver, "never saw the rows", bits=12, block=32)
    trained = fitted(learner, rows)
    assert trained.record is not None
    trained.record.save(tmp_path / "record.safetensors")
    stored = Bundle.load_checked(tmp_path / "record.safetensors")
    assert RidgeHead.of(stored) == learner
    assert same(stored, trained.record)
    again = learner.moved(kept_by(stored), trained.model, FAMILY, taken(rows, 3, 9), Run(), -1)
    others = rows.select(torch.tensor([*range(3), *range(9, len(rows))]))
    assert apart(learner.trained(trained.model, again), fitted(learner, others)) < 1e-10


@dataclass(eq=False)
class Stream:
    """Rows that are made when they are asked for, and never many at once."""

    samples: TensorSamples
    most: int
    asked: list[int] = field(default_factory=list)

    @property
    def ids(self) -> Sequence[str]:
        return self.samples.ids

    @property
    def subjects(self) -> Sequence[str]:
        return self.samples.subjects

    @property
    def fields(self) -> frozenset[str]:
        return self.samples.fields

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        self.asked.append(len(rows))
        if len(rows) > self.most:
            raise MemoryError(f"{len(rows)} rows at once")
        return self.samples.batch(rows, fields)

    def select(self, rows: Tensor) -> "Stream":
        return Stream(self.samples.select(rows), self.most, self.asked)


def test_a_stream_is_read_in_blocks_once(rows: TensorSamples) -> None:
    twice = TensorSamples(
        [*rows.ids, *(f"{name} again" for name in rows.ids)],
        [*rows.subjects, *rows.subjects],
        {name: torch.cat([column, column]) for name, column in rows.columns.items()},
    )
    stream = Stream(twice, most=16)
    learner = RidgeHead(0.1, block=16)
    trained = fitted(learner, stream)
    assert len(twice) > 2 * GATHERED
    assert sum(stream.asked) == len(twice) + 2 * 16  # the first block twice more, for its bits
    gone = learner.moved(kept_by(trained.record), trained.model, FAMILY, stream, Run(), -1)
    assert len(gone.rows) == 0
    assert gone.solved.head.abs().sum() == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_a_row_given_twice_is_said_to_be_however_far_apart(rows: TensorSamples, sign: Sign) -> None:
    learner = RidgeHead(0.1)
    trained = fitted(learner, rows if sign == -1 else taken(rows, 1040, 1070))
    twice = rows.select(torch.tensor([*range(GATHERED + 10), 3]))
    said = f"'{rows.ids[3]}' is given twice at once"
    with pytest.raises(ExpungeError, match=said):
        learner.moved(kept_by(trained.record), trained.model, FAMILY, twice, Run(), sign)
    with pytest.raises(ExpungeError, match=said):
        fitted(learner, twice)


def test_another_block_another_label_or_other_pixels_are_other_rows(rows: TensorSamples) -> None:
    learner = RidgeHead(0.1)
    trained = fitted(learner, rows)
    kept = kept_by(trained.record)
    few = rows.select(torch.arange(8))
    wrong = {
        "label": (few.columns["label"] + 1) % 10,
        "image": few.columns["image"] + 0.01,
    }
    for name, column in wrong.items():
        with pytest.raises(ExpungeError, match="was added with another label or other features"):
            changed = few.with_column(name, column)
            learner.moved(kept, trained.model, FAMILY, changed, Run(), -1)
    renamed = TensorSamples(["nobody", *few.ids[1:]], few.subjects, few.columns)
    with pytest.raises(ExpungeError, match="'nobody' is to be removed and is not there"):
        learner.moved(kept, trained.model, FAMILY, renamed, Run(), -1)
    assert same(learner.record(kept), trained.record)


class Centred(nn.Module):
    """Rows meet: the mean of a batch is taken from each."""

    def forward(self, features: Tensor) -> Tensor:
        return features * torch.arange(len(features)).unsqueeze(1)


def test_what_cannot_be_learned_is_said(rows: TensorSamples) -> None:
    with pytest.raises(ExpungeError, match="with the rows beside it in a block of 64"):
        model = nn.Sequential(nn.Flatten(), Centred(), nn.Linear(64, 10))
        RidgeHead().fit(model, FAMILY, {Role.TRAIN: rows}, Run())
    with pytest.raises(
        ExpungeError, match=r"has the label \d, and the last linear layer has 5 outputs"
    ):
        small = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
        RidgeHead().fit(small, FAMILY, {Role.TRAIN: rows}, Run())
    with pytest.raises(ExpungeError, match="with 24 bits sums are exact below 32"):
        fitted(RidgeHead(bits=24), rows)
    with pytest.raises(ExpungeError, match=r"condition number.*train the head with a larger ridge"):
        fitted(RidgeHead(1e-12), taken(rows, 0, 50))
    with pytest.raises(ExpungeError, match="ridge above 0"):
        RidgeHead(ridge=0.0)
    with pytest.raises(ExpungeError, match="'perhaps' for the layers below it"):
        RidgeHead(below="perhaps")  # type: ignore[arg-type]
    for record, said in ((None, "no record was given"), (Record({}, {"shards": 3}), "shards")):
        with pytest.raises(ExpungeError, match=f"record of a ridge head is needed.*{said}"):
            RidgeHead.of(record)


def test_random_features_are_fixed_by_their_seed_and_part_of_the_model() -> None:
    one, same_one, other = (RandomReLU(64, 20, seed) for seed in (0, 0, 1))
    assert digest_of(one) == digest_of(same_one) != digest_of(other)
    assert not list(one.parameters())
    assert (one(torch.linspace(-1, 1, 64).unsqueeze(0)) >= 0).all()
