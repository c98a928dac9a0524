"""A run file whose learner makes several models of one: trained, stored, read, forgotten on."""

from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from expunge.changes.weights import digest_of, load_stored
from expunge.cli.main import app
from expunge.learning.sharded.ensemble import ShardEnsemble
from expunge.learning.sharded.tree import SliceTree
from expunge.recipe import Role
from expunge.run import Run
from expunge.run_file.reading import read
from expunge.storage import Bundle, read_tensors

EXAMPLE = Path(__file__).parents[2] / "examples" / "certified_digits.yaml"
LEARNER = {
    "name": "sharded-checkpoints",
    "parameters": {"shards": 2, "slices": 2, "epochs": 3, "below": "never saw the rows"},
}


@pytest.fixture
def run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    content = yaml.safe_load(EXAMPLE.read_text())
    content["model"] |= {"weights": "made/w.safetensors", "record": "made/r.safetensors"}
    content |= {"out": "out", "method": {"name": "sisa"}}
    content["recipe"]["learner"] = {
        **LEARNER,
        "parameters": {**LEARNER["parameters"], "learning_rate": 0.01},  # type: ignore[dict-item]
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_shards_are_trained_stored_and_forgotten_on(run_file: Path) -> None:
    trained = CliRunner().invoke(app, ["train", str(run_file)])
    assert trained.exit_code == 0, trained.exception
    assert "sharded-checkpoints" in trained.output
    deployment = read(run_file).deployment
    assert isinstance(deployment.model, ShardEnsemble)
    assert len(deployment.model.members) == 2
    assert deployment.record is not None
    assert len(SliceTree(deployment.record).nodes) == 4

    forgotten = CliRunner().invoke(app, ["forget", str(run_file)])
    assert forgotten.exit_code == 0, forgotten.exception
    assert "Deletion state: exact" in " ".join(forgotten.output.split())
    gone = {"digits:0028", "digits:0003"}
    kept = [row for row, name in enumerate(deployment.train.ids) if name not in gone]
    assert deployment.recipe is not None
    rows = deployment.train.select(torch.tensor(kept))
    again = deployment.recipe.make({Role.TRAIN: rows}, Run())
    out = run_file.parent / "out"
    stored = load_stored(deployment.model, read_tensors(out / "model.safetensors"))
    assert digest_of(stored) == digest_of(again.model)
    assert again.record is not None
    left = Bundle.load_checked(out / "record.safetensors")
    assert left.facts["nodes"] == again.record.facts["nodes"]


def test_a_run_file_that_was_changed_after_training_is_refused(run_file: Path) -> None:
    trained = CliRunner().invoke(app, ["train", str(run_file)])
    assert trained.exit_code == 0, trained.exception
    content = yaml.safe_load(run_file.read_text())
    content["recipe"]["learner"]["parameters"]["epochs"] = 1
    run_file.write_text(yaml.safe_dump(content))
    refused = CliRunner().invoke(app, ["forget", str(run_file)])
    assert refused.exit_code != 0
    said = " ".join((refused.output + str(refused.exception)).split())
    assert "epochs: 1 was given, 3 is expected" in said
