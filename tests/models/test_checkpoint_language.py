"""Folders of language models: tied weights, half precision, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.changes.weights import digest_of, parameters_of, with_weights
from expunge.errors import IntegrityError
from expunge.models.checkpoint import Checkpoint
from language_folder import model, tokenizer

transformers = pytest.importorskip("transformers")


def gpt2() -> Any:
    config = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=24)
    return transformers.GPT2LMHeadModel(config)


def saved(made: Any, folder: Path) -> Checkpoint:
    made.save_pretrained(folder)
    return Checkpoint.open(folder)


@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_is_read_and_written_with_or_without_tied_weights(
    tied: bool, tmp_path: Path
) -> None:
    opened = saved(model(40, tie_word_embeddings=tied), tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    read: Any = opened.model()
    assert (opened.kind, opened.classes, opened.context) == ("language", (), 32)
    assert ("lm_head.weight" in parameters_of(read)) is not tied
    name = "model.embed_tokens.weight"
    moved = with_weights(read, {name: parameters_of(read)[name].detach() + 1})
    opened.save(moved, tmp_path / "new")
    again: Any = Checkpoint.open(tmp_path / "new").model()
    assert digest_of(again) == digest_of(moved) != digest_of(read)
    head, inner = again.get_output_embeddings().weight, again.get_input_embeddings().weight
    assert (head is inner) is tied
    assert torch.equal(head, inner) is tied


def test_another_architecture_of_its_own_names_is_read(tmp_path: Path) -> None:
    opened = saved(gpt2(), tmp_path)
    assert opened.kind == "language"
    assert type(opened.model()) is transformers.GPT2LMHeadModel


def test_weights_in_half_precision_are_read_as_float32(tmp_path: Path) -> None:
    made = model(40).to(torch.bfloat16)
    read = saved(made, tmp_path).model()
    assert {p.dtype for p in read.parameters()} == {torch.float32}
    for name, parameter in parameters_of(read).items():
        assert torch.equal(parameter, made.state_dict()[name].float())


def test_the_seed_fixes_the_initial_weights(tmp_path: Path) -> None:
    opened = saved(model(40), tmp_path)
    one, same, other = (digest_of(opened.untrained(seed)) for seed in (1, 1, 2))
    assert one == same != other
    drawn: Any = opened.untrained(1)
    assert drawn.get_output_embeddings().weight is drawn.get_input_embeddings().weight


def test_fine_tuning_starts_from_a_whole_model(tmp_path: Path) -> None:
    opened = saved(model(40), tmp_path / "tuned")
    base = model(40, tie_word_embeddings=False)
    base.save_pretrained(tmp_path / "base")
    untied = saved(model(40, tie_word_embeddings=False), tmp_path / "untied")
    assert digest_of(untied.started(tmp_path / "base", 1)) == digest_of(base)
    base.model.save_pretrained(tmp_path / "headless")
    with pytest.raises(IntegrityError, match=r"lacks 'lm_head\.weight'"):
        untied.started(tmp_path / "headless", 1)
    shallow = model(40, num_hidden_layers=1)
    shallow.save_pretrained(tmp_path / "shallow")
    with pytest.raises(IntegrityError, match="fine-tuning did not start there"):
        opened.started(tmp_path / "shallow", 1)


def test_a_folder_whose_embeddings_are_not_the_config_s_is_refused(tmp_path: Path) -> None:
    opened = saved(model(40), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "vocab_size": 50}))
    with pytest.raises(IntegrityError, match="embed_tokens"):
        Checkpoint.open(tmp_path).model()
    assert opened.kind == "language"
