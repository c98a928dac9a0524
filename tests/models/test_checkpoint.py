"""Hugging Face folders: what is read, with which class, and what is refused in a sentence."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from expunge.errors import ExpungeError, IntegrityError
from expunge.models.checkpoint import Checkpoint

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "down")
TEXT = {**SMALL, "vocab_size": len(WORDS), "max_position_embeddings": 8}
PICTURES = {**SMALL, "image_size": 8, "patch_size": 4}
LLAMA = {**SMALL, "vocab_size": len(WORDS), "num_key_value_heads": 2, "pad_token_id": 0}


def vit(**more: Any) -> Any:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**PICTURES, **more))


def resnet() -> Any:
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=3
    )
    return transformers.ResNetForImageClassification(config)


def bert(**more: Any) -> Any:
    return transformers.BertForSequenceClassification(transformers.BertConfig(**TEXT, **more))


def distilbert() -> Any:
    config = transformers.DistilBertConfig(
        dim=16, n_layers=1, n_heads=2, hidden_dim=32, vocab_size=8, max_position_embeddings=8
    )
    return transformers.DistilBertForSequenceClassification(config)


def roberta() -> Any:
    return transformers.RobertaForSequenceClassification(transformers.RobertaConfig(**TEXT))


def llama() -> Any:
    return transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**LLAMA))


def clip() -> Any:
    config = transformers.CLIPConfig(
        text_config={**TEXT, "eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0},
        vision_config=PICTURES,
        projection_dim=8,
    )
    return transformers.CLIPModel(config)


def saved(model: Any, folder: Path) -> Path:
    """The folder as transformers writes it."""
    model.save_pretrained(folder)
    return folder


def with_tokenizer(folder: Path) -> Path:
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (vit, "classifier"),
        (resnet, "classifier"),
        (bert, "classifier"),
        (distilbert, "classifier"),
        (roberta, "classifier"),
        (llama, "classifier"),
        (lambda: bert(num_labels=1), "regressor"),
        (lambda: bert(num_labels=3, problem_type="regression"), "regressor"),
        (clip, "dual_encoder"),
    ],
)
def test_the_kind_and_class_follow_from_the_config(
    make: Callable[[], Any], kind: str, tmp_path: Path
) -> None:
    model = make()
    opened = Checkpoint.open(saved(model, tmp_path))
    read = opened.model()
    assert opened.kind == kind
    assert type(read) is type(model)
    assert not read.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor)


def test_names_of_classes_are_those_of_the_config(tmp_path: Path) -> None:
    model = vit(id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1})
    assert Checkpoint.open(saved(model, tmp_path)).classes == ("cat", "dog")


def test_weights_in_shards_are_read(tmp_path: Path) -> None:
    model = bert()
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    read = Checkpoint.open(tmp_path).model()
    assert torch.equal(read.state_dict()["classifier.weight"], model.classifier.weight)
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(IntegrityError, match="cannot be read as a checkpoint"):
        Checkpoint.open(tmp_path).model()


def test_the_seed_fixes_the_initial_weights(tmp_path: Path) -> None:
    opened = Checkpoint.open(saved(bert(), tmp_path))
    outside = torch.get_rng_state()
    heads = [opened.untrained(seed).state_dict()["classifier.weight"] for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert torch.equal(torch.get_rng_state(), outside)


def test_fine_tuning_starts_from_an_encoder_with_a_new_head(tmp_path: Path) -> None:
    encoder = transformers.BertModel(transformers.BertConfig(**TEXT))
    start = saved(encoder, tmp_path / "encoder")
    opened = Checkpoint.open(saved(bert(num_labels=4), tmp_path / "tuned"))
    first, again, other = (opened.started(start, seed) for seed in (1, 1, 2))
    words = "embeddings.word_embeddings.weight"
    assert torch.equal(first.state_dict()[f"bert.{words}"], encoder.state_dict()[words])
    head = "classifier.weight"
    assert first.state_dict()[head].shape == (4, 16)
    assert torch.equal(first.state_dict()[head], again.state_dict()[head])
    assert not torch.equal(first.state_dict()[head], other.state_dict()[head])


def test_text_is_padded_and_cut_and_the_cut_rows_are_counted(tmp_path: Path) -> None:
    opened = Checkpoint.open(with_tokenizer(saved(bert(), tmp_path)))
    tokens = opened.texts(["the cat", "the cat sat down"], 5)
    assert set(tokens.fields) == {"input_ids", "attention_mask"}
    assert tokens.fields["input_ids"].tolist() == [[2, 4, 5, 3, 0], [2, 4, 5, 6, 3]]
    assert tokens.fields["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1] * 5]
    assert (tokens.limit, tokens.cut) == (5, 1)
    assert opened.texts(["the cat " * 9], None).limit == 8  # positions of the model
    assert opened.texts(["the cat"], None).cut == 0


def test_pictures_are_resized_and_normalised_as_the_processor_says(tmp_path: Path) -> None:
    folder = saved(vit(), tmp_path)
    assert not Checkpoint.open(folder).reads_pictures
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "ViTImageProcessor",
                "do_resize": True,
                "size": {"height": 8, "width": 8},
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.25, 0.25, 0.25],
            }
        )
    )
    opened = Checkpoint.open(folder)
    rows = [Image.fromarray(np.full((h, w, 3), 255, dtype=np.uint8)) for h, w in ((4, 9), (30, 20))]
    found = opened.pictures(rows)
    assert found.shape == (2, 3, 8, 8)
    assert torch.allclose(found, torch.full_like(found, (1 - 0.5) / 0.25))


def test_a_saved_model_is_a_checkpoint_again(tmp_path: Path) -> None:
    opened = Checkpoint.open(with_tokenizer(saved(bert(), tmp_path / "before")))
    model = opened.model()
    with torch.no_grad():
        model.get_parameter("classifier.weight").add_(1)
    opened.save(model, tmp_path / "after")
    again = Checkpoint.open(tmp_path / "after")
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.model().state_dict()[name], tensor)
    assert again.texts(["the cat"], None).fields["input_ids"].tolist() == [[2, 4, 5, 3]]


def test_what_is_saved_holds_no_earlier_weights(tmp_path: Path) -> None:
    before = with_tokenizer(saved(bert(), tmp_path / "before"))
    kept = {path.name for path in before.iterdir()}
    for name in ("tf_model.h5", "flax_model.msgpack", "model.onnx", "optimizer.pt", "model.gguf"):
        (before / name).write_bytes(b"the weights as they were")
    (before / "pytorch_model.bin.index.json").write_text("{}")
    (before / "modeling_own.py").write_text("")
    opened = Checkpoint.open(before)
    opened.save(opened.model(), tmp_path / "after")
    assert {path.name for path in (tmp_path / "after").iterdir()} == kept


@pytest.mark.parametrize(
    "other",
    [
        lambda: transformers.BertModel(transformers.BertConfig(**{**TEXT, "hidden_size": 32})),
        lambda: transformers.BertModel(transformers.BertConfig(**{**TEXT, "num_hidden_layers": 1})),
        lambda: transformers.ViTModel(transformers.ViTConfig(**PICTURES)),
    ],
)
def test_an_encoder_of_another_kind_is_no_start(other: Callable[[], Any], tmp_path: Path) -> None:
    opened = Checkpoint.open(saved(bert(), tmp_path / "tuned"))
    with pytest.raises(IntegrityError, match="fine-tuning did not start there"):
        opened.started(saved(other(), tmp_path / "other"), 0)


def test_the_start_of_a_dual_encoder_is_whole(tmp_path: Path) -> None:
    opened = Checkpoint.open(saved(clip(), tmp_path / "tuned"))
    start = clip()
    read = opened.started(saved(start, tmp_path / "start"), 0).state_dict()
    assert all(torch.equal(read[name], t) for name, t in start.state_dict().items())
    with pytest.raises(IntegrityError, match="fine-tuning did not start there"):
        opened.started(saved(bert(), tmp_path / "text"), 0)


def test_weights_of_another_folder_are_read_as_this_model(tmp_path: Path) -> None:
    opened = Checkpoint.open(saved(bert(num_labels=3), tmp_path / "one"))
    other = bert(num_labels=3)
    found = opened.with_weights_of(saved(other, tmp_path / "other")).state_dict()
    assert all(torch.equal(found[name], t) for name, t in other.state_dict().items())
    config = transformers.BertConfig(**{**TEXT, "hidden_size": 32}, num_labels=3)
    wider = transformers.BertForSequenceClassification(config)
    with pytest.raises(IntegrityError, match=r"lack 'bert\.[a-zA-Z.0-9]*', or have it in another"):
        opened.with_weights_of(saved(wider, tmp_path / "wider"))
    renamed = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    with pytest.raises(IntegrityError, match="names the classes a, b, c"):
        opened.with_weights_of(saved(bert(**renamed), tmp_path / "renamed"))


def broken(folder: Path, how: str) -> None:
    """One way in which a folder can be wrong."""
    config = json.loads((folder / "config.json").read_text())
    weights = folder / "model.safetensors"
    if how == "pickle":
        weights.rename(folder / "pytorch_model.bin")
    elif how == "no weights":
        weights.unlink()
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:200])
    elif how == "no config":
        (folder / "config.json").unlink()
    elif how == "no json":
        (folder / "config.json").write_text("{")
    elif how == "other width":
        (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 32}))
    elif how == "no head":
        (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    elif how == "none named":
        (folder / "config.json").write_text(json.dumps({**config, "architectures": None}))
    elif how == "several labels":
        said = {**config, "problem_type": "multi_label_classification"}
        (folder / "config.json").write_text(json.dumps(said))
    else:
        (folder / "evil.py").write_text("raise SystemExit('code of the folder was run')")
        said = {**config, "model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
        (folder / "config.json").write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("pickle", "a pickle, which can run code"),
        ("no weights", r"has no model\.safetensors"),
        ("truncated", "cannot be read as a checkpoint"),
        ("no config", r"has no config\.json"),
        ("no json", "no readable JSON"),
        ("other width", "or have it in another shape"),
        ("no head", "names the architecture 'BertModel'"),
        ("none named", "names the architecture 'none'"),
        ("several labels", "several labels to a row"),
        ("code", "cannot be read as a checkpoint"),
    ],
)
def test_folders_that_cannot_be_used_are_refused_in_a_sentence(
    how: str, said: str, tmp_path: Path
) -> None:
    folder = saved(bert(), tmp_path)
    broken(folder, how)
    with pytest.raises(ExpungeError, match=said) as found:
        Checkpoint.open(folder).model()
    assert "\n" not in str(found.value)


def test_without_a_tokenizer_or_a_padding_token_text_is_refused(tmp_path: Path) -> None:
    bare = Checkpoint.open(saved(bert(), tmp_path / "bare"))
    with pytest.raises(ExpungeError, match="has no tokenizer"):
        bare.texts(["the cat"], None)
    folder = with_tokenizer(saved(bert(), tmp_path / "other"))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    with pytest.raises(ExpungeError, match="no padding token"):
        Checkpoint.open(folder).texts(["the cat"], None)


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(bert(), tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ExpungeError, match=r"pip install 'expunge\[hf\]'"):
        Checkpoint.open(folder)
