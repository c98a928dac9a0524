"""The ledger on the command line: what it takes, refuses in one sentence, and prints."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from expunge.cli.main import app
from expunge.errors import ExpungeError
from expunge.ledger.opening import Ledger
from expunge.ledger.rows import rows
from expunge.ledger.scope import Scope
from expunge.ledger.submitting import LARGEST, Submission, submit

Run = Callable[..., Result]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path / 'ledger' / 'ledger.db'}"
    monkeypatch.setenv("EXPUNGE_LEDGER", url)
    return url


@pytest.fixture
def asked(ledger: str) -> Run:
    def run(*words: str) -> Result:
        # a worker's logger keeps the stream of the last call, which that call closed
        logging.getLogger("dbos").handlers.clear()
        return CliRunner().invoke(app, ["ledger", *words], catch_exceptions=True)

    assert run("init").exit_code == 0
    return run


@pytest.fixture
def registered(asked: Run, example: Callable[..., Path]) -> Run:
    method = {"name": "gradient-ascent", "parameters": {"epochs": 1, "learning_rate": 0.001}}
    path = example(requests=[], method=method)
    found = asked("register", "digits", str(path))
    assert found.exit_code == 0, found.output
    return asked


def refused(found: Result) -> str:
    assert isinstance(found.exception, ExpungeError), found.output
    return str(found.exception)


def events(url: str) -> int:
    with Ledger.open(url).database.reading() as connection:
        return len(rows(connection, "events"))


def test_a_request_goes_from_init_to_a_verified_certificate(
    registered: Run, tmp_path: Path
) -> None:
    given = registered("request", "digits", "--class", "8", "--key", "k", "--metadata", "{t: 1}")
    assert "request 1 for digits, received" in given.output
    again = registered("request", "digits", "--class", "8", "--key", "k")
    assert "was received before" in again.output
    assert registered("run").exit_code == 0
    out = tmp_path / "history.json"
    assert registered("history", "digits", "--json", str(out)).exit_code == 0
    versions = json.loads(out.read_text())["versions"]
    assert versions[0]["cause"] == "registration"
    assert "not measured again" not in registered("history", "digits").output
    certificate = tmp_path / "c.json"
    saved = CliRunner().invoke(app, ["certificate", "save", "digits", str(certificate)])
    assert saved.exit_code == 0, saved.output
    key = tmp_path / "ledger" / "keys" / "signing.pub"
    words = ["certificate", "verify", str(certificate), "--key", str(key)]
    assert "The signature holds" in CliRunner().invoke(app, words).output
    found = registered("verify", "--certificate", str(certificate))
    assert "Everything is as it was written." in found.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope", "--class", "1"], "There is no model 'nope'"),
        (["digits", "--where", "colour=red"], "names the column 'colour'"),
        (["digits", "--where", "colour"], "COLUMN=VALUE is expected"),
        (["digits"], "names 0 columns"),
        (["digits", "--class", "1", "--id", "2"], "names 2 columns"),
        (["digits", "--class", "1", "--method", "nope"], "There is no entry 'nope'"),
        (["digits", "--class", "1", "--parameters", "{epochs: 1}"], "without a method"),
        (["digits", "--class", "1", "--parameters", "[1"], "is not readable YAML"),
        (["digits", "--class", "1", "--metadata", "3"], "{name: value} is expected"),
        (["digits", "--class", "1", "--deadline", "soon"], "a date and time with its zone"),
        (["digits", "--class", "1", "--deadline", "2001-01-01T00:00:00Z"], "is past"),
        (["digits", "--class", "1", "--strength", "nan"], "Change --strength"),
        (["digits", "--class", "1", "--strength", "inf"], "Change --strength"),
        (["digits", "--class", "1", "--strength", "0"], "The strength 0.0 was given"),
        (["digits", "--class", "1", "--strength", "-1"], "a finite number above 0"),
        (["digits", "--class", "77", "--known"], "names '77'"),
        (["digits", "--ids-file", "absent.txt"], "absent.txt cannot be read"),
    ],
)
def test_bad_requests_are_refused_and_nothing_is_written(
    registered: Run, ledger: str, words: list[str], said: str
) -> None:
    before = events(ledger)
    assert said in refused(registered("request", *words))
    assert events(ledger) == before


def test_a_priority_that_no_database_holds_is_refused(registered: Run, ledger: str) -> None:
    given = registered("request", "digits", "--class", "1", "--priority", "9" * 20)
    assert given.exit_code == 2
    asked = Submission(Scope("the ones", "label", ("1",)), priority=LARGEST + 1)
    with pytest.raises(ExpungeError, match="from -1,000,000 to 1,000,000 is expected"):
        submit(Ledger.open(ledger), "digits", asked)


def test_a_run_that_is_interrupted_is_told_by_its_exit_status_and_says_why(
    registered: Run, ledger: str
) -> None:
    opened = Ledger.open(ledger)
    with opened.database.reading() as connection:
        [model] = rows(connection, "models")
    base = model["base"]
    path = Path(opened.vault.url) / base[:2] / base[2:4] / base
    content = path.read_bytes()
    path.write_bytes(b"x")
    registered("request", "digits", "--class", "8")
    found = registered("run")
    assert found.exit_code == 1
    [why] = [line for line in found.output.splitlines() if line.startswith("  why: ")]
    assert base in why
    path.write_bytes(content)
    assert registered("run").exit_code == 0


def test_status_goes_on_where_the_objects_are_out_of_reach(registered: Run, ledger: str) -> None:
    store = Path(Ledger.open(ledger).vault.url)
    store.rename(store.with_name("elsewhere"))
    found = registered("status")
    assert found.exit_code == 0
    assert "digits, policy unreadable: " in found.output


def test_show_goes_on_where_the_objects_are_out_of_reach(registered: Run, ledger: str) -> None:
    given = registered("request", "digits", "--class", "8")
    request = given.output.partition(":")[0]
    store = Path(Ledger.open(ledger).vault.url)
    store.rename(store.with_name("elsewhere"))
    found = registered("show", request)
    assert found.exit_code == 0
    assert "state: received" in found.output
    assert "scope: unreadable: " in found.output
    assert "figures: unreadable: " in found.output


def test_what_waits_is_cancelled_and_what_failed_is_tried_again(registered: Run) -> None:
    ruin = ("--method", "gradient-ascent", "--parameters", "{epochs: 2, learning_rate: 0.05}")
    asked = ("request", "digits", "--class", "8", *ruin, "--key", "k")
    request = registered(*asked).output.partition(":")[0]
    assert "refused" in registered("run").output
    assert f"retry {request}" in registered(*asked).output
    assert "waits again" in registered("retry", request).output
    assert "is received" in refused(registered("retry", request))
    found = registered("cancel", request, "--reason", "asked in error")
    assert "request 1 is cancelled" in found.output
    assert "Nothing waits." in registered("run").output
    assert "withdrawn already" in refused(registered("cancel", request, "--reason", "again"))
    assert "no request or run" in refused(registered("cancel", "r1", "--reason", "x"))


def test_a_ledger_that_is_not_there(ledger: str) -> None:
    found = CliRunner().invoke(app, ["ledger", "status"], catch_exceptions=True)
    assert "expunge ledger init" in refused(found)


def test_a_model_is_registered_once_and_from_one_source(
    registered: Run, example: Callable[..., Path]
) -> None:
    path = str(example(requests=[]))
    assert "registered already" in refused(registered("register", "digits", path))
    assert "one of the two" in refused(registered("register", "other"))
    assert "'module:function' is expected" in refused(registered("register", "x", "--from", "y"))
    assert "63 lower-case letters" in refused(registered("register", "Upper", path))


def test_what_cannot_be_revoked_or_sealed(registered: Run) -> None:
    assert "There is no request 'r1'" in refused(registered("revoke", "r1", "--reason", "x"))
    assert "nothing to seal" in refused(registered("seal", "digits", "--plan"))


def test_a_certificate_that_was_changed(registered: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    CliRunner().invoke(app, ["certificate", "save", "digits", str(path)])
    path.write_text(path.read_text().replace('"payload":"', '"payload":"A'))
    key = tmp_path / "ledger" / "keys" / "signing.pub"
    words = ["certificate", "verify", str(path), "--key", str(key)]
    found = CliRunner().invoke(app, words, catch_exceptions=True)
    assert "certificate" in refused(found)


def test_the_master_key_is_changed_to_one_in_a_file_or_the_environment(
    asked: Run, ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--new-key-file" in refused(asked("rekey"))
    file = tmp_path / "new.key"
    found = asked("rekey", "--new-key-file", str(file))
    assert found.exit_code == 0, found.output
    assert file.stat().st_mode & 0o777 == 0o600
    assert "was made with the master key" in refused(asked("status"))
    file.replace(tmp_path / "ledger" / "keys" / "master.key")
    assert asked("status").exit_code == 0
    monkeypatch.setenv("EXPUNGE_NEW_MASTER_KEY", "short")
    assert "holds no master key" in refused(asked("rekey"))
    assert "both given" in refused(asked("rekey", "--new-key-file", str(file)))
    assert asked("status").exit_code == 0
