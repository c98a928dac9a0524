"""Facts about the benchmark of the service: what it counts as wrong; and kills lose nothing."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from expunge.benchmarks.service import protocol
from expunge.benchmarks.service.calls import MIX, NAMED, Client
from expunge.benchmarks.service.load import by_kind
from expunge.benchmarks.service.site import Key
from expunge.cli.main import app
from expunge.errors import ExpungeError
from expunge.ledger.accounts import Role


class Service:
    """Answers in the place of a service; ``forgets`` gives a key another request each time."""

    def __init__(self, forgets: bool = False) -> None:
        self.forgets = forgets
        self.bodies: dict[str, Any] = {}
        self.seen: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(f"{request.method} {request.url.path}")
        if request.method == "GET" and request.url.path.endswith("/events"):
            return httpx.Response(200, content=b"event: progress\ndata: {}\n\n")
        if request.method == "GET":
            return httpx.Response(200, json={"next": None})
        if request.url.path.endswith("/preview"):
            return httpx.Response(200, json={})
        key, body = request.headers["Idempotency-Key"], json.loads(request.content)
        repeated = key in self.bodies
        assert self.bodies.setdefault(key, body) == body
        name = f"r{len(self.seen)}" if self.forgets else f"r{list(self.bodies).index(key)}"
        return httpx.Response(200 if repeated else 201, json={"request": name})


def worked(service: Service, number: int, calls: int, role: Role = Role.OPERATOR) -> Client:
    made = Client("http://service", Key("secret", role), 0, number, 50)
    made.http = httpx.AsyncClient(base_url="http://service", transport=httpx.MockTransport(service))
    asyncio.run(made.work(calls))
    return made


def test_every_call_is_timed_or_wrong_and_a_key_has_one_body() -> None:
    service = Service()
    made = worked(service, 3, 300)
    assert len(made.seconds) == 300
    assert made.wrong == Counter()
    assert {kind for kind, _ in made.seconds} == set(MIX)
    assert len(made.receipts) == len(service.bodies) == len(set(made.receipts.values()))
    assert len(service.seen) == 300
    by_requester = worked(Service(), 3, 300, Role.REQUESTER)
    assert {"history", "versions"} & {kind for kind, _ in by_requester.seconds} == set()


def test_a_second_request_under_a_key_is_wrong() -> None:
    made = worked(Service(forgets=True), 0, 300)
    assert set(made.wrong) == {"submit again: another request under the same key"}


def test_no_two_clients_name_the_same_row() -> None:
    named: list[str] = []
    for number in range(50):
        service = Service()
        worked(service, number, 60)
        values = [value for body in service.bodies.values() for value in body["values"]]
        named += [value for value in values if not value.startswith("nobody")]
    assert len(named) == len(set(named)) <= NAMED
    assert len(named) > NAMED / 2


def test_percentiles_are_values_that_so_many_do_not_exceed() -> None:
    found = by_kind([("a", s / 100) for s in range(1, 101)] + [("b", 5.0)])
    assert found["a"] == {"calls": 100, "p50": 0.5, "p95": 0.95, "p99": 0.99, "most": 1.0}
    assert found["b"] == {"calls": 1, "p50": 5.0, "p95": 5.0, "p99": 5.0, "most": 5.0}
    assert (found["all"]["calls"], found["all"]["most"]) == (101, 5.0)


def test_a_wrong_call_or_a_fault_fails_the_benchmark() -> None:
    clean: dict[str, Any] = {"load": {"wrong": {}, "checks": {"x": []}}, "kills": {"checks": {}}}
    assert protocol.holds(clean)
    assert not protocol.holds({"load": {"wrong": {"submit: status 500": 1}, "checks": {}}})
    assert not protocol.holds({"kills": {"checks": {"no request is lost": ["r1"]}}})


def test_one_database_takes_one_part_and_a_folder_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="a ledger each"):
        protocol.Protocol(url="postgresql://x/y").conduct(lambda _: None)
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ExpungeError, match="is not empty"):
        protocol.Protocol(out=tmp_path).conduct(lambda _: None)


@pytest.mark.slow
def test_kills_of_server_and_worker_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    words = ["bench", "service", "--clients", "8", "--calls", "60", "--kills", "4"]
    done = CliRunner().invoke(app, [*words, "--json", str(path)])
    assert done.exit_code == 0, done.output
    found = json.loads(path.read_text())
    assert found["load"]["by kind"]["all"]["calls"] == 60
    assert sum(found["kills"]["kills"].values()) == 4
    assert found["kills"]["taken"] == sum(found["kills"]["requests"].values()) > 0
    assert found["kills"]["cut"]
