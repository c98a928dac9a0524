"""The numbers of language benchmarks on cases that can be worked out by hand."""

import math
from itertools import product

import pytest
import torch

from expunge.errors import ExpungeError
from expunge.families.abilities import UnitLosses
from expunge.signals.forget_quality import ALIKE, forget_quality
from expunge.signals.lume import (
    FORMS,
    TASKS,
    exact_match,
    final_score,
    membership_points,
    task_aggregate,
)
from expunge.signals.memorisation import exact_memorisation, extraction_strength
from expunge.signals.multiple_choice import LETTERS, choice_accuracy, choice_prompt
from expunge.signals.muse import cut, few_shot, knowmem, verbmem
from expunge.signals.probability import answer_probability, option_probability
from expunge.signals.rouge import rouge_l
from expunge.signals.text_membership import (
    RETRAINED_AUC,
    loss_score,
    membership_auc,
    min_k_score,
    privleak,
    zlib_score,
)
from expunge.signals.truth_ratio import (
    extent_of_knowledge,
    forget_truth_ratio,
    retain_truth_ratio,
    truth_ratios,
)
from expunge.signals.utility import MEASURES, SETS, harmonic_mean, model_utility

VOCABULARY = 50


def units(*rows: list[float]) -> UnitLosses:
    width = max(map(len, rows))
    values = torch.tensor([row + [7.0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return UnitLosses(values, mask)


# ---- probability and truth ratio ----


def test_a_uniform_model_finds_wrong_answers_as_likely_as_the_true_one() -> None:
    losses = torch.full((4,), math.log(VOCABULARY))
    ratios = truth_ratios(losses, losses.unsqueeze(1).expand(4, 5))
    assert ratios.tolist() == pytest.approx([1.0] * 4)
    assert float(forget_truth_ratio(ratios)) == pytest.approx(1)
    assert float(retain_truth_ratio(ratios)) == pytest.approx(0, abs=1e-6)
    assert float(extent_of_knowledge(ratios)) == pytest.approx(0.5)
    assert answer_probability(losses).tolist() == pytest.approx([1 / VOCABULARY] * 4)
    among_four = option_probability(losses, losses.unsqueeze(1).expand(4, 3))
    assert among_four.tolist() == pytest.approx([0.25] * 4)


def test_the_truth_ratio_is_the_geometric_mean_of_the_wrong_probabilities() -> None:
    right = torch.tensor([0.5]).log().neg()
    wrong = torch.tensor([[0.1, 0.4]]).log().neg()
    [ratio] = truth_ratios(right, wrong).tolist()
    assert ratio == pytest.approx(math.sqrt(0.1 * 0.4) / 0.5)
    assert ratio != pytest.approx((0.1 + 0.4) / 2 / 0.5)  # what the paper writes
    assert option_probability(right, wrong).tolist() == pytest.approx([0.5])


def test_over_forgetting_lowers_the_forget_aggregate_as_knowing_does() -> None:
    known, shunned = torch.tensor([0.25]), torch.tensor([4.0])
    assert forget_truth_ratio(known) == forget_truth_ratio(shunned) == 0.25
    assert float(retain_truth_ratio(known)) == 0.75
    assert float(retain_truth_ratio(shunned)) == 0


def test_wrong_answers_must_belong_to_the_right_ones() -> None:
    with pytest.raises(ExpungeError, match="at least one wrong"):
        truth_ratios(torch.zeros(3), torch.zeros(3, 0))
    with pytest.raises(ExpungeError, match=r"\(2, 5\)"):
        option_probability(torch.zeros(3), torch.zeros(2, 5))


# ---- forget quality ----


def test_ratios_and_their_inverses_give_the_same_forget_quality() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.randn(40, generator=draw).exp() for _ in range(2))
    assert forget_quality(one, other + 1) == forget_quality(1 / one, 1 / (other + 1))


def test_forget_quality_tells_apart_what_differs_and_nothing_else() -> None:
    draw = torch.Generator().manual_seed(1)
    one, other = (torch.randn(200, generator=draw) for _ in range(2))
    assert forget_quality(one, one).p == 1
    assert forget_quality(one, other).p > ALIKE
    assert forget_quality(one, other + 2).log10_p < -20


def test_the_logarithm_stays_finite_where_the_p_value_is_no_float() -> None:
    many = torch.arange(3000.0)
    found = forget_quality(many, many + 3000)
    assert found.distance == 1
    # two samples apart: the first term is 2 exp(-2 n/2), and the exact value is below it
    assert -3000 / math.log(10) - 1 < found.log10_p < -300


def test_forget_quality_refuses_what_is_no_number() -> None:
    with pytest.raises(ExpungeError, match="without NaN"):
        forget_quality(torch.tensor([1.0, math.nan]), torch.ones(3))


# ---- utility ----


def nine(value: float = 0.5) -> dict[str, dict[str, float]]:
    return {name: dict.fromkeys(MEASURES, value) for name in SETS}


def test_utility_is_the_harmonic_mean_of_nine_and_zero_where_one_is() -> None:
    assert model_utility(nine()) == pytest.approx(0.5)
    mixed = nine()
    mixed["retain"]["ROUGE"] = 0.25
    assert model_utility(mixed) == pytest.approx(9 / (8 * 2 + 4))
    mixed["world facts"]["truth ratio"] = 0.0
    assert model_utility(mixed) == 0
    del mixed["real authors"]["probability"]
    with pytest.raises(ExpungeError, match="probability on real authors"):
        model_utility(mixed)
    with pytest.raises(ExpungeError, match="at least one"):
        harmonic_mean([])


# ---- ROUGE-L ----


def test_rouge_on_texts_worked_out_by_hand() -> None:
    found = rouge_l(
        ["the cat sat on a mat", "nothing alike", ""], ["the cat on the mat"] * 3, stem=False
    )
    # common in order: the cat on mat = 4 of 5 expected and 6 given words
    assert found.recall.tolist() == pytest.approx([4 / 5, 0, 0])
    assert found.f1.tolist() == pytest.approx([2 * (4 / 5) * (4 / 6) / (4 / 5 + 4 / 6), 0, 0])


def test_the_stemmer_takes_forms_of_a_word_for_one() -> None:
    given, expected = ["He wrote novels."], ["he wrote a novel"]
    assert float(rouge_l(given, expected, stem=True).recall) == pytest.approx(3 / 4)
    assert float(rouge_l(given, expected, stem=False).recall) == pytest.approx(2 / 4)
    with pytest.raises(ExpungeError, match="as many of"):
        rouge_l(["a"], ["a", "b"], stem=True)


# ---- memorisation ----


def test_a_perfect_memoriser_has_strength_one() -> None:
    assert extraction_strength(units([1, 1, 1], [1, 1])).tolist() == [1, 1]
    assert exact_memorisation(units([1, 1, 1], [1, 1])).tolist() == [1, 1]


def test_strength_counts_the_tokens_that_have_to_be_given() -> None:
    hits = units([0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 0], [0], [1, 0, 1])
    assert extraction_strength(hits).tolist() == pytest.approx([3 / 4, 2 / 4, 0, 0, 1 / 3])
    assert exact_memorisation(hits).tolist() == pytest.approx([3 / 4, 3 / 4, 3 / 4, 0, 2 / 3])


# ---- membership ----


def test_min_k_reads_the_least_likely_tokens() -> None:
    losses = units([1.0, 5.0, 2.0, 4.0, 3.0], [2.0])
    assert min_k_score(losses, 0.4).tolist() == [-4.5, -2.0]
    assert min_k_score(losses, 1.0).tolist() == loss_score(losses).tolist() == [-3.0, -2.0]
    with pytest.raises(ExpungeError, match="share 0"):
        min_k_score(losses, 0.0)


def test_a_text_that_zlib_finds_hard_is_a_likelier_member_at_the_same_loss() -> None:
    repeated, varied = "aaaaaaaaaaaaaaaaaaaaaaaa", "the quick brown fox jumps"
    easy, hard = zlib_score(units([1.0], [1.0]), [repeated, varied]).tolist()
    assert easy < hard < 0
    with pytest.raises(ExpungeError, match="1 texts for 2 rows"):
        zlib_score(units([1.0], [1.0]), ["a"])


def test_privleak_of_the_retrained_model_is_zero_and_of_the_original_minus_100() -> None:
    draw = torch.Generator().manual_seed(0)
    holdout = torch.randn(50, generator=draw) - 2
    alike = torch.randn(50, generator=draw) - 2
    retrained = membership_auc(holdout, alike)
    assert privleak(alike, holdout, retrained) == 0
    recognised, shunned = alike + 100, alike - 100
    assert privleak(recognised, holdout, retrained) == -100
    assert privleak(shunned, holdout, retrained) == pytest.approx(100 * (1 / retrained - 1))
    assert privleak(shunned, holdout, RETRAINED_AUC["news"]) == pytest.approx(109.56, abs=0.01)


# ---- MUSE, LUME, WMDP ----


def test_knowmem_cuts_at_a_question_of_the_models_own() -> None:
    prompt = few_shot("Who?", [("Where?", "There.")])
    assert prompt == "Question: Where?\nAnswer: There.\n\nQuestion: Who?\nAnswer: "
    assert cut(" Ann Lee\n\nQuestion: Why?\nAnswer: So.") == "Ann Lee"
    assert knowmem(["Ann Lee\n\nQuestion: Why?"], ["ann lee"]).tolist() == [1]
    assert verbmem(["he wrote novels"], ["he wrote novel"]).tolist() == pytest.approx([2 / 3])


def twelve(forget: float, retain: float) -> float:
    keys = list(product(TASKS, FORMS))
    return task_aggregate(dict.fromkeys(keys, forget), dict.fromkeys(keys, retain))


def test_the_final_score_of_semeval_is_the_one_that_was_reported() -> None:
    assert final_score(0.973, 0.741, 0.24) == pytest.approx(0.651, abs=0.0005)
    assert twelve(0.0, 1.0) == 1
    assert twelve(1.0, 1.0) == 0
    assert twelve(0.5, 0.25) == pytest.approx(12 / (6 / 0.5 + 6 / 0.25))
    assert membership_points(0.5) == 1
    assert membership_points(0.0) == membership_points(1.0) == 0
    with pytest.raises(ExpungeError, match="lacks creative"):
        task_aggregate({}, {})


def test_exact_match_knows_no_case() -> None:
    assert exact_match([" Ann@Mail.org ", "no"], ["ann@mail.org", "yes"]).tolist() == [1, 0]


def test_choices_of_a_model_that_always_says_b_are_at_a_quarter() -> None:
    right = torch.arange(4000) % 4
    letters = torch.tensor([[-2.0, -1.0, -3.0, -4.0]]).expand(4000, 4)
    found = choice_accuracy(letters, right)
    assert found.accuracy == 0.25
    assert found.interval.low < 0.25 < found.interval.high
    assert found.interval.high - found.interval.low < 0.03
    sure = torch.nn.functional.one_hot(right, 4).double()
    assert choice_accuracy(sure, right).accuracy == 1
    prompt = choice_prompt("biology", "What?", ["w", "x", "y", "z"])
    assert prompt.endswith("A. w\nB. x\nC. y\nD. z\nAnswer:")
    assert len(LETTERS) == 4
    with pytest.raises(ExpungeError, match="3 choices"):
        choice_prompt("biology", "What?", ["w", "x", "y"])
    with pytest.raises(ExpungeError, match="at least one question"):
        choice_accuracy(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
