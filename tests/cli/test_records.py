"""Run files whose learner keeps a record: training, forgetting in a row, and what is refused."""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner, Result

from expunge import registry
from expunge.changes.weights import digest_of
from expunge.cli.main import app
from expunge.data.samples import Samples
from expunge.descent.optimisers import SGD
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.abilities import Family
from expunge.learning.supervised.convex_head import ConvexHead, Squared
from expunge.learning.supervised.plain import Plain
from expunge.methods.certified_removal import SCOPE
from expunge.recipe import LEARNER, MODEL, Record, Role, Trained
from expunge.run import Run
from expunge.run_file.made import make
from expunge.run_file.reading import read, to_train
from expunge.storage import read_facts, read_tensors

EXAMPLE = Path(__file__).parents[2] / "examples" / "certified_digits.yaml"


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(*arguments: object) -> str:
    result = invoked(*arguments)
    assert isinstance(result.exception, ExpungeError), result.exception
    return str(result.exception)


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """The shipped example with files in a folder of the test, with changes."""
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))

    def changed(name: str = "run", **changes: Any) -> Path:
        content = yaml.safe_load(EXAMPLE.read_text())
        content["model"] |= {"weights": "made/w.safetensors", "record": "made/r.safetensors"}
        content["out"] = "out"
        for key, value in changes.items():
            *path, last = key.split("__")
            place = content
            for part in path:
                place = place[part]
            if value is None:
                place.pop(last)
            else:
                place[last] = value
        path_of_file = tmp_path / f"{name}.yaml"
        path_of_file.write_text(yaml.safe_dump(content))
        return path_of_file

    return changed


@pytest.fixture
def trained(certified: Callable[..., Path]) -> Callable[..., Path]:
    """The same, trained."""
    result = invoked("train", certified())
    assert result.exit_code == 0, result.exception
    return certified


def test_a_model_is_trained_from_its_run_file_with_its_record(
    certified: Callable[..., Path], tmp_path: Path
) -> None:
    result = invoked("train", certified(), "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.exception
    assert "Record of the learner convex-head" in result.output
    told = json.loads((tmp_path / "f.json").read_text())
    loaded = read(certified())
    deployment = loaded.deployment
    assert deployment.record is not None
    assert deployment.recipe is not None
    again = deployment.recipe.make({Role.TRAIN: deployment.train}, loaded.run())
    assert digest_of(again.model) == digest_of(deployment.base) == told["digest"]
    assert again.record is not None
    assert torch.equal(again.record.tensors["head"], deployment.record.tensors["head"])
    facts = read_facts(tmp_path / "made" / "r.safetensors")
    assert facts == dict(deployment.record.facts)
    assert (facts[LEARNER], facts[MODEL]) == ("convex-head", told["digest"])
    assert told["scores"]["held-out"] > 0.85
    assert "exists" in refused("train", certified())


def test_a_folder_may_be_named_and_a_plain_training_keeps_no_record(
    certified: Callable[..., Path], tmp_path: Path
) -> None:
    plain: dict[str, Any] = {"model__record": None, "recipe": {"epochs": 1}, "requests": []}
    result = invoked("train", certified(**plain), "--out", tmp_path / "here")
    assert result.exit_code == 0, result.exception
    assert "keeps no record" in result.output
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["model.safetensors"]


def test_requests_follow_one_another_on_the_record_that_each_leaves(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    result = invoked("forget", trained(), "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.exception
    assert f"Certified: {SCOPE} (epsilon" in " ".join(result.output.split())
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    proven = [
        entry["changes"][0]["certified"]
        for epoch in history["epochs"]
        for entry in epoch["requests"]
    ]
    assert 0 < proven[0]["epsilon"] < proven[1]["epsilon"] < 1
    assert json.loads((tmp_path / "f.json").read_text())["certified"] == proven[1]
    before = read(trained())
    first, _ = before.requests
    whole = before.deployment
    whole.forget(first, before.method, before.run())
    stored = read_facts(tmp_path / "out" / "record.safetensors")
    assert stored[MODEL] == history["model"]["digest"]
    assert history["record"]["file"] == "record.safetensors"
    assert whole.record is not None
    assert float(str(stored["residual"])) > float(str(whole.record.facts["residual"]))

    # what was written is where the next run file begins
    [third] = [{"name": "one more", "column": "id", "values": ["digits:0013"]}]
    asked = {"model__weights": "out/model.safetensors", "model__record": "out/record.safetensors"}
    later = trained("later", **asked, requests=[third], out="later")
    result = invoked("forget", later, "--json", tmp_path / "g.json")
    assert result.exit_code == 0, result.exception
    told = json.loads((tmp_path / "g.json").read_text())
    assert told["certified"]["epsilon"] > proven[1]["epsilon"]


def test_the_plan_says_which_methods_the_record_fits(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    def lacks(path: Path) -> list[str]:
        result = invoked("plan", path, "--no-probe", "--json", tmp_path / "p.json")
        assert result.exit_code == 0, result.exception
        found = json.loads((tmp_path / "p.json").read_text())["methods"]
        [own] = [fit for fit in found if fit["name"] == "certified-removal"]
        return list(own["lacks"])

    assert lacks(trained()) == []
    assert lacks(trained(model__record=None)) == ["needs the training record; there is none"]
    place = tmp_path / "made" / "r.safetensors"
    other = Record(read_tensors(place), {**read_facts(place), LEARNER: "another-head"})
    other.save(place)
    [said] = lacks(trained())
    assert said == "needs the training record of the learner 'convex-head'; this one is of "\
        "'another-head'"  # fmt: skip
    assert "has one of 'another-head'" in refused("forget", trained())


def test_a_method_that_keeps_no_record_leaves_none(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    edit = {"name": "gradient-difference", "parameters": {"epochs": 1}}
    result = invoked("forget", trained(method=edit), "--keep-at-least", 0)
    assert result.exit_code == 0, result.exception
    assert "No record was written: gradient-difference keeps none" in result.output
    assert not (tmp_path / "out" / "record.safetensors").exists()
    assert json.loads((tmp_path / "out" / "history.json").read_text())["record"] is None
    loaded = read(trained())
    one, other = loaded.requests
    loaded.deployment.forget(one, read(trained(method=edit)).method, loaded.run())
    with pytest.raises(ExpungeError, match="record that is there; retrain, or start again"):
        loaded.deployment.forget(other, loaded.method, loaded.run())


def test_retraining_makes_the_record_anew(trained: Callable[..., Path], tmp_path: Path) -> None:
    result = invoked("forget", trained(method={"name": "retrain"}))
    assert result.exit_code == 0, result.exception
    loaded = read(trained())
    rows = loaded.deployment.train
    gone = [r for request in loaded.requests for r in request.target.values]  # type: ignore[attr-defined]
    kept = torch.tensor([i for i, name in enumerate(rows.ids) if name not in gone])
    assert loaded.deployment.recipe is not None
    anew = loaded.deployment.recipe.make({Role.TRAIN: rows.select(kept)}, loaded.run())
    stored = read_tensors(tmp_path / "out" / "record.safetensors")
    assert anew.record is not None
    assert torch.equal(stored["head"], anew.record.tensors["head"])


def test_a_record_of_other_weights_or_a_damaged_one_is_refused(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    weights, place = (tmp_path / "made" / name for name in ("w.safetensors", "r.safetensors"))
    tensors, facts = read_tensors(place), read_facts(place)
    moved = {name: tensor + 1 for name, tensor in load_file(weights).items()}
    save_file(moved, tmp_path / "moved.safetensors")
    with pytest.raises(IntegrityError, match="is the training record of the weights"):
        read(trained(model__weights="moved.safetensors"))
    place.write_bytes(place.read_bytes()[:-8])
    with pytest.raises(IntegrityError, match="not a readable safetensors file"):
        read(trained())
    save_file(tensors, place)
    with pytest.raises(IntegrityError, match="holds no training record"):
        read(trained())
    Record({"head": tensors["head"] * float("nan")}, facts).save(place)
    with pytest.raises(IntegrityError, match="NaN or infinite values in 'head'"):
        read(trained())
    place.unlink()
    with pytest.raises(IntegrityError, match="There is no file"):
        read(trained())
    # a record of the library's that names no weights is that of the model; the method looks
    bare = {name: fact for name, fact in facts.items() if name not in (MODEL, LEARNER)}
    Record({"head": tensors["head"] + 1}, bare).save(place)
    assert "not the one of the training record" in refused("forget", trained())
    assert "needs the training record" in refused("forget", trained(model__record=None))


def test_the_exact_example_is_the_retrained_model_in_every_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    content = yaml.safe_load(EXAMPLE.with_name("exact_digits.yaml").read_text())
    content["model"] |= {"weights": "w.safetensors", "record": "r.safetensors"}
    content |= {"out": "out"}
    content["model"]["arguments"] = {"width": 128}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    assert invoked("train", path).exit_code == 0
    result = invoked("forget", path)
    assert result.exit_code == 0, result.exception
    said = " ".join(result.output.split())
    assert "Deletion state: exact, as far as is certified below" in said
    assert "Certified: the last linear layer (2) on fixed features, equal in every bit" in said
    loaded = read(path)
    table, rows = loaded.deployment.table, loaded.deployment.train
    gone = {i for request in loaded.requests for i in request.target.rows(table).tolist()}
    kept = rows.select(torch.tensor([i for i in range(len(rows)) if i not in gone]))
    assert loaded.deployment.recipe is not None
    anew = loaded.deployment.recipe.make({Role.TRAIN: kept}, loaded.run())
    assert anew.record is not None
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert history["model"]["digest"] == digest_of(anew.model)
    stored = read_tensors(tmp_path / "out" / "record.safetensors")
    for name in ("gram", "cross", "head"):
        assert torch.equal(stored[name], anew.record.tensors[name])


class Mean(nn.Module):
    """Two linear classifiers, whose logits are averaged."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([part(images) for part in self.parts]).mean(0)


@dataclass(frozen=True)
class Halves:
    """One classifier for every other row; the record says which."""

    name: ClassVar[str] = "halves"

    epochs: int = 3

    def architecture(self, model: nn.Module) -> nn.Module:
        return Mean([copy.deepcopy(model) for _ in range(2)])

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained:
        rows = data[Role.TRAIN]
        halves = [torch.arange(first, len(rows), 2) for first in range(2)]
        parts = [
            Plain(self.epochs).fit(model, family, {Role.TRAIN: rows.select(half)}, run).model
            for half in halves
        ]
        return Trained(Mean(parts), Record({"first": halves[0]}, {LEARNER: self.name}))


def test_a_learner_may_make_a_module_of_its_own(
    certified: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = registry._found

    def with_halves(group: registry.Group, where: tuple[str, ...]) -> tuple[EntryPoint, ...]:
        own = EntryPoint("halves", f"{__name__}:Halves", "expunge.learners")
        return (*found(group, where), own) if group == "learners" else found(group, where)

    monkeypatch.setattr(registry, "_found", with_halves)
    recipe = {"learner": {"name": "halves", "parameters": {"epochs": 8}}}
    path = certified(recipe=recipe, method={"name": "retrain"})
    assert invoked("train", path).exit_code == 0
    loaded = read(path)
    assert len(list(loaded.deployment.base.parameters())) == 4
    result = invoked("forget", path)
    assert result.exit_code == 0, result.exception
    again = loaded.with_weights(tmp_path / "out" / "model.safetensors")
    assert digest_of(again) != digest_of(loaded.deployment.base)
    assert (tmp_path / "out" / "record.safetensors").exists()
    frozen = certified(recipe={**recipe, "train_only": ["1.weight"]})
    with pytest.raises(ExpungeError, match="Halves makes a module of its own, whose parameters"):
        read(frozen)


def test_learners_take_plain_values_and_objects_by_name() -> None:
    assert make(ConvexHead, {"loss": "squared", "ridge": 2}) == ConvexHead(Squared(), 2.0)
    sgd = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}
    assert make(Plain, {"epochs": 3, "optimiser": sgd}) == Plain(3, 64, SGD(0.1, 0.9))


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (
            {"learner": {"name": "convexhead"}},
            "no entry 'convexhead' among the learners.*convex-he",
        ),
        ({"learner": {"name": "convex-head", "parameters": {"rigde": 1}}}, "no parameter 'rigde'"),
        ({"learner": {"name": "convex-head", "parameters": {"ridge": "x"}}}, "a valid number"),
        ({"learner": {"name": "convex-head", "parameters": {"ridge": -1}}}, "a ridge above 0"),
        (
            {"learner": {"name": "convex-head", "parameters": {"loss": "hinge"}}},
            "'hinge'; one of logistic, squared is expected",
        ),
        (
            {"learner": {"name": "plain", "parameters": {"optimiser": {"name": "sgd", "rate": 1}}}},
            "SGD has no parameter 'rate'",
        ),
        ({"learner": {"name": "convex-head"}, "epochs": 3}, "`epochs` is of the plain training"),
        ({"learner": {"name": "convex-head", "ridge": 3}}, "there is no such key"),
        ({"seed": 3}, "give `epochs` of a plain training, or a `learner`"),
    ],
)
def test_what_is_no_learner_is_refused(
    recipe: dict[str, Any], said: str, certified: Callable[..., Path]
) -> None:
    with pytest.raises(ExpungeError, match=said):
        to_train(certified(recipe=recipe))


def test_what_cannot_be_trained_is_refused(certified: Callable[..., Path], tmp_path: Path) -> None:
    assert "does not say how its model is trained" in refused("train", certified(recipe=None))
    assert "There is no run file" in refused("train", tmp_path / "no.yaml")
    assert "give a run file's as `recipe.seed`" in refused("train", certified(), "--seed", 3)
    assert "--out is missing" in refused("train", "digits-classifier")
    (tmp_path / "file").write_text("")
    assert "is a file" in refused("train", certified(), "--out", tmp_path / "file")


def test_the_learners_are_listed(tmp_path: Path) -> None:
    result = invoked("methods", "--json", tmp_path / "m.json")
    assert "Learner convex-head: A learner of the last linear layer" in result.output
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["learners"]["convex-head"]["fields"] == "loss (logistic, squared), ridge, noise"
    assert found["broken"] == []
