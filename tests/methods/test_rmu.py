"""RMU: what it reads, what it moves, and where it leads the states."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from expunge.changes.delta import Delta
from expunge.data.samples import batches
from expunge.descent.layer_selections import MlpOutputs, Mlps
from expunge.descent.representation_terms import KeptStates, Misdirection, steered_layer
from expunge.descent.until import Until
from expunge.errors import ExpungeError
from expunge.families.decoder import decoder_layers, written_with
from expunge.methods.protocol import unlearn
from expunge.methods.rmu import LENGTH, RMU
from expunge.recipe import Role
from expunge.run import Run
from language_facts import FAMILY, problem, setting_of, shares


def test_the_layer_is_the_papers_in_proportion_to_the_depth() -> None:
    assert [steered_layer(depth, None) for depth in (32, 16, 8, 4, 2, 1)] == [7, 4, 2, 1, 0, 0]
    assert steered_layer(8, 5) == 5
    with pytest.raises(ExpungeError, match="from 0 to 7"):
        steered_layer(8, 8)


def test_tapped_states_are_those_of_the_layer_in_the_order_of_the_answers() -> None:
    given = problem()
    model: Any = given.model
    batch = given.data[Role.FORGET].batch(torch.tensor([4, 0, 2]))
    with torch.no_grad():
        found = FAMILY.tapped(model, batch, "0")
        whole = model(input_ids=batch["input_ids"], output_hidden_states=True).hidden_states[1]
    places = torch.arange(batch["labels"].shape[1] - 1).expand(3, -1)
    at = batch["labels"][:, 1:] != -100
    want = torch.cat([whole[row, places[row][at[row]]] for row in range(3)])
    assert torch.allclose(found.values, want, atol=1e-5)
    assert torch.equal(found.tokens, FAMILY.answers(model, batch).tokens)


def test_at_the_start_the_states_are_kept_and_the_misdirection_is_its_formula() -> None:
    given = problem()
    setting, samples = setting_of(given), given.data[Role.FORGET]
    [batch] = batches(samples, 100)
    kept = KeptStates(1)
    assert kept.value(setting, batch, kept.start(setting, samples)).item() < 1e-10
    term = Misdirection(1, coefficient=5.0)
    target = term.start(setting, samples)
    assert target.norm().item() == pytest.approx(5.0)
    assert float(target.min()) >= 0
    assert torch.equal(target, term.start(setting, samples))
    states = FAMILY.tapped(given.model, batch, "1").values
    want = sum((h - target).square().mean().item() for h in states) / len(states)
    assert term.value(setting, batch, target).item() == pytest.approx(want, rel=1e-5)


def test_only_the_listed_matrices_move_and_the_states_go_astray() -> None:
    given = problem()
    method = RMU(layer=1, moving=1, coefficient=20.0, steps=60, learning_rate=1e-2)
    [change] = unlearn(method, given, Run()).changes
    assert isinstance(change, Delta)
    moved = {name for name in change.entries if bool(change.dense(name).any())}
    assert moved == {"model.layers.1.mlp.down_proj.weight"}
    after, terms = change.applied_to(given.model), {}
    for role, term in ((Role.FORGET, Misdirection(1, 20.0)), (Role.RETAIN, KeptStates(1))):
        samples = given.data[role]
        [batch] = batches(samples, 100)
        prepared = term.start(setting_of(given), samples)
        terms[role] = [
            term.value(setting_of(other), batch, prepared).item()
            for other in (given, replace(given, model=after))
        ]
    assert terms[Role.FORGET][1] < 0.7 * terms[Role.FORGET][0]
    assert terms[Role.RETAIN][1] < terms[Role.FORGET][0] - terms[Role.FORGET][1]


def gpt2() -> nn.Module:
    model: nn.Module = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2))
    return model


def mixtral() -> nn.Module:
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 2}
    model: nn.Module = MixtralForCausalLM(MixtralConfig(vocab_size=30, **small, **heads))
    return model


def opt() -> nn.Module:
    small = {"hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    model: nn.Module = OPTForCausalLM(OPTConfig(vocab_size=30, word_embed_proj_dim=16, **small))
    return model


def test_the_matrix_is_found_in_another_architecture_or_said_to_be_missing() -> None:
    model = gpt2()
    [first, _] = decoder_layers(FAMILY, model)
    assert written_with(model, first) == "transformer.h.0.mlp.c_proj.weight"
    experts = mixtral()
    with pytest.raises(ExpungeError, match="mixture of experts"):
        written_with(experts, decoder_layers(FAMILY, experts)[0])
    with pytest.raises(ExpungeError, match="one that is called mlp"):
        decoder_layers(FAMILY, opt())


def test_layers_that_are_not_there_are_refused() -> None:
    given = problem()
    for parameters in (MlpOutputs((0, 2)), Mlps((-1,)), Mlps(())):
        with pytest.raises(ExpungeError, match="from 0 to 1"):
            parameters.select(given.model, given, Run())
    with pytest.raises(ExpungeError, match="at least 1"):
        RMU(moving=0)


def test_the_preset_measures_its_target_in_the_model_s_own_states() -> None:
    given = problem()
    method = RMU().for_problem(given, Run())
    [batch] = batches(given.data[Role.FORGET], 100)
    tap = list(FAMILY.anatomy(given.model).taps)[steered_layer(2, None)]
    states = FAMILY.tapped(given.model, batch, tap).values
    length = float(torch.linalg.vector_norm(states.detach(), dim=1).mean())
    assert method.coefficient == pytest.approx(LENGTH * length, rel=1e-4)
    assert method.until is not None and method.until.kept is not None
    lenient = replace(RMU(layer=1).for_problem(given, Run()), until=Until(0.2, 0.8))
    forget, retain = shares(given, unlearn(lenient, given, Run()).applied_to(given.model))
    assert forget <= 0.2
    assert retain >= 0.8
