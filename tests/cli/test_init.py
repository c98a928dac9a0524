"""``expunge init``: the written file can be read, and what it guesses is in the table."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import jsonschema
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from expunge.benchmarks.shipped import digits_classifier_work
from expunge.cli.main import app
from expunge.data.guessing import guessed
from expunge.errors import ExpungeError
from expunge.run_file.keys import RunFile, schema_text
from expunge.run_file.reading import read
from expunge.storage import write_tensors

ROOT = Path(__file__).parents[2]


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def written(path: Path, *arguments: object) -> dict[str, Any]:
    result = invoked("init", path, *arguments)
    assert result.exit_code == 0, result.exception
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    RunFile.model_validate(content)
    jsonschema.validate(content, json.loads(schema_text()))
    return content


def table(path: Path, **columns: list[Any]) -> Path:
    datasets.Dataset.from_dict(columns).to_parquet(str(path))
    return path


MAILS = [f"a letter with many words, number {i}" for i in range(12)]
PEOPLE = ["ann", "bob", "eve"] * 4


def test_without_a_model_it_is_the_shipped_example(tmp_path: Path) -> None:
    content = written(tmp_path / "run.yaml")
    assert content["data"]["train"]["source"] == "digits"
    work = digits_classifier_work()
    write_tensors(tmp_path / "digits.safetensors", work.recipe.builder(0).state_dict())
    assert read(tmp_path / "run.yaml").requests[0].name == "first request"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("mine")
    (tmp_path / "s.json").write_text("mine")
    assert "exists" in str(invoked("init", tmp_path / "run.yaml").exception)
    said = invoked("init", tmp_path / "r.yaml", "--schema", tmp_path / "s.json").exception
    assert "exists" in str(said)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(
        ("run.yaml", "s.json"), "mine"
    )


def test_the_schema_is_written_beside_and_named(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    written(tmp_path / "deep/run.yaml", "--schema", tmp_path / "s.json")
    first = (tmp_path / "deep/run.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=../s.json"
    assert (tmp_path / "s.json").read_text() == schema_text()


def test_a_table_of_text_is_recognised(tmp_path: Path) -> None:
    rows = table(tmp_path / "t.parquet", key=[*range(12)], sender=PEOPLE, body=MAILS,
                 kind=["ham", "spam"] * 6)  # fmt: skip
    content = written(tmp_path / "run.yaml", "--train", rows)
    columns = content["data"]["train"]["columns"]
    assert columns == {
        "id": "key",
        "subject": "sender",
        "label": "kind",
        "classes": ["ham", "spam"],
        "input": "body",
    }
    assert content["requests"][0]["column"] == "subject"
    assert content["requests"][0]["values"][0] in PEOPLE
    assert content["data"]["train"]["source"] == "t.parquet"
    assert content["data"]["test"]["source"] == "test.csv"


def test_a_table_of_numbers_is_a_regressor_s(tmp_path: Path) -> None:
    prices = [float(1000 + 7 * i) for i in range(12)]
    rows = table(tmp_path / "t.parquet", area=[float(i) for i in range(12)], price=prices,
                 rooms=[*range(12)], split=["train"] * 8 + ["test"] * 4)  # fmt: skip
    result = invoked("init", tmp_path / "run.yaml", "--train", rows)
    assert "To fill in: the model" in result.output
    content = yaml.safe_load((tmp_path / "run.yaml").read_text())
    train, test = content["data"]["train"], content["data"]["test"]
    assert content["model"]["family"] == "regressor"
    assert train["columns"] == {"target": "price", "input": ["area", "rooms"]}
    assert (train["split"], test["split"]) == ("train", "test")
    assert test["columns"] == train["columns"]


@pytest.mark.parametrize(
    ("columns", "label", "answer"),
    [
        ({"x": [0.5, 1.5, 2.5, 3.5], "species": ["a", "b", "a", "b"]}, "species", "label"),
        ({"x": [0.5, 1.5, 2.5, 3.5], "y": [0, 1, 1, 0]}, "y", "label"),
        ({"x": [0.5, 1.5, 2.5, 3.5], "out": [0.1, 0.2, 0.3, 0.7]}, "out", "target"),
        ({"x": ["the text is here"] * 4, "when": ["mon", "tue", "wed", "thu"]}, None, "label"),
    ],
)
def test_classes_and_targets_are_told_apart(
    columns: dict[str, list[Any]], label: str | None, answer: str
) -> None:
    guess = guessed(datasets.Dataset.from_dict(columns))
    assert (guess.label, guess.answer) == (label, answer)


def test_a_kind_of_model_settles_what_is_learned() -> None:
    rows = datasets.Dataset.from_dict({"x": [0.5, 1.5, 2.5], "y": [3.0, 4.0, 5.0], "k": [0, 1, 1]})
    assert guessed(rows, "target").label == "y"
    assert guessed(rows, "label").label == "k"


def picture(path: Path, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (len(path.parent.name) * 9, 0, side)).save(path)


def test_pictures_of_different_sizes_get_one(tmp_path: Path) -> None:
    for i, kind in enumerate(("cat", "horse", "cat", "horse")):
        picture(tmp_path / "pictures" / kind / f"{i}.png", 8 + i)
    content = written(tmp_path / "run.yaml", "--train", tmp_path / "pictures")
    columns = content["data"]["train"]["columns"]
    assert columns["classes"] == ["cat", "horse"]
    assert columns["size"] == [8, 8]


def checkpoint(folder: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        image_size=8, patch_size=4, id2label={0: "cat", 1: "horse"},
        label2id={"cat": 0, "horse": 1},
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    return folder


def test_a_checkpoint_and_a_folder_of_pictures_are_ready_to_forget(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for i, kind in enumerate(("cat", "horse", "cat", "horse")):
            picture(tmp_path / "pictures" / split / kind / f"{i}.png")
    model = checkpoint(tmp_path / "model")
    result = invoked(
        "init", tmp_path / "run.yaml", "--model", model, "--train", tmp_path / "pictures"
    )
    assert result.exit_code == 0, result.exception
    assert "To fill in" not in result.output
    text = (tmp_path / "run.yaml").read_text()
    assert "classifier of 2 classes" in text
    assert "classes:" not in text  # those of the config
    assert invoked("forget", tmp_path / "run.yaml").exit_code == 0
    stored = tmp_path / "runs/forget/checkpoint"
    assert {p.name for p in stored.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--train", "nowhere.csv"), "no table nowhere.csv"),
        (("--test", "nowhere.csv"), "give the training table, too"),
        (("--model", "nowhere"), "has no config.json"),
    ],
)
def test_what_cannot_be_looked_at_is_said_and_nothing_is_written(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    found = invoked("init", tmp_path / "run.yaml", *arguments).exception
    assert isinstance(found, ExpungeError)
    assert said in str(found)
    assert list(tmp_path.iterdir()) == []


def test_the_published_schema_is_that_of_the_keys() -> None:
    published = ROOT / "docs" / "run_file.schema.json"
    assert published.read_text() == schema_text()
    jsonschema.Draft202012Validator.check_schema(json.loads(published.read_text()))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_the_schema_and_the_keys_accept_the_examples(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    jsonschema.validate(content, json.loads(schema_text()))
    RunFile.model_validate(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(colour="red"),
        lambda c: c["model"].pop("weights"),
        lambda c: c["model"].update(checkpoint="folder"),
        lambda c: c["requests"][0].update(values=[]),
        lambda c: c["recipe"].update(epochs=0),
        lambda c: c["recipe"].pop("epochs"),
        lambda c: c["recipe"].update(learner={"name": "plain"}),
        lambda c: c["data"].pop("test"),
    ],
)
def test_the_schema_refuses_what_the_keys_refuse(change: Callable[[dict[str, Any]], Any]) -> None:
    content = yaml.safe_load((ROOT / "examples/digits.yaml").read_text())
    change(content)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json.loads(schema_text()))
    with pytest.raises(ValueError, match="validation error"):
        RunFile.model_validate(content)


def test_every_key_is_described() -> None:
    schema = json.loads(schema_text())
    page = (ROOT / "docs" / "run_file.md").read_text()
    for part in (schema, *schema["$defs"].values()):
        for name, key in part["properties"].items():
            assert key.get("description"), name
            assert name in page, f"docs/run_file.md says nothing of {name}"


def test_a_split_for_validation_is_written_where_the_table_has_one(tmp_path: Path) -> None:
    count = range(60)
    rows = table(
        tmp_path / "rows.parquet",
        x=[float(i % 7) for i in count],
        label=[i % 2 for i in count],
        split=[("train", "validation", "test")[i % 3] for i in count],
    )
    content = written(tmp_path / "run.yaml", "--train", rows)
    held_out = {name: content["data"][name]["split"] for name in ("validation", "test")}
    assert held_out == {"validation": "validation", "test": "test"}
