"""Facts about what is watched: logs and figures tell how the service does, and name nobody."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from api_world import MODEL, World, asked
from fastapi.testclient import TestClient
from filelock import FileLock

from expunge.ledger import looking
from expunge.ledger.counting import counts, worker_present
from expunge.ledger.locks import worker_file
from expunge.service import logs

pytest_plugins = ["api_fixtures"]

WHERE = f"/v1/models/{MODEL}/requests"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is put down."""
    stream = io.StringIO()
    logs.configure(stream)
    yield stream
    structlog.reset_defaults()


def test_a_line_for_every_request_and_no_word_of_what_was_asked(
    lived: World, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "Ada Lovelace"

    def failing(*_: object) -> None:
        raise ValueError(secret)

    with lived.asking() as client:
        operator = client("operator")
        taken = operator.post(WHERE, json=asked(secret, name=secret)).json()["request"]
        operator.get(f"/v1/requests/{taken}/scope", params={"q": secret})
        operator.get(f"/v1/models/{secret}")
        operator.get(f"/nothing/{secret}")
        operator.post(WHERE, json=asked(secret, column=secret))
        monkeypatch.setattr(looking, "history", failing)
        failed = operator.get(f"/v1/models/{MODEL}/history")
    text = lines.getvalue()
    found = [json.loads(line) for line in text.splitlines()]
    assert secret not in text and "Lovelace" not in text and taken not in text
    assert [line["route"] for line in found] == [
        "/v1/models/{model}/requests",
        "/v1/requests/{request_id}/scope",
        "/v1/models/{model}",
        "(none)",
        "/v1/models/{model}/requests",
        "/v1/models/{model}/history",
    ]
    assert {line["account"] for line in found if line["route"] != "(none)"} == {
        lived.account("operator")
    }
    fault = found[-1]
    assert (fault["event"], fault["error"], fault["status"]) == ("fault", "ValueError", 500)
    assert fault["request"] == failed.headers["x-request-id"]
    assert any("api/models.py" in place for place in fault["places"])


def test_the_servers_own_lines_have_no_sentences_of_exceptions(lines: io.StringIO) -> None:
    try:
        raise ValueError("Ada Lovelace")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception for Ada Lovelace")
    [line] = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert "Ada" not in json.dumps(line)
    assert (line["error"], line["logger"]) == ("ValueError", "uvicorn.error")


def test_figures_count_requests_by_route_and_what_waits(lived: World) -> None:
    lived.working.ask("subject", "writer 5")
    with lived.asking() as client:
        for _ in range(3):
            client("auditor").get(f"/v1/models/{MODEL}")
        client("auditor").get("/v1/models/other")
        told = client("admin").get("/metrics")
        assert told.headers["content-type"].startswith("text/plain")
    wanted = (
        'expunge_http_requests_total{method="GET",route="/v1/models/{model}",status="200"} 3.0',
        'expunge_requests{model="digits",state="published"} 1.0',
        'expunge_requests{model="digits",state="received"} 1.0',
        'expunge_requests_overdue{model="digits"} 0.0',
        'expunge_model_version{model="digits"} 1.0',
        "expunge_worker_present 0.0",
    )
    for line in wanted:
        assert line in told.text.splitlines()


def test_figures_are_for_this_machine_or_for_who_may_see_them(world: World) -> None:
    def status(client: Any, name: str = "") -> int:
        headers = world.headers(name) if name else {}
        return int(client.get("/metrics", headers=headers).status_code)

    def at(address: str, **settings: Any) -> TestClient:
        app = world.app(**settings)
        return TestClient(app, base_url="http://127.0.0.1", client=(address, 50000))

    assert status(at("127.0.0.1")) == 200
    assert status(at("203.0.113.7")) == 401
    assert status(at("127.0.0.1", behind_proxy=True)) == 401
    assert status(at("203.0.113.7"), "operator") == 403
    assert status(at("203.0.113.7"), "admin") == 200


def test_what_is_overdue_is_counted(world: World) -> None:
    from datetime import UTC, datetime, timedelta

    soon = (datetime.now(UTC) + timedelta(milliseconds=300)).isoformat()
    world.working.ask("subject", "writer 5", deadline=soon)
    found = counts(world.ledger)
    while not found.overdue[MODEL]:
        found = counts(world.ledger)
    assert found.requests == {(MODEL, "received"): 1}
    assert (found.runs, found.versions) == ({}, {MODEL: 0})


def test_a_worker_is_seen_as_long_as_it_holds_its_lock(world: World) -> None:
    assert not worker_present(world.ledger)
    path = world.ledger.database.path
    assert path is not None
    with FileLock(worker_file(path)), world.asking() as client:
        assert worker_present(world.ledger)
        assert client("").get("/readyz").json()["worker"] is True
    assert not worker_present(world.ledger)


def test_the_service_is_ready_only_with_its_store(world: World) -> None:
    with world.asking() as client:
        assert client("").get("/healthz").json() == {"status": "ok"}
        assert client("").get("/readyz").json()["ready"] is True
        other = world.folder / "objects" / "expunge-ledger"
        marks = [p for p in (world.folder / "objects").iterdir() if p.is_file()]
        assert marks, other
        marks[0].write_text("another ledger's\n")
        answer = client("").get("/readyz")
        assert (answer.status_code, answer.json()["store"], answer.json()["database"]) == (
            503,
            False,
            True,
        )
        assert client("").get("/healthz").status_code == 200
