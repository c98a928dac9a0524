"""Facts about sealing: after it, nothing that is left opens to what was forgotten."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import small_model
from small_model import ASCENT, OPEN, Dying, Killed, Working, tables

from expunge.errors import ConflictError, ExpungeError
from expunge.ledger import looking, runs
from expunge.ledger.asking import revoke, seal
from expunge.ledger.collecting import collect
from expunge.ledger.runs import standing_of
from expunge.ledger.sealing import plan
from expunge.ledger.serving import built
from expunge.ledger.steps import current_history
from expunge.ledger.vault import Stored, Vault
from expunge.ledger.verifying import verify

Make = Callable[..., Working]
SECRET = ("base", "delta", "replacement", "refusal", "scope", "rows", "account", "history")


def opened(working: Working, keys: dict[str, tuple[str, bytes]]) -> list[str]:
    """Kinds of the objects that some bytes of the vault open to with these wrapped keys."""
    found = []
    for address, (kind, wrapped) in keys.items():
        for there in set(working.ledger.vault.addresses()):
            try:
                working.ledger.vault.get(Stored(there, kind, 0, wrapped))
            except ExpungeError as error:
                if "were recorded" in str(error):  # it opened, and only the size was ours
                    found.append(f"{kind} {address}")
    return found


def wrapped_keys(working: Working) -> dict[str, tuple[str, bytes]]:
    return {
        row["address"]: (row["kind"], row["wrapped_key"])
        for row in working.rows("objects")
        if row["wrapped_key"] is not None
    }


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_that_is_left_opens_to_what_was_forgotten(working: Make) -> None:
    made = working()
    eights = made.served("label", "8")
    writer = made.served("subject", "writer 7", metadata={"ticket": "confidential"}, **ASCENT)
    repeated = made.served("subject", "writer 7")
    refused = made.ask("subject", "writer 8", method="negation")
    made.work()
    assert made.state(refused)[0] in ("failed", "published")
    before, weights = wrapped_keys(made), made.version()["weights_digest"]
    control = dict(list(before.items())[:1])
    assert len(opened(made, control)) == 1  # so it would be noticed
    model = made.row("models", name="digits")
    foreseen = plan(made.ledger, model)
    assert set(foreseen.requests) >= {eights, writer}
    assert {kind for kind, _, _ in foreseen.objects} >= {"base", "delta", "scope", "rows"}
    assert verify(made.ledger).faults == ()

    with pytest.raises(ConflictError, match="Other requests would be sealed than the plan listed"):
        seal(made.ledger, "digits", planned=foreseen.requests[1:])  # one was published since
    seal(made.ledger, "digits", planned=foreseen.requests)
    assert made.work() == ["published"]

    after = wrapped_keys(made)
    folder = made.ledger.folder
    assert folder is not None
    gone = {address: before[address] for address in set(before) - set(after)}
    kinds = {kind for kind, _ in gone.values()}
    assert kinds >= {"base", "delta", "scope", "rows", "account", "history"}
    # the destroyed keys are in no file, and the bytes that they opened are not there
    for path, content in files(folder).items():
        for _, wrapped in gone.values():
            assert wrapped not in content, path
    assert not set(gone) & set(made.ledger.vault.addresses())
    assert opened(made, gone) == []
    # what can still be opened names no row, no person and none of the earlier weights
    for address, (kind, _) in after.items():
        content = made.ledger.read(address)
        assert b"writer 7" not in content, kind
        assert b"confidential" not in content, kind
        if kind == "base":
            assert address == made.row("models", name="digits")["base"]
        assert kind not in ("delta", "rows") or address in {
            use["address"]
            for use in made.rows("uses")
            if use["owner"] == f"request:{refused}" or use["role"] == "part"
        }
    for path, content in files(folder).items():
        assert b"writer 7" not in content, path
        assert b"confidential" not in content, path

    assert made.version()["weights_digest"] == weights
    assert made.version()["deletion_state"] == "edited, sealed"
    assert made.row("requests", id=repeated)["sealed"]
    assert verify(made.ledger).faults == ()


def test_earlier_versions_cannot_be_built_and_figures_are_said_to_be_stored(working: Make) -> None:
    made = working()
    request = made.served("label", "8")
    seal(made.ledger, "digits")
    made.work()
    made.served("subject", "writer 1", **ASCENT)

    with pytest.raises(ExpungeError, match="destroyed"):
        built(made.ledger, "digits", 1)
    [eights, _] = looking.history(made.ledger, "digits")["requests"]
    assert eights["request"] == request
    assert eights["stored"] == [False, False, True, True]
    assert eights["after"][1] == eights["after"][2] == eights["after"][3]
    shown = looking.show(made.ledger, request)
    assert shown["scope"] == shown["account"] == "destroyed when the history was sealed"
    assert shown["figures"]["stored"]


def test_later_requests_go_on_without_the_sealed_rows(working: Make) -> None:
    made = working(policy=small_model.STRICT)
    made.served("label", "8")
    seal(made.ledger, "digits")
    made.work()

    later = made.served("label", "3")  # with retain data, and the gate closed
    assert made.state(later) == ("published", None)
    assert made.version()["deletion_state"] == "edited, base kept"
    standing = standing_of(made.ledger, made.row("models", name="digits")["id"])
    assert 8 not in standing.material.train_table["label"][:]
    assert 8 not in standing.material.held_out_table["label"][:]
    for table in (standing.material.train, standing.material.held_out):
        assert len(table) == len(set(table.ids))
    again = made.served("label", "8")
    assert made.state(again) == ("answered", "already forgotten")
    ids = tables()[0]
    sealed_id = next(str(i) for i, label in zip(ids["id"], ids["label"], strict=True) if label == 8)
    assert made.state(made.served("id", sealed_id)) == ("answered", "already forgotten")
    assert verify(made.ledger).faults == ()


def test_forgotten_rows_may_be_deleted_from_the_table_afterwards(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working(source="small_model:thinned")
    made.served("label", "8")
    seal(made.ledger, "digits")
    made.work()

    monkeypatch.setattr(small_model, "REMOVED", [8])
    runs.forget_standing()
    later = made.served("subject", "writer 1", **ASCENT)
    assert made.state(later) == ("published", None)
    assert verify(made.ledger).faults == ()

    monkeypatch.setattr(small_model, "REMOVED", [8, 9])
    runs.forget_standing()
    made.ask("subject", "writer 2", **ASCENT)
    with pytest.raises(ExpungeError, match="missing"):
        made.work()
    [run] = made.rows("runs", state="running")  # not failed: the rows can be brought back
    monkeypatch.setattr(small_model, "REMOVED", [8])
    assert made.conduct(run["id"]) == "published"


def test_an_older_part_is_sealed_and_later_answers_are_made_again(working: Make) -> None:
    made = working()
    first = made.served("subject", "writer 1", **ASCENT)
    second = made.served("subject", "writer 2", **{**ASCENT, "strength": 0.5})
    third = made.served("subject", "writer 3")
    base = made.row("models", name="digits")["base_digest"]
    cut = made.row("requests", id=second)["updated_at"]
    model = made.row("models", name="digits")
    assert plan(made.ledger, model, cut).remade == (second, third)

    seal(made.ledger, "digits", cut)
    assert made.work() == ["published"]

    assert [made.row("requests", id=r)["sealed"] for r in (first, second, third)] == [
        True,
        False,
        False,
    ]
    assert made.row("models", name="digits")["base_digest"] != base
    assert made.version()["deletion_state"] == "edited, base kept"
    history = current_history(made.ledger, made.row("models", name="digits"))
    assert [(a.request, a.strength) for a in history.answers()] == [(second, 0.5), (third, 1.0)]
    assert verify(made.ledger).faults == ()
    for request in (third, second):
        revoke(made.ledger, request, "admin", "by mistake")
        assert made.work() == ["published"]
    assert made.version()["deletion_state"] == "edited, sealed"
    assert made.version()["weights_digest"] == made.row("models", name="digits")["base_digest"]


@pytest.mark.parametrize("amid", [False, True], ids=["before destroying", "amid destroying"])
def test_a_seal_is_resumed_where_it_was_killed(
    working: Make, amid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working()
    made.served("subject", "writer 1", **ASCENT)
    run = seal(made.ledger, "digits")
    real, removed = Vault.destroy, []

    def killed(self: Vault, address: str) -> None:
        real(self, address)
        removed.append(address)
        if len(removed) == 3:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Vault, "destroy", killed)
        Dying(made.ledger, after="" if amid else "publish").conduct(run)
    assert len(removed) == (3 if amid else 0)
    assert made.version()["cause"] == "seal"
    assert made.conduct(run) == "published"

    left = {kind for kind, _ in wrapped_keys(made).values()}
    assert left & set(SECRET) == {"base", "history"}
    assert [v["cause"] for v in made.rows("versions")] == ["registration", "request", "seal"]
    assert verify(made.ledger).faults == ()


def test_drafts_of_refused_tries_are_destroyed_too(working: Make) -> None:
    made = working(policy=small_model.STRICT)
    ruin = {"method": "gradient-ascent", "parameters": {"epochs": 1, "learning_rate": 0.05}}
    made.served("label", "8")
    made.served("label", "3", **ruin)
    seal(made.ledger, "digits")
    made.work()
    assert "delta" not in {kind for kind, _ in wrapped_keys(made).values()}


def test_there_must_be_something_to_seal_and_a_time(working: Make) -> None:
    made = working()
    with pytest.raises(ExpungeError, match="nothing to seal"):
        seal(made.ledger, "digits")
    made.served("subject", "writer 1", **ASCENT)
    with pytest.raises(ExpungeError, match="'yesterday'"):
        seal(made.ledger, "digits", "yesterday")
    with pytest.raises(ExpungeError, match="before 2020-01-01"):
        seal(made.ledger, "digits", "2020-01-01")
    assert made.row("runs", kind="serve")["state"] == "published"
    assert made.rows("runs", kind="seal") == []


def test_what_a_guard_alone_keeps_back_is_not_sealed(working: Make) -> None:
    made = working(policy=OPEN)
    made.served("label", "8", method="guardrail")
    assert made.version()["deletion_state"] == "suppressed"
    with pytest.raises(ExpungeError, match="guard"):
        seal(made.ledger, "digits")


def test_a_retrained_model_stays_retrained(working: Make) -> None:
    made = working()
    made.served("subject", "writer 1", method="retrain")
    seal(made.ledger, "digits")
    made.work()
    assert made.version()["deletion_state"] == "retrained"


def test_garbage_is_collected_and_nothing_else(working: Make) -> None:
    made = working(policy=small_model.STRICT)
    ruin = {"method": "gradient-ascent", "parameters": {"epochs": 1, "learning_rate": 0.05}}
    made.served("label", "8")
    made.served("label", "3", **ruin)
    orphan = made.ledger.vault.put(b"never named", "scope")

    found = collect(made.ledger, patience=0.0, staged=0.0)

    assert found.unused > 0
    assert found.unnamed == 1
    there = set(made.ledger.vault.addresses())
    assert orphan.address not in there
    assert there == {row["address"] for row in made.rows("objects", destroyed=False)}
    assert there == {use["address"] for use in made.rows("uses")}
    assert verify(made.ledger).faults == ()
    assert json.dumps(looking.history(made.ledger, "digits"))
    again = collect(made.ledger, patience=0.0, staged=0.0)
    assert (again.unused, again.unnamed) == (0, 0)
