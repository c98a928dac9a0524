"""Facts about LEACE: no covariance is left, least squares, scikit-learn's probes on digits."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from expunge.data import digits
from expunge.errors import ExpungeError
from expunge.signals import Eraser, binomial_interval, cross_covariance, read_concept


def split(name: str) -> tuple[Tensor, Tensor]:
    found = digits.tensors(digits.load(name))
    return found["image"].flatten(1), found["label"]


@pytest.fixture(scope="module")
def train() -> tuple[Tensor, Tensor]:
    return split("train")


@pytest.fixture(scope="module")
def test() -> tuple[Tensor, Tensor]:
    return split("test")


def test_erasing_leaves_no_covariance_and_takes_one_direction_a_kind(
    train: tuple[Tensor, Tensor],
) -> None:
    images, labels = train
    for concept, kinds in ((labels == 3, 2), (labels, 10)):
        eraser = Eraser.fit(images, concept)
        erased = eraser(images)
        assert cross_covariance(images, concept).abs().max() > 1e-3
        assert cross_covariance(erased, concept).abs().max() < 1e-14
        assert eraser.left.shape == (64, kinds - 1)
        ranks = [int(torch.linalg.matrix_rank(x - x.mean(0))) for x in (images.double(), erased)]
        assert ranks[0] - ranks[1] == kinds - 1
        torch.testing.assert_close(erased.mean(0), images.double().mean(0))
        torch.testing.assert_close(eraser(erased), erased)  # a projection


def test_it_moves_the_features_less_than_the_orthogonal_projection(
    train: tuple[Tensor, Tensor],
) -> None:
    images, labels = train
    concept = labels == 3
    direction = torch.nn.functional.normalize(cross_covariance(images, concept)[:, :1], dim=0)
    centred = images.double() - images.double().mean(0)
    orthogonal = centred - centred @ direction @ direction.T
    assert cross_covariance(orthogonal, concept).abs().max() < 1e-14
    moved = (Eraser.fit(images, concept)(images) - images).square().sum()
    assert moved < 0.9 * (orthogonal - centred).square().sum()


def test_two_features_by_hand() -> None:
    # The concept is the sign of the first feature; the second is independent of both.
    features = torch.tensor([[1.0, 2.0], [1.0, -2.0], [-1.0, 2.0], [-1.0, -2.0]]) + 5
    erased = Eraser.fit(features, torch.tensor([1, 1, 0, 0]))(features)
    by_hand = torch.tensor([[5.0, 7], [5, 3], [5, 7], [5, 3]], dtype=torch.float64)
    torch.testing.assert_close(erased, by_hand)


def test_a_digit_is_read_before_and_not_after_on_unseen_samples(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> None:
    (images, labels), (asked, wanted) = train, test
    found = read_concept(images, labels == 3, asked, wanted == 3)
    share = float((wanted != 3).double().mean())
    assert found.samples == 359
    assert found.constant.accuracy == pytest.approx(share)
    assert 0.85 < share < 0.92
    interval = binomial_interval(round(share * 359), 359)
    assert found.before.accuracy > 0.97 > interval.high
    assert found.after.accuracy == found.constant.accuracy
    assert found.after.loss == pytest.approx(found.constant.loss, abs=1e-4)
    assert found.before.loss < 0.3 * found.constant.loss


def test_all_ten_digits_at_once(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> None:
    found = read_concept(*train, *test)
    assert found.before.accuracy > 0.93
    assert found.after.accuracy == found.constant.accuracy < 0.15
    assert found.constant.loss == pytest.approx(math.log(10), abs=0.01)


def test_no_probe_beats_the_constant_one_where_it_was_fitted(
    train: tuple[Tensor, Tensor],
) -> None:
    from sklearn.linear_model import LinearRegression, LogisticRegression

    images, labels = train
    concept = (labels == 3).numpy()
    erased = Eraser.fit(images, labels == 3)(images).numpy()
    linear = LinearRegression().fit(erased, concept)
    assert linear.score(erased, concept) == pytest.approx(0, abs=1e-9)
    assert LinearRegression().fit(images.numpy(), concept).score(images.numpy(), concept) > 0.5
    loose = LogisticRegression(C=1e6, max_iter=2000).fit(erased, concept)
    p = concept.mean()
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    own = -np.log(np.where(concept, *loose.predict_proba(erased).T[::-1])).mean()
    assert entropy - 1e-9 < own < entropy + 1e-4


def test_erasing_one_digit_leaves_the_others_readable(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> None:
    (images, labels), (asked, wanted) = train, test
    eraser = Eraser.fit(images, labels == 3)
    kept, seen = labels != 3, wanted != 3
    left = read_concept(eraser(images[kept]), labels[kept], eraser(asked[seen]), wanted[seen])
    assert left.before.accuracy > 0.93


def test_more_features_than_samples_and_features_without_variance(
    train: tuple[Tensor, Tensor],
) -> None:
    images, labels = train
    few, concept = torch.cat([images[:40], images[:40].square()], 1), labels[:40] < 5
    assert cross_covariance(Eraser.fit(few, concept)(few), concept).abs().max() < 1e-14
    constant = torch.ones(4, 3)
    sides = torch.tensor([0, 1, 0, 1])
    assert torch.equal(Eraser.fit(constant, sides)(constant), constant.double())
    found = read_concept(constant, sides, constant, sides)
    assert found.before.accuracy == found.after.accuracy == found.constant.accuracy == 0.5


def test_what_cannot_be_read_is_refused(train: tuple[Tensor, Tensor]) -> None:
    images, labels = train
    with pytest.raises(ExpungeError, match="with 1 kinds"):
        Eraser.fit(images, labels < 10)
    with pytest.raises(ExpungeError, match=r"\(1078, 64\).*\(5,\)"):
        Eraser.fit(images, labels[:5])
    with pytest.raises(ExpungeError, match="NaN or infinite"):
        Eraser.fit(images / 0, labels)
    with pytest.raises(ExpungeError, match=r"unknown kinds \[3\]"):
        read_concept(images[labels != 3], labels[labels != 3], images, labels)
    with pytest.raises(ExpungeError, match="float32 concept"):
        Eraser.fit(images, labels.float())
