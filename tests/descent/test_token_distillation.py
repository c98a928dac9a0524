"""KL to the reference, UNDIAL and CE-U: targets at answer tokens alone, and bounded gradients."""

import gc
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from expunge.data.samples import Batch, TensorSamples
from expunge.descent.forget_terms import Ascent
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player, Setting, StepGradients, Term
from expunge.descent.sequence_terms import NegativePreference
from expunge.descent.token_distillation import ExcludedTarget, LoweredTarget, ReferenceDivergence
from expunge.errors import ExpungeError
from expunge.families.language import IGNORED
from expunge.recipe import Role
from expunge.run import Run
from language_facts import problem, setting_of, slope, untrained

FORGET = problem().data[Role.FORGET]
ALL = FORGET.batch(torch.arange(len(FORGET)))


def elsewhere() -> Setting:
    """A live model that has left its reference."""
    return replace(setting_of(problem()), modules={"model": untrained(3)})


def logits_by_hand(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, list[int]]:
    """Logits (n, V) and tokens (n,) of the answers, and the length of each, without padding."""
    logits, tokens, lengths = [], [], []
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        at = (labels != IGNORED).nonzero().reshape(-1)
        logits.append(model(input_ids=ids[: int(at[-1]) + 1].unsqueeze(0)).logits[0, at - 1])
        tokens.append(ids[at])
        lengths.append(len(at))
    return torch.cat(logits), torch.cat(tokens), lengths


def value_of(term: Term, setting: Setting, batch: Batch = ALL) -> float:
    return float(term.value(setting, batch, term.start(setting, FORGET)).detach())


def test_the_divergence_of_the_reference_from_itself_is_zero_without_a_slope() -> None:
    setting, term = setting_of(problem()), ReferenceDivergence()
    value = term.value(setting, ALL, term.start(setting, FORGET))
    assert abs(float(value.detach())) < 1e-6
    assert float(slope(value, setting.model).abs().max()) < 1e-6
    away = elsewhere()
    assert value_of(term, away) > 1


def test_from_cached_states_the_divergence_is_that_of_the_reference_beside_the_model() -> None:
    setting, batch = elsewhere(), FORGET.batch(torch.tensor([3, 0, 5]))
    now, _, _ = logits_by_hand(setting.model, batch)
    then, _, _ = logits_by_hand(problem().model, batch)
    p = then.softmax(1)
    expected = (p * (then.log_softmax(1) - now.log_softmax(1))).sum(1).mean()
    found = value_of(ReferenceDivergence(), setting, batch)
    assert found == pytest.approx(float(expected.detach()), rel=1e-6)


def test_undial_is_the_cross_entropy_with_the_lowered_logit_at_answer_tokens_alone() -> None:
    setting, batch = elsewhere(), FORGET.batch(torch.tensor([2, 4]))
    now, tokens, _ = logits_by_hand(setting.model, batch)
    then, _, _ = logits_by_hand(problem().model, batch)
    target = (then - 7 * F.one_hot(tokens, then.shape[1])).softmax(1)
    expected = -(target * now.log_softmax(1)).sum(1).mean()
    found = value_of(LoweredTarget(7.0), setting, batch)
    assert found == pytest.approx(float(expected.detach()), rel=1e-6)
    ids, labels = batch["input_ids"], batch["labels"]
    wider = {
        **batch,
        "input_ids": torch.cat([ids.masked_fill(ids == 0, 7), torch.full((2, 9), 5)], 1),
        "labels": F.pad(labels, (0, 9), value=IGNORED),
    }
    assert value_of(LoweredTarget(7.0), setting, wider) == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_ceu_leaves_out_first_tokens_unless_nothing_is_left_of_an_answer(skip: int) -> None:
    ids = torch.tensor([[5, 6, 7, 8, 1], [5, 9, 0, 0, 0]])
    labels = torch.tensor([[IGNORED, IGNORED, 7, 8, 1], [IGNORED, 9, *[IGNORED] * 3]])
    samples = TensorSamples(["a", "b"], ["a", "b"], {"input_ids": ids, "labels": labels})
    setting, batch = elsewhere(), samples.batch(torch.arange(2))
    now, tokens, lengths = logits_by_hand(setting.model, batch)
    assert lengths == [3, 1]
    target = now.scatter(1, tokens.unsqueeze(1), -math.inf).softmax(1)
    lost = -(target * now.log_softmax(1).clamp(min=-100)).sum(1)
    counted = [*range(skip, 3), 3]  # the answer of one token counts in any case
    found = float(ExcludedTarget(skip).value(setting, batch, None).detach())
    assert found == pytest.approx(float(lost[counted].mean().detach()), rel=1e-6)


def test_no_token_to_leave_out_below_zero() -> None:
    with pytest.raises(ExpungeError, match="0 or more"):
        ExcludedTarget(-1)


@dataclass(frozen=True)
class Norms:
    """Notes the norm of every gradient."""

    seen: list[float] = field(default_factory=list)

    def gradients(self, at: StepGradients) -> list[Tensor]:
        found = at.total()
        self.seen.append(float(torch.stack([g.norm() for g in found]).norm()))
        return found


def norms(term: Term) -> tuple[list[float], nn.Module]:
    norms = Norms()
    player = Player(forget=term, optimiser=AdamW(1e-3))
    descent = Descent(player, length=Steps(60), batch_size=6, transform=norms)
    return norms.seen, descent.minimise(problem(), Run()).model


def test_gradients_of_ceu_and_undial_stay_bounded_where_those_of_ascent_do_not() -> None:
    bounded: list[Term] = [ExcludedTarget(0), LoweredTarget()]
    for term in bounded:
        seen, _ = norms(term)
        assert max(seen) < 10 * seen[0]
    seen, _ = norms(Ascent())
    assert max(seen) > 10 * seen[0]


def test_after_ceu_the_true_tokens_are_improbable() -> None:
    _, model = norms(ExcludedTarget(0))
    logits, tokens, _ = logits_by_hand(model, ALL)
    p = logits.softmax(1).gather(1, tokens.unsqueeze(1))
    assert float(p.mean().detach()) < 1e-2


def test_the_reference_is_gone_when_the_steps_begin() -> None:
    def alive() -> int:
        gc.collect()
        return sum(type(one) is LlamaForCausalLM for one in gc.get_objects())

    terms: Mapping[str, Term] = {"forget": NegativePreference(), "retain": ReferenceDivergence()}
    descent = Descent(Player(**terms), length=Steps(2), batch_size=4)  # type: ignore[arg-type]
    given, seen = problem(), []
    before = alive()
    descent.minimise(given, Run(), each=lambda step, model: seen.append(alive()))
    assert seen == [before + 1] * 2  # the model that moves
