"""Facts about the client: it does what the ledger does, raises what the ledger raises, and asks
twice only for what may be asked twice.
"""

import subprocess
import sys
import threading

import httpx
import pytest
from api_world import MODEL, World

import expunge
from expunge import client as client_module
from expunge.client import Client, Progress, ServiceError, SignInError
from expunge.errors import ConflictError, ExpungeError, ForbiddenError, UnknownError
from expunge.ledger.certificate import verified

pytest_plugins = ["api_fixtures"]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between tries, which take no time here."""
    found: list[float] = []
    monkeypatch.setattr("expunge.client.time.sleep", found.append)
    return found


def scripted(*answers: "httpx.Response | Exception") -> tuple[Client, list[httpx.Request]]:
    """A client whose service answers so, in this order, and what it was asked."""
    asked: list[httpx.Request] = []
    left = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    return Client("http://service", "key", transport=httpx.MockTransport(answer)), asked


def told(status: int, detail: str = "so it is", **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"status": status, "detail": detail}, headers=headers)


RECEIPT = {"request": "r1", "model": "m", "number": 1, "state": "received", "repeated": False}


def test_the_package_has_the_client_and_imports_it_late() -> None:
    assert expunge.Client is Client
    with pytest.raises(AttributeError):
        _ = expunge.Nothing


def test_a_request_is_submitted_waited_for_and_proven(world: World) -> None:
    with (
        world.listening() as address,
        Client(address, world.keys["operator"]) as client,
        Client(address, world.keys["auditor"]) as auditor,
    ):
        assert [m.name for m in client.models()] == [MODEL]
        assert client.preview(MODEL, "subject", ["writer 3"]).rows > 0
        receipt = client.submit(MODEL, "subject", ["writer 3"], idempotency_key="ticket")
        again = client.submit(MODEL, "subject", ["writer 3"], idempotency_key="ticket")
        assert (again.request, again.repeated) == (receipt.request, True)
        seen: list[Progress] = []
        worker = threading.Thread(target=world.working.work)
        worker.start()
        done = client.wait(receipt.request, timeout=120, told=seen.append)
        worker.join()
        assert (done.state, seen[-1].state) == ("published", "published")
        assert client.scope(receipt.request)["scope"]["values"] == ["writer 3"]
        stated = verified(auditor.certificate(MODEL), world.ledger.keys.public)
        assert stated["predicate"]["version"] == 1
        assert [v.version for v in auditor.versions(MODEL)] == [1, 0]
        assert client.seal_plan(MODEL).requests == [receipt.request]
        run = client.revoke(receipt.request, "withdrawn")
        assert run.startswith("u")
        with pytest.raises(ConflictError):
            client.revoke(receipt.request, "withdrawn")
        with pytest.raises(UnknownError):
            client.request("r000000000000")
        with pytest.raises(ForbiddenError):
            auditor.submit(MODEL, "subject", ["writer 4"])
        with pytest.raises(ExpungeError, match="colour"):
            client.submit(MODEL, "colour", ["red"])
        with Client(address, "expunge_k0_x") as nobody, pytest.raises(SignInError):
            nobody.models()


def test_a_list_is_fetched_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAGE", 3)
    own = [world.working.ask("subject", f"writer {i}") for i in range(8)]
    with world.listening() as address, Client(address, world.keys["operator"]) as client:
        assert [r.request for r in client.requests(MODEL)] == own[::-1]
        assert not list(client.requests(MODEL, state="published"))


def test_what_may_be_asked_twice_is_tried_again_with_the_same_key(pauses: list[float]) -> None:
    client, asked = scripted(
        httpx.ConnectError("refused"),
        told(503, **{"Retry-After": "3"}),
        httpx.Response(201, json=RECEIPT),
    )
    assert client.submit("m", "subject", ["x"]).request == "r1"
    assert len({request.headers["idempotency-key"] for request in asked}) == 1
    assert pauses == [0.5, 3.0]


def test_what_may_not_is_asked_once(pauses: list[float]) -> None:
    client, asked = scripted(told(503), told(202))
    with pytest.raises(ServiceError, match="so it is"):
        client.seal("m")
    assert (len(asked), pauses) == (1, [])


def test_who_is_out_of_reach_is_given_up_after_some_tries(pauses: list[float]) -> None:
    client, asked = scripted(*[httpx.ConnectError("refused")] * 9)
    with pytest.raises(ServiceError, match="cannot be reached"):
        client.models()
    assert len(asked) == 1 + len(client_module.PAUSES)


def test_a_key_is_not_sent_where_the_service_points_to(pauses: list[float]) -> None:
    client, asked = scripted(httpx.Response(307, headers={"Location": "http://elsewhere/"}))
    with pytest.raises(ServiceError, match="307"):
        client.models()
    assert len(asked) == 1


def test_an_answer_that_is_no_problem_is_the_services_fault(pauses: list[float]) -> None:
    client, _ = scripted(httpx.Response(404, text="<html>nginx</html>"))
    with pytest.raises(ExpungeError, match="status 404"):
        client.models()


def test_a_stream_that_is_cut_goes_on_where_it_was(pauses: list[float]) -> None:
    def event(name: str, mark: str, state: str) -> str:
        data = f'{{"request":"r1","state":"{state}","reason":null,"updated":"t","steps":[]}}'
        return f"event: {name}\nid: {mark}\ndata: {data}\n\n"

    first = httpx.Response(
        200, text="retry: 2000\n\n: alive\n\n" + event("progress", "a", "running")
    )
    then = event("progress", "b", "published") + event("end", "b", "published")
    client, asked = scripted(first, httpx.ReadTimeout("silent"), httpx.Response(200, text=then))
    assert [p.state for p in client.progress("r1")] == ["running", "published"]
    assert [request.headers.get("last-event-id") for request in asked] == [None, "a", "a"]


def test_values_that_are_one_text_are_refused(pauses: list[float]) -> None:
    client, asked = scripted()
    with pytest.raises(ExpungeError, match="a list of texts"):
        client.submit("m", "subject", "writer 3")
    assert not asked


def test_names_cannot_leave_their_place_in_the_address() -> None:
    names = ("../accounts", "..", ".", "a/b", "a?x=1", "a#b", "%2e%2e", "a\r\nb", "ä")
    client, asked = scripted(*[told(404)] * len(names))
    for name in names:
        with pytest.raises(UnknownError):
            client.model(name)
    paths = [request.url.raw_path.decode() for request in asked]
    assert all(path.startswith("/v1/models/") and path.count("/") == 3 for path in paths)
    assert not any("?" in path or path.endswith(".") for path in paths)


def test_a_program_that_asks_loads_neither_torch_nor_a_database() -> None:
    heavy = ("torch", "sqlalchemy", "expunge.ledger")
    code = f"import sys, expunge.client; print([m for m in {heavy} if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
