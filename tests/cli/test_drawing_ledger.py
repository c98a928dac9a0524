"""A ledger of models that draw: changes are stored, rebuilt to the same bits, and taken back."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.known_denoisers import CAPTIONED, LABELLED, UNTOLD, write_captioned
from typer.testing import CliRunner, Result

from expunge.changes.weights import digest_of
from expunge.cli.main import app
from expunge.ledger.material import Material
from expunge.ledger.measuring import Subject, stand_in
from expunge.ledger.scope import Scope
from expunge.recipe import Role
from expunge.run import Run
from expunge.run_file.reading import read
from expunge.signals.denoising import denoising_losses
from expunge.storage import digest, read_tensors

Drawing = Callable[..., Path]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("EXPUNGE_LEDGER", f"sqlite:///{tmp_path / 'ledger' / 'ledger.db'}")

    def run(*words: object) -> Result:
        logging.getLogger("dbos").handlers.clear()  # its stream was closed by the last call
        found = CliRunner().invoke(app, ["ledger", *map(str, words)], catch_exceptions=True)
        assert found.exit_code == 0, f"{found.output}\n{found.exception}"
        return found

    run("init")
    return run


@pytest.mark.parametrize("kind", [LABELLED, UNTOLD], ids=["diffusion", "score"])
def test_a_ledger_stores_rebuilds_and_revokes(
    drawing: Drawing, ledger: Callable[..., Result], tmp_path: Path, kind: dict[str, Any]
) -> None:
    file = drawing(kind)
    loaded = read(file)
    deployment, run = loaded.deployment, loaded.run()
    ledger("register", "digits", file)
    (tmp_path / "nearest.safetensors").unlink()  # a ledger asks no judge
    given = ledger("request", "digits", "--class", 3).output.partition(":")[0]
    ledger("run")
    ledger("history", "digits", "--json", tmp_path / "h.json")
    [zero, one] = json.loads((tmp_path / "h.json").read_text())["versions"]
    assert (zero["cause"], one["cause"]) == ("registration", "request")
    request = replace(loaded.requests[0], anchor=None)  # none is given
    deployment.forget(request, loaded.method, run)
    assert weights_of(ledger, tmp_path, 1) == digest_of(deployment.model)
    assert "Everything is as it was written." in ledger("verify").output
    ledger("revoke", given, "--reason", "asked in error")
    ledger("run")
    assert weights_of(ledger, tmp_path, 2) == digest_of(deployment.base)
    assert "Everything is as it was written." in ledger("verify").output


def test_words_are_asked_of_a_ledger(
    drawing: Drawing, ledger: Callable[..., Result], tmp_path: Path
) -> None:
    file = drawing(CAPTIONED, data=write_captioned(tmp_path))
    loaded = read(file)
    ledger("register", "digits", file)
    words = ["--where", "digit=three", "--text", "three", "--anchor", "eight"]
    given = ledger("request", "digits", *words).output.partition(":")[0]
    ledger("run")
    said = ledger("show", given, "--json", tmp_path / "s.json").output
    assert "state: published" in said
    loaded.deployment.forget(loaded.requests[0], loaded.method, loaded.run())
    assert weights_of(ledger, tmp_path, 1) == digest_of(loaded.deployment.model)
    assert b"three" not in (tmp_path / "ledger" / "ledger.db").read_bytes()


def test_the_stand_in_of_sentences_that_are_all_gone_is_being_told_nothing(
    drawing: Drawing, tmp_path: Path
) -> None:
    loaded = read(drawing(CAPTIONED, data=write_captioned(tmp_path)))
    material, none = Material.of(loaded), torch.empty(0, dtype=torch.int64)
    rows = loaded.requests[0].target.rows(material.train_table)
    gone = torch.zeros(len(material.train), dtype=torch.bool)
    gone[rows] = True
    whole, silent = (Subject("r", "digit", rows, none, text) for text in ("three", ""))
    assert stand_in(material, material.model, whole, gone, Run())[1] == "told nothing"
    assert stand_in(material, material.model, silent, gone, Run())[1] == "held-out rows"
    gone[rows[0]] = False  # a sentence stays
    some = Subject("r", "digit", rows[1:], none, "three")
    assert stand_in(material, material.model, some, gone, Run())[1] == "held-out rows"


def test_sentences_that_only_sealed_rows_said_are_shown_to_nobody(
    drawing: Drawing, tmp_path: Path
) -> None:
    (tmp_path / "more.txt").write_text("a")
    tables: dict[str, Any] = {**write_captioned(tmp_path), "prompts": "more.txt"}
    loaded = read(drawing(CAPTIONED, data=tables))
    material = Material.of(loaded)
    gone = torch.zeros(len(material.train), dtype=torch.bool)
    gone[loaded.requests[0].target.rows(material.train_table)] = True
    nobody = torch.zeros(len(material.held_out), dtype=torch.bool)
    before, after = (
        list(m.data[Role.PROMPTS].ids) for m in (material, material.without(gone, nobody))
    )
    assert set(before) - set(after) == {"a three"} and "a" in after


def test_words_that_the_rows_do_not_say_are_refused(
    drawing: Drawing, ledger: Callable[..., Result], tmp_path: Path
) -> None:
    ledger("register", "digits", drawing(CAPTIONED, data=write_captioned(tmp_path)))
    words = ["--where", "digit=three", "--text", "four", "--anchor", "eight"]
    given = ledger("request", "digits", *words).output.partition(":")[0]
    assert CliRunner().invoke(app, ["ledger", "run"]).exit_code == 1
    said = ledger("show", given).output
    assert "state: failed" in said and "speaks of 'four'" in " ".join(said.split())


def test_scopes_without_words_are_written_as_they_were(tmp_path: Path) -> None:
    """The same bytes and digest as before there were texts, so that a retry is known again."""
    plain = Scope("some", "label", ("3",), "8")
    assert b"text" not in plain.to_bytes() and Scope.of_bytes(plain.to_bytes()) == plain
    told = Scope("some", "label", ("3",), "8", "three")
    assert Scope.of_bytes(told.to_bytes()) == told
    digests = {scope.request().digest() for scope in (plain, told, replace(told, text="two"))}
    assert len(digests) == 3


def weights_of(ledger: Callable[..., Result], folder: Path, version: int) -> str:
    """Digest of a version that the ledger folds from what it stored."""
    ledger("materialise", "digits", "--out", folder / "versions", "--version", version)
    [path] = (folder / "versions").glob(f"{version:06d}-*/model.safetensors")
    return digest(read_tensors(path))


def test_a_request_that_changed_nothing_is_refused_by_the_gate(
    drawing: Drawing, ledger: Callable[..., Result]
) -> None:
    """Told nothing, the model sees less of the threes than told what they are; so it has to be when
    they are forgotten, and steps that are too short to matter do not lead there."""
    ledger("register", "digits", drawing(method__parameters__learning_rate=1e-6))
    given = ledger("request", "digits", "--class", 3).output.partition(":")[0]
    ledger("run")
    said = ledger("show", given).output
    assert "state: refused" in said and "reason: gate" in said


def test_the_stand_in_of_a_whole_condition_is_being_told_nothing(drawing: Drawing) -> None:
    loaded = read(drawing())
    material, run = Material.of(loaded), Run()
    rows = loaded.requests[0].target.rows(material.train_table)
    gone = torch.zeros(len(material.train), dtype=torch.bool)
    gone[rows] = True
    none = torch.empty(0, dtype=torch.int64)
    level, against = stand_in(
        material, material.model, Subject("r", "class", rows, none), gone, run
    )
    own = denoising_losses(material.family, material.model, material.train.select(rows), run)
    assert against == "told nothing"
    assert level > 1.2 * float(own.mean())
    gone[rows[0]] = False  # a three stays, so that the condition is still learned
    some = Subject("r", "samples", rows[1:], none)
    assert stand_in(material, material.model, some, gone, run)[1] == "held-out rows"
