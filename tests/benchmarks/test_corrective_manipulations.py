"""Facts about the manipulations: who is touched, by what, and what counts as corrected."""

from collections.abc import Callable

import pytest
import torch

from expunge.benchmarks.corrective.manipulations import (
    InterclassConfusion,
    Manipulation,
    PatchTrigger,
    RandomSwap,
)
from expunge.benchmarks.shipped import Work
from expunge.data.samples import Samples, TensorSamples
from expunge.errors import ExpungeError
from expunge.recipe import Role
from expunge.signals.predictions import Predictions

ALL: tuple[Manipulation, ...] = (PatchTrigger(side=2), InterclassConfusion(), RandomSwap())


@pytest.fixture
def rows(digits_work: Work) -> TensorSamples:
    train = digits_work.data[Role.TRAIN]
    assert isinstance(train, TensorSamples)
    return train


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("manipulation", ALL, ids=lambda m: m.name)
def test_no_row_changes_but_the_named_ones_and_the_seed_names_them(
    manipulation: Manipulation, rows: TensorSamples
) -> None:
    before = {name: column.clone() for name, column in rows.columns.items()}
    found = manipulation.manipulated(rows, drawn(0))
    again, other = (
        manipulation.manipulated(rows, drawn(0)),
        manipulation.manipulated(rows, drawn(1)),
    )
    assert torch.equal(found.rows, again.rows)
    assert not torch.equal(found.rows, other.rows)
    assert len(found.rows) == len(set(found.rows.tolist())) == 86  # 8 % of 1,078
    others = torch.ones(len(rows), dtype=torch.bool)
    others[found.rows] = False
    for name, column in before.items():
        assert torch.equal(rows.columns[name], column)  # what was given is not touched
        assert torch.equal(found.samples.columns[name][others], column[others])
        assert torch.equal(found.samples.columns[name], again.samples.columns[name])
    clean = found.with_clean_labels(found.rows)
    assert torch.equal(clean.columns["label"], before["label"][found.rows])
    assert torch.equal(clean.columns["image"], found.samples.columns["image"][found.rows])


def test_the_patch_is_the_bottom_right_corner_at_the_brightest_value(rows: TensorSamples) -> None:
    found = PatchTrigger(side=2, target=7).manipulated(rows, drawn(0))
    now, before = (s.columns["image"][found.rows] for s in (found.samples, rows))
    assert (now[..., -2:, -2:] == rows.columns["image"].max()).all()
    now = now.clone()
    now[..., -2:, -2:] = before[..., -2:, -2:]
    assert torch.equal(now, before)
    assert (found.samples.columns["label"][found.rows] == 7).all()
    kept = int((rows.columns["label"][found.rows] == 7).sum())
    assert kept > 0
    assert found.effective == 86 - kept


def test_confusion_exchanges_equally_many_labels_of_two_classes(rows: TensorSamples) -> None:
    found = InterclassConfusion(classes=(3, 5)).manipulated(rows, drawn(0))
    now, before = (s.columns["label"][found.rows] for s in (found.samples, rows))
    assert int((before == 3).sum()) == int((before == 5).sum()) == 43
    assert torch.equal(now, 8 - before)  # 3 and 5 change places
    assert torch.equal(found.samples.columns["image"], rows.columns["image"])
    assert found.effective == 86
    few = found.identified(0.2)
    assert {3, 5} == set(rows.columns["label"][few].tolist())  # a share of both


def test_a_random_swap_keeps_the_counts_of_labels_and_touches_fewer_than_it_names(
    rows: TensorSamples,
) -> None:
    found = RandomSwap().manipulated(rows, drawn(0))
    now, before = (s.columns["label"][found.rows] for s in (found.samples, rows))
    assert torch.equal(now.sort().values, before.sort().values)
    assert 70 < found.effective < 86


def test_a_larger_share_identifies_the_rows_of_a_smaller_one_and_more(rows: TensorSamples) -> None:
    found = PatchTrigger(side=2).manipulated(rows, drawn(0))
    sizes = [len(found.identified(share)) for share in (0.001, 0.1, 0.5, 1.0)]
    assert sizes == [1, 9, 43, 86]
    assert torch.equal(found.identified(0.5), found.identified(1.0)[:43])
    for share in (0.0, 1.1, -0.5, float("nan")):
        with pytest.raises(ExpungeError, match="identified"):
            found.identified(share)


def answering(rule: Callable[[TensorSamples], torch.Tensor]) -> Callable[[Samples], Predictions]:
    """A model that answers by a rule."""

    def asked(samples: Samples) -> Predictions:
        assert isinstance(samples, TensorSamples)
        return Predictions.of(torch.eye(10)[rule(samples)], samples.columns["label"])

    return asked


def test_a_model_that_follows_the_trigger_is_not_corrected_and_all_is_retained(
    rows: TensorSamples,
) -> None:
    def follows(samples: TensorSamples) -> torch.Tensor:
        lit = samples.columns["image"][:, 0, -2:, -2:].amin((1, 2)) == 1
        return torch.where(lit, 0, samples.columns["label"])

    patch = PatchTrigger(side=2)
    read = patch.read(answering(follows), rows, rows)
    assert (read.corrected, read.retained, read.attacked) == (0.0, 1.0, 1.0)
    corrected = patch.read(answering(lambda s: s.columns["label"]), rows, rows)
    assert (corrected.corrected, corrected.retained, corrected.attacked) == (1.0, 1.0, 0.0)


def test_held_out_pictures_have_the_patch_of_the_training_pictures(rows: TensorSamples) -> None:
    patch = PatchTrigger(side=2)
    dim = rows.with_column("image", rows.columns["image"] / 2)
    spoiled = patch.manipulated(rows, drawn(0))
    trained_on = spoiled.samples.columns["image"][spoiled.rows][:, 0, -2:, -2:]
    asked_about = patch.triggered(dim, rows).columns["image"][:, 0, -2:, -2:]
    assert (trained_on == 1).all()
    assert (asked_about == 1).all()
    seen: list[Samples] = []

    def notes(samples: Samples) -> Predictions:
        seen.append(samples)
        return answering(lambda s: s.columns["label"])(samples)

    patch.read(notes, dim, rows)
    assert isinstance(seen[0], TensorSamples)
    assert (seen[0].columns["image"][:, 0, -2:, -2:] == 1).all()


def test_a_model_that_exchanges_two_classes_is_wrong_on_these_alone(rows: TensorSamples) -> None:
    def exchanges(samples: TensorSamples) -> torch.Tensor:
        labels = samples.columns["label"]
        return torch.where((labels == 3) | (labels == 5), 8 - labels, labels)

    confusion = InterclassConfusion(classes=(3, 5))
    read = confusion.read(answering(exchanges), rows, rows)
    assert (read.corrected, read.retained, read.attacked) == (0.0, 1.0, 1.0)
    assert confusion.retained(answering(exchanges), rows) == 1.0


def test_more_rows_than_there_are_cannot_be_manipulated(rows: TensorSamples) -> None:
    few = rows.select(torch.arange(10))
    for share in (0.0, 1.0):
        with pytest.raises(ExpungeError, match="at least one row, and fewer than all"):
            PatchTrigger(share).manipulated(few, drawn(0))
    with pytest.raises(ExpungeError, match="of class 3 are to be confused"):
        InterclassConfusion(share=0.9).manipulated(rows, drawn(0))
