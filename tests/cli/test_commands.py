"""The commands as a user types them: figures, files, one sentence and status 2 for bad input."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from expunge import registry
from expunge.benchmarks.shipped import digits_classifier_work
from expunge.changes.delta import Delta
from expunge.changes.history import History, Served
from expunge.changes.weights import digest_of, parameters_of
from expunge.cli.doctor import advice, complaints
from expunge.cli.main import app, main
from expunge.cli.stored import file_names
from expunge.data import digits
from expunge.errors import ExpungeError, first_line
from expunge.models.mlp import digits_classifier
from expunge.requests import Request, Rows
from expunge.run_file.reading import read
from expunge.storage import read_tensors, write_tensors


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_shipped_example_forgets_and_keeps(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    run_file, figures = example(), tmp_path / "figures.json"
    result = invoked("forget", run_file, "--json", figures)
    assert result.exit_code == 0, result.exception
    assert "oracle (retrained)" in result.output
    assert "the eights" in result.output
    found = json.loads(figures.read_text())
    last = found["after"][-1]
    assert max(last["requests"]) < 0.2 < min(found["before"]["requests"])
    assert last["retained"] > 0.9
    assert max(found["oracle"]["requests"]) == 0
    files = {p.name for p in (tmp_path / "out").iterdir()}
    assert files == {
        "1-delta.safetensors",
        "2-delta.safetensors",
        "model.safetensors",
        "history.json",
    }
    assert max(found["oracle"]["forget rows"]) == 0 < min(found["before"]["forget rows"])
    assert "edited, base kept" in result.output
    assert "gradient-difference, sum" in result.output
    again = invoked("evaluate", run_file, "--json", tmp_path / "again.json")
    assert again.exit_code == 0, again.exception
    scores = json.loads((tmp_path / "again.json").read_text())
    edited = scores[str(tmp_path / "out" / "model.safetensors")]
    assert list(edited["requests"].values()) == pytest.approx(last["requests"])
    assert edited["retained"] == pytest.approx(last["retained"])


def test_what_was_written_adds_up(example: Callable[..., Path], tmp_path: Path) -> None:
    assert invoked("forget", example(aggregation="sum")).exit_code == 0
    weights = read_tensors(
        Path(yaml.safe_load((tmp_path / "run.yaml").read_text())["model"]["weights"])
    )
    deltas = [Delta.load(tmp_path / "out" / f"{i}-delta.safetensors") for i in (1, 2)]
    model = read_tensors(tmp_path / "out" / "model.safetensors")
    for name, before in weights.items():
        moved = before + sum(d.dense(name) for d in deltas if name in d.entries)
        torch.testing.assert_close(model[name], moved, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method__name": "gradient-asent"}, "Did you mean 'gradient-ascent'"),
        ({"method__parameters": {"learning": 1.0}}, "has no parameter 'learning'"),
        ({"aggregation": "median"}, "Known: cata"),
        ({"model__family": "clasifier"}, "Did you mean 'classifier'"),
        ({"requests__0__values": [11]}, "'11', which the column 'label' does not hold"),
        ({"requests__0__column": "digit"}, "the column 'digit'"),
        ({"requests__0__values": []}, "requests.0.values"),
        ({"requests": [{"name": "a", "column": "label", "values": [*range(10)]}]}, "name all"),
        ({"requests__1__values": [8]}, "was made before"),
        ({"requests__1__values": [3, 8]}, "share"),
        ({"requests__1__name": "the eights"}, "name of its own"),
        ({"requests__0__values": [11]}, "data.train (digits, split train)"),
        ({"method__parameters": {"epochs": 0}}, "at least 1"),
        ({"method__parameters": {"epochs": 1.5}}, "'epochs'"),
        ({"method__parameters": {"epochs": "many"}}, "'many'"),
        ({"method__parameters": {"epochs": True}}, "a number is expected"),
        ({"method__parameters": {"batch_size": 0}}, "at least 1"),
        ({"method__parameters": {"learning_rate": 0}}, "above 0"),
        ({"method__parameters": {"learning_rate": float("nan")}}, "finite"),
        ({"method": {"name": "negation", "parameters": {"kept": 30}}}, "at most 1"),
        ({"strength": float("inf")}, "strength"),
        ({"seed": -1}, "seed"),
        ({"recipe__seed": 10**30}, "recipe.seed"),
        ({"method__parameters": {"learning_rate": 1e30}}, "nan"),
        ({"device": "meta"}, "one of cpu, cuda, mps"),
        ({"device": "hpu"}, "one of cpu, cuda, mps"),
        ({"device": "no such"}, "one of cpu, cuda, mps"),
        ({"device": "cpu:x"}, "'cpu:x'"),
        ({"model__family_arguments": {"inputs": ["pixels"]}}, "reads the field 'pixels'"),
        ({"model__family_arguments": {"classes": 12}}, "declares 12 classes"),
        ({"model__family_arguments": {"classes": "ten"}}, "'ten'"),
        ({"model__arguments": {"sed": 1}}, "failed with the arguments {'sed': 1}"),
        ({"model__builder": ":digits_classifier"}, "'module:function' is expected"),
        ({"model__builder": "math:pi"}, "of the type float"),
        ({"model__builder": "math:floor", "model__arguments": {}}, "failed with the arguments"),
        ({"model__builder": "builtins:dict"}, "returned a dict"),
        ({"data__test": {"source": "mnist-5k"}}, "cannot read the rows of data.test"),
        (
            {"model__family": "dual_encoder", "model__family_arguments": {"prompts": {"a": [1]}}},
            "which a run file cannot hold",
        ),
        ({"device": "cuda:7"}, "'cuda:7'"),
        ({"model__builder": "nowhere:model"}, "cannot be imported"),
        ({"model__weights": "missing.safetensors"}, "no file"),
        ({"data__train__source": "missing.parquet"}, "no table"),
        ({"data__train__split": "holdout"}, "holdout"),
        ({"strength": -1.0}, "strength"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    changes: dict[str, object], said: str, example: Callable[..., Path], tmp_path: Path
) -> None:
    result = invoked("forget", example(**changes))
    assert isinstance(result.exception, ExpungeError), result.output
    assert said in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_are_refused(
    example: Callable[..., Path], tmp_path: Path, weights: Path
) -> None:
    tensors = read_tensors(weights)
    name = next(iter(tensors))
    for wrong, said in (
        ({n: t for n, t in tensors.items() if n != name}, "lacks"),
        ({**tensors, name: torch.zeros(3)}, "shape"),
        ({**tensors, "other": torch.zeros(3)}, "'other'"),
        ({**tensors, name: tensors[name] * float("nan")}, "wrong.safetensors have NaN"),
    ):
        path = tmp_path / "wrong.safetensors"
        write_tensors(path, wrong)
        result = invoked("forget", example(model__weights=str(path)))
        assert isinstance(result.exception, ExpungeError)
        assert said in str(result.exception)
    (tmp_path / "wrong.safetensors").write_bytes(weights.read_bytes()[:1000])
    result = invoked("forget", example(model__weights=str(tmp_path / "wrong.safetensors")))
    assert "not a readable safetensors file" in str(result.exception)


def test_an_earlier_result_is_not_overwritten(example: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    result = invoked("forget", example())
    assert "not empty" in str(result.exception)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_table_and_a_module_of_the_users_own(
    example: Callable[..., Path], tmp_path: Path, weights: Path
) -> None:
    table = digits.load().rename_columns({"id": "record", "subject": "who", "label": "class"})
    table.to_parquet(str(tmp_path / "mine.parquet"))
    (tmp_path / "my_model_file.py").write_text(
        "import torch\nfrom expunge.models.mlp import Mlp\n\n"
        "class Scaled(Mlp):\n"
        "    def forward(self, pixels):\n"
        "        return super().forward(pixels / 16)\n\n"
        "def build():\n    return Scaled(torch.Generator().manual_seed(0))\n"
    )
    columns = {"id": "record", "subject": "who", "label": "class", "input_field": "pixels"}
    rows = {"source": "mine.parquet", "columns": columns}
    run_file = example(
        model__builder="my_model_file:build",
        model__family_arguments={"inputs": ["pixels"]},
        data__train={**rows, "split": "train"},
        data__test={**rows, "split": "test"},
        data__validation=None,
        requests=[{"name": "eights", "column": "who", "values": ["digit 8"]}],
    )
    mine, shipped = tmp_path / "mine.json", tmp_path / "shipped.json"
    assert invoked("evaluate", run_file, "--json", mine).exit_code == 0
    assert invoked("evaluate", example(), "--json", shipped).exit_code == 0
    eights = [json.loads(p.read_text())["original"]["requests"] for p in (mine, shipped)]
    assert eights[0]["eights"] == eights[1]["the eights"] > 0.8


def test_methods_lists_access_families_and_paper(tmp_path: Path) -> None:
    assert invoked("methods", "--json", tmp_path / "m.json").exit_code == 0
    found = {m["name"]: m for m in json.loads((tmp_path / "m.json").read_text())["methods"]}
    assert found["gradient-difference"]["reads"] == "forget, retain"
    assert found["negation"]["reads"] == "forget"
    assert found["retrain"]["reads"] == "retain, recipe"
    assert "dual_encoder" in found["negation"]["families"]


def test_training_refuses_to_overwrite_and_unknown_models(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("mine")
    assert "exists" in str(invoked("train", "digits-classifier", "--out", path).exception)
    unknown = invoked("train", "gpt-5", "--out", tmp_path / "x").exception
    assert "digits-classifier" in str(unknown)


def test_a_broken_torchvision_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchvision.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    [said] = complaints({"torchvision": "0.28.0"})
    assert "does not import" in said
    assert "pip uninstall" in said


def test_the_process_ends_with_status_two_and_one_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "expunge.cli.main", "forget", str(tmp_path / "no.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert "no run file" in ended.stderr


def test_the_builder_of_the_example_is_what_train_makes() -> None:
    assert set(parameters_of(digits_classifier())) == set(
        parameters_of(digits_classifier_work().recipe.builder(0))
    )


def test_yaml_numbers_with_an_exponent_are_numbers(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    run_file = example(method__parameters={"learning_rate": "3e-4", "epochs": 1})
    assert invoked("forget", run_file).exit_code == 0
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert history["method"]["parameters"]["learning_rate"] == 3e-4


@pytest.mark.parametrize("text", ["model: [", "a: b: c", "\tx: 1", "- 1", "", "!!python/none x"])
def test_unreadable_yaml_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    said = str(invoked("forget", path).exception)
    assert "\n" not in said
    assert "run.yaml" in said


def test_samples_are_forgotten_and_held_against_the_oracle(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    table = digits.load("train")
    ids = [table["id"][i] for i in (3, 30, 300)]
    run_file = example(requests=[{"name": "[three] rows", "column": "id", "values": ids}])
    result = invoked("forget", run_file, "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.exception
    assert "[three] rows" in result.output
    assert "oracle's level is" in result.output
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["before"]["requests"] == found["oracle"]["requests"] == [None]
    assert found["before"]["forget rows"] == [1.0]
    assert found["oracle"]["forget rows"][0] > 0.6
    again = invoked("evaluate", run_file, "--json", tmp_path / "again.json")
    assert again.exit_code == 0, again.exception
    assert "ask with --oracle" in again.output
    edited = json.loads((tmp_path / "again.json").read_text())[
        str(tmp_path / "out" / "model.safetensors")
    ]
    assert edited["forget rows"] == {"[three] rows": found["after"][0]["forget rows"][0]}


def test_a_subject_without_held_out_rows_is_forgotten(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    table = digits.load()
    people = [f"person {i % 40}" for i in range(len(table))]
    split = ["train" if i % 40 < 30 else "test" for i in range(len(table))]
    table = table.remove_columns(["subject", "split"])
    table.add_column("subject", people).add_column("split", split).to_parquet(
        str(tmp_path / "mine.parquet")
    )
    rows = {"source": "mine.parquet", "columns": {"id": "id", "subject": "subject"}}
    asked = {"name": "one person", "column": "subject", "values": ["person 7"]}
    changes = {
        "data__train": {**rows, "split": "train"},
        "data__test": {**rows, "split": "test"},
    }
    result = invoked("forget", example(**changes, requests=[asked]), "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.exception
    assert json.loads((tmp_path / "f.json").read_text())["after"][0]["requests"] == [None]
    unknown = example(**changes, requests=[{**asked, "values": ["person 99"]}])
    said = str(invoked("forget", unknown).exception)
    assert "data.train (mine.parquet, split train)" in said
    assert "'person 99'" in said


def test_the_oracle_of_evaluate_is_asked_for(example: Callable[..., Path], tmp_path: Path) -> None:
    result = invoked("evaluate", example(), "--oracle", "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.exception
    oracle = json.loads((tmp_path / "f.json").read_text())["oracle (retrained)"]
    assert max(oracle["requests"].values()) == 0
    said = invoked("evaluate", example(recipe=None), "--oracle").exception
    assert "no `recipe`" in str(said)


def test_the_stored_history_folds_to_the_stored_model(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    run_file = example(aggregation="cata", strength=0.5)
    assert invoked("forget", run_file).exit_code == 0
    out = tmp_path / "out"
    history = json.loads((out / "history.json").read_text())
    [epoch] = history["epochs"]
    loaded = read(run_file)
    assert epoch["base"] == history["base"] == digest_of(loaded.deployment.base)
    pairs = []
    for entry, request in zip(epoch["requests"], loaded.requests, strict=True):
        assert entry["digest"] == request.digest()
        [change] = entry["changes"]
        content = (out / change["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == change["sha256"]
        pairs.append((Delta.load(out / change["file"]), entry["strength"]))
    assert epoch["requests"][1]["excluded"] == [epoch["requests"][0]["digest"]]
    assert digest_of(loaded.deployment.folded(pairs)) == history["model"]["digest"]


def test_retraining_is_called_retrained(example: Callable[..., Path], tmp_path: Path) -> None:
    run_file = example(method={"name": "retrain"}, aggregation="cata")
    result = invoked("forget", run_file, "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.exception
    assert "Deletion state: retrained" in result.output
    assert "retrain, cata" not in result.output
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert history["deletion state"] == "retrained"
    assert [len(e["requests"]) for e in history["epochs"]] == [1, 1, 0]


def test_a_sequential_edit_keeps_the_base(example: Callable[..., Path], tmp_path: Path) -> None:
    result = invoked("forget", example(method__parameters={"sequential": True}))
    assert "edited, base kept" in result.output
    assert "gradient-difference, sum" not in result.output
    assert (tmp_path / "out" / "2-replacement.safetensors").exists()


def test_several_changes_of_a_request_have_a_file_each() -> None:
    base = digits_classifier()
    delta = Delta.between(digits_classifier(1), base)
    request = Request("r", Rows("label", ("1",)))
    one, two = Served(request, (delta,)), Served(request, (delta, delta))
    history = History.of(digest_of(base)).with_served(one).with_served(two)
    names = [name for name, _ in file_names(history)]
    assert names == ["1-delta.safetensors", "2-1-delta.safetensors", "2-2-delta.safetensors"]

    class Removed:
        removed: ClassVar[dict[str, list[str]]] = {"edge": ["1"]}

    with pytest.raises(ExpungeError, match="Removed, which is of no kind that can be stored"):
        file_names(history.with_served(Served(request, (Removed(),))))


def test_a_model_with_integer_buffers_is_stored_whole(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "normed_model.py").write_text(
        "from torch import nn\n\n"
        "def build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10))\n"
    )
    sys.path.insert(0, str(tmp_path))
    import normed_model  # type: ignore[import-not-found]

    write_tensors(tmp_path / "normed.safetensors", normed_model.build().state_dict())
    run_file = example(
        model__builder="normed_model:build", model__weights=str(tmp_path / "normed.safetensors")
    )
    result = invoked("forget", run_file)
    assert result.exit_code == 0, result.exception
    stored = read_tensors(tmp_path / "out" / "model.safetensors")
    normed_model.build().load_state_dict(stored, strict=True)


@pytest.mark.parametrize("out", ["a file", "a file/below"])
def test_an_unusable_out_is_refused_before_any_work(
    out: str, example: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "a file").write_text("mine")
    assert "a file" in str(invoked("forget", example(out=str(tmp_path / out))).exception)
    for command in ("forget", "evaluate"):
        said = invoked(command, example(), "--json", tmp_path / out / "f.json").exception
        assert isinstance(said, ExpungeError)
    assert "is a folder" in str(invoked("methods", "--json", tmp_path).exception)
    said = invoked("train", "digits-classifier", "--out", tmp_path / "a file" / "w").exception
    assert "is a file" in str(said)
    assert (tmp_path / "a file").read_text() == "mine"
    assert not (tmp_path / "out").exists()


def test_a_folder_that_takes_no_file_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("expunge.cli.output.tempfile.TemporaryFile", full)
    monkeypatch.setattr("expunge.cli.train.Run", None)
    said = invoked("train", "digits-classifier", "--out", tmp_path / "w").exception
    assert isinstance(said, ExpungeError)
    assert "takes no file (Read-only file system)" in str(said)


@pytest.mark.parametrize("option", ["--seeds", "--requests"])
def test_benchmarks_refuse_empty_work(option: str) -> None:
    assert invoked("bench", "continual-digits", option, 0).exit_code == 2


@pytest.mark.parametrize(("option", "value"), [("--world", "faces"), ("--form", "acute")])
def test_a_benchmark_of_drawings_names_its_worlds_and_forms(
    option: str, value: str, tmp_path: Path
) -> None:
    said = invoked("bench", "msgm", option, value, "--out", tmp_path).exception
    assert isinstance(said, ExpungeError)
    known = {"--world": "'digits', 'bold'", "--form": "'orthogonal', 'perpendicular'"}
    assert repr(value) in str(said) and known[option] in str(said)


def test_classes_can_be_named_by_their_texts(example: Callable[..., Path], tmp_path: Path) -> None:
    table = digits.load()
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    named = [words[label] for label in table["label"]]
    table.remove_columns("label").add_column("label", named).to_parquet(
        str(tmp_path / "mine.parquet")
    )
    rows = {"source": "mine.parquet", "columns": {"id": "id", "classes": words}}
    asked = [{"name": "eights", "column": "label", "values": ["eight"]}]
    loaded = read(
        example(
            data__train={**rows, "split": "train"},
            data__test={**rows, "split": "test"},
            requests=asked,
        )
    )
    assert loaded.requests[0].target == Rows("label", ("8",))


def test_labels_and_inputs_that_do_not_fit_are_named_by_row(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    table = digits.load()
    labels = [12 if i == 5 else label for i, label in enumerate(table["label"])]
    pictures = [list(p) for p in table["image"]]
    pictures[7] = [float("nan")] * 64
    table.remove_columns("label").add_column("label", labels).to_parquet(
        str(tmp_path / "l.parquet")
    )
    table.remove_columns("image").add_column("image", pictures).to_parquet(
        str(tmp_path / "i.parquet")
    )
    for name, said in (("l", "has the label 12"), ("i", "has NaN or an infinite value")):
        part = {"source": f"{name}.parquet", "columns": {"id": "id"}}
        found = str(invoked("evaluate", example(data__train=part)).exception)
        assert said in found
        assert "'digits:000" in found


def test_one_broken_entry_point_hides_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("raise RuntimeError\n")
    info = tmp_path / "broken_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-package\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[expunge.methods]\nbroken = broken_package:Method\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = invoked("methods", "--json", tmp_path / "m.json")
    assert result.exit_code == 0, result.exception
    found = json.loads((tmp_path / "m.json").read_text())
    assert "negation" in {m["name"] for m in found["methods"]}
    assert "'broken'" in found["broken"][0]
    assert any("'broken'" in sentence for sentence in complaints({}))


def test_names_of_methods_are_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("expunge.cli.methods.console.width", 80)
    lines = invoked("methods").output.splitlines()
    for name in (*registry.names("methods"), *registry.names("aggregations")):
        [row, *_] = [line for line in lines if name in line.split()]
        assert len(row.rstrip()) <= 80


def test_missing_parts_of_the_demo_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("expunge.cli.doctor.DEMO", ("no_such_package",))
    monkeypatch.setattr("expunge.cli.doctor.WEIGHTS", ("no-such-weights",))
    assert any("expunge[demo]" in sentence for sentence in advice())
    assert any("no-such-weights" in sentence for sentence in complaints({}))


def test_an_import_error_without_words_is_named_by_its_kind() -> None:
    assert first_line(RuntimeError()) == "RuntimeError"
    assert first_line(RuntimeError("a\nb")) == "RuntimeError: a"


def test_errors_of_the_system_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device", "[x]")

    monkeypatch.setattr("expunge.cli.main.app", full)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "The system said: No space left on device ([x]).\n"


def test_new_weights_have_no_strength_and_that_is_said(example: Callable[..., Path]) -> None:
    method = {"name": "retrain", "parameters": {}}
    path = example(method=method, strength=0.5, recipe__epochs=1)
    result = invoked("forget", path, "--keep-at-least", "0")
    assert result.exit_code == 0, result.exception
    assert "`strength` is not used: retrain returns new weights." in result.output
