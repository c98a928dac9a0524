"""Facts about serving: readers see whole versions, links flip, exports repeat, descendants lag."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from small_model import ASCENT, OPEN, Working, material

from expunge.changes.weights import digest_of
from expunge.errors import ExpungeError
from expunge.ledger import looking
from expunge.ledger.asking import revoke, seal
from expunge.ledger.exporting import CARD, CERTIFICATE, export
from expunge.ledger.lineage import declare, descendants
from expunge.ledger.material import Material, Source
from expunge.ledger.opening import Ledger
from expunge.ledger.registering import register
from expunge.ledger.serving import Latest, built, materialise
from expunge.models.checkpoint import Checkpoint
from expunge.storage import read_facts, read_tensors

Make = Callable[..., Working]


def test_a_reader_sees_whole_versions_while_others_are_published(working: Make) -> None:
    made = working()
    latest = Latest(made.ledger, "digits")
    seen: dict[int, set[str]] = {}
    order: list[int] = []
    stop = threading.Event()
    failed: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                version = latest.get()
                seen.setdefault(version.number, set()).add(digest_of(version.model))
                order.append(version.number)
        except BaseException as error:
            failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    request = made.served("subject", "writer 1", **ASCENT)
    made.served("label", "8")
    revoke(made.ledger, request, "admin", "by mistake")
    made.work()
    seal(made.ledger, "digits")
    made.work()
    last = latest.get()
    stop.set()
    reader.join()

    assert failed == []
    assert order == sorted(order)
    assert last.number == 4 or latest.get().number == 4
    published = {v["number"]: {v["weights_digest"]} for v in made.rows("versions")}
    assert all(seen[number] == published[number] for number in seen)


def test_a_guard_is_part_of_what_is_served(working: Make) -> None:
    made = working(policy=OPEN)
    made.served("label", "8", method="guardrail")
    bare, guarded = (built(made.ledger, "digits", guards=guards) for guards in (False, True))
    assert bare.digest == guarded.digest
    rows = material().train
    images = rows.batch(torch.arange(len(rows)))["image"]
    assert 8 in bare.model(images).argmax(1)
    assert 8 not in guarded.model(images).argmax(1)


def test_the_link_to_the_latest_version_is_put_in_place_at_once(
    working: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working()
    out = tmp_path / "versions"
    first = materialise(made.ledger, "digits", out)
    assert materialise(made.ledger, "digits", out) == first
    made.served("subject", "writer 1", **ASCENT)
    replaced, real = [], os.replace

    def noted(source: object, target: object) -> None:
        if Path(str(target)).name == "latest":
            assert (out / "latest").resolve() == first.resolve()  # until the very moment
            replaced.append(target)
        real(str(source), str(target))

    monkeypatch.setattr(os, "replace", noted)
    second = materialise(made.ledger, "digits", out)
    assert len(replaced) == 1
    assert (out / "latest").resolve() == second.resolve()
    facts = read_facts(out / "latest" / "model.safetensors")
    assert facts["digest"] == made.version()["weights_digest"]
    old = materialise(made.ledger, "digits", out, 0)
    assert old == first
    assert (out / "latest").resolve() == second.resolve()
    assert {path.name for path in out.iterdir()} == {first.name, second.name, "latest"}


def test_an_export_repeats_byte_by_byte_and_loads(working: Make, tmp_path: Path) -> None:
    made = working()
    made.served("subject", "writer 31", metadata={"who": "somebody"}, **ASCENT)
    made.served("label", "8")
    one, other = tmp_path / "one", tmp_path / "other"
    written = export(made.ledger, "digits", one)
    export(made.ledger, "digits", other)
    export(made.ledger, "digits", one)  # over an earlier export of the same version

    assert [p.name for p in written] == [CARD, CERTIFICATE, "model.safetensors"]
    for path in written:
        assert path.read_bytes() == (other / path.name).read_bytes()
        assert b"writer 31" not in path.read_bytes()
        assert b"somebody" not in path.read_bytes()
    fresh = material().model
    fresh.load_state_dict(read_tensors(one / "model.safetensors"))
    assert digest_of(fresh) == made.version()["weights_digest"]
    card = (one / CARD).read_text()
    assert "| subject | 1 | 27 |" in card
    assert "edited, base kept" in card


def test_an_export_leaves_other_folders_alone_and_carries_no_guard(
    working: Make, tmp_path: Path
) -> None:
    made = working(policy=OPEN)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("mine")
    with pytest.raises(ExpungeError, match="not empty"):
        export(made.ledger, "digits", tmp_path / "own")
    made.served("label", "8", method="guardrail")
    with pytest.raises(ExpungeError, match="suppressed"):
        export(made.ledger, "digits", tmp_path / "guarded")
    assert not (tmp_path / "guarded").exists()


def test_descendants_lag_until_they_are_brought_up_to_date(working: Make, tmp_path: Path) -> None:
    made = working()
    file = tmp_path / "small.bin"
    file.write_bytes(b"weights")
    declare(made.ledger, "digits", "small", "quantised", file=file)
    declare(made.ledger, "digits", "index", "embedding cache")
    made.served("subject", "writer 1", **ASCENT)
    assert {d.name: d.behind for d in descendants(made.ledger, "digits")} == {
        "small": 1,
        "index": 1,
    }
    declare(made.ledger, "digits", "index", "embedding cache")
    assert looking.status(made.ledger)["models"]["digits"]["lagging descendants"] == ["small"]
    with pytest.raises(ExpungeError, match="'cousin'"):
        declare(made.ledger, "digits", "x", "cousin")
    with pytest.raises(ExpungeError, match="no version 9"):
        declare(made.ledger, "digits", "x", "copy", version=9)


def test_two_versions_are_held_side_by_side(working: Make) -> None:
    made = working()
    request = made.served("label", "8")
    found = looking.diff(made.ledger, "digits", 0, 1)
    assert found["requests"][request][0] is None
    assert found["weights"]["distance"] > 0
    same = looking.diff(made.ledger, "digits", 1, 1)
    assert same["weights"]["distance"] == 0


def test_a_deadline_that_is_near_or_past_is_said(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working()
    soon = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    request = made.ask("subject", "writer 1", deadline=soon, **ASCENT)
    made.ask("subject", "writer 2", **ASCENT)
    assert looking.status(made.ledger)["models"]["digits"]["due soon"] == [request]
    monkeypatch.setattr(looking, "ledger_time", lambda _: "2099-01-01T00:00:00.000000Z")
    assert len(looking.status(made.ledger)["models"]["digits"]["overdue"]) == 2


def test_a_checkpoint_is_exported_as_a_folder_that_transformers_reads(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.ViTConfig(
        **size, intermediate_size=32, image_size=8, patch_size=4, num_channels=1, num_labels=10
    )
    torch.manual_seed(0)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "model")
    (tmp_path / "ledger").mkdir()
    opened = Ledger.init(f"sqlite:///{tmp_path / 'ledger' / 'ledger.db'}")
    checkpoint = Checkpoint.open(tmp_path / "model")
    given = replace(material(), model=checkpoint.model(), checkpoint=checkpoint)
    source = Source.of_function(f"{__name__}:of_checkpoint")
    OF_CHECKPOINT.append(given)
    register(opened, "digits", source, OPEN, given)
    made = Working(opened)
    made.served("subject", "writer 1", **ASCENT)

    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other, one):
        export(opened, "digits", folder)

    files = sorted(path.name for path in one.iterdir())
    assert files == [CARD, CERTIFICATE, "config.json", "model.safetensors"]
    assert all((one / f).read_bytes() == (other / f).read_bytes() for f in files)
    read = transformers.ViTForImageClassification.from_pretrained(one)
    assert digest_of(read) == made.version()["weights_digest"]
    assert digest_of(read) != digest_of(checkpoint.model())


OF_CHECKPOINT: list[Material] = []


def of_checkpoint() -> Material:
    """The source of the test above."""
    return OF_CHECKPOINT[-1]
