"""The language family: its numbers are those of the padded batch, whatever the grouping."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from expunge.data.samples import Batch, TensorSamples
from expunge.errors import ExpungeError
from expunge.families.abilities import HasAnswers, HasLoss, HasMargins, HasNeutral
from expunge.families.language import IGNORED, Language, answered_with, grouped, read_lengths
from expunge.run import Run
from expunge.signals.ask import ask

VOCABULARY = 50


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config).eval()


def rows(count: int = 12, seed: int = 0) -> Batch:
    """Rows of many lengths; what follows the last answer token is rubbish that must not matter."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCABULARY, (count, 40), generator=draw)
    labels = torch.full_like(ids, IGNORED)
    for row in range(count):
        start = int(torch.randint(1, 20, (), generator=draw))
        stop = start + int(torch.randint(1, 15, (), generator=draw))
        labels[row, start:stop] = ids[row, start:stop]
    return {"input_ids": ids, "labels": labels, "row": torch.arange(count)}


@pytest.mark.parametrize("overhead", [None, 0, 40, 10_000])
def test_the_losses_are_those_of_transformers_row_by_row(overhead: int | None) -> None:
    model, batch = llama(), rows()
    losses = Language(overhead=overhead).losses(model, batch)
    for row in range(12):
        labels = batch["labels"][row : row + 1]
        want = model(input_ids=batch["input_ids"][row : row + 1], labels=labels).loss
        assert torch.allclose(losses.means()[row], want, atol=1e-5)
        assert int(losses.mask[row].sum()) == int((labels != IGNORED).sum())


def test_grouping_changes_no_gradient() -> None:
    batch, found = rows(), []
    for overhead in (None, 10):
        model = llama()
        total = Language(overhead=overhead).losses(model, batch).sums().sum()
        found.append(torch.autograd.grad(total, list(model.parameters())))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-3, rtol=1e-4)


def test_groups_hold_every_row_once_and_waste_less_the_less_a_group_costs() -> None:
    lengths = [3, 90, 5, 88, 4, 91, 40]
    waste = []
    for overhead in (0, 20, 10_000):
        groups = grouped(lengths, overhead)
        assert sorted(row for group, _ in groups for row in group) == list(range(7))
        assert all(max(lengths[row] for row in group) == width for group, width in groups)
        waste.append(sum(len(group) * width for group, width in groups) - sum(lengths))
    assert waste[0] == 0 < waste[1] < waste[2]
    assert len(grouped(lengths, 10_000)) == 1


def test_the_head_answers_from_states_as_the_model_does() -> None:
    model, batch, family = llama(), rows(), Language()
    logits = family.answers(model, batch)
    states = family.states(model, batch)
    assert states.values.shape == (len(logits.tokens), 32)
    assert torch.allclose(family.scorer(model)(states.values), logits.values, atol=1e-6)


def test_another_architecture_and_its_parts() -> None:
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    model, batch, family = GPT2LMHeadModel(config).eval(), rows(4), Language()
    labels = batch["labels"][:1]
    want = model(input_ids=batch["input_ids"][:1], labels=labels).loss
    assert torch.allclose(family.losses(model, batch).means()[0], want, atol=1e-5)
    anatomy = family.anatomy(model)
    assert anatomy.taps == {"0": "transformer.h.0", "1": "transformer.h.1"}
    assert anatomy.head == anatomy.embeddings  # tied: one tensor under its canonical name


def test_abilities() -> None:
    family = Language()
    for ability in (HasAnswers, HasLoss, HasMargins, HasNeutral):
        assert isinstance(family, ability)


def test_margins_are_log_odds_of_the_probability_per_token() -> None:
    model, batch, family = llama(), rows(), Language()
    p = (-family.losses(model, batch).means()).exp()
    assert torch.allclose(family.margins(model, batch), (p / (1 - p)).log(), atol=1e-5)


def test_a_refusal_takes_the_place_of_the_answer_after_the_same_prompt() -> None:
    batch = rows(5)
    family = Language(refusals=((7, 8, 9), (4,)))
    neutral = family.neutral(batch, torch.Generator().manual_seed(3))
    for row in range(5):
        start = int((batch["labels"][row] != IGNORED).int().argmax())
        answer = neutral["labels"][row][neutral["labels"][row] != IGNORED].tolist()
        assert answer in ([7, 8, 9], [4])
        assert neutral["input_ids"][row, :start].equal(batch["input_ids"][row, :start])
        assert neutral["input_ids"][row, start : start + len(answer)].tolist() == answer
    with pytest.raises(ExpungeError, match="no refusals"):
        replace(family, refusals=()).neutral(batch, torch.Generator())


def test_a_row_without_an_answer_is_named() -> None:
    batch = rows(3)
    batch["labels"][1] = IGNORED
    with pytest.raises(ExpungeError, match="Row 1"):
        Language().losses(llama(), batch)


def test_read_lengths_end_before_the_last_answer_token() -> None:
    labels = torch.full((1, 8), IGNORED)
    labels[0, 3:5] = 1
    assert read_lengths(labels) == [4]
    batch = {"input_ids": torch.arange(8).unsqueeze(0), "labels": labels}
    changed = answered_with(batch, [torch.tensor([20, 21, 22])])
    assert changed["input_ids"].tolist() == [[0, 1, 2, 20, 21, 22]]
    assert changed["labels"].tolist() == [[IGNORED] * 3 + [20, 21, 22]]


def test_signals_say_what_greedy_decoding_gives() -> None:
    model, batch = llama(), rows()
    # make the answers of half the rows what the model itself says
    ids, labels = batch["input_ids"].clone(), batch["labels"].clone()
    with torch.inference_mode():
        for row in range(6):
            for at in (labels[row] != IGNORED).nonzero().reshape(-1).tolist():
                ids[row, at] = model(input_ids=ids[row : row + 1, :at]).logits[0, -1].argmax()
                labels[row, at] = ids[row, at]
    names = [f"r{i}" for i in range(12)]
    samples = TensorSamples(names, names, {"input_ids": ids, "labels": labels})
    signals = ask(Language(), model, samples, Run())
    correct = signals.query("correct")[0]
    assert correct[:6].tolist() == [1.0] * 6
    assert correct[6:].sum() < 6
    share, loss = signals.query("tokens correct")[0], signals.query("loss")[0]
    assert bool((share[correct == 1] == 1).all())
    lengths = (labels != IGNORED).sum(1)
    assert torch.allclose(signals.query("total loss")[0], loss * lengths, rtol=1e-5)
    assert F.mse_loss(signals.query("margin")[0], -(loss.exp() - 1).log()) < 1e-6
