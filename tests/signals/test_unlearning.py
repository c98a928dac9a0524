"""Facts about unlearning accuracy, the tug of war and NoMUS, with the published NoMUS table."""

from dataclasses import replace

import pytest
import torch

from expunge.errors import ExpungeError
from expunge.signals import (
    LOSS_MIA,
    RUN_TIME,
    UNLEARNING_ACCURACY,
    Accuracies,
    Signals,
    nomus,
    tug_of_war,
    unlearning_accuracy,
)

ORACLE = Accuracies(0.7, 0.95, 0.9)


def test_unlearning_accuracy_counts_the_wrong_answers() -> None:
    logits = torch.eye(3)[torch.tensor([0, 1, 1, 1])]
    found = Signals.from_predictions(logits, torch.tensor([0, 1, 2, 0]))
    assert unlearning_accuracy(found).tolist() == [0.5]


def test_guessing_among_ten_classes_unlearns_nine_tenths() -> None:
    assert UNLEARNING_ACCURACY.chance(10) == pytest.approx(0.9)
    assert LOSS_MIA.chance(10) == 0.5
    assert RUN_TIME.chance(10) is None


def test_the_tug_of_war_is_a_product_over_three_sets() -> None:
    found = Accuracies(0.9, 1.0, 0.8)
    assert tug_of_war(found, ORACLE) == pytest.approx(0.8 * 0.95 * 0.9)
    assert tug_of_war(ORACLE, found) == tug_of_war(found, ORACLE)
    assert tug_of_war(ORACLE, ORACLE) == 1


def test_tow_mia_takes_the_attack_in_place_of_the_forget_accuracy() -> None:
    found, oracle = replace(ORACLE, forget=0.2), replace(ORACLE, forget=0.6)
    assert tug_of_war(found, oracle) == pytest.approx(0.6)


def test_percentages_are_refused() -> None:
    with pytest.raises(ExpungeError, match=r"forget rows is 97\.5; a share from 0 to 1"):
        Accuracies(97.5, 1.0, 0.9)
    with pytest.raises(ExpungeError, match=r"test accuracy is 59\.5"):
        nomus(59.51, 0.7)
    with pytest.raises(ExpungeError, match="attack's accuracy is nan"):
        nomus(0.5, float("nan"))


# Choi, Na (2023): original, retrained, fine-tune, CF-3, NegGrad, UNSIR-1, UNSIR-2, SCRUB, advanced
# NegGrad. Rows: test accuracy; distance of the attack's accuracy from 0.5; NoMUS.
PUBLISHED = {
    "MUFAC": """
        .5951 .4880 .6055 .5900 .4048 .5893 .5925 .5984 .5633
        .2136 .0445 .2129 .2126 .0485 .2089 .1990 .1415 .0953
        .5839 .6995 .5898 .5824 .6539 .5857 .5972 .6577 .6863""",
    "MUCAC, three labels": """
        .8852 .8135 .9147 .9197 .4193 .7087 .9220 .9073 .7607
        .0568 .0436 .0708 .0685 .0356 .0324 .0705 .0478 .0152
        .8858 .8631 .8865 .8913 .6740 .8219 .8905 .9058 .8651""",
    "MUCAC, gender": """
        .9835 .9515 .9849 .9840 .1762 .9481 .9845 .1762 .9147
        .0306 .0154 .0281 .0291 .1289 .0638 .0481 .1329 .0129
        .9611 .9603 .9643 .9629 .4592 .9102 .9441 .4552 .9444""",
    "MUCAC, smiling": """
        .9467 .6518 .9476 .9472 .5549 .8619 .9506 .5549 .9423
        .0346 .0182 .0279 .0294 .0366 .0416 .0271 .468 .0354
        .9387 .8077 .9459 .9442 .7408 .8893 .9482 .3094 .9357""",
    "MUCAC, young": """
        .9089 .8271 .9147 .9118 .1733 .8260 .9021 .8929 .5573
        .0456 .0234 .0426 .0456 .0513 .0229 .0493 .0428 .0139
        .9088 .8901 .9147 .9103 .5353 .8901 .9017 .9036 .7647""",
}


@pytest.mark.parametrize("task", PUBLISHED)
def test_nomus_recomputes_the_published_table(task: str) -> None:
    rows = [list(map(float, row.split())) for row in PUBLISHED[task].strip().splitlines()]
    assert [len(row) for row in rows] == [9, 9, 9]
    for accuracy, deviation, published in zip(*rows, strict=True):
        for attack in (0.5 + deviation, 0.5 - deviation):
            assert nomus(accuracy, attack) == pytest.approx(published, abs=1.0001e-4)


def test_nomus_is_not_largest_for_the_retrained_model() -> None:
    original, retrained = nomus(0.8852, 0.5568), nomus(0.8135, 0.5436)
    assert retrained < original
