"""Facts about lists and repeats: nothing is taken twice, left out, or told to others."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_world import MODEL, World, asked, problem
from fastapi.testclient import TestClient

from expunge.service import paging
from expunge.service.problems import Problem

pytest_plugins = ["api_fixtures"]

WHERE = f"/v1/models/{MODEL}/requests"


def keyed(client: TestClient, key: str, body: dict[str, Any]) -> Any:
    return client.post(WHERE, json=body, headers={"Idempotency-Key": key})


def test_the_same_key_is_the_same_request_and_another_body_is_refused(world: World) -> None:
    with world.asking() as client:
        first = keyed(client("requester"), "ticket-1", asked("writer 1"))
        again = keyed(client("requester"), "ticket-1", asked("writer 1"))
        assert (first.status_code, again.status_code) == (201, 200)
        assert again.json() == {**first.json(), "repeated": True}
        other = keyed(client("requester"), "ticket-1", asked("writer 2"))
        assert "Idempotency-Key" in problem(other, 409)["detail"]
        elsewhere = keyed(client("another"), "ticket-1", asked("writer 1"))
        assert elsewhere.status_code == 201
        assert elsewhere.json()["request"] != first.json()["request"]
        assert len(world.working.rows("requests")) == 2


def test_a_key_that_comes_eight_times_at_once_is_taken_once(world: World) -> None:
    together = threading.Barrier(8)
    with world.asking() as client:
        operator = client("operator")

        def send(_: int) -> Any:
            together.wait()
            return keyed(operator, "race", asked("writer 1"))

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(send, range(8)))
    assert sorted(a.status_code for a in answers) == [200] * 7 + [201]
    assert len({a.json()["request"] for a in answers}) == 1
    assert len(world.working.rows("requests")) == 1
    assert len(world.working.rows("objects", kind="scope")) == 1


def test_pages_hold_still_while_new_requests_arrive(world: World) -> None:
    own = [world.working.ask("subject", f"writer {i % 40}") for i in range(45)]
    seen, cursor, pages = [], None, 0
    with world.asking() as client:
        while True:
            query = {"limit": 10, **({} if cursor is None else {"cursor": cursor})}
            page = client("operator").get(WHERE, params=query).json()
            seen += [row["request"] for row in page["items"]]
            cursor, pages = page["next"], pages + 1
            world.working.ask("subject", "writer 0")
            if cursor is None:
                break
    assert seen == own[::-1]
    assert pages == 5


def test_requesters_page_through_their_own_requests_alone(world: World) -> None:
    with world.asking() as client:
        for i in range(6):
            name = ("requester", "another")[i % 2]
            client(name).post(WHERE, json=asked(f"writer {i}"))
        first = client("requester").get(WHERE, params={"limit": 2}).json()
        rest = client("requester").get(WHERE, params={"limit": 2, "cursor": first["next"]}).json()
        assert [r["number"] for r in first["items"] + rest["items"]] == [5, 3, 1]
        assert rest["next"] is None
        hers = client("another").get(WHERE).json()["items"][0]["request"]
        problem(client("requester").get(f"/v1/requests/{hers}"), 404)
        problem(client("requester").get(f"/v1/requests/{hers}/events"), 404)
        assert len(client("auditor").get(WHERE).json()["items"]) == 6


def test_a_list_of_one_state_holds_that_state_alone(lived: World) -> None:
    with lived.asking() as client:
        waiting = client("operator").post(WHERE, json=asked("writer 9")).json()["request"]
        found = client("operator").get(WHERE, params={"state": "received"}).json()["items"]
        assert [row["request"] for row in found] == [waiting]
        assert (
            "state" in problem(client("operator").get(WHERE, params={"state": "x"}), 422)["detail"]
        )


def test_a_cursor_comes_back_as_it_was_and_no_other_is_taken() -> None:
    keys: list[list[str | int]] = [[17], ["2026-01-01T00:00:00.000000Z", "a12"]]
    for key in keys:
        kinds = [type(value) for value in key]
        assert paging.read(paging.written(key), *kinds) == key
    for cursor in (
        "",
        "!",
        "AAAA",
        paging.written(["17"]),
        paging.written([True]),
        "W10",
        "bnVsbA",
    ):
        with pytest.raises(Problem):
            paging.read(cursor, int)
    with pytest.raises(Problem):
        paging.read(paging.written([2**70]), int)


def test_a_requester_is_told_of_no_deadline_of_others(world: World) -> None:
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    with world.asking() as client:
        sent = asked("writer 1", deadline=soon)
        [own, other] = [
            client(name).post(WHERE, json=sent).json()["request"]
            for name in ("requester", "another")
        ]
        for who, seen in (("requester", [own]), ("another", [other]), ("auditor", [own, other])):
            [listed] = client(who).get("/v1/models").json()["models"]
            whole = client(who).get(f"/v1/models/{MODEL}").json()
            assert sorted(listed["due_soon"]) == sorted(whole["due_soon"]) == sorted(seen)
