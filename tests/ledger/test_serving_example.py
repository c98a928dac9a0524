"""The example that serves a model from a ledger, asked over HTTP on the loopback interface."""

import importlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from small_model import OPEN, Working, tables

from expunge.ledger import Latest, revoke
from expunge.ledger.chain import Write, append

Make = Callable[..., Working]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module("serve")


@pytest.fixture
def asking(serve: ModuleType, working: Make) -> Iterator[tuple[Working, Any]]:
    made = working(policy=OPEN.model_copy(update={"guard_first": True}))
    server = serve.server(Latest(made.ledger, "digits"), 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()

    def ask(**body: object) -> tuple[int, dict[str, Any]]:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=30) as got:
                return got.status, json.loads(got.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    yield made, ask
    server.shutdown()
    thread.join()
    server.server_close()


def pixels_of(label: int) -> list[int]:
    train, _ = tables()
    [row] = [r for r in train.select(range(200)) if r["label"] == label][:1]
    return [int(value) for value in row["image"]]


def test_answers_come_from_the_current_version(asking: tuple[Working, Any]) -> None:
    made, ask = asking
    eight = pixels_of(8)
    status, before = ask(pixels=eight)
    assert (status, before["label"], before["version"]) == (200, 8, 0)
    made.served("label", "8")
    status, after = ask(pixels=eight)
    assert status == 200
    assert after["label"] != 8
    assert after["version"] == made.version()["number"] == 2  # a guard, then the weights
    assert after["weights"] == made.version()["weights_digest"]


def test_a_guard_acts_as_soon_as_it_is_published(asking: tuple[Working, Any]) -> None:
    made, ask = asking
    made.served("label", "8")
    model = made.row("models", name="digits")
    with made.ledger.database.writing() as connection:  # the moment between the two phases
        append(connection, "test", [Write("models", {"id": model["id"]}, {"version": 1})])
    status, guarded = ask(pixels=pixels_of(8))
    assert (status, guarded["deletion state"]) == (200, "suppressed")
    assert guarded["label"] != 8


def test_what_is_no_picture_is_refused(asking: tuple[Working, Any]) -> None:
    _, ask = asking
    assert ask(pixels=[1, 2]) == (400, {"error": "pixels: 64 numbers from 0 to 16 are expected"})
    assert ask()[0] == 400
    for strange in (None, "7", [7]):
        assert ask(pixels=[strange] * 64)[0] == 400
    assert ask(id=["digits:0003"], pixels=pixels_of(8))[0] == 200  # no row's id


def test_a_removed_row_is_found_by_nobody_until_it_is_back(asking: tuple[Working, Any]) -> None:
    made, ask = asking
    train, _ = tables()
    wanted = str(train[0]["id"])
    status, before = ask(like=wanted, count=3)
    assert (status, before["version"], len(before["rows"])) == (200, 0, 3)
    found = [row["id"] for row in before["rows"]]
    assert wanted not in found
    alike = [row["similarity"] for row in before["rows"]]
    assert alike == sorted(alike, reverse=True)

    request = made.served("id", found[0], method="redact")
    _, after = ask(like=wanted, count=3)
    assert after["deletion state"] == "suppressed"
    assert after["weights"] == before["weights"]
    assert [row["id"] for row in after["rows"]][:2] == found[1:]
    assert ask(like=found[0])[0] == 400

    revoke(made.ledger, request, "admin", "by mistake")
    made.work()
    _, back = ask(like=wanted, count=3)
    assert back["rows"] == before["rows"]
    assert ask(like=wanted, count=0)[0] == 400
    assert ask(like="nobody")[0] == 400
