"""Facts about training records in a ledger: each version has its own, and none outlives a seal."""

import functools
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import small_model
import torch
import yaml
from small_model import OPEN, Dying, Killed, Working, tables
from torch import nn
from typer.testing import CliRunner

from expunge.cli.main import app
from expunge.deployment import Deployment
from expunge.errors import ExpungeError, IntegrityError
from expunge.learning.supervised.convex_head import ConvexHead
from expunge.learning.supervised.ridge_head import RidgeHead
from expunge.ledger import queueing
from expunge.ledger.advising import advise
from expunge.ledger.asking import revoke, seal
from expunge.ledger.canonical import canonical
from expunge.ledger.certificate import Removal, verified
from expunge.ledger.collecting import collect
from expunge.ledger.exporting import export
from expunge.ledger.keys import Keys
from expunge.ledger.looking import history as look_back
from expunge.ledger.material import Material, Source
from expunge.ledger.opening import Ledger
from expunge.ledger.past import StoredHistory
from expunge.ledger.previewing import preview
from expunge.ledger.publishing import publish
from expunge.ledger.refusals import UnavailableError
from expunge.ledger.registering import register
from expunge.ledger.rekeying import rekey
from expunge.ledger.runs import standing_of
from expunge.ledger.scope import Scope
from expunge.ledger.sealing import plan
from expunge.ledger.steps import current_history
from expunge.ledger.vault import Stored
from expunge.ledger.verifying import verify
from expunge.methods.acu import ACU
from expunge.methods.certified_removal import SCOPE, CertifiedRemoval
from expunge.recipe import LEARNER, MODEL, Learner, Recipe, Record, Role, Trained
from expunge.requests import Request, Rows
from expunge.run import Run

Make = Callable[..., Working]
EDIT = {"method": "gradient-difference", "parameters": {"epochs": 1}}
EXAMPLES = Path(__file__).parents[2] / "examples"


def linear(_: int = 0) -> nn.Module:
    """Nothing lies below its head."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


@functools.cache
def trained(learner: Learner) -> Trained:
    whole = small_model.material()
    return Recipe(linear, whole.family, learner).make({Role.TRAIN: whole.train}, Run())


def certified() -> Material:
    """The rows, and a head of which rows can be removed with a certificate."""
    whole, head = small_model.material(), ConvexHead(ridge=0.01, noise=5.0)
    recipe = Recipe(linear, whole.family, head)
    made = trained(head)
    return replace(
        whole, model=made.model, recipe=recipe, method=CertifiedRemoval(), record=made.record
    )


def exact() -> Material:
    """The same, whose head rows leave in every bit."""
    made = trained(RidgeHead(ridge=1.0, below="never saw the rows"))
    return replace(certified(), model=made.model, recipe=None, method=ACU(), record=made.record)


@pytest.fixture
def recorded(tmp_path: Path) -> Make:
    """Ledgers with a model that has a record, each in a folder of its own."""
    count = iter(range(9))

    def made(source: Callable[[], Material] = certified) -> Working:
        given = source()
        name = f"{__name__}:{source.__name__}"
        folder = tmp_path / f"ledger{next(count)}"
        return Working.make(folder, given.model, OPEN, name, given=given)

    return made


def ids() -> list[str]:
    return [str(name) for name in tables()[0]["id"][:]]


def history(made: Working) -> StoredHistory:
    return current_history(made.ledger, made.row("models", name="digits"))


def record(made: Working) -> Record:
    """The record of the current version."""
    found = standing_of(made.ledger, made.row("models", name="digits")["id"]).record(history(made))
    assert found is not None
    return found


def certificate(made: Working, number: int) -> Removal:
    model = made.row("models", name="digits")["id"]
    version = made.row("versions", model=model, number=number)
    stated = verified(made.ledger.read(version["certificate"]), made.ledger.keys.public)
    return Removal.from_json(stated["predicate"])


def told(made: Working) -> list[str]:
    """What the accounts of all runs say."""
    found = [row for row in made.rows("objects", kind="account") if not row["destroyed"]]
    return [made.ledger.read(row["address"]).decode() for row in found]


def records(made: Working) -> list[tuple[str, bool]]:
    rows = made.rows("objects", kind="record")
    return [(row["address"], row["destroyed"]) for row in rows]


def test_every_version_has_the_record_that_its_method_left(recorded: Make) -> None:
    made, given = recorded(), certified()
    alone = Deployment(
        given.model, given.family, given.train, given.train_table, given.rule(), record=given.record
    )
    for name in ids()[:3]:
        made.served("id", name)
        alone.forget(Request(name, Rows("id", (name,))), given.method, given.run())
    assert alone.record is not None
    assert torch.equal(record(made).tensors["head"], alone.record.tensors["head"])
    assert dict(record(made).facts) == dict(alone.record.facts)
    assert record(made).facts[MODEL] == made.version()["weights_digest"] == made.weights()
    assert len(records(made)) == 4  # the registered one, and one of each version
    spent = [certificate(made, n).certified for n in (1, 2, 3)]
    assert [found.scope for found in spent if found] == [SCOPE] * 3
    assert [found.epsilon for found in spent if found] == sorted(
        found.epsilon for found in spent if found and found.epsilon
    )
    assert verify(made.ledger).faults == ()


def test_a_certificate_says_what_is_proven_and_that_the_record_before_exists(
    recorded: Make, tmp_path: Path
) -> None:
    made = recorded(exact)
    made.served("id", ids()[0])
    found = certificate(made, 1)
    assert (found.deletion_state, found.records_before) == ("exact", "kept")
    assert found.certified is not None
    assert found.certified.scope.startswith("the last linear layer")
    assert found.certified.epsilon is None
    assert any(found.certified.scope in said for said in found.not_covered)
    assert any("training record from before is kept" in said for said in found.not_covered)
    first = certificate(made, 0)
    assert (first.certified, first.records_before) == (None, None)

    url, keys = str(made.ledger.database.url), made.ledger.folder
    assert keys is not None
    own = ("--ledger", url, "--keys", str(keys / "keys"))
    place = str(tmp_path / "c.json")
    shown = CliRunner().invoke(app, ["ledger", "history", "digits", *own])
    assert "digits@1 is certified for: the last linear layer" in shown.output, shown.exception
    CliRunner().invoke(app, ["certificate", "save", "digits", place, *own])
    key = str(keys / "keys" / "signing.pub")
    shown = CliRunner().invoke(app, ["certificate", "verify", place, "--key", key])
    assert "certified: the last linear layer" in shown.output, shown.exception
    assert "training records from before: kept" in shown.output
    assert look_back(made.ledger, "digits")["versions"][1]["certified"] == found.certified.told()

    written = export(made.ledger, "digits", tmp_path / "out")
    assert {path.name for path in written} == {
        "README.md",
        "certificate.json",
        "model.safetensors",
    }  # a record is data about people
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"Certified: {found.certified.scope}" in card


def test_a_worker_that_is_killed_after_any_step_publishes_the_same_record_once(
    recorded: Make,
) -> None:
    plain, made = recorded(), recorded()
    for each in (plain, made):
        each.served("id", ids()[0])
    plain.served("id", ids()[1])
    made.ask("id", ids()[1])
    [row] = queueing.due(made.ledger)
    kills = 0
    while made.row("runs", id=row["id"])["state"] != "published":
        kills += 1
        with suppress(Killed):
            Dying(made.ledger, after=kills).conduct(row["id"])
    assert kills > 4
    assert torch.equal(record(made).tensors["head"], record(plain).tensors["head"])
    assert dict(record(made).facts) == dict(record(plain).facts)
    assert [v["cause"] for v in made.rows("versions")] == ["registration", "request", "request"]
    assert verify(made.ledger).faults == ()


@pytest.mark.parametrize("source", [certified, exact])
def test_what_is_made_again_without_a_request_starts_from_its_records(
    recorded: Make, source: Callable[[], Material]
) -> None:
    made, without = recorded(source), recorded(source)
    asked = [made.served("id", name) for name in ids()[:3]]
    for name in (ids()[0], ids()[2]):
        without.served("id", name)
    revoke(made.ledger, asked[1], "admin", "asked by mistake")
    assert made.work() == ["published"]
    assert made.version()["weights_digest"] == without.version()["weights_digest"]
    assert set(record(made).tensors) == set(record(without).tensors)
    for name, tensor in record(made).tensors.items():
        assert torch.equal(tensor, record(without).tensors[name])
    assert dict(record(made).facts) == dict(record(without).facts)
    proofs = [certificate(made, 4).certified, certificate(without, 2).certified]
    assert proofs[0] == proofs[1] != None  # noqa: E711
    before = certificate(made, 4)  # the record of what was withdrawn is still with its version
    assert (before.cause, before.records_before) == ("revocation", "kept")
    assert not any(destroyed for _, destroyed in records(made))
    assert verify(made.ledger).faults == ()


def test_a_seal_destroys_every_record_but_the_last(recorded: Make) -> None:
    made = recorded(exact)
    for name in ids()[:2]:
        made.served("id", name)
    before = {row["address"]: row["wrapped_key"] for row in made.rows("objects", kind="record")}
    assert len(before) == 3
    assert all(key is not None for key in before.values())
    last = record(made)
    latest = history(made).latest_record
    assert latest is not None
    foreseen = plan(made.ledger, made.row("models", name="digits"))
    assert [(kind, number) for kind, number, _ in foreseen.objects if kind == "record"] == [
        ("record", 2)
    ]
    assert "the training record" in foreseen.outside[0]
    seal(made.ledger, "digits")
    assert made.work() == ["published"]

    assert sorted(records(made)) == sorted((a, a != latest.address) for a in before)
    there = set(made.ledger.vault.addresses())
    assert there & set(before) == {latest.address}
    for row in made.rows("objects", kind="record"):
        assert (row["wrapped_key"] is None) == row["destroyed"]
    for gone in set(before) - {latest.address}:
        key = before[gone]
        assert key is not None
        with pytest.raises(IntegrityError, match="no object"):
            made.ledger.vault.get(Stored(gone, "record", 0, key))
    found = certificate(made, 3)
    assert (found.cause, found.records_before, found.deletion_state) == (
        "seal",
        "destroyed",
        "exact",
    )
    assert found.certified == certificate(made, 2).certified
    assert not any("record from before" in said for said in found.not_covered)
    assert torch.equal(record(made).tensors["gram"], last.tensors["gram"])

    made.served("id", ids()[2])  # the record that is left goes on
    found = certificate(made, 4)
    assert (found.deletion_state, found.records_before) == ("exact", "kept")
    collect(made.ledger)
    assert verify(made.ledger).faults == ()


def test_an_edit_makes_the_record_stale_and_taking_it_back_makes_it_fit(recorded: Make) -> None:
    made = recorded()
    made.served("id", ids()[0])
    proven = history(made).proven
    standing = standing_of(made.ledger, made.row("models", name="digits")["id"])
    foreseen = {a.method: a for a in advise(made.ledger, standing, Scope("x", "id", (ids()[1],)))}
    assert "would refuse from then on" in foreseen["gradient-difference"].reason
    for other in ("certified-removal", "redact", "retrain"):
        assert foreseen[other].fits
        assert "would refuse from then on" not in foreseen[other].reason
    edit = made.served("id", ids()[1], **EDIT)
    assert history(made).stale
    assert certificate(made, 2).certified is None  # the edit may have undone it
    row = made.row("models", name="digits")
    standing = standing_of(made.ledger, row["id"])
    scope = Scope("x", "id", (ids()[2],))
    advice = {each.method: each for each in advise(made.ledger, standing, scope)}
    assert not advice["certified-removal"].fits
    assert "is not the one of the training record" in advice["certified-removal"].reason
    [note] = [n for n in preview(made.ledger, standing, scope).notes if "training record" in n]
    assert "not that of its current weights" in note
    refused = made.served("id", ids()[2])
    assert made.state(refused)[0] == "failed"
    assert any("is not the one of the training record" in said for said in told(made))
    assert verify(made.ledger).faults == ()

    revoke(made.ledger, edit, "admin", "asked by mistake")
    made.work()
    assert not history(made).stale
    assert history(made).proven == proven
    standing = standing_of(made.ledger, row["id"])
    advice = {each.method: each for each in advise(made.ledger, standing, scope)}
    assert advice["certified-removal"].advised
    assert "learner 'ridge-head'" in advice["acu"].reason
    served = made.served("id", ids()[3])
    assert made.state(served) == ("published", None)
    assert len(history(made).requests()) == 2
    again = made.served("id", ids()[4], method="retrain")  # a new record of a new head
    assert made.state(again) == ("published", None)
    assert not history(made).stale
    assert float(str(record(made).facts["residual"])) < 1e-4


def test_a_guard_leaves_the_record_as_it_is(recorded: Make) -> None:
    made = recorded()
    made.served("id", ids()[0], method="redact")
    assert not history(made).stale
    made.served("id", ids()[1])
    assert record(made).facts[MODEL] == made.version()["weights_digest"]


def test_answers_that_do_not_know_of_a_later_version_are_not_published(recorded: Make) -> None:
    made = recorded()
    for name in ids()[:2]:
        made.served("id", name)
    before = record(made).facts
    late = made.row("versions", number=1)  # as if its run had been slower than the next one
    standing = standing_of(made.ledger, late["model"])
    with pytest.raises(UnavailableError, match="has answered 1 requests since this run began"):
        publish(made.ledger, standing, "slow", late["history"], late["figures"], [], "request")
    assert made.row("models", name="digits")["version"] == 2
    assert record(made).facts == before


def test_a_record_of_another_model_is_not_registered(tmp_path: Path) -> None:
    given = certified()
    assert given.record is not None
    other = Record(given.record.tensors, {**given.record.facts, MODEL: "0" * 64})
    ledger = Ledger.init(f"sqlite:///{tmp_path / 'l.db'}", str(tmp_path / "o"), tmp_path / "k")
    with pytest.raises(IntegrityError, match="that of other weights than the model's"):
        register(
            ledger,
            "digits",
            Source.of_function(f"{__name__}:certified"),
            OPEN,
            replace(given, record=other),
        )


def test_a_record_of_another_learner_fails_its_request_alone(recorded: Make) -> None:
    made = recorded()
    refused = made.served("id", ids()[0], method="acu")
    assert made.state(refused)[0] == "failed"
    assert any("training record of the learner 'ridge-head'" in said for said in told(made))
    served = made.served("id", ids()[0])
    assert made.state(served) == ("published", None)


def test_a_damaged_record_is_noticed(recorded: Make) -> None:
    made = recorded()
    made.served("id", ids()[0])
    latest = history(made).latest_record
    assert latest is not None
    folder = made.ledger.folder
    assert folder is not None
    [file] = folder.rglob(latest.address)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    faults = verify(made.ledger).faults
    assert any(f"object {latest.address} (record)" in fault for fault in faults)
    waits = made.ask("id", ids()[1])
    with pytest.raises(IntegrityError, match="are not those that were written"):
        made.work()  # a worker puts the run down as interrupted
    file.write_bytes(content)
    made.work()
    assert made.state(waits) == ("published", None)
    assert verify(made.ledger).faults == ()


def test_another_master_key_opens_the_records(recorded: Make) -> None:
    made = recorded()
    made.served("id", ids()[0])
    head = record(made).tensors["head"].clone()
    new = bytes(range(32))
    folder = made.ledger.folder
    assert folder is not None
    rekey(made.ledger, new)
    keys = folder / "keys"
    changed: Keys = made.ledger.keys.with_master(new)
    changed.save(folder / "new")
    (folder / "new" / "master.key").replace(keys / "master.key")
    anew = Working(Ledger.open(str(made.ledger.database.url), keys))
    assert torch.equal(record(anew).tensors["head"], head)
    anew.served("id", ids()[1])
    assert len(history(anew).records()) == 3


def test_a_run_file_is_registered_with_its_record_which_may_go_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    content = yaml.safe_load((EXAMPLES / "certified_digits.yaml").read_text())
    content["model"] |= {"weights": "w.safetensors", "record": "r.safetensors"}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    assert CliRunner().invoke(app, ["train", str(path)]).exit_code == 0
    source = Source.of_run_file(path)
    ledger = Ledger.init(f"sqlite:///{tmp_path / 'l.db'}", str(tmp_path / "o"), tmp_path / "k")
    register(ledger, "digits", source, OPEN)
    for name in ("w.safetensors", "r.safetensors"):
        (tmp_path / name).unlink()
    made = Working(ledger)
    request = made.served("id", "digits:0003")
    assert made.state(request) == ("published", None)
    assert record(made).facts[LEARNER] == "convex-head"


def test_histories_from_before_there_were_records_are_read(recorded: Make) -> None:
    made = recorded()
    made.served("id", ids()[0], **EDIT)
    found = json.loads(history(made).to_bytes())
    del found["record"], found["certified"]
    for epoch in found["epochs"]:
        for answer in epoch["answers"]:
            del answer["record"]
            for change in answer["changes"]:
                del change["certified"]
    old = StoredHistory.of_bytes(canonical(found))
    assert (old.latest_record, old.stale, old.proven) == (None, False, None)
    assert old.requests() == history(made).requests()
    with pytest.raises(ExpungeError, match="None of these requests"):
        old.until(["r1"])
