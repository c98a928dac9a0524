"""Facts about errors: each is a problem of its kind, tells nothing that was given in confidence,
and nothing that is sent makes the service fail.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from api_world import ADDRESS, MODEL, World, asked, problem

from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger import looking
from expunge.ledger.refusals import UnavailableError
from expunge.service.guarding import HEADERS

pytest_plugins = ["api_fixtures"]

WHERE = f"/v1/models/{MODEL}/requests"
TRAVERSALS = (
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fledger.db",
    "....//....//etc/passwd",
    "/etc/passwd",
    "C:\\windows\\win.ini",
    "digits%00.json",
    "r000000000001%0a",
    "~root",
)
INJECTIONS = (
    "'; DROP TABLE requests; --",
    "' OR '1'='1",
    "writer 1' UNION SELECT wrapped_key FROM objects --",
    "{{ 7 * 7 }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}",
    "${7*7}",
    "<script>alert(1)</script>",
    "\x1b[31m",
    "writer\r\nX-Injected: 1",
    "\u202egnitirw",
)


@pytest.fixture(scope="module")
def common(
    lived_world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, Any]]:
    """A ledger that several tests here ask, and its clients by account."""
    world = lived_world.copy(tmp_path_factory.mktemp("problems") / "ledger")
    folder = world.folder / "runs"
    (folder / "folder.yaml").mkdir(parents=True)
    (folder / "good.yaml").write_text("nothing: here")
    with world.asking(run_files=folder) as client:
        yield world, client
    world.ledger.database.close()


def test_every_kind_of_error_has_its_status(lived: World) -> None:
    with lived.asking() as client:
        operator = client("operator")
        problem(client("").get("/v1/models"), 401)
        problem(client("").get("/v1/models", headers={"Authorization": "Bearer expunge_k_x"}), 401)
        problem(client("requester").post(f"/v1/models/{MODEL}/seals", json={}), 403)
        problem(operator.get("/v1/models/nothing"), 404)
        problem(operator.get(f"/v1/models/{MODEL}/versions/99"), 404)
        problem(operator.get("/v1/nothing"), 404)
        problem(operator.put("/v1/models", json={}), 405)
        problem(
            operator.post(WHERE, content=b"{", headers={"Content-Type": "application/json"}), 400
        )
        told = problem(operator.post(WHERE, json={"column": "subject"}), 422)
        assert told["errors"] == [{"where": "body.values", "message": "Field required"}]
        told = problem(operator.post(WHERE, json=asked("x", column="colour")), 422)
        assert "colour" in told["detail"] and "subject" in told["detail"]
        told = problem(operator.post(WHERE, json=asked("writer 1", method="magic")), 422)
        assert told["instance"].startswith("urn:uuid:")
        for kind in ("unknown", "conflict", "fault"):
            assert client("").get(f"/problems/{kind}").status_code == 200
        problem(client("").get("/problems/..%2f..%2fetc"), 404)


def test_a_store_out_of_reach_is_no_fault_of_the_program(
    lived: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> None:
        raise UnavailableError("the ledger stays locked")

    monkeypatch.setattr(looking, "status", locked)
    with lived.asking() as client:
        answer = client("operator").get("/v1/models")
        assert problem(answer, 503)["detail"] == "the ledger stays locked"
        assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize("error", [ValueError("writer 3"), IntegrityError("writer 3")])
def test_a_fault_tells_a_number_and_nothing_else(
    lived: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(looking, "history", failing)
    with lived.asking() as client:
        answer = client("operator").get(f"/v1/models/{MODEL}/history")
        told = problem(answer, 500)
        assert "writer" not in answer.text
        assert told["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"


def test_errors_of_values_do_not_repeat_the_values(world: World) -> None:
    secret = "Ada Lovelace"
    with world.asking() as client:
        bodies: list[Any] = [
            asked(secret, priority=secret),
            {"column": "subject", "values": secret},
            asked(secret, strength={"x": secret}),
            {secret: secret, "column": "subject", "values": []},
            asked("x" * 1001 + secret),
        ]
        for body in bodies:
            answer = client("requester").post(WHERE, json=body)
            told = problem(answer, 422)
            assert secret not in json.dumps(
                {**told, "errors": [e["message"] for e in told["errors"]]}
            )


@pytest.mark.parametrize("name", TRAVERSALS)
def test_no_path_leaves_the_ledger(common: Any, name: str) -> None:
    _, client = common
    places = [
        f"/v1/models/{name}",
        f"/v1/models/{name}/columns",
        f"/v1/models/{name}/history",
        f"/v1/models/{MODEL}/versions/{name}",
        f"/v1/models/{MODEL}/versions/{name}/certificate",
        f"/v1/requests/{name}",
        f"/v1/requests/{name}/scope",
        f"/v1/requests/{name}/answers",
        f"/v1/requests/{name}/events",
        f"/v1/accounts/{name}",
        f"/static/{name}",
        f"/problems/{name}",
    ]
    for place in places:
        answer = client("admin").get(place, follow_redirects=False)
        assert answer.status_code in (400, 404, 422), place
        assert "root:" not in answer.text
    for place in (f"/v1/runs/{name}/cancellation", f"/v1/requests/{name}/revocation"):
        answer = client("admin").post(place, json={"reason": "x"})
        assert answer.status_code in (400, 404, 405, 422), place


@pytest.mark.parametrize("name", (*TRAVERSALS, "", ".", "..", "folder.yaml"))
def test_no_run_file_is_read_that_does_not_lie_in_the_folder(common: Any, name: str) -> None:
    _, client = common
    body = {"name": "other", "run_file": name}
    told = problem(client("admin").post("/v1/models", json=body), 422)
    assert "nothing" not in json.dumps(told)
    problem(client("operator").post("/v1/models", json=body), 403)


@pytest.mark.parametrize("text", INJECTIONS)
def test_what_looks_like_code_is_text(common: Any, text: str) -> None:
    world, client = common
    operator = client("operator")
    body = asked(text, name=text, text=text, anchor=text, metadata={text: text})
    taken = operator.post(WHERE, json=body)
    assert taken.status_code == 201
    words = operator.get(f"/v1/requests/{taken.json()['request']}/scope").json()["scope"]
    assert (words["name"], words["values"], words["metadata"]) == (text, [text], {text: text})
    assert words["text"] == words["anchor"] == text
    assert operator.post(WHERE, json=asked("x", column=text)).status_code == 422
    assert operator.post(WHERE, json=asked("x", method=text)).status_code == 422
    assert operator.get(WHERE, params={"cursor": text}).status_code == 422
    assert operator.get(f"/v1/models/{MODEL}/seal-plan", params={"before": text}).status_code in (
        409,
        422,
    )
    named = operator.post(WHERE, json=asked("x"), headers={b"Idempotency-Key": text.encode()})
    assert named.status_code in (200, 201, 400, 422)
    assert "x-injected" not in named.headers
    assert world.working.rows("requests")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"column":"subject","values":["x"],"metadata":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b'{"column":"subject","values":["x"],"priority":' + b"9" * 5000 + b"}",
        b'{"column":"subject","values":["x"],"priority":1e400}',
        b'{"column":"subject","values":["x"],"strength":NaN}',
        b'{"column":"subject","values":["x"],"metadata":{"a":NaN}}',
        b'{"column":"subject","values":["x"],"metadata":{"a":1e400}}',
        b'{"column":"subject","values":["\\ud800"]}',
        b'{"column":"subject","values":["x"],"metadata":{"\\ud800":"\\udfff"}}',
        b'{"column":"subject","values":["x"],"parameters":{"\\ud800":1},"method":"gradient-ascent"}',
        b'{"column":"\\u0000","values":["\\u0000"]}',
        b'\xff\xfe{"column"',
        b"null",
        b"[]",
        b'"x"',
        b"",
    ],
)
def test_json_that_means_harm_is_refused(common: Any, body: bytes) -> None:
    world, client = common
    before = len(world.working.rows("requests"))
    sent = {"Content-Type": "application/json"}
    answer = client("operator").post(WHERE, content=body, headers=sent)
    assert answer.status_code in (400, 422), answer.text
    problem(answer, answer.status_code)
    assert len(world.working.rows("requests")) == before


def test_a_body_beyond_the_limit_is_refused_declared_or_not(world: World) -> None:
    def pieces() -> Any:
        yield from [b'{"column":"', *[b"x" * 1000] * 50, b'"}']

    with world.asking(body_limit=10_000) as client:
        operator, sent = client("operator"), {"Content-Type": "application/json"}
        problem(operator.post(WHERE, content=b"x" * 10_001, headers=sent), 413)
        problem(operator.post(WHERE, content=pieces(), headers=sent), 413)
        odd = {**sent, "Content-Length": "-1"}
        assert operator.post(WHERE, content=b"{}", headers=odd).status_code == 400


def test_another_host_is_not_answered_and_every_answer_is_guarded(world: World) -> None:
    with world.asking(trusted_hosts="forget.example.org") as client:
        nobody = client("")
        for host in ("evil.example.org", "127.0.0.1.evil.org", "", "[::1", "localhost@evil.org"):
            problem(nobody.get("/v1/signing-key", headers={"Host": host}), 400)
        for host in (
            "forget.example.org",
            "localhost:8000",
            "[::1]:8000",
            "FORGET.example.org:443",
        ):
            assert nobody.get("/v1/signing-key", headers={"Host": host}).status_code == 200
        for place in ("/healthz", "/v1/models", "/nothing", "/v1/nothing"):
            answer = nobody.get(place)
            assert {name: answer.headers[name] for name in HEADERS} == dict(HEADERS)
            assert answer.headers["cache-control"] == "no-store"
        assert "unsafe" not in HEADERS["Content-Security-Policy"]
        kept = nobody.get("/static/expunge.css")
        assert kept.headers["cache-control"].startswith("public")


def test_secure_settings_ask_browsers_to_stay_on_tls(world: World) -> None:
    with world.asking(behind_proxy=True) as client:
        assert "strict-transport-security" in client("").get("/healthz").headers
    with world.asking() as client:
        assert "strict-transport-security" not in client("").get("/healthz").headers
    assert ADDRESS.startswith("http://")


def test_what_the_ledger_refuses_is_its_own_sentence(
    lived: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise ExpungeError("Something   was\ngiven; something else is expected.")

    monkeypatch.setattr(looking, "history", refused)
    with lived.asking() as client:
        told = problem(client("operator").get(f"/v1/models/{MODEL}/history"), 422)
        assert told["detail"] == "Something was given; something else is expected."


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
def test_a_time_that_is_none_in_another_zone_is_refused(common: Any, time: str) -> None:
    world, client = common
    operator, where = client("operator"), f"/v1/models/{MODEL}"
    keys = f"/v1/accounts/{world.account('requester')}/keys"
    for answer in (
        operator.post(WHERE, json=asked("writer 3", deadline=time)),
        operator.get(f"{where}/seal-plan", params={"before": time}),
        operator.post(f"{where}/seals", json={"before": time}),
        client("admin").post(keys, json={"label": "a key", "expires_at": time}),
    ):
        problem(answer, 422)


def test_days_that_lead_beyond_the_calendar_are_refused(common: Any) -> None:
    _, client = common
    for name in ("warn_days", "deadline_days"):
        body = {"name": "other", "run_file": "good.yaml", "policy": {name: 1e9}}
        told = problem(client("admin").post("/v1/models", json=body), 422)
        assert name in told["detail"]


@pytest.mark.parametrize("model", ["\\ud800", "\\u0000", "Digits", "**", ""])
def test_a_role_is_given_for_what_can_be_a_model(common: Any, model: str) -> None:
    _, client = common
    body = f'{{"name": "bob", "grants": {{"{model}": "auditor"}}}}'
    sent = {"content": body, "headers": {"Content-Type": "application/json"}}
    problem(client("admin").post("/v1/accounts", **sent), 422)


def test_who_is_not_known_is_not_told_where_the_database_is(world: World) -> None:
    with world.asking() as client:
        world.ledger.database.close()
        for file in world.folder.glob("ledger.db*"):
            file.rename(file.with_name(f"away-{file.name}"))
        for path in ("/v1/me", "/v1/models"):
            answer = client("operator").get(path)
            problem(answer, 503)
            assert str(world.folder) not in answer.text
        sent = {"name": "operator", "password": "not this one"}
        answer = client("").post("/sign-in", data=sent)
        assert answer.status_code == 503
        assert str(world.folder) not in answer.text
