"""The commands as a user types them: figures, files, one sentence and status 2 for bad input."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from expunge.benchmarks.shipped import digits_classifier_work
from expunge.changes.delta import Delta
from expunge.changes.weights import parameters_of
from expunge.cli.doctor import complaints
from expunge.cli.main import app
from expunge.data import digits
from expunge.errors import ExpungeError
from expunge.models.mlp import digits_classifier
from expunge.run import Run
from expunge.storage import read_tensors, write_tensors

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.yaml"


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "digits.safetensors"
    work = digits_classifier_work()
    model = work.recipe.make(work.data, Run()).model
    write_tensors(path, parameters_of(model))
    return path


@pytest.fixture
def example(tmp_path: Path, weights: Path) -> Callable[..., Path]:
    """The shipped example, its weights and output in a folder of the test, with changes."""

    def changed(**changes: object) -> Path:
        content = yaml.safe_load(EXAMPLE.read_text())
        content["model"]["weights"] = str(weights)
        content["out"] = str(tmp_path / "out")
        for key, value in changes.items():
            *path, last = key.split("__")
            place = content
            for part in path:
                place = place[int(part)] if isinstance(place, list) else place[part]
            place[last] = value
        path_of_file = tmp_path / "run.yaml"
        path_of_file.write_text(yaml.safe_dump(content))
        return path_of_file

    return changed


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
    assert files == {"1-delta.safetensors", "2-delta.safetensors", "model.safetensors"}
    again = invoked("evaluate", run_file, "--json", tmp_path / "again.json")
    assert again.exit_code == 0, again.exception
    [_, edited] = json.loads((tmp_path / "again.json").read_text()).values()
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
        ({"requests__0__values": list(range(10))}, "names all"),
        ({"requests__1__values": [8]}, "share"),
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
        ({**tensors, name: tensors[name] * float("nan")}, ""),
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
        model__family_arguments={"input_field": "pixels"},
        data__train={**rows, "split": "train"},
        data__test={**rows, "split": "test"},
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
