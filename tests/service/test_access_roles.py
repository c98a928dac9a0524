"""Every route of the service against every role: the matrix in ``role_matrix.md``.

A route without a rule, and one whose rule is not in the file, fails. Run this file to write the
matrix anew, and read what changed.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from access_probe import (
    CHEAP,
    HERE,
    REQUEST,
    RUN,
    Probe,
    probes,
    untrained_ledger,
)
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import BaseRoute

from expunge.errors import ForbiddenError, UnknownError
from expunge.ledger.accounts import Role
from expunge.service.access import (
    PERMISSIONS,
    NotSignedInError,
    Permission,
    PublicRule,
    Rule,
    rule_of,
    rules_of,
)
from expunge.service.app import create_app
from expunge.service.settings import settings_of

MATRIX = Path(__file__).with_name("role_matrix.md")
COLUMNS = (
    "anonymous",
    "nobody",
    "elsewhere",
    "requester",
    "asker",
    "operator",
    "auditor",
    "every-operator",
    "every-auditor",
    "admin",
)
"""Who asks; the roles are for the model of the path, and ``every-...`` are for all models."""
PATH = {"model": HERE, "request_id": REQUEST, "run_id": RUN}
ELSEWHERE = "10.0.0.9"
"""An address of another machine: /metrics asks nobody of this one."""
OPEN = {"/openapi.json", "/static"}
"""What is no route of the API or a page: the description, and the files of the package."""


def routes(of: FastAPI | APIRouter) -> Iterator[BaseRoute]:
    """Every route, also of routers that are included."""
    for route in of.routes:
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        if isinstance(inner, APIRouter):
            yield from routes(inner)
        else:
            yield route


def methods_of(route: APIRoute) -> list[str]:
    """What a route answers to."""
    return sorted((route.methods or set()) - {"HEAD", "OPTIONS"})


def asked(probe: Probe, rule: Rule, who: str, method: str) -> str:
    """What a rule says to somebody who asks with a key."""
    headers = []
    if who != "anonymous":
        headers.append((b"authorization", f"Bearer {probe.key(who)}".encode()))
    scope = {
        "type": "http",
        "method": method,
        "path": "/",
        "headers": headers,
        "path_params": PATH,
        "client": (ELSEWHERE, 1),
        "app": probe.app,
    }
    try:
        rule(Request(scope), probe.here, None)
    except (NotSignedInError, ForbiddenError, UnknownError) as error:
        refused = {NotSignedInError: "401", ForbiddenError: "403", UnknownError: "404"}
        return refused[type(error)]
    return "yes"


def matrix(probe: Probe) -> str:
    """The table of every route of the application that may have an endpoint behind a rule."""
    lines = []
    known: dict[tuple[Rule, bool], str] = {}
    for route in routes(probe.app):
        if not isinstance(route, APIRoute):
            continue
        rule = rule_of(route)
        for method in methods_of(route):
            if isinstance(rule, PublicRule):
                lines.append(f"| {method} {route.path} | public |" + " yes |" * len(COLUMNS))
                continue
            key = (rule, method == "GET")
            if key not in known:
                cells = (asked(probe, rule, who, method) for who in COLUMNS)
                known[key] = " | ".join(cells)
            what = f"{rule.permission.value} ({rule.on})"
            lines.append(f"| {method} {route.path} | {what} | {known[key]} |")
    head = f"| route | rule | {' | '.join(COLUMNS)} |\n" + "| --- " * (2 + len(COLUMNS)) + "|\n"
    return head + "\n".join(sorted(lines)) + "\n"


def served(folder: Path) -> Probe:
    """The whole service on a ledger with accounts of every role."""
    ledger = untrained_ledger(folder)
    return Probe(ledger, create_app(ledger, settings_of(argon2=CHEAP))).people()


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    return served(tmp_path_factory.mktemp("roles"))


def test_every_route_declares_one_rule(probe: Probe) -> None:
    found = {
        f"{methods_of(route)} {route.path}": len(rules_of(route))
        for route in routes(probe.app)
        if isinstance(route, APIRoute)
    }
    assert len(found) > 10
    assert {name: number for name, number in found.items() if number != 1} == {}
    others = {
        getattr(route, "path", "?")
        for route in routes(probe.app)
        if not isinstance(route, APIRoute)
    }
    assert others <= OPEN


def test_the_routes_and_their_roles_are_those_of_the_matrix(probe: Probe) -> None:
    assert matrix(probe) == MATRIX.read_text(encoding="utf-8"), (
        "routes or roles changed: run this file, and read what it changed in role_matrix.md"
    )


def test_every_route_that_has_a_rule_refuses_who_is_not_known(probe: Probe) -> None:
    client = probe.client(ELSEWHERE)
    for route in routes(probe.app):
        if not isinstance(route, APIRoute) or isinstance(rule_of(route), PublicRule):
            continue
        ids = {**PATH, "account_id": "c000000000000", "key_id": "k000000000000"}
        path = route.path
        for name in route.param_convertors:
            path = path.replace(f"{{{name}}}", ids.get(name, "0"))
        for method in methods_of(route):
            found = client.request(method, path, follow_redirects=False)
            assert found.status_code in (303, 401), (method, path, found.status_code)


def test_roles_are_those_of_the_table() -> None:
    """What the issue says of each role, in its words and not in those of the table."""
    changing = {Permission.CANCEL, Permission.REVOKE, Permission.RETRY, Permission.SEAL}
    owning = {Permission.REGISTER, Permission.MANAGE_ACCOUNTS}
    requester, operator, auditor = (
        PERMISSIONS[role] for role in (Role.REQUESTER, Role.OPERATOR, Role.AUDITOR)
    )
    assert requester < operator
    assert changing <= operator
    assert not auditor & (changing | owning | {Permission.SUBMIT, Permission.PREVIEW})
    assert Permission.SEE_ANSWERS in auditor & operator
    assert Permission.SEE_ANSWERS not in requester
    assert not owning & operator
    assert PERMISSIONS[Role.ADMIN] == set(Permission)
    assert set(PERMISSIONS) == set(Role)


def test_a_route_without_a_rule_or_with_two_is_found() -> None:
    app = FastAPI()

    @app.get("/none")
    def none() -> None: ...

    [bare] = [r for r in routes(app) if isinstance(r, APIRoute)]
    with pytest.raises(ValueError, match="declares 0 rules where one was expected"):
        rule_of(bare)
    both = next(r for r in probes.routes if isinstance(r, APIRoute))
    assert isinstance(rule_of(both), Rule)


def test_refused_tries_are_put_down_until_there_are_too_many(tmp_path: Path) -> None:
    own = Probe.make(untrained_ledger(tmp_path)).people("auditor")
    program, address = own.by_key("auditor"), f"/v1/probe/models/{HERE}"
    for _ in range(25):
        assert program.post(address).status_code == 403
    assert own.done() == [("submit", own.ids["auditor"], "refused")] * 20
    assert {row["role"] for row in own.rows("actions")} == {"auditor"}
    assert program.get(f"{address}/history").status_code == 200
    assert len(own.done()) == 20


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        text = matrix(served(Path(place)))
    MATRIX.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
