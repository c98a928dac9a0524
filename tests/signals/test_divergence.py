"""Facts about distances between predictions: bounds, symmetry, values computed by hand."""

import math

import pytest
import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals import (
    Predictions,
    activation_distance,
    completeness,
    divergence,
    jensen_shannon,
    zero_retrain_forgetting,
    zero_retrain_forgetting_as_published,
)


def predicted(*rows: list[float]) -> Predictions:
    return Predictions.of(torch.tensor(rows).log(), torch.zeros(len(rows), dtype=torch.int64))


def distributions(seed: int, rows: int = 500) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    sharp = 10 ** (4 * torch.rand(rows, 1, generator=generator, dtype=torch.float64) - 2)
    return (sharp * torch.randn(rows, 6, generator=generator, dtype=torch.float64)).softmax(1)


def test_divergences_computed_by_hand() -> None:
    sure, even = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    by_hand = (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2
    assert by_hand == pytest.approx(0.215762, abs=1e-6)
    assert jensen_shannon(sure, even).item() == pytest.approx(by_hand)
    assert jensen_shannon(sure, sure).item() == 0
    assert jensen_shannon(sure, 1 - sure).item() == math.log(2)


def test_divergence_is_bounded_symmetric_and_zero_only_for_equals() -> None:
    p, q = distributions(0), distributions(1)
    found = jensen_shannon(p, q)
    assert bool(((found > 0) & (found <= math.log(2))).all())
    torch.testing.assert_close(found, jensen_shannon(q, p), rtol=0, atol=1e-15)
    assert jensen_shannon(p, p).max() < 1e-15
    assert found.max() > 0.69
    assert found.min() < 0.1


def test_distances_of_two_samples() -> None:
    found, oracle = predicted([1.0, 0.0], [0.5, 0.5]), predicted([0.0, 1.0], [0.5, 0.5])
    assert activation_distance(found, oracle).item() == pytest.approx(math.sqrt(2) / 2)
    assert divergence(found, oracle).item() == pytest.approx(math.log(2) / 2)
    assert completeness(found, oracle).item() == 0.5
    for distance, own in ((activation_distance, 0), (divergence, 0), (completeness, 1)):
        assert distance(found, found).item() == own
        assert distance(found, oracle).item() == distance(oracle, found).item()


def test_completeness_asks_for_the_same_answer_not_for_the_right_one() -> None:
    wrong = predicted([0.1, 0.9], [0.2, 0.8])
    assert completeness(wrong, wrong).item() == 1


def test_zrf_and_its_published_form_computed_by_hand() -> None:
    found, untrained = predicted([0.25, 0.75]), predicted([0.5, 0.5])
    assert zero_retrain_forgetting(found, untrained).item() == pytest.approx(0.966178, abs=1e-6)
    released = zero_retrain_forgetting_as_published(found, untrained).item()
    assert released == pytest.approx(0.982580, abs=1e-6)


def test_zrf_lies_between_its_bounds() -> None:
    opposite = zero_retrain_forgetting(predicted([1.0, 0.0]), predicted([0.0, 1.0]))
    assert opposite.item() == pytest.approx(1 - math.log(2))
    assert zero_retrain_forgetting(predicted([0.3, 0.7]), predicted([0.3, 0.7])).item() == 1


def test_several_models_are_compared_with_one() -> None:
    one, other = predicted([1.0, 0.0]), predicted([0.0, 1.0])
    both = Predictions.stacked(
        [
            Predictions(p.logits, p.labels, (name,), p.samples, p.subjects)
            for name, p in (("one", one), ("other", other))
        ]
    )
    assert completeness(both, one).tolist() == [1, 0]
    with pytest.raises(ExpungeError, match="2 models at once"):
        completeness(one, both)


def test_other_samples_or_classes_are_refused() -> None:
    with pytest.raises(ExpungeError, match="differ in their samples"):
        divergence(predicted([0.5, 0.5]), predicted([0.5, 0.5], [0.5, 0.5]))
    with pytest.raises(ExpungeError, match="have 2 classes"):
        divergence(predicted([0.5, 0.5]), predicted([0.5, 0.25, 0.25]))
