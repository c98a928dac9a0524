"""Causal tracing: what putting a state back can and cannot bring back."""

from functools import cache
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.causal_tracing import KINDS, EffectMap, Fact, causal_trace, facts_of
from language_facts import FAMILY, NAMES, problem, tokens


def told(samples: TensorSamples) -> TensorSamples:
    """The rows with the position of the person's name."""
    names = torch.tensor([tokens(name)[0] for name in NAMES])
    starts = torch.isin(samples.columns["input_ids"], names).int().argmax(1)
    return samples.with_column("subject", torch.stack([starts, starts + 1], 1))


@cache
def facts() -> list[Fact]:
    """Those about two people."""
    rows = problem().data[Role.FORGET]
    assert isinstance(rows, TensorSamples)
    return facts_of(told(rows))


@cache
def traced(noise: float = 3.0, window: int | None = None) -> EffectMap:
    return causal_trace(
        FAMILY, problem().model, facts(), Run(), noise=noise, copies=4, window=window
    )


def test_facts_are_read_from_rows() -> None:
    first = facts()[0]
    assert first.prompt.tolist() == tokens("where was ada born ?")
    assert first.subject == (2, 3)
    answer = problem().data[Role.FORGET].batch(torch.tensor([0]))
    assert first.answer == int(answer["input_ids"][0, 5])


def test_noise_on_the_subject_costs_the_answer_and_the_last_state_has_it_all_back() -> None:
    found = traced()
    assert found.facts == 6 and found.wrong == 0
    assert found.clean > 0.9
    assert found.corrupted < found.clean - 0.2
    whole = found.at("state", "last")[-1]
    assert float(whole) == pytest.approx(found.clean - found.corrupted, abs=1e-5)


def test_no_noise_no_effect() -> None:
    found = traced(0.0)
    assert found.corrupted == pytest.approx(found.clean, abs=1e-6)
    assert float(found.effects.nan_to_num().abs().max()) < 1e-5


def test_after_the_last_attention_a_subjects_token_is_read_by_nobody() -> None:
    found = traced()
    for kind in ("state", "mlp"):
        assert abs(float(found.at(kind)[-1])) < 1e-6
    assert float(found.at("state")[0]) > 0.1


def test_places_that_no_prompt_has_are_not_numbers() -> None:
    found = traced()
    assert bool(found.at("state", "first subject").isnan().all())
    assert bool(found.at("state", "further").isfinite().all())


def test_all_attentions_put_back_at_the_last_token_say_what_they_read() -> None:
    """The last token itself is clean: with every attention put back, so is all it computes."""
    found = traced(window=2)
    want = found.clean - found.corrupted
    assert float(found.at("attention", "last")[1]) == pytest.approx(want, abs=1e-5)


def test_the_same_run_gives_the_same_map_and_the_model_stays() -> None:
    model = problem().model
    before = [p.clone() for p in model.parameters()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    again = causal_trace(FAMILY, model, facts(), Run(), copies=4)
    assert torch.equal(again.effects.nan_to_num(), traced().effects.nan_to_num())
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert [len(module._forward_hooks) for module in model.modules()] == hooks


def test_another_architecture_is_traced() -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=20, n_embd=16, n_layer=3, n_head=2, n_positions=16)
    model: Any = GPT2LMHeadModel(config).eval()
    prompt = torch.tensor([3, 4, 5, 6, 7, 8])
    answer = int(model(input_ids=prompt[None]).logits[0, -1].argmax())
    found = causal_trace(FAMILY, model, [Fact(prompt, (0, 3), answer)], Run(), noise=30.0)
    assert found.effects.shape == (len(KINDS), 3, 6)
    assert bool(found.effects.isfinite().all())
    assert found.largest("mlp", 2) == tuple(sorted(found.at("mlp").topk(2).indices.tolist()))


def test_what_cannot_be_traced_is_said() -> None:
    rows = problem().data[Role.FORGET]
    assert isinstance(rows, TensorSamples)
    tokens = {name: rows.columns[name] for name in ("input_ids", "labels")}
    with pytest.raises(ExpungeError, match="The field 'subject' of each row is needed"):
        facts_of(TensorSamples(rows.ids, rows.subjects, tokens))
    outside = rows.with_column("subject", torch.tensor([[3, 30]]).expand(len(rows), 2))
    with pytest.raises(ExpungeError, match="a span inside the prompt"):
        facts_of(outside)
    wrong = [Fact(facts()[0].prompt, (2, 3), 0)]
    with pytest.raises(ExpungeError, match="none of the 1 facts right"):
        causal_trace(FAMILY, problem().model, wrong, Run())
    with pytest.raises(ExpungeError, match="at least 1 draw"):
        causal_trace(FAMILY, problem().model, wrong, Run(), copies=0)
