"""Facts about progress as it happens: every change is told, nothing is told twice, and it ends."""

import json
import threading
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest
from api_world import MODEL, World, problem

from expunge.ledger import accounts
from expunge.ledger.accounts import Role
from expunge.ledger.following import Progress, progress

pytest_plugins = ["api_fixtures"]


def parsed(text: str) -> list[dict[str, Any]]:
    """The events of a stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


def first_request(world: World) -> str:
    [row] = world.working.rows("requests")
    return str(row["id"])


def test_a_request_is_followed_until_it_is_answered(world: World) -> None:
    request = world.working.ask("subject", "writer 3")
    worker = threading.Thread(target=world.working.work)
    with world.asking(poll=0.01) as client:
        worker.start()
        answer = client("operator").get(f"/v1/requests/{request}/events")
        worker.join()
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = parsed(answer.text)
    assert [e["event"] for e in events[-2:]] == ["progress", "end"]
    states = list(dict.fromkeys(e["data"]["state"] for e in events))
    assert states[-1] == "published"
    assert states == [s for s in ("received", "running", "published") if s in states]
    marks = [e["id"] for e in events if e["event"] == "progress"]
    assert len(set(marks)) == len(marks)
    assert {s["step"] for e in events for s in e["data"]["steps"]} >= {"unlearn", "measure"}


def test_what_was_received_is_not_sent_again(lived: World) -> None:
    request = first_request(lived)
    with lived.asking() as client:
        where = f"/v1/requests/{request}/events"
        [told, end] = parsed(client("operator").get(where).text)
        assert (told["event"], end["event"], told["id"]) == ("progress", "end", end["id"])
        again = client("operator").get(where, headers={"Last-Event-ID": told["id"]})
        assert [e["event"] for e in parsed(again.text)] == ["end"]
        other = client("operator").get(where, headers={"Last-Event-ID": "something else"})
        assert [e["event"] for e in parsed(other.text)] == ["progress", "end"]


def test_a_stream_lives_shows_it_and_ends_when_it_is_time(world: World) -> None:
    request = world.working.ask("subject", "writer 3")
    with world.asking(heartbeat=0.05, stream_time=0.5) as client:
        text = client("operator").get(f"/v1/requests/{request}/events").text
    assert text.startswith("retry: ")
    assert text.count(": alive\n\n") >= 2
    assert [e["event"] for e in parsed(text)] == ["progress"]


def test_a_stream_ends_when_the_key_is_revoked(world: World) -> None:
    request = world.working.ask("subject", "writer 3")
    where = f"/v1/requests/{request}/events"
    own = accounts.by_name(world.ledger, "auditor")
    assert own is not None
    [key] = accounts.keys(world.ledger, own.id)
    headers = world.headers("auditor")
    with world.listening(heartbeat=0.05, stream_time=60) as address:
        with httpx.stream("GET", address + where, headers=headers, timeout=20) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry")
            accounts.revoke_key(world.ledger, key.id)
            begun = time.monotonic()
            assert "event: end" not in list(lines)
            assert time.monotonic() - begun < 50
        assert httpx.get(address + where, headers=headers).status_code == 401


def test_a_stream_ends_when_the_service_is_stopped(world: World) -> None:
    request = world.working.ask("subject", "writer 3")
    where, answers = f"/v1/requests/{request}/events", []
    begun = threading.Event()

    def listen(address: str) -> None:
        headers = world.headers("operator")
        with httpx.stream("GET", address + where, headers=headers, timeout=20) as answer:
            for line in answer.iter_lines():
                answers.append(line)
                begun.set()

    with world.listening(stream_time=60) as address:
        listener = threading.Thread(target=listen, args=(address,))
        listener.start()
        assert begun.wait(20)
    listener.join(20)
    assert not listener.is_alive()
    assert answers and "event: end" not in answers


def test_no_more_listen_than_are_allowed(world: World) -> None:
    request = world.working.ask("subject", "writer 3")
    where, headers = f"/v1/requests/{request}/events", world.headers("operator")

    def listened(address: str) -> int:
        with httpx.stream("GET", address + where, headers=headers, timeout=20) as answer:
            return answer.status_code

    with world.listening(streams=1, stream_time=60) as address:
        with httpx.stream("GET", address + where, headers=headers, timeout=20) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry")
            problem(httpx.get(address + where, headers=headers), 503)
        for _ in range(200):  # the service notices at its next event that nobody listens
            if listened(address) == 200:
                return
            time.sleep(0.05)
    pytest.fail("a stream that was left still counts")


def test_progress_tells_the_runs_about_a_request_and_when_it_is_over(world: World) -> None:
    request = world.working.ask("subject", "writer 3")
    waiting = progress(world.ledger, request)
    assert (waiting.state, waiting.steps, waiting.over) == ("received", (), False)
    assert waiting.mark == progress(world.ledger, request).mark
    world.working.work()
    done = progress(world.ledger, request)
    assert (done.state, done.over) == ("published", True)
    assert done.mark != waiting.mark
    with world.asking() as client:
        client("operator").post(f"/v1/requests/{request}/revocation", json={"reason": "r"})
    asked_back = progress(world.ledger, request)
    assert ([s.kind for s in asked_back.steps], asked_back.over) == (["revoke"], False)


@pytest.mark.parametrize("withdrawn", ["key", "role"])
def test_a_stream_ends_for_who_may_not_see_it_while_progress_comes(
    world: World, monkeypatch: pytest.MonkeyPatch, withdrawn: str
) -> None:
    """A requester keeps a role that sees requests, but not those of others."""
    request = world.working.ask("subject", "writer 3")
    own = accounts.by_name(world.ledger, "operator")
    assert own is not None
    [key] = accounts.keys(world.ledger, own.id)
    found, looks = progress(world.ledger, request), []

    def another(_ledger: object, _request: str) -> Progress:
        looks.append(1)
        if len(looks) == 3:
            if withdrawn == "key":
                accounts.revoke_key(world.ledger, key.id)
            else:
                accounts.grant(world.ledger, own.id, MODEL, Role.REQUESTER)
        return replace(found, updated=str(len(looks)))

    monkeypatch.setattr("expunge.service.live.progress", another)
    with world.asking(heartbeat=0.1, poll=0.02, stream_time=20) as client:
        assert client("operator").get(f"/v1/requests/{request}/events").status_code == 200
    assert 3 <= len(looks) < 300
