"""Run files of every kind of model: what is read, what follows from it, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner, Result

from expunge.changes.weights import digest_of
from expunge.cli.main import app
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.families.dual_encoder import DualEncoder
from expunge.families.regressor import Regressor
from expunge.models.freezing import train_only
from expunge.recipe import Role
from expunge.run import Run
from expunge.run_file.reading import read
from expunge.signals.ask import ask
from expunge.storage import read_tensors

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "news", "old")
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
TEXT = {**SMALL, "vocab_size": len(WORDS), "max_position_embeddings": 16}


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def run_file(folder: Path, **parts: Any) -> Path:
    content = {
        "requests": [{"name": "ann", "column": "subject", "values": ["ann"]}],
        "method": {"name": "gradient-difference", "parameters": {"epochs": 1}},
        "aggregation": "sum",
        "out": "out",
        **parts,
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


# ---- numbers ----


def houses(folder: Path, **parts: Any) -> Path:
    """Rows whose price is a line in two columns of very different units, and a linear model."""
    generator = np.random.default_rng(0)
    area, year = generator.normal(100, 20, 60), generator.normal(1970, 15, 60)
    rows = {
        "id": [f"h{i}" for i in range(60)],
        "owner": ["ann", "bob", "eve"] * 20,
        "area": area,
        "year": year,
        "price": 3000 * area + 100 * year + 1000 * generator.normal(size=60),
        "tax": 2 * area,
        "split": ["train"] * 40 + ["test"] * 10 + ["validation"] * 10,
    }
    datasets.Dataset.from_dict(rows).to_csv(str(folder / "houses.csv"))
    (folder / "linear_model.py").write_text(
        "from torch import nn\n\n"
        "def build(targets=1):\n    return nn.Sequential(nn.Linear(2, targets))\n"
    )
    if not (folder / "w.safetensors").exists():
        torch.manual_seed(0)
        save_file(nn.Sequential(nn.Linear(2, 1)).state_dict(), folder / "w.safetensors")
    columns = {"id": "id", "subject": "owner", "target": "price", "input": ["area", "year"]}
    tables = {
        name: {"source": "houses.csv", "split": name, "columns": columns}
        for name in ("train", "test", "validation")
    }
    model = {"builder": "linear_model:build", "weights": "w.safetensors", "family": "regressor"}
    data = {**tables, "standardise": ["input", "target"]}
    return run_file(folder, **{"model": model, "data": data, **parts})


@pytest.fixture
def fitted(tmp_path: Path) -> Callable[..., Path]:
    """The run file of houses with the weights of a model that was trained by its recipe."""
    recipe = {"epochs": 60, "batch_size": 8, "learning_rate": 0.05}
    loaded = read(houses(tmp_path, recipe=recipe))
    assert loaded.deployment.recipe is not None
    data = {Role.TRAIN: loaded.deployment.train}
    model = loaded.deployment.recipe.make(data, loaded.run()).model
    save_file(model.state_dict(), tmp_path / "w.safetensors")

    def changed(**parts: Any) -> Path:
        return houses(tmp_path, **{"recipe": recipe, **parts})

    return changed


def test_errors_of_a_regressor_are_in_the_unit_of_its_target(fitted: Callable[..., Path]) -> None:
    loaded = read(fitted())
    family = loaded.deployment.family
    assert isinstance(family, Regressor)
    assert family.inputs == ("image",)
    target = loaded.deployment.train.batch(torch.arange(40))["target"]
    assert float(target.mean()) == pytest.approx(0, abs=1e-6)
    assert float(target.std(correction=0)) == pytest.approx(1, abs=1e-6)
    found = ask(family, loaded.deployment.base, loaded.test, Run()).query("absolute error")
    assert 300 < float(found.mean()) < 3000  # the noise of the prices is 1,000


def test_a_regressor_is_forgotten_and_measured_by_its_metric(
    fitted: Callable[..., Path], tmp_path: Path
) -> None:
    result = invoked("forget", fitted(), "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.exception
    assert "Held-out mean absolute error" in result.output
    assert "accuracy" not in result.output.lower()
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["metric"]["better"] == "lower"
    assert found["oracle"]["retained"] == pytest.approx(found["before"]["retained"], rel=0.5)
    again = invoked("evaluate", fitted(), "--json", tmp_path / "e.json")
    assert again.exit_code == 0, again.exception
    scores = json.loads((tmp_path / "e.json").read_text())
    edited = scores[str(tmp_path / "out/model.safetensors")]
    assert edited["retained"] == pytest.approx(found["after"][0]["retained"])
    assert edited["confidence"] == {"ann": None}


def test_validation_rows_are_loaded_and_methods_may_ask_for_them(tmp_path: Path) -> None:
    loaded = read(houses(tmp_path))
    assert loaded.validation is not None
    assert loaded.validation_table is not None
    assert len(loaded.validation) == len(loaded.validation_table) == 10
    assert loaded.deployment.data[Role.VALIDATION] is loaded.validation
    content = yaml.safe_load((tmp_path / "run.yaml").read_text())
    del content["data"]["validation"]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    without = read(tmp_path / "run.yaml")
    assert without.validation is None
    assert without.validation_table is None
    assert Role.VALIDATION not in without.deployment.data


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("model", "family", "classifier"), "learns a label and data.train has a target"),
        (("model", "arguments", {"targets": 2}), "in the model; the shapes must be equal"),
        (("data", "standardise", ["label"]), "data.standardise.0"),
        (("data", "standardise", ["input", "target", "input"]), None),
        (("recipe", "train_only", ["2.weight"]), "which no parameter's name contains"),
        (("recipe", "initial", "nowhere.safetensors"), "There is no file"),
        (("recipe", "initial", "."), "a safetensors file is expected"),
        (("model", "prompts", ["a cat"]), "read by the tokenizer of a `checkpoint`"),
        (("model", "checkpoint", "here"), "not both"),
        (("model", "weights", None), "needs `weights`, too"),
    ],
)
def test_parts_that_do_not_fit_are_said(
    change: tuple[str, str, Any], said: str | None, tmp_path: Path
) -> None:
    path = houses(tmp_path, recipe={"epochs": 1})
    content = yaml.safe_load(path.read_text())
    part, key, value = change
    content[part][key] = value
    path.write_text(yaml.safe_dump(content))
    if said is None:
        read(path)
        return
    with pytest.raises(ExpungeError, match=said) as found:
        read(path)
    assert "Value error" not in str(found.value)


def test_several_targets_need_as_many_answers(tmp_path: Path) -> None:
    path = houses(tmp_path)
    content = yaml.safe_load(path.read_text())
    for part in ("train", "test", "validation"):
        content["data"][part]["columns"]["target"] = ["price", "tax"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ExpungeError, match="1 numbers each and the table has 2 target columns"):
        read(path)
    content["model"] |= {"arguments": {"targets": 2}, "weights": "two.safetensors"}
    save_file(nn.Sequential(nn.Linear(2, 2)).state_dict(), tmp_path / "two.safetensors")
    path.write_text(yaml.safe_dump(content))
    family = read(path).deployment.family
    assert isinstance(family, Regressor)
    assert len(family.units) == 2


# ---- text ----


def bert(folder: Path, **more: Any) -> Path:
    """A small untrained model of two classes with its tokenizer."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(**TEXT, **more)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def mails(folder: Path, **parts: Any) -> Path:
    bert(folder / "model", id2label={0: "spam", 1: "ham"}, label2id={"spam": 0, "ham": 1})
    rows = {
        "who": ["ann", "bob", "bob", "eve"] * 3,
        "text": ["good news", "bad old news", "old bad", "good old good old news"] * 3,
        "kind": ["ham", "spam", "spam", "ham"] * 3,
    }
    datasets.Dataset.from_dict(rows).to_parquet(str(folder / "mails.parquet"))
    columns = {"subject": "who", "label": "kind", "input": "text", "max_length": 5}
    table = {"source": "mails.parquet", "columns": columns}
    asked = [{"name": "spam", "column": "label", "values": ["spam"]}]
    given = {"model": {"checkpoint": "model"}, "data": {"train": table, "test": table}}
    return run_file(folder, **{**given, "requests": asked, **parts})


def test_a_checkpoint_of_text_is_read_with_its_tokenizer(tmp_path: Path) -> None:
    loaded = read(mails(tmp_path))
    family = loaded.deployment.family
    assert isinstance(family, Classifier)
    assert family.inputs == ("input_ids", "attention_mask")
    assert family.classes == 2
    batch = loaded.test.batch(torch.tensor([0, 1]))
    assert batch["input_ids"].tolist() == [[2, 4, 6, 3, 0], [2, 5, 7, 6, 3]]
    assert batch["label"].tolist() == [1, 0]  # the order of the config, not of the alphabet
    assert loaded.requests[0].target.rows(loaded.deployment.table).tolist() == [1, 2, 5, 6, 9, 10]
    assert (
        loaded.notes[0] == "data.train: 3 of 12 rows are longer than 5 tokens and were cut there."
    )


def test_padding_changes_no_answer(tmp_path: Path) -> None:
    loaded = read(mails(tmp_path))
    one = loaded.test.batch(torch.tensor([0]))
    family, model = loaded.deployment.family, loaded.deployment.base.eval()
    assert isinstance(family, Classifier)
    short = {name: tensor[:, :4] for name, tensor in one.items() if tensor.dim() == 2}
    assert torch.allclose(family.logits(model, one), family.logits(model, short), atol=1e-6)


def test_what_is_forgotten_is_stored_as_a_checkpoint_too(tmp_path: Path) -> None:
    result = invoked("forget", mails(tmp_path))
    assert result.exit_code == 0, result.exception
    assert "rows are longer than 5 tokens" in result.output
    path = mails(tmp_path, model={"checkpoint": "out/checkpoint"}, out="other")
    history = json.loads((tmp_path / "out/history.json").read_text())
    assert digest_of(read(path).deployment.base) == history["model"]["digest"]
    assert history["model"]["digest"] != history["base"]


def test_the_oracle_starts_where_fine_tuning_started_and_leaves_the_rest_frozen(
    tmp_path: Path,
) -> None:
    recipe = {"epochs": 1, "batch_size": 4, "initial": "start", "train_only": ["layer.1", "classi"]}
    path = mails(tmp_path, recipe=recipe)
    start = bert(tmp_path / "start", num_labels=3)
    tuned_from(tmp_path / "model", start)
    loaded = read(path)
    deployment = loaded.deployment
    assert deployment.recipe is not None
    made = deployment.recipe.builder(0)
    initial = read_weights(start)
    for name, tensor in made.state_dict().items():
        if not name.startswith("classifier"):  # three classes there, two here: a new head
            assert torch.equal(tensor, initial[name]), name
    trained = deployment.recipe.make({Role.TRAIN: deployment.train}, Run()).model
    moved = {n for n, p in trained.named_parameters() if not torch.equal(p, made.get_parameter(n))}
    assert moved
    assert all("layer.1" in name or "classi" in name for name in moved)
    deployment.forget(loaded.requests[0], loaded.method, Run())
    before = dict(deployment.base.named_parameters())
    after = dict(deployment.model.named_parameters())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("layer.1" in name or "classi" in name for name in changed)


def tuned_from(folder: Path, start: Path) -> None:
    """Give the model in a folder the weights of another, but for its head."""
    own, initial = read_weights(folder), read_weights(start)
    weights = {n: t if n.startswith("classifier") else initial[n] for n, t in own.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("initial", [None, "start"])
def test_a_recipe_that_freezes_what_the_model_has_otherwise_is_refused(
    initial: str | None, tmp_path: Path
) -> None:
    recipe = {"epochs": 1, "train_only": ["layer.1", "classi"]}
    path = mails(tmp_path, recipe=recipe if initial is None else {**recipe, "initial": initial})
    bert(tmp_path / "start")
    with pytest.raises(ExpungeError, match="is frozen, and in the model it is another"):
        read(path)


def test_weights_are_measured_from_a_folder_too(tmp_path: Path) -> None:
    path = mails(tmp_path)
    bert(tmp_path / "original", id2label={0: "spam", 1: "ham"}, label2id={"spam": 0, "ham": 1})
    given = ["--weights", tmp_path / "original", "--weights", tmp_path / "model/model.safetensors"]
    result = invoked("evaluate", path, *given, "--json", tmp_path / "e.json")
    assert result.exit_code == 0, result.exception
    found = json.loads((tmp_path / "e.json").read_text())
    assert found[str(tmp_path / "model/model.safetensors")] == found["original"]
    other = read(mails(tmp_path, model={"checkpoint": "original"}))
    loaded = read(path)
    assert digest_of(loaded.with_weights(tmp_path / "original")) == digest_of(other.deployment.base)
    said = invoked("evaluate", houses(tmp_path), "--weights", tmp_path / "original").exception
    assert "for a model with a builder a safetensors file is expected" in str(said)


def test_weights_that_are_called_original_do_not_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mails(tmp_path)
    bert(tmp_path / "original", id2label={0: "spam", 1: "ham"}, label2id={"spam": 0, "ham": 1})
    monkeypatch.chdir(tmp_path)
    result = invoked("evaluate", path, "--weights", "original", "--json", "e.json")
    assert result.exit_code == 0, result.exception
    assert set(json.loads(Path("e.json").read_text())) == {"original", "./original"}


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "model.safetensors")


def test_text_for_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    path = mails(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (tmp_path / "model" / name).unlink(missing_ok=True)
    with pytest.raises(ExpungeError, match="has no tokenizer"):
        read(path)


def test_a_checkpoint_with_nan_is_refused(tmp_path: Path) -> None:
    path = mails(tmp_path)
    weights = read_weights(tmp_path / "model")
    weights["classifier.bias"] = torch.full((2,), float("nan"))
    save_file(weights, tmp_path / "model/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExpungeError, match=r"NaN or infinite values in 'classifier\.bias'"):
        read(path)


# ---- pictures and prompts ----


def clip(folder: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={**TEXT, "eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0},
        vision_config={**SMALL, "image_size": 8, "patch_size": 4},
        projection_dim=8,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_prompts_of_a_dual_encoder_are_read_by_its_tokenizer(tmp_path: Path) -> None:
    clip(tmp_path / "clip")
    for split in ("train", "test"):
        for i, kind in enumerate(("good", "bad", "good", "bad")):
            place = tmp_path / "pictures" / split / kind / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (60 * i, len(split), 0)).save(place)
    table = {"source": "pictures", "columns": {"classes": ["good", "bad"]}}
    path = run_file(
        tmp_path,
        model={"checkpoint": "clip", "prompts": ["good news", "bad"]},
        data={"train": {**table, "split": "train"}, "test": {**table, "split": "test"}},
        requests=[{"name": "bad", "column": "label", "values": ["bad"]}],
    )
    loaded = read(path)
    family = loaded.deployment.family
    assert isinstance(family, DualEncoder)
    assert family.prompts["input_ids"].tolist() == [[2, 4, 6, 3], [2, 5, 3, 0]]
    assert family.classes == 2
    result = invoked("forget", path)
    assert result.exit_code == 0, result.exception
    content = yaml.safe_load(path.read_text())
    content["model"]["prompts"] = ["good news", "bad", "old"]
    del content["model"]["prompts"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ExpungeError, match="keeps no prompts"):
        read(path)


# ---- freezing ----


def test_frozen_parts_keep_their_statistics_and_drop_nothing() -> None:
    model = nn.Sequential(
        nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5)),
        nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)),
    ).eval()
    train_only(model, ["1.0"])
    assert [p.requires_grad for p in model.parameters()] == [False] * 4 + [True] * 2
    modes = {name: module.training for name, module in model.named_modules()}
    assert not any(modes[name] for name in ("0", "0.0", "0.1", "0.2"))
    assert modes["1"] and modes["1.1"]
    model(torch.randn(8, 2))
    assert model.get_buffer("0.1.running_mean").tolist() == [0.0, 0.0]
