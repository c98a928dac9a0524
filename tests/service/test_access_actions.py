"""Every route that may change something leaves an action, whoever asks and whatever comes of it.

The routes are those of the application: one that is added without a row in BODIES or QUIET fails.
"""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from access_probe import CHEAP, HERE, OTHER_REQUEST, PASSWORD, REQUEST, RUN, Probe, untrained_ledger
from fastapi.routing import APIRoute
from test_access_roles import methods_of, routes

from expunge.service import access
from expunge.service.access import Permission, PublicRule, rule_of
from expunge.service.app import create_app
from expunge.service.settings import settings_of

IDS = {
    "model": HERE,
    "request_id": REQUEST,
    "run_id": RUN,
    "account_id": "c000000000000",
    "key_id": "k000000000000",
}
QUIET = {
    "POST /v1/models/{model}/preview",
    "POST /v1/models/{model}/advice",
    "POST /v1/models/{model}/identification",
    "POST /v1/certificates/verification",
    "POST /models/{model}/request/preview",
}
"""They have a body and change nothing; only that they were refused is put down."""
WHY, NAMED = {"reason": "why"}, {"column": "subject", "values": ["1"]}
BODIES: Mapping[str, dict[str, Any]] = {
    "POST /v1/models": {"name": "new", "run_file": "new.yaml"},
    "POST /v1/models/{model}/requests": NAMED,
    "POST /v1/models/{model}/seals": {},
    "POST /v1/requests/{request_id}/revocation": WHY,
    "POST /v1/requests/{request_id}/cancellation": WHY,
    "POST /v1/requests/{request_id}/retry": {},
    "POST /v1/runs/{run_id}/cancellation": WHY,
    "POST /v1/verification": {},
    "POST /v1/me/password": {"current": "another one", "password": "correct horse battery 2"},
    "POST /v1/me/keys": {"label": "a program"},
    "POST /v1/accounts": {"name": "new"},
    "PATCH /v1/accounts/{account_id}": {"disabled": True},
    "POST /v1/accounts/{account_id}/keys": {"label": "a program"},
    "DELETE /v1/keys/{key_id}": {},
    "POST /sign-in": {"name": "admin", "password": "another one"},
    "POST /sign-out": {},
    "POST /account/password": {"current": "another one", "password": "correct horse battery 2"},
    "POST /account/keys": {"label": "a program"},
    "POST /keys/{key_id}/revocation": {},
    "POST /accounts": {"name": "newer"},
    "POST /accounts/{account_id}/grant": {"role": "auditor", "model": HERE},
    "POST /accounts/{account_id}/withdrawal": {"model": HERE},
    "POST /accounts/{account_id}/password": {"password": "correct horse battery 2"},
    "POST /accounts/{account_id}/disabling": {},
    "POST /accounts/{account_id}/enabling": {},
    "POST /accounts/{account_id}/keys": {"label": "a program"},
    "POST /models/{model}/request": {"column": "subject", "values": "1"},
    "POST /models/{model}/seal": {"confirm": HERE},
    "POST /requests/{request_id}/answers": {},
    "POST /requests/{request_id}/scope": {},
    "POST /requests/{request_id}/revocation": WHY,
    "POST /requests/{request_id}/cancellation": WHY,
    "POST /requests/{request_id}/retry": {},
    "POST /runs/{run_id}/cancellation": WHY,
}
"""What is sent to each: enough to come to where it would be done."""


def unsafe(of: Probe) -> dict[str, APIRoute]:
    return {
        f"{method} {route.path}": route
        for route in routes(of.app)
        if isinstance(route, APIRoute)
        for method in methods_of(route)
        if method not in access.SAFE
    }


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """The whole service on rows that nothing stands behind: what is tried there fails, mostly."""
    nothing = SimpleNamespace(requests=[], runs=[])
    page = "expunge.service.pages.seal"
    monkeypatch.setattr(f"{page}.api.plan_seal", lambda *_: nothing)
    monkeypatch.setattr(f"{page}.list_runs", lambda *_: nothing)
    monkeypatch.setattr(access, "REFUSALS", 1000)
    ledger = untrained_ledger(tmp_path)
    return Probe(ledger, create_app(ledger, settings_of(argon2=CHEAP))).people()


def sent(probe: Probe, who: str, name: str, **ids: str) -> tuple[int, list[dict[str, Any]]]:
    """The status of a call by the session of an account, and the actions that it left."""
    browser = probe.client()
    if name != "POST /sign-in":
        signed = browser.post(
            "/sign-in", data={"name": who, "password": PASSWORD}, follow_redirects=False
        )
        assert signed.status_code == 303
        cookie = browser.cookies[access.COOKIE]
        browser.headers[access.CSRF_HEADER] = access._session(cookie).csrf
    before = {row["id"] for row in probe.rows("actions")}
    method, path = name.split()
    body = BODIES.get(name, {})
    given: dict[str, Any] = {"json" if path.startswith("/v1/") else "data": body}
    address = path.format(**{**IDS, **ids})
    status = browser.request(method, address, follow_redirects=False, **given).status_code
    return status, [row for row in probe.rows("actions") if row["id"] not in before]


def test_every_unsafe_route_is_known(probe: Probe) -> None:
    assert set(unsafe(probe)) == set(BODIES) | QUIET


def test_what_an_admin_does_is_put_down_whatever_comes_of_it(probe: Probe) -> None:
    silent = []
    for name in BODIES:
        status, left = sent(probe, "admin", name)
        if [row["actor"] for row in left] != [probe.ids["admin"]]:
            silent.append((name, status))
    assert silent == []


def test_what_is_refused_is_put_down_and_what_is_not_seen_without_its_name(probe: Probe) -> None:
    silent: list[tuple[Any, ...]] = []
    for name, route in unsafe(probe).items():
        rule = rule_of(route)
        if isinstance(rule, PublicRule) or rule.permission is Permission.ONESELF:
            continue
        for who in ("nobody", "elsewhere", "requester", "auditor"):
            status, left = sent(probe, who, name, request_id=OTHER_REQUEST)
            if status not in (403, 404):
                continue
            if status == 404 and not left and name in QUIET:
                continue  # it was allowed, and what it looks for was not there
            told = [(row["actor"], row["outcome"], row["action"]) for row in left]
            if told != [(probe.ids[who], "refused", rule.permission.value)]:
                silent.append((name, who, status, told))
            if status == 404 and any(row["model"] or row["target"] for row in left):
                silent.append((name, who, status, left))
    assert silent == []


def test_a_key_of_another_that_somebody_tries_to_revoke_is_put_down(probe: Probe) -> None:
    key = probe.key("admin").split("_")[1]
    status, [left] = sent(probe, "requester", "DELETE /v1/keys/{key_id}", key_id=key)
    assert status == 404
    assert (left["actor"], left["target"]) == (probe.ids["requester"], key)
    assert left["outcome"] != "done"
    assert probe.rows("api_keys", id=key)[0]["revoked_at"] is None


def test_a_certificate_that_somebody_may_not_read_is_put_down(probe: Probe) -> None:
    for path in (
        f"/v1/models/{HERE}/versions/1/certificate",
        "/v1/models/other/versions/1/certificate",
    ):
        before = len(probe.rows("actions"))
        assert probe.by_key("requester").get(path).status_code in (403, 404)
        assert len(probe.rows("actions")) == before + 1
