"""Facts about membership attacks: features by hand, limits of the attacks, and what is refused."""

import math
from collections.abc import Callable
from statistics import fmean

import pytest
import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals import (
    FEATURES,
    Predictions,
    Signals,
    boosted_mia,
    cross_validated_mia,
    logistic_mia,
    membership_features,
    svc_mia,
    svc_privacy,
    unlearning_accuracy,
)
from expunge.signals.membership_features import (
    absolute_error,
    confidence,
    correctness,
    entropy,
    loss,
    modified_entropy,
    probability_vector,
    sorted_probabilities,
)


def hand_made(label: int) -> Predictions:
    return Predictions.of(torch.tensor([[0.7, 0.2, 0.1]]).log(), torch.tensor([label]))


def sure_of(name: str, probabilities: list[float]) -> Predictions:
    """Two classes, label 0, with these probabilities of it."""
    p = torch.tensor(probabilities)
    ids = [f"{name} {i}" for i in range(len(p))]
    labels = torch.zeros(len(p), dtype=torch.int64)
    return Predictions.of(torch.stack([p, 1 - p], 1).log(), labels, samples=ids)


def spread(centre: float, rows: int) -> list[float]:
    return [centre + 0.02 * (i / (rows - 1) - 0.5) for i in range(rows)]


RETAIN, TEST = sure_of("retain", spread(0.97, 60)), sure_of("test", spread(0.6, 30))
HALF = sure_of("forget", spread(0.97, 10) + spread(0.6, 10))


@pytest.mark.parametrize(
    ("feature", "label", "expected"),
    [
        (correctness, 0, 1.0),
        (correctness, 1, 0.0),
        (confidence, 1, 0.2),
        (loss, 1, -math.log(0.2)),
        (entropy, 0, 0.801819),
        (entropy, 2, 0.801819),
        (modified_entropy, 0, 0.162167),
        (modified_entropy, 1, 2.140867),
    ],
)
def test_features_computed_by_hand(
    feature: Callable[[Predictions], Tensor], label: int, expected: float
) -> None:
    assert feature(hand_made(label)).item() == pytest.approx(expected, abs=1e-6)


def test_modified_entropy_is_zero_where_certain_and_right_and_large_where_wrong() -> None:
    for scale in (60.0, 1e4):
        logits = torch.tensor([[0.0, scale], [0.0, scale]])
        right, wrong = modified_entropy(Predictions.of(logits, torch.tensor([1, 0])))[0]
        assert right.item() == pytest.approx(0, abs=1e-20)
        expected = 2 * min(scale, -membership_features.LEAST_LOG)
        assert wrong.item() == pytest.approx(expected)


def test_every_feature_has_a_row_for_every_sample_of_every_model() -> None:
    both = Predictions.stacked([hand_made(1), Predictions.of(*_named(hand_made(1)), model="b")])
    shapes = {name: tuple(feature(both).shape) for name, feature in FEATURES.items()}
    assert shapes.pop("probability vector") == (2, 1, 3)
    assert shapes.pop("sorted probabilities") == (2, 1, 3)
    assert set(shapes.values()) == {(2, 1, 1)}
    assert torch.equal(probability_vector(both)[0], probability_vector(both)[1])


def _named(found: Predictions) -> tuple[Tensor, Tensor]:
    return found.logits[0], found.labels


@pytest.mark.parametrize("name", ["confidence", "entropy", "modified entropy", "loss"])
def test_forgotten_rows_that_look_like_members_are_called_so(name: str) -> None:
    feature = FEATURES[name]
    assert logistic_mia(HALF, RETAIN, TEST, feature).item() == 0.5
    assert svc_mia(HALF, RETAIN, TEST, feature).item() == 0.5
    members = HALF.at(range(10))
    assert logistic_mia(members, RETAIN, TEST, feature).item() == 1  # members, the direction of SSD
    assert svc_mia(members, RETAIN, TEST, feature).item() == 0  # non-members, that of SalUn
    assert svc_privacy(RETAIN, TEST, feature).item() == 1


def test_efficacy_by_correctness_is_the_unlearning_accuracy() -> None:
    retain, test = sure_of("r", [0.9] * 40), sure_of("t", [0.9] * 10 + [0.1] * 10)
    forget = sure_of("f", [0.9] * 7 + [0.1] * 3)
    efficacy = svc_mia(forget, retain, test, correctness)
    assert efficacy.item() == unlearning_accuracy(forget.signals()).item() == pytest.approx(0.3)


def test_support_vectors_have_the_published_penalty_and_width() -> None:
    from sklearn.svm import SVC

    def drawn(name: str, pull: float, seed: int) -> Predictions:
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(60, 4, generator=generator) + pull * torch.eye(4)[0]
        ids = [f"{name}{i}" for i in range(60)]
        return Predictions.of(logits, torch.zeros(60, dtype=torch.int64), samples=ids)

    forget, retain, test = drawn("f", 1, 0), drawn("r", 2, 1), drawn("t", 0.5, 2)
    rows = [p.probabilities()[0].numpy() for p in (retain, test, forget)]
    by_hand = SVC(C=3, gamma=1 / 4).fit([*rows[0], *rows[1]], [1] * 60 + [0] * 60)
    called = float(by_hand.predict(rows[2]).mean())
    assert 0.2 < called < 0.8
    assert svc_mia(forget, retain, test, probability_vector).item() == pytest.approx(1 - called)


def test_boosted_trees_are_right_about_members_and_unseen_rows_alike() -> None:
    """A model that is surer of its training rows than of others: all forget rows like the former,
    none like them, and half of them."""
    retain, test = sure_of("r", [0.99] * 100), sure_of("t", [0.4] * 200)
    for share, right in ((1.0, 1.0), (0.0, 0.5), (0.5, 0.75)):
        known = round(40 * share)
        forget = sure_of("f", [0.99] * known + [0.4] * (40 - known))
        found = boosted_mia(forget, retain, test, sorted_probabilities)
        assert found.item() == pytest.approx(right)
    with pytest.raises(ExpungeError, match="got 1 test rows"):
        boosted_mia(forget, retain, test.at([0]), sorted_probabilities)


def test_sorted_probabilities_do_not_know_the_class() -> None:
    one, other = sure_of("r", [0.9]), sure_of("r", [0.1])
    for found in (one, other):
        values = sorted_probabilities(found)[0, 0]
        assert torch.equal(values, values.sort().values)
        assert values.sum().item() == pytest.approx(1)
    turned = Predictions.of(one.logits[0].flip(1), one.labels, samples=one.samples)
    assert torch.equal(sorted_probabilities(one), sorted_probabilities(turned))


def test_many_retain_rows_do_not_outweigh_few_test_rows() -> None:
    retain, test = sure_of("r", [0.9] * 60 + [0.1] * 40), sure_of("t", [0.9] * 2 + [0.1] * 8)
    forget = sure_of("f", [0.9] + [0.1] * 3)  # 0.1 is likelier under test, though rarer there
    assert logistic_mia(forget, retain, test, confidence).item() == 0.25
    assert svc_mia(forget, retain, test, confidence).item() == 0.75


def test_the_order_of_the_rows_has_no_say() -> None:
    generator = torch.Generator().manual_seed(0)
    retain = sure_of("r", (0.5 + 0.5 * torch.rand(80, generator=generator)).tolist())
    test = sure_of("t", torch.rand(30, generator=generator).tolist())
    forget = sure_of("f", torch.rand(25, generator=generator).tolist())
    again, mixed = (
        p.at(torch.randperm(len(p.samples), generator=generator)) for p in (retain, test)
    )
    for attack in (logistic_mia, svc_mia):
        straight = attack(forget, retain, test, confidence)
        assert torch.equal(attack(forget, again, mixed, confidence), straight)
        assert 0 < straight.item() < 1
    assert torch.equal(
        cross_validated_mia(forget, mixed, loss), cross_validated_mia(forget, test, loss)
    )


def test_a_model_that_answers_everything_alike_gives_nothing_to_go_by() -> None:
    forget, retain, test = (sure_of(name, [0.5] * 20) for name in ("f", "r", "t"))
    assert logistic_mia(forget, retain, test, entropy).item() == 0.5
    assert svc_mia(forget, retain, test, confidence).item() == 0.5
    assert cross_validated_mia(forget, test, loss).item() == 0.5


def test_left_out_rows_are_told_apart_only_where_the_sets_differ() -> None:
    found = []
    for seed in range(10):
        drawn = torch.rand(2, 200, generator=torch.Generator().manual_seed(seed)).tolist()
        first, second = (sure_of(f"{seed}{name}", p) for name, p in zip("fu", drawn, strict=True))
        found.append(cross_validated_mia(first, second, loss).item())
    assert fmean(found) == pytest.approx(0.5, abs=0.04)
    known, unseen = sure_of("known", spread(0.97, 400)), sure_of("unseen", spread(0.5, 50))
    assert cross_validated_mia(known, unseen, loss).item() == 1
    assert cross_validated_mia(unseen, known, loss).item() == 1  # it sees both directions


def test_models_that_answer_with_numbers_are_attacked_by_their_errors() -> None:
    sets = [
        Signals.from_errors(
            torch.linspace(low, low + 0.1, 20)[:, None], samples=[f"{name}{i}" for i in range(20)]
        )
        for name, low in (("f", 0.0), ("r", 0.0), ("t", 1.0))
    ]
    assert svc_mia(sets[0], sets[1], sets[2], absolute_error).item() == 0


def test_wrong_sets_are_refused_in_one_sentence() -> None:
    with pytest.raises(ExpungeError, match="'retain 0' among the forget and the retain rows"):
        svc_mia(RETAIN, RETAIN, TEST, confidence)
    with pytest.raises(ExpungeError, match="models model on forget rows and other on retain"):
        other = Predictions.of(*_named(RETAIN), model="other", samples=RETAIN.samples)
        logistic_mia(HALF, other, TEST, entropy)
    with pytest.raises(ExpungeError, match="penalty C = 0"):
        svc_mia(HALF, RETAIN, TEST, confidence, penalty=0)
    with pytest.raises(ExpungeError, match="at least 10 rows a side"):
        cross_validated_mia(HALF.at(range(9)), TEST, loss)
    with pytest.raises(ExpungeError, match="NaN or infinite"):
        cross_validated_mia(sure_of("f", [0.0] * 10), TEST, loss)
