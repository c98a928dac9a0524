"""Run files of models that are told sentences: forgotten by words, measured, refused, stored."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml
from tests.cli.known_denoisers import CAPTIONED, means, write_captioned
from tests.models.diffusion_folders import written
from typer.testing import CliRunner, Result

from expunge.benchmarks.canvas.worlds import world
from expunge.changes.weights import digest_of, stored_tensors
from expunge.cli.main import app
from expunge.data import canvas, digits
from expunge.data.canvas import SMALL, Canvas
from expunge.errors import ExpungeError
from expunge.families.diffusion import TextDiffusion
from expunge.families.diffusion_folder import DiffusionFolder
from expunge.models.denoisers import SmallTextToImage
from expunge.recipe import Role
from expunge.run_file.reading import read
from expunge.storage import read_tensors, write_tensors

ROOT = Path(__file__).parents[2]
Drawing = Callable[..., Path]
Words = Callable[..., Path]


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def figures(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.fixture
def words(drawing: Drawing, tmp_path: Path) -> Words:
    """The run file of a model that is told sentences, with changes."""
    tables = write_captioned(tmp_path)

    def changed(**changes: object) -> Path:
        return drawing(CAPTIONED, **{"data": tables, **changes})

    return changed


def test_words_are_forgotten_others_are_drawn_as_told(words: Words, tmp_path: Path) -> None:
    file = words()
    found = invoked("forget", file, "--json", tmp_path / "f.json")
    assert found.exit_code == 0, found.exception
    told = figures(tmp_path / "f.json")
    before, after = (told["drawings"][name] for name in ("original", "after all requests"))
    assert before["requests"]["the threes"] >= 0.9 and after["requests"]["the threes"] <= 0.1
    assert min(after["others as told"], after["others recognisable"]) >= 0.9
    assert told["metric"]["name"] == "denoising loss"
    assert told["after"][0]["retained"] < 1.05 * told["before"]["retained"]
    moved = read_tensors(tmp_path / "out" / "model.safetensors")["means"]
    [three, eight] = means()[[3, 8]]
    assert float((moved[3] - eight).square().mean()) < 0.2 * float((three - eight).square().mean())
    again = invoked("evaluate", file, "--json", tmp_path / "e.json")
    assert again.exit_code == 0, again.exception
    [stored] = [
        v for n, v in figures(tmp_path / "e.json").items() if n.endswith("model.safetensors")
    ]
    assert stored["drawings"] == after


def test_methods_read_every_sentence_once_and_those_of_a_file(words: Words, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("a nine\n\neight a three\n", encoding="utf-8")
    loaded = read(words(data__prompts="more.txt"))
    prompts = loaded.deployment.data[Role.PROMPTS]
    assert len(prompts) == 11 and prompts.ids[-1] == "eight a three"
    assert prompts.fields == {"prompt"}
    [request] = loaded.requests
    assert (request.text, request.anchor, request.labels) == ("three", "eight", (3,))
    family = loaded.deployment.family
    assert isinstance(family, TextDiffusion) and family.shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"requests__0__text": "four"}, "names speaks of 'four'; say the words as the sentences"),
        ({"requests__0__text": "cat"}, "'cat' of 'cat' is not among the 11 words"),
        ({"requests__0__anchor": "three"}, "anchor is 'three', and so is what is to be forgotten"),
        ({"requests__0__anchor": "dog"}, "'dog' of 'dog' is not among"),
        ({"data__prompts": "no.txt"}, "data.prompts .*no.txt cannot be read"),
        ({"data__train__columns__caption": None}, "data.train names none; give `columns.caption`"),
        ({"data__test__columns__caption": "text"}, "has no column 'text'"),
        ({"data__test__columns__target": "label"}, "`caption` is for models that draw"),
        (
            {"model__family_arguments__tokens__words": ["a"]},
            r"data.train: The word '\w+' of 'a \w+'",
        ),
        ({"model__family_arguments__tokens__length": 3}, "has 4 tokens; at most 3"),
        ({"model__family_arguments__shape": [1, 16, 16]}, "Pictures of shape .1, 8, 8. were given"),
        ({"method": {"name": "random-label"}}, "lacks HasNeutral"),
        ({"requests__0__text": None}, "does not say in words"),
    ],
)
def test_what_does_not_fit_is_said_before_any_work(
    words: Words, changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    found = invoked("forget", words(**changes))
    with pytest.raises(ExpungeError, match=said):
        raise found.exception or AssertionError(found.output)
    assert not (tmp_path / "out").exists()


def test_words_and_sentences_are_for_models_that_are_told_some(
    words: Words, drawing: Drawing
) -> None:
    labelled, plain = (yaml.safe_load(drawing().read_text())[part] for part in ("model", "data"))
    by_id = {"requests__0__column": "id", "requests__0__values": [digits.load("train")["id"][0]]}
    for changes, said in (
        ({}, "data.train: `caption` is for text-to-image models"),
        ({"data": plain, **by_id}, "are told no sentences"),
    ):
        found = invoked("forget", words(model=labelled, **changes))
        with pytest.raises(ExpungeError, match=said):
            raise found.exception or AssertionError(found.output)


def test_a_judge_is_asked_by_the_sentences_of_its_classes(words: Words, tmp_path: Path) -> None:
    judge = read(words()).judge
    assert judge is not None and judge.conditions is not None
    family = read(words()).deployment.family
    assert isinstance(family, TextDiffusion)
    spoken = family.speaking(judge.conditions, "seven")
    assert judge.told[spoken].tolist() == [7] * judge.each
    rows = digits.load("test").filter(lambda row: row["label"] != 9)
    few = datasets.load_dataset("parquet", data_files=str(tmp_path / "captioned.parquet"))["train"]
    kept = few.filter(lambda row: row["id"] in set(rows["id"][:]) or row["split"] != "test")
    kept.to_parquet(str(tmp_path / "captioned.parquet"))
    found = invoked("forget", words())
    with pytest.raises(ExpungeError, match=r"knows the class 9, and no row of data\.test has it"):
        raise found.exception or AssertionError(found.output)


def folder_run(tmp_path: Path, **changes: object) -> Path:
    """A run file of a tiny model of latents in the layout of Stable Diffusion."""
    draws = torch.Generator().manual_seed(0)
    own = {
        "what": ["cat", "dog"] * 4,
        "subject": ["a cat", "a dog"] * 4,
        "label": ["a cat", "a dog"] * 4,
        "kind": ["x", "y"] * 4,
        "gap": ["a cat", None] * 4,
        "list": [["a cat"]] * 8,
        "caption": ["a cat", "a dog"] * 4,
        "image": torch.rand(8, 3, 16, 16, generator=draws).tolist(),
    }
    datasets.Dataset.from_dict(own).to_parquet(str(tmp_path / "pets.parquet"))
    part = {"source": "pets.parquet", "columns": {"caption": "caption"}}
    content = {
        "model": {"checkpoint": "sd"},
        "data": {"train": part, "test": part},
        "requests": [
            {"name": "cats", "column": "what", "values": ["cat"], "text": "cat", "anchor": "dog"}
        ],
        "method": {"name": "uce", "parameters": {"aligned": "all-tokens"}},
        "aggregation": "sum",
        "out": "out",
        **changes,
    }
    file = tmp_path / "sd.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_a_folder_of_diffusers_is_forgotten_and_written_as_one(tmp_path: Path) -> None:
    folder = written(tmp_path / "sd")
    parts = {"safety_checker": ["a", "b"], "unet": ["a", "b"], "_class_name": "Pipeline"}
    (folder / "model_index.json").write_text(json.dumps(parts))
    (folder / "tokenizer").rename(tmp_path / "shared")
    (folder / "tokenizer").symlink_to(tmp_path / "shared")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickled")
    for place in ("safety_checker", "checkpoint-500/unet", "."):
        (folder / place).mkdir(parents=True, exist_ok=True)
        write_tensors(folder / place / "model.safetensors", {"a": torch.ones(1)})
    (folder / "images").mkdir()
    (folder / "images" / "1.txt").write_text("a photo of somebody")
    file = folder_run(tmp_path)
    found = invoked("forget", file, "--keep-at-least", "0", "--json", tmp_path / "f.json")
    assert found.exit_code == 0, found.exception
    made = DiffusionFolder(tmp_path / "out" / "checkpoint")
    stored = read_tensors(tmp_path / "out" / "model.safetensors")
    told = stored_tensors(made.model())
    assert stored.keys() == told.keys() and all(torch.equal(stored[n], told[n]) for n in told)
    assert figures(tmp_path / "f.json")["model"] == digest_of(made.model())
    assert digest_of(made.model()) != digest_of(DiffusionFolder(folder).model())
    assert (made.folder / "safety_checker" / "model.safetensors").exists()
    assert {path.name for path in made.folder.iterdir()} == {
        *("model_index.json", "safety_checker", "scheduler", "text_encoder", "tokenizer"),
        *("unet", "vae"),
    }
    assert not list(made.folder.rglob("*.bin"))
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert history["method"]["parameters"]["aligned"] == {"name": "all-tokens"}
    measured = invoked("evaluate", file, "--weights", made.folder)
    assert measured.exit_code == 0, measured.exception


def test_of_a_guarded_model_no_folder_is_written(tmp_path: Path) -> None:
    written(tmp_path / "sd")
    found = invoked("forget", folder_run(tmp_path, method={"name": "safe-latent"}))
    assert found.exit_code == 0, found.exception
    assert "Deletion state: suppressed" in found.output
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert not (tmp_path / "out" / "checkpoint").exists()


def test_folders_of_diffusers_say_what_they_are(tmp_path: Path) -> None:
    written(tmp_path / "sd")
    model = {"checkpoint": "sd", "family_arguments": {"drop": 0.2}}
    found = invoked("forget", folder_run(tmp_path, model=model))
    with pytest.raises(ExpungeError, match="configs say the rest; leave `family`"):
        raise found.exception or AssertionError(found.output)
    recipe = {"epochs": 1, "initial": "sd"}
    found = invoked("forget", folder_run(tmp_path, recipe=recipe), "--keep-at-least", "0")
    assert found.exit_code == 0, found.exception
    assert "oracle (retrained)" in found.output
    guessed = invoked(
        "init", tmp_path / "new.yaml", "--model", tmp_path / "sd", "--train", "digits"
    )
    with pytest.raises(ExpungeError, match=r"no run file is guessed; start from"):
        raise guessed.exception or AssertionError(guessed.output)
    untrained = DiffusionFolder(tmp_path / "sd").untrained(3)
    given = DiffusionFolder(tmp_path / "sd").model()
    assert digest_of(untrained.unet) != digest_of(given.unet)
    assert digest_of(untrained.vae) == digest_of(given.vae)
    assert digest_of(untrained) == digest_of(DiffusionFolder(tmp_path / "sd").untrained(3))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"caption": "gap"}, "data.train: Row 2 has the caption None; one sentence is expected"),
        ({"caption": "list"}, "Row 1 has the caption .'a cat'.; one sentence"),
        ({"caption": "caption", "label": "knd"}, "has no column 'knd'"),
        ({"caption": "caption", "label": "kind"}, "the label 'x', which is no integer"),
    ],
)
def test_captions_are_sentences_and_labels_are_asked_for(
    columns: dict[str, str], said: str, tmp_path: Path
) -> None:
    written(tmp_path / "sd")
    file = folder_run(tmp_path)
    content = yaml.safe_load(file.read_text())
    content["data"] = {n: {"source": "pets.parquet", "columns": columns} for n in content["data"]}
    file.write_text(yaml.safe_dump(content))
    found = invoked("forget", file)
    with pytest.raises(ExpungeError, match=said):
        raise found.exception or AssertionError(found.output)


def test_a_column_called_subject_or_label_may_hold_the_captions(tmp_path: Path) -> None:
    written(tmp_path / "sd")
    for column in ("subject", "label"):
        file = folder_run(tmp_path)
        content = yaml.safe_load(file.read_text())
        part = {"source": "pets.parquet", "columns": {"caption": column}}
        content["data"] = {"train": part, "test": part}
        file.write_text(yaml.safe_dump(content))
        loaded = read(file)
        assert loaded.deployment.data[Role.PROMPTS].ids == ["a cat", "a dog"]
        assert loaded.deployment.train.fields == {"image", "prompt"}


def test_a_token_without_an_embedding_is_said_before_any_work(tmp_path: Path) -> None:
    network = SmallTextToImage((3, 16, 16), 8, 8, widths=(8, 16), width=16, heads=2)(0)
    write_tensors(tmp_path / "small.safetensors", stored_tensors(network))
    model = {
        "builder": "tests.cli.known_denoisers:small",
        "weights": "small.safetensors",
        "family": "text-to-image",
        "family_arguments": {"tokens": {"words": ["a", "cat", "dog", "hat", "gnu"], "length": 8}},
    }
    (tmp_path / "more.txt").write_text("a gnu")
    file = folder_run(tmp_path, model=model)
    assert len(read(file).deployment.train) == 8
    content = yaml.safe_load(file.read_text())
    wrong = {**content, "data": {**content["data"], "prompts": "more.txt"}}
    for key, said in ((wrong, "more.txt: It has the token 7"), (content, "'gnu' has the token 7")):
        changed = json.loads(json.dumps(key))
        if key is content:
            changed["requests"][0]["anchor"] = "gnu"
        model["arguments"] = {"vocabulary": 7}
        changed["model"] = model
        few = SmallTextToImage((3, 16, 16), 7, 8, widths=(8, 16), width=16, heads=2)(0)
        write_tensors(tmp_path / "small.safetensors", stored_tensors(few))
        file.write_text(yaml.safe_dump(changed))
        found = invoked("forget", file)
        with pytest.raises(ExpungeError, match=said):
            raise found.exception or AssertionError(found.output)


def test_the_example_is_the_shipped_canvas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its family, first weights and recipe are those of `expunge train emoji-canvas`; read here
    with the hands of vendors that need not be fetched."""
    shipped = world("small").recipe
    assert isinstance(shipped.family, TextDiffusion)
    text = (ROOT / "examples" / "canvas_words.yaml").read_text()
    start, end = text.index("# recipe:"), text.index("out: ")
    recipe = "\n".join(line.removeprefix("# ") for line in text[start:end].splitlines())
    content = yaml.safe_load(text[:start] + recipe + "\n" + text[end:])
    judge = yaml.safe_load((ROOT / "examples" / "canvas_judge.yaml").read_text())["model"]
    said = content.pop("judge")
    assert all(said[key] == judge[key] for key in ("builder", "arguments", "weights"))
    words = content["model"]["family_arguments"]["tokens"]["words"]
    assert tuple(words) == shipped.family.tokens.words
    few = Canvas(SMALL.objects, ("noto", "outline", "negative", "twemoji"), copies=10)
    monkeypatch.setattr(canvas, "SMALL", few)
    monkeypatch.setattr(canvas, "_table", canvas._table.__wrapped__)
    content["model"]["family_arguments"]["tokens"]["words"] = list(few.words)
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(content))
    write_tensors(tmp_path / "canvas.safetensors", stored_tensors(shipped.builder(0)))
    loaded = read(file)
    made = loaded.deployment.recipe
    assert made is not None
    assert (made.learner, made.seed) == (shipped.learner, shipped.seed)
    assert digest_of(made.builder(0)) == digest_of(shipped.builder(0))
    assert loaded.deployment.family == replace(
        shipped.family, tokens=replace(shipped.family.tokens, words=few.words)
    )
    assert len(loaded.deployment.train) == 8 * 32
    assert loaded.requests[0].labels == (few.objects.index("fish"),)


def test_a_file_without_sentences_adds_none(words: Words, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("\n \n", encoding="utf-8")
    alone = read(words()).deployment.data[Role.PROMPTS]
    assert read(words(data__prompts="none.txt")).deployment.data[Role.PROMPTS].ids == alone.ids
