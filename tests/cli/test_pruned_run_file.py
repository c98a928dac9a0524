"""Run files of pruned models: trained sparse, unlearned within the mask, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from expunge.cli.main import app
from expunge.errors import ExpungeError
from expunge.learning.supervised.magnitude_pruned import MagnitudePruned
from expunge.learning.supervised.masks import Matrices, masks_of
from expunge.learning.supervised.plain import Plain
from expunge.learning.supervised.synflow import SynFlow
from expunge.methods.fine_tune import FineTune
from expunge.methods.presets import AtPreset, settled
from expunge.methods.prune_then_unlearn import PruneThenUnlearn
from expunge.methods.random_label import RandomLabel
from expunge.methods.salun import SalUn
from expunge.methods.ssd import SSD
from expunge.recipe import LEARNER
from expunge.run_file.made import make
from expunge.run_file.reading import read
from expunge.storage import read_facts

EXAMPLE = Path(__file__).parents[2] / "examples" / "pruned_digits.yaml"


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(*arguments: object) -> str:
    result = invoked(*arguments)
    assert isinstance(result.exception, ExpungeError), result.exception
    return str(result.exception)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The shipped example in a folder of the test, trained for fewer epochs, with changes."""
    folder = tmp_path_factory.mktemp("pruned")

    def changed(name: str, method: Any = "random-label", **model: Any) -> Path:
        content = yaml.safe_load(EXAMPLE.read_text())
        content["model"] |= {"weights": "made/w.safetensors", "record": "made/r.safetensors"}
        content["model"] = {k: v for k, v in (content["model"] | model).items() if v is not None}
        content["method"]["parameters"] = {"method": method}
        content["recipe"]["learner"]["parameters"]["training"]["epochs"] = 6
        content["out"] = f"out-{name}"
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return folder / f"{name}.yaml"

    result = invoked("train", changed("train"))
    assert result.exit_code == 0, result.exception
    assert "Record of the learner magnitude-pruned" in result.output
    return changed


def zeros(weights: Path, record: Path) -> list[int]:
    """How many pruned weights of a file are not 0, by their masks."""
    masks = {n.removeprefix("mask/"): t for n, t in load_file(record).items()}
    held = load_file(weights)
    return [int(held[name][~mask].count_nonzero()) for name, mask in masks.items()]


def test_the_example_forgets_and_what_is_pruned_stays_zero(written: Callable[..., Path]) -> None:
    run_file = written("preset")
    folder = run_file.parent
    result = invoked("forget", run_file, "--json", folder / "f.json")
    assert result.exit_code == 0, result.exception
    facts = read_facts(folder / "made" / "r.safetensors")
    assert (facts[LEARNER], facts["sparsity"]) == ("magnitude-pruned", pytest.approx(0.8, abs=1e-3))
    after = folder / "out-preset" / "model.safetensors"
    assert zeros(after, folder / "made" / "r.safetensors") == [0, 0, 0]
    found = json.loads((folder / "f.json").read_text())
    [used] = [p["method"] for p in found["presets"].values()]
    assert used["name"] == "random-label"
    assert used["learning_rate"] != RandomLabel().learning_rate
    text = " ".join(result.output.split())
    assert "Settings of prune-then-unlearn: preset" in text


def test_new_weights_bring_their_masks_along(written: Callable[..., Path]) -> None:
    own = {"name": "fine-tune", "epochs": 1, "learning_rate": 1e-3, "sequential": True}
    run_file = written("sequential", own)
    loaded = read(run_file)
    assert loaded.method == PruneThenUnlearn(FineTune(1, 1e-3, sequential=True))
    assert invoked("forget", run_file).exit_code == 0
    out = run_file.parent / "out-sequential"
    assert zeros(out / "model.safetensors", out / "record.safetensors") == [0, 0, 0]
    made = {"weights": "out-sequential/model.safetensors"}
    again = written("again", own, record="out-sequential/record.safetensors", **made)
    first = masks_of(loaded.deployment.record)
    assert all(torch.equal(first[n], m) for n, m in masks_of(read(again).deployment.record).items())


def test_a_method_by_its_name_is_at_its_preset_and_with_fields_as_given() -> None:
    named: dict[str, Any] = {"method": "salun"}
    method = make(PruneThenUnlearn, named)
    assert method == PruneThenUnlearn(SalUn())
    assert settled(method, named) == settled(method, {"method": {"name": "salun"}}) == ()
    own: dict[str, Any] = {"method": {"name": "ssd", "alpha": 3.0}}
    assert make(PruneThenUnlearn, own) == PruneThenUnlearn(SSD(alpha=3.0))
    assert settled(make(PruneThenUnlearn, own), own) == ("method",)
    assert settled(SSD(alpha=3.0), {"alpha": 3.0}) == ("alpha",)


def test_a_run_file_says_where_the_fields_come_from(written: Callable[..., Path]) -> None:
    assert read(written("name", "salun")).method == AtPreset(PruneThenUnlearn(SalUn()))
    own = read(written("own", {"name": "ssd", "alpha": 3.0})).method
    assert own == PruneThenUnlearn(SSD(alpha=3.0))


def test_learners_are_made_of_what_a_run_file_says() -> None:
    training = {"epochs": 3, "optimiser": {"name": "sgd", "learning_rate": 0.1}}
    made = make(MagnitudePruned, {"training": training, "rewind": 1, "scope": "matrices"})
    assert (made.training.epochs, made.scope) == (3, Matrices())
    assert make(SynFlow, {"training": {"epochs": 2}}).training == Plain(2)
    with pytest.raises(ExpungeError, match="'scope' of SynFlow was given as 'rows'; one of conv"):
        make(SynFlow, {"scope": "rows"})
    with pytest.raises(ExpungeError, match="Plain has no parameter 'epoks'"):
        make(SynFlow, {"training": {"epoks": 2}})


def test_what_cannot_unlearn_on_a_pruned_model_is_refused(written: Callable[..., Path]) -> None:
    told = refused("forget", written("of-learner", "certified-removal"))
    assert "reads the training record of the learner 'convex-head'" in told
    assert "no entry 'nothing' among the methods" in refused("forget", written("no", "nothing"))
    for nested in ("prune-then-unlearn", {"epochs": 3}):
        told = refused("forget", written("nested", nested))
        assert "the name of another method is expected" in told
    assert "needs the training record" in refused("forget", written("none", record=None))
    assert "leaves the weights as they are" in refused("forget", written("guard", "redact"))
    told = refused("tune", written("tune"), "--storage", written("tune").parent / "t.db")
    assert "'prune-then-unlearn' is put around another method, such as 'fine-tune'" in told


def test_a_preset_beside_fields_of_the_method_inside_is_refused(
    written: Callable[..., Path],
) -> None:
    run_file = written("both", {"name": "ssd", "alpha": 3.0})
    content = yaml.safe_load(run_file.read_text())
    content["method"]["preset"] = True
    run_file.write_text(yaml.safe_dump(content))
    with pytest.raises(ExpungeError, match="Fields of ssd, which prune-then-unlearn is put around"):
        read(run_file)
