"""``expunge forget`` with a guard: what is stored, and what is measured and audited behind it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from expunge.changes.redaction import Redacted
from expunge.changes.refusal import Refusal, Refusing
from expunge.changes.stored import load
from expunge.changes.weights import digest_of
from expunge.cli.audited import deployed_of, history_of
from expunge.cli.main import app
from expunge.errors import IntegrityError
from expunge.run_file.reading import read


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def guarded(example: Callable[..., Path]) -> Path:
    return example(method={"name": "guardrail"})


def test_a_guard_is_stored_beside_the_weights_that_it_leaves_as_they_are(
    guarded: Path, tmp_path: Path
) -> None:
    result = invoked("forget", guarded, "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.exception
    assert "Deletion state: suppressed. model.safetensors holds" in result.output
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["deletion state"] == "suppressed"
    assert figures["after"][-1]["forget rows"] == [0.0, 0.0]
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    kinds = [c["kind"] for r in history["epochs"][0]["requests"] for c in r["changes"]]
    assert kinds == ["refusal", "refusal"]
    loaded = read(guarded)
    assert history["model"]["digest"] == history["base"] == digest_of(loaded.deployment.base)
    deployed = deployed_of(loaded, None)
    assert isinstance(deployed, Refusing)
    assert len(deployed.refusal.rules) == 2
    bare = deployed_of(loaded, tmp_path / "out" / "model.safetensors")
    assert not isinstance(bare, Refusing)
    steps, state = history_of(loaded, deployed)
    assert state == "suppressed"
    guards = [step.model for step in steps]
    assert [len(g.refusal.rules) for g in guards if isinstance(g, Refusing)] == [1, 2]


def test_it_is_evaluated_and_audited_behind_its_guard(guarded: Path, tmp_path: Path) -> None:
    assert invoked("forget", guarded).exit_code == 0
    measured = invoked("evaluate", guarded, "--json", tmp_path / "e.json")
    assert "measured behind the guards" in measured.output
    found = json.loads((tmp_path / "e.json").read_text())
    [stored] = [name for name in found if name.endswith("model.safetensors")]
    assert set(found[stored]["forget rows"].values()) == {0.0}
    audited = tmp_path / "audit.json"
    policy = tmp_path / "policy.yaml"
    policy.write_text("questions: [forgotten, kept, deleted or suppressed]\n")
    quick = ("--level", "quick", "--policy", policy, "--json", audited)
    assert invoked("audit", guarded, *quick).exit_code == 1
    results = {v["question"]: v["result"] for v in json.loads(audited.read_text())["verdicts"]}
    assert results == {"forgotten": "pass", "kept": "pass", "deleted or suppressed": "fail"}


def test_a_damaged_guard_is_not_left_out(guarded: Path, tmp_path: Path) -> None:
    assert invoked("forget", guarded).exit_code == 0
    path = tmp_path / "out" / "2-refusal.safetensors"
    assert Refusal.load(path).signal == "logits"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(IntegrityError, match=r"2-refusal\.safetensors"):
        deployed_of(read(guarded), None)
    path.unlink()
    result = invoked("evaluate", guarded)
    assert isinstance(result.exception, IntegrityError)


def test_a_redaction_is_stored_for_whoever_serves_the_model(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    run_file = example(method={"name": "redact"})
    result = invoked("forget", run_file)
    assert result.exit_code == 0, result.output
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert history["deletion state"] == "suppressed"
    changes = [c for e in history["epochs"] for r in e["requests"] for c in r["changes"]]
    assert [(c["kind"], c["acts on"]) for c in changes] == [("redaction", "input")] * 2
    redactions = [load(c["kind"], tmp_path / "out" / c["file"]) for c in changes]
    assert all(isinstance(each, Redacted) for each in redactions)
    audited = invoked("audit", run_file, "--level", "quick", "--json", tmp_path / "a.json")
    assert audited.exit_code == 1  # the weights answer as before: it fails
    assert "suppressed" in audited.output
