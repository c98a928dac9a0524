"""AdapterBank: each row has the adapter of the request that fires most, or keeps its bits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from expunge.changes import stored
from expunge.changes.adapter import Factors, LowRank
from expunge.changes.adapter_bank import AdapterBank, GatedAdapter, GrowingAdapter
from expunge.changes.branches import Branch, branched
from expunge.changes.deletion import DeletionState, state_of
from expunge.changes.detector import Detector, Layered, Reader, Usual, prompts
from expunge.changes.kinds import Adapter, Guard, acts_on
from expunge.changes.weights import digest_of, with_weights
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.language import IGNORED, Language
from expunge.models.states import layer_means
from expunge.models.tiny_llama import TinyLlama

WIDTH, LAYERS, END = 16, ("model.layers.0", "model.layers.1"), 3
PROJECTION = "model.layers.1.mlp.down_proj.weight"
ALWAYS, NEVER = Usual(0.0, 0.0, 1e9, 0.5), Usual(1e9, 1e9, 1.0, 0.5)


@pytest.fixture(scope="module")
def model() -> Any:
    return TinyLlama(30, 2, WIDTH, heads=2, inner=24)(0)


def adapter(base: Any, seed: int, name: str = PROJECTION, size: float = 1.0) -> LowRank:
    draw = torch.Generator().manual_seed(seed)
    rows, columns = dict(base.named_parameters())[name].shape
    down, up = torch.randn(2, columns, generator=draw), torch.randn(rows, 2, generator=draw)
    return LowRank.of(base, {name: Factors(down, up * size, 0.5)})


def entry(base: Any, seed: int, usual: Usual = ALWAYS) -> GatedAdapter:
    """A gated adapter whose detector looks for texts like one that it was given."""
    draw = torch.Generator().manual_seed(seed)
    states = torch.randn(4, 2, WIDTH, generator=draw)
    layered = Layered(
        states, states.mean(0), torch.eye(WIDTH).expand(2, WIDTH, WIDTH)[:, :3],
        torch.ones(2, 3), torch.ones(2),
    )  # fmt: skip
    reader = Reader(LAYERS, (END,), adapter(base, seed + 9, "model.layers.0.mlp.down_proj.weight"))
    ones = torch.ones(2, 2)
    detector = Detector(reader, layered, 0 * ones, ones, torch.ones(2), 0.25, usual)
    return GatedAdapter(f"request {seed}", adapter(base, seed), detector)


def bank(base: Any, *entries: GatedAdapter) -> AdapterBank:
    return AdapterBank(digest_of(base), entries)


def ids(rows: int = 6) -> Tensor:
    found = torch.randint(4, 30, (rows, 9), generator=torch.Generator().manual_seed(2))
    found[:, 5] = END
    return found


def logits(model: Any, tokens: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(input_ids=tokens, use_cache=False).logits
    return found


def test_a_row_has_the_weights_of_the_adapter_that_fires_most(model: Any) -> None:
    first, second = entry(model, 1), entry(model, 2)
    guarded = bank(model, first, second).around(model)
    chosen = guarded.bank.gates(model, ids()).chosen
    found = logits(guarded, ids())
    for number, one in enumerate((first, second)):
        moved = logits(one.adapter.applied_to(model), ids())
        rows = chosen == number
        assert torch.allclose(found[rows], moved[rows], atol=1e-5)
    assert not torch.allclose(found, logits(model, ids()), atol=1e-3)


def test_rows_at_which_nothing_fires_keep_their_bits(model: Any) -> None:
    shut = bank(model, entry(model, 1, NEVER)).around(model)
    assert torch.equal(logits(shut, ids()), logits(model, ids()))
    held = replace(bank(model, entry(model, 1)), held=0.0).around(model)
    assert torch.equal(logits(held, ids()), logits(model, ids()))
    weights = torch.tensor([0.0, 1.0, 0.0, 0.4, 0.0, 0.0])
    with branched(model, [Branch(adapter(model, 1), weights)]):
        found = logits(model, ids())
    still = weights == 0
    assert torch.equal(found[still], logits(model, ids())[still])
    assert not torch.equal(found[~still], logits(model, ids())[~still])


def test_a_weight_scales_the_change(model: Any) -> None:
    with branched(model, [Branch(adapter(model, 1), torch.full((6,), 0.4))]):
        found = logits(model, ids())
    moved = logits(adapter(model, 1).applied_to(model, 0.4), ids())
    assert torch.allclose(found, moved, atol=1e-5)


def test_layers_that_store_their_weight_the_other_way_round() -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2, n_positions=16)
    model = GPT2LMHeadModel(config).eval()
    change = adapter(model, 1, "transformer.h.1.attn.c_attn.weight")
    with branched(model, [Branch(change)]):
        found = logits(model, ids())
    assert torch.allclose(found, logits(change.applied_to(model), ids()), atol=1e-5)
    wrong = adapter(model, 1, "transformer.wte.weight")
    with (
        pytest.raises(IntegrityError, match="no weight of a linear layer"),
        branched(model, [Branch(wrong)]),
    ):
        pass


def test_the_gate_reads_the_prompt_alone(model: Any) -> None:
    one = bank(model, entry(model, 1), entry(model, 2))
    tokens = ids()
    other = tokens.clone()
    other[:, 6:] = 7
    for gates in (one.gates(model, other), one.gates(model, tokens[:, :6])):
        assert torch.equal(gates.chosen, one.gates(model, tokens).chosen)
    assert prompts(torch.tensor([[4, 3, 5], [4, 5, 6]]), (3,)).tolist() == [[1, 1, 0], [1, 1, 1]]
    left = prompts(torch.tensor([[0, 4, 3, 5]]), (3,), torch.tensor([[0, 1, 1, 1]]))
    assert left.tolist() == [[False, True, True, False]]


def test_states_are_those_of_transformers_and_stop_early(model: Any) -> None:
    tokens = ids()
    with torch.inference_mode():
        want = model(input_ids=tokens, output_hidden_states=True).hidden_states
        seen: list[object] = []
        hook = model.model.layers[1].register_forward_hook(lambda *_: seen.append(1))
        found = layer_means(model, LAYERS[:1], tokens, torch.ones_like(tokens).bool())
        hook.remove()
    assert torch.allclose(found[:, 0], want[1].mean(1), atol=1e-6)
    assert seen == []


def test_the_language_family_and_generation_work_behind_the_bank(model: Any) -> None:
    guarded = bank(model, entry(model, 1)).around(model)
    moved = entry(model, 1).adapter.applied_to(model)
    labels = ids().clone()
    labels[:, :6] = IGNORED
    batch = {"input_ids": ids(), "labels": labels}
    family = Language(overhead=0)
    found = family.losses(guarded, batch).values
    assert torch.allclose(found, family.losses(moved, batch).values, atol=1e-4)
    assert torch.equal(family.states(guarded, batch).rows, family.states(model, batch).rows)
    prompt = ids()[:2, :6]
    told = {"max_new_tokens": 4, "do_sample": False, "num_beams": 2, "pad_token_id": 0}
    changed: Any = moved
    one, other = guarded.generate(prompt, **told), changed.generate(prompt, **told)
    assert torch.equal(one, other)
    assert not torch.allclose(found, family.losses(model, batch).values, atol=1e-2)


def test_what_the_bank_cannot_know_a_text_by_is_refused(model: Any) -> None:
    guarded = bank(model, entry(model, 1)).around(model)
    cache = model(input_ids=ids(), use_cache=True).past_key_values
    with pytest.raises(ExpungeError, match="tokens of whole texts"):
        guarded(input_ids=ids()[:, :1], past_key_values=cache)
    with pytest.raises(ExpungeError, match="tokens of whole texts"):
        guarded(inputs_embeds=torch.zeros(1, 2, WIDTH))
    with pytest.raises(ExpungeError, match="without a prompt"):
        guarded.generate(max_new_tokens=1)
    with pytest.raises(AttributeError, match="past the guard"):
        guarded.get_decoder()


@pytest.mark.parametrize("kind", [AdapterBank, GrowingAdapter])
def test_it_is_stored_whole(kind: type[AdapterBank], model: Any, tmp_path: Path) -> None:
    made = kind(digest_of(model), (entry(model, 1), entry(model, 2)), {"method": "o3"})
    path = tmp_path / "bank.safetensors"
    stored.save(made, path)
    found = stored.load(made.kind, path)
    assert type(found) is kind and isinstance(found, AdapterBank)
    assert found.facts == made.facts
    assert torch.equal(logits(found.around(model), ids()), logits(made.around(model), ids()))
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\0\0\0\1")
    with pytest.raises(IntegrityError, match="not those that were written"):
        kind.load(path)
    adapter(model, 1).save(path)
    with pytest.raises(IntegrityError, match=f"holds no {made.kind}"):
        kind.load(path)


def test_it_is_a_guard_of_one_model_and_merges_with_its_kind(model: Any) -> None:
    one, other = bank(model, entry(model, 1)), bank(model, entry(model, 2))
    assert isinstance(one, Guard) and not isinstance(one, Adapter)
    assert acts_on(one) == "answers"
    assert state_of(one) is DeletionState.SUPPRESSED
    merged = one.merged([other])
    assert [e.request for e in merged.entries] == ["request 1", "request 2"]
    moved = with_weights(model, {"model.norm.weight": torch.zeros(WIDTH)})
    with pytest.raises(IntegrityError, match="would not fit them"):
        one.around(moved)
    with pytest.raises(IntegrityError, match="banks of one model"):
        one.merged([bank(moved, entry(moved, 2))])
    with pytest.raises(IntegrityError, match="another base"):
        AdapterBank(digest_of(model), (entry(moved, 1),))
    with pytest.raises(IntegrityError, match="no adapter"):
        AdapterBank(digest_of(model), ())


def test_the_soft_weight_is_that_of_the_paper() -> None:
    usual = Usual(2.0, 0.0, 1.0, full=0.8)
    scores = torch.tensor([1.0, -1.0, 3.0, -6.0])
    found = usual.usualness(scores)

    def below(x: Tensor) -> Tensor:
        both = [(1 + torch.erf((x - mean) / 2**0.5)) / 2 for mean in (2.0, 0.0)]
        return torch.stack(both).mean(0)

    one, other = below(scores), below(2.0 - scores)
    assert torch.allclose(found, 1 - torch.maximum(one, other) + torch.minimum(one, other))
    assert found[0] == 1 and torch.isclose(found[1], found[2]) and found[3] < 1e-6
    weights = usual.weights(torch.tensor([0.9, 0.5, 0.3]))
    assert torch.allclose(weights, torch.tensor([1.0, 1 / (1 + 2.718281828 ** (2 - 5)), 0.0]))


def test_a_detector_whose_tensors_do_not_fit_is_refused(model: Any) -> None:
    whole = entry(model, 1).detector
    with pytest.raises(IntegrityError, match="direction"):
        replace(whole, direction=torch.ones(3))
    with pytest.raises(IntegrityError, match="location"):
        replace(whole, location=torch.full((2, 2), float("nan")))
    with pytest.raises(IntegrityError, match="spread"):
        replace(whole, usual=replace(ALWAYS, spread=0.0))
