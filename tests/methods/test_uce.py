"""UCE: the closed form, what stands against what, and what comes of it."""

from dataclasses import replace

import pytest
import torch
from tests.methods.known_drawings import FAMILY, FISH, SENTENCES, TOKENS, model, problem, seen
from torch import Tensor

from expunge.changes.delta import Delta
from expunge.changes.weights import parameters_of
from expunge.descent.spoken import spoken
from expunge.errors import ExpungeError
from expunge.methods.presets import AtPreset, preset_of, presets_of
from expunge.methods.protocol import missing, unlearn
from expunge.methods.uce import UCE, AllTokens, LastToken
from expunge.run import Run

KEY = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"


def states() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A matrix of the model, and states of its own prompts: fish, hearts in their place, trees."""
    network = model()
    with torch.no_grad():
        fish, hearts, trees = (
            FAMILY.states(network, FAMILY.conditions([s for s in SENTENCES if word in s]))
            for word in ("fish", "heart", "tree")
        )
    return parameters_of(network)[KEY], fish[:, 2], hearts[:, 2], trees[:, 2]


def test_an_anchor_of_the_same_states_returns_the_matrix_in_every_bit() -> None:
    matrix, fish, _, trees = states()
    assert torch.equal(UCE().edited(matrix, fish, fish, trees), matrix)


def test_the_published_formula() -> None:
    matrix, fish, hearts, trees = (t.double() for t in states())
    method = UCE(erase=0.7, preserve=0.3, keep=0.5)
    left = 0.5 * matrix + 0.7 * matrix @ hearts.T @ fish + 0.3 * matrix @ trees.T @ trees
    right = 0.5 * torch.eye(matrix.shape[1]).double() + 0.7 * fish.T @ fish
    right += 0.3 * trees.T @ trees
    expected = left @ torch.linalg.inv(right)
    torch.testing.assert_close(method.edited(matrix, fish, hearts, trees), expected)


def test_weights_say_what_is_met() -> None:
    matrix, fish, hearts, trees = states()
    strong = UCE(erase=1e4, preserve=1e4, keep=1e-3).edited(matrix, fish, hearts, trees)
    torch.testing.assert_close(strong @ fish.T, matrix @ hearts.T, rtol=0, atol=0.05)
    torch.testing.assert_close(strong @ trees.T, matrix @ trees.T, rtol=0, atol=0.05)
    loose = UCE(erase=1e4, preserve=0, keep=1e-3).edited(matrix, fish, hearts, trees)
    went = (matrix @ trees.T - loose @ trees.T).norm()
    held = (matrix @ trees.T - strong @ trees.T).norm()
    assert float(went.detach()) > 5 * float(held.detach())


def test_which_tokens_stand_against_which() -> None:
    told = FAMILY.conditions(["a fish in noto style", "fish style"])
    last = LastToken().pairs(TOKENS, told, "fish", "heart")
    assert [(a.tolist(), b.tolist()) for a, b in last] == [([2], [2]), ([1], [1])]
    assert LastToken().kept(TOKENS, told)[0].tolist() == [5]
    every = AllTokens().pairs(TOKENS, told, "fish", "heart")
    assert [a.tolist() for a, _ in every] == [[*range(2, 10)], [*range(1, 10)]]
    longer = AllTokens().pairs(TOKENS, told, "fish", "tree heart")
    assert longer[0][0].tolist() == [*range(2, 9)] and longer[0][1].tolist() == [*range(3, 10)]
    shorter = AllTokens().pairs(TOKENS, told[:1], "noto", "")
    assert shorter[0][0].tolist() == [*range(4, 10)] and shorter[0][1].tolist() == [*range(3, 9)]


def test_a_prompt_without_the_words_is_told_apart() -> None:
    with pytest.raises(ExpungeError, match="does not speak of 'fish'"):
        TOKENS.ends(FAMILY.conditions(["a tree"]), "fish")


def test_keys_and_values_of_the_attention_to_the_text_change_and_nothing_else() -> None:
    [change] = unlearn(UCE(), problem(), Run()).changes
    assert isinstance(change, Delta)
    changed = {name for name in change.entries if bool(change.dense(name).any())}
    readers = {n for n in parameters_of(model()) if ".attn2.to_k." in n or ".attn2.to_v." in n}
    assert changed == readers and len(readers) == 8


def test_told_the_target_it_sees_what_it_saw_told_the_anchor() -> None:
    at, texts = problem(), [*SENTENCES]
    after = unlearn(UCE(10.0, 1.0, 0.1, AllTokens()), at, Run()).applied_to(at.model)
    before, found = seen(at.model, texts), seen(after, texts)
    anchor = seen(at.model, [text.replace("fish", "heart") for text in texts])
    target = torch.tensor(["fish" in text for text in texts])
    to_go = (before - anchor)[target].square().mean()
    assert float((found - anchor)[target].square().mean()) < 0.3 * float(to_go)
    assert float((found - before)[~target].square().mean()) < 0.3 * float(to_go)


def test_the_preset_reads_what_comes_after_the_words() -> None:
    at, texts = problem(), [*SENTENCES]
    target = torch.tensor(["fish" in text for text in texts])
    anchor = seen(at.model, [text.replace("fish", "heart") for text in texts])
    away = {}
    for method in (UCE(), AtPreset.of(UCE())):
        after = unlearn(method, at, Run()).applied_to(at.model)
        away[method] = float((seen(after, texts) - anchor)[target].square().mean())
    assert preset_of(UCE(erase=2.0), at) == UCE(erase=2.0, aligned=AllTokens())
    assert away[AtPreset.of(UCE())] < 0.8 * away[UCE()]
    used = presets_of(unlearn(AtPreset.of(UCE()), at, Run()).changes)
    assert used is not None and used["aligned"] == {"name": "all-tokens"}


def test_other_prompts_are_those_that_do_not_speak_of_it() -> None:
    found = spoken(problem())
    assert len(found.target) == 2 and len(found.others) == 4
    assert missing(UCE(), replace(problem(), data={}))


def test_what_it_refuses() -> None:
    with pytest.raises(ExpungeError, match="names no anchor"):
        unlearn(UCE(), problem(replace(FISH, anchor=None)), Run())
    with pytest.raises(ExpungeError, match="the last above 0"):
        UCE(keep=0.0)
    assert len(unlearn(UCE(), problem(replace(FISH, anchor="")), Run()).changes) == 1
