"""The pages as they are sent: who sees what, what is escaped, what a form without a script does."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from access_probe import CHEAP, PASSWORD
from api_world import ADDRESS
from fastapi.testclient import TestClient
from small_model import Working
from torch import nn

from expunge.audit.plots import DARK, LIGHT
from expunge.ledger import accounts
from expunge.ledger.accounts import Role
from expunge.ledger.listing import actions_page
from expunge.ledger.scope import Scope
from expunge.ledger.submitting import Submission, submit
from expunge.service.app import create_app
from expunge.service.pages import router
from expunge.service.pages.rendering import coded, is_page, moment, size, static
from expunge.service.pages.sign_in import own_path
from expunge.service.pages.steps import shown
from expunge.service.passwords import Passwords
from expunge.service.settings import settings_of

SERVICE = Path(__file__).parents[2] / "src" / "expunge" / "service"
HOSTILE = "<script>alert('x')</script>{{ 7*7 }}"
PARTIAL = {"HX-Request": "true"}


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory, digits_model: nn.Module) -> Working:
    folder = tmp_path_factory.mktemp("pages")
    made = Working.make(folder, digits_model)
    hashed = Passwords(CHEAP).hashed(PASSWORD)
    for name, role in (("rita", Role.REQUESTER), ("olga", Role.OPERATOR), ("axel", Role.AUDITOR)):
        accounts.grant(made.ledger, accounts.create(made.ledger, name, hashed), "digits", role)
    accounts.create(made.ledger, "maria", hashed, admin=True)
    accounts.create(made.ledger, "nemo", hashed)
    return made


@pytest.fixture(scope="module")
def published(working: Working) -> str:
    """A request with a hostile name, that is answered."""
    scope = Scope(HOSTILE, "subject", ("writer 3",))
    request = submit(working.ledger, "digits", Submission(scope, metadata={"a": HOSTILE})).request
    working.work()
    return request


@pytest.fixture
def browser(working: Working) -> Iterator[Callable[[str], TestClient]]:
    """A client that is signed in under a name, as a browser without scripts is."""
    app = create_app(working.ledger, settings_of(argon2=CHEAP))
    opened = []

    def open_(name: str) -> TestClient:
        client = TestClient(app, base_url=ADDRESS)
        client.__enter__()
        opened.append(client)
        sent = {"name": name, "password": PASSWORD}
        answer = client.post("/sign-in", data=sent, follow_redirects=False)
        assert answer.status_code == 303
        return client

    yield open_
    for client in opened:
        client.__exit__(None, None, None)


def token(client: TestClient, path: str = "/account") -> str:
    found = re.search('name="csrf" value="([^"]+)"', client.get(path).text)
    assert found is not None
    return found[1]


def test_names_are_escaped_wherever_they_come_from(
    browser: Callable[[str], TestClient], published: str
) -> None:
    client = browser("olga")
    words = client.post(f"/requests/{published}/scope", data={"csrf": token(client)})
    assert "&lt;script&gt;alert(&#39;x&#39;)" in words.text
    assert "<script>alert" not in words.text
    assert "{{ 7*7 }}" in words.text  # what was written, and nothing that a template made of it
    filled = {"csrf": token(client), "column": "subject", "values": HOSTILE, "name": HOSTILE}
    preview = client.post("/models/digits/request/preview", data=filled)
    assert "<script>alert" not in preview.text
    assert "&lt;script&gt;" in preview.text
    assert "<script>alert" not in client.get("/sign-in", params={"next": f"/{HOSTILE}"}).text
    assert "<script>alert" not in client.get(f"/models/{HOSTILE}").text


def test_the_request_page_names_nobody_until_it_is_asked(
    browser: Callable[[str], TestClient], published: str, working: Working
) -> None:
    client = browser("axel")
    page = client.get(f"/requests/{published}")
    assert "writer 3" not in page.text
    assert "digits:" not in page.text
    words = client.post(
        f"/requests/{published}/scope", data={"csrf": token(client)}, headers=PARTIAL
    )
    assert "writer 3" in words.text
    assert "<html" not in words.text
    answers = client.post(f"/requests/{published}/answers", data={"csrf": token(client)})
    assert "digits:" in answers.text
    done = [(row.action, row.target) for row in actions_page(working.ledger).rows]
    assert ("see scope", published) in done
    assert ("see answers", published) in done


def test_a_form_without_the_token_of_the_session_does_nothing(
    browser: Callable[[str], TestClient], published: str, working: Working
) -> None:
    client = browser("olga")
    for csrf in ({}, {"csrf": token(browser("maria"))}):
        answer = client.post(f"/requests/{published}/revocation", data={"reason": "x", **csrf})
        assert answer.status_code == 403
        assert "<h1>" in answer.text
    assert working.rows("runs", kind="revoke") == []


def test_each_sees_what_the_role_allows(
    browser: Callable[[str], TestClient], published: str
) -> None:
    requester, auditor, nobody = browser("rita"), browser("axel"), browser("nemo")
    assert requester.get(f"/requests/{published}").status_code == 404  # another's request
    assert "Request 1" not in requester.get("/models/digits").text
    assert requester.get("/models/digits/history").status_code == 403
    assert requester.get("/accounts").status_code == 403
    page = auditor.get(f"/requests/{published}").text
    assert "Show them" in page
    assert "Take it back" not in page
    assert "Seal for good" not in auditor.get("/models/digits/seal").text
    assert "New request" not in auditor.get("/models/digits").text
    assert auditor.get("/actions").status_code == 200
    assert requester.get("/actions").status_code == 403
    assert "digits" not in nobody.get("/").text
    assert nobody.get("/models/digits").status_code == 404


def test_whoever_is_not_signed_in_is_sent_to_sign_in(working: Working) -> None:
    app = create_app(working.ledger, settings_of(argon2=CHEAP))
    client = TestClient(app, base_url="http://127.0.0.1:8000", follow_redirects=False)
    answer = client.get("/models/digits/history")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=%2Fmodels%2Fdigits%2Fhistory"
    part = client.get("/models/digits/seal/live", headers=PARTIAL)
    assert (part.status_code, part.headers["HX-Redirect"]) == (401, "/sign-in")
    assert client.get("/v1/models").headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/models/digits", "/models/digits"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/v1/models", "/"),
        ("/sign-out", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("", "/"),
    ],
)
def test_signing_in_goes_on_to_own_pages_alone(given: str, kept: str) -> None:
    assert own_path(given) == kept


def test_what_did_not_change_is_not_sent_again(
    browser: Callable[[str], TestClient], published: str
) -> None:
    client = browser("olga")
    first = client.get(f"/requests/{published}/live", headers=PARTIAL)
    assert "data-ended" in first.text  # so that nothing asks again
    assert 'id="said"' in first.text
    waiting = client.post(
        "/models/digits/request",
        data={
            **{"csrf": token(client), "column": "subject", "values": "writer 12", "key": "one"},
            "text": "<b>a fish</b>",
        },
        follow_redirects=False,
    )
    path = waiting.headers["location"]
    words = client.post(f"{path}/scope", data={"csrf": token(client)})
    assert "&lt;b&gt;a fish&lt;/b&gt;" in words.text
    part = client.get(f"{path}/live", headers=PARTIAL).text
    seen = re.search(r"live\?seen=([0-9a-f]+)", part)
    assert seen is not None
    again = client.get(f"{path}/live", params={"seen": seen[1]}, headers=PARTIAL)
    assert (again.status_code, again.content) == (204, b"")
    assert 'id="do"' in client.get(f"{path}/live", params={"was": "another"}, headers=PARTIAL).text
    cancelled = client.post(
        f"{path}/cancellation", data={"csrf": token(client), "reason": "by mistake"}
    )
    assert "withdrawn" in cancelled.text


def test_a_form_that_is_sent_twice_is_one_request(
    browser: Callable[[str], TestClient], working: Working
) -> None:
    client = browser("olga")
    sent = {"csrf": token(client), "column": "subject", "values": "writer 13", "key": "twice"}
    paths = {
        client.post("/models/digits/request", data=sent, follow_redirects=False).headers["location"]
        for _ in range(2)
    }
    assert len(paths) == 1
    other = client.post("/models/digits/request", data={**sent, "values": "writer 14"})
    assert other.status_code == 409
    assert "writer 14" in other.text  # what was filled in stays
    client.post(f"{paths.pop()}/cancellation", data={"csrf": token(client), "reason": "enough"})


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("values", "  \n ", "No value is named"),
        ("column", "no such column", "no such column"),
        ("priority", "many", "priority"),
        ("parameters", "{", "JSON object"),
        ("method", "no-such-method", "no-such-method"),
        ("deadline", "yesterday", "yesterday"),
    ],
)
def test_a_field_that_cannot_be_used_is_said_on_the_form(
    browser: Callable[[str], TestClient], field: str, value: str, said: str, working: Working
) -> None:
    client = browser("olga")
    before = len(working.rows("requests"))
    sent = {"csrf": token(client), "column": "subject", "values": "writer 1", field: value}
    answer = client.post("/models/digits/request", data=sent)
    assert answer.status_code == 422
    alert = answer.text.partition('role="alert"><p>')[2].partition("</p>")[0]
    assert said in alert
    assert len(working.rows("requests")) == before


def test_a_seal_needs_the_name_and_the_plan_that_was_shown(
    browser: Callable[[str], TestClient], published: str, working: Working
) -> None:
    client = browser("olga")
    path = "/models/digits/seal"
    wrong = client.post(
        path, data={"csrf": token(client), "confirm": "Digits", "planned": published}
    )
    assert wrong.status_code == 422
    other = client.post(path, data={"csrf": token(client), "confirm": "digits", "planned": "r0"})
    assert other.status_code == 409
    assert working.rows("runs", kind="seal") == []
    done = client.post(
        path, data={"csrf": token(client), "confirm": "digits", "planned": published}
    )
    assert "Sealing the history" in done.text
    [run] = working.rows("runs", kind="seal")
    back = client.post(
        f"/runs/{run['id']}/cancellation", data={"csrf": token(client), "reason": "not yet"}
    )
    assert "Type the model’s name" in back.text


def test_an_admin_makes_accounts_keys_and_reads_what_was_done(
    browser: Callable[[str], TestClient],
) -> None:
    client = browser("maria")
    made = client.post(
        "/accounts",
        data={"csrf": token(client), "name": "robot", "role": "operator", "model": "digits"},
    )
    found = re.search(r'id="a-(\w+)">robot', made.text)
    assert found is not None
    refused = client.post(
        "/accounts", data={"csrf": token(client), "name": "rita2", "password": "short"}
    )
    assert refused.status_code == 422
    assert 'role="alert"' in refused.text
    page = client.post(
        f"/accounts/{found[1]}/keys", data={"csrf": token(client), "label": "<b>nightly</b>"}
    )
    secret = re.search(r'id="secret">([^<]+)<', page.text)
    assert secret is not None
    assert "<b>nightly" not in page.text
    assert secret[1] not in client.get("/accounts").text  # shown once
    asked = client.get("/v1/me", headers={"Authorization": f"Bearer {secret[1]}"})
    assert asked.json()["name"] == "robot"
    client.post(f"/accounts/{found[1]}/disabling", data={"csrf": token(client)})
    assert client.get("/v1/me", headers={"Authorization": f"Bearer {secret[1]}"}).status_code == 401
    actions = client.get("/actions").text
    assert "make key" in actions
    assert "robot" not in client.get("/actions", params={"model": "digits"}).text


def test_a_password_is_changed_by_who_knows_it(browser: Callable[[str], TestClient]) -> None:
    client = browser("nemo")
    sent = {"csrf": token(client), "current": "another one entirely", "password": PASSWORD[::-1]}
    assert client.post("/account/password", data=sent).status_code == 403
    sent["current"] = PASSWORD
    assert "was changed" in client.post("/account/password", data=sent).text
    client.post(
        "/account/password",
        data={"csrf": token(client), "current": PASSWORD[::-1], "password": PASSWORD},
    )


def test_pages_hold_no_script_and_no_style_of_their_own() -> None:
    for path in (SERVICE / "templates").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|hx-on|javascript:", text
        ), path
        assert "| safe" not in text
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "https://" not in text


def test_static_addresses_change_with_their_content(browser: Callable[[str], TestClient]) -> None:
    client = browser("olga")
    page = client.get("/models/digits/history").text
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        assert client.get(address).status_code == 200
        assert "?v=" in address
    assert static("expunge.css") == static("expunge.css")


def test_the_colours_are_those_of_the_reports() -> None:
    rules = (SERVICE / "static" / "expunge.css").read_text(encoding="utf-8")
    light, _, dark = rules.partition("prefers-color-scheme: dark")
    for text, theme in ((light, LIGHT), (dark, DARK)):
        known = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", text.partition("}")[0]))
        assert (known["surface"], known["ink"], known["line"]) == (
            theme.surface,
            theme.ink,
            theme.line,
        )
        assert (known["removed"], known["kept"]) == (theme.series[-1], theme.series[0])
        ramp = tuple(known[f"removed-{name}"] for name in ("none", "half", "all"))
        assert ramp == theme.removed


def test_third_party_scripts_come_with_their_licences() -> None:
    vendor = SERVICE / "static" / "vendor"
    assert {path.name.partition("-")[0] for path in vendor.glob("*.js")} == {"htmx", "plotly"}
    for name in ("htmx", "plotly"):
        assert (vendor / f"LICENSE-{name}.txt").is_file()
        assert name in (SERVICE.parents[2] / "NOTICE").read_text(encoding="utf-8").lower()


def test_every_page_is_for_people() -> None:
    assert router.routes
    for route in router.routes:
        assert is_page(route.path)  # type: ignore[attr-defined]
    assert not is_page("/v1/models")
    assert not is_page("/metrics")


def test_steps_stand_in_their_order() -> None:
    run = shown("u1", "serve", "running", "measure", "2026-01-01T00:00:00Z", None)
    assert [step.when for step in run.steps] == ["past", "past", "past", "now", "ahead"]
    guarded = shown("u1", "serve", "running", "guard", "2026-01-01T00:00:00Z", None)
    assert [step.name for step in guarded.steps][2] == guarded.now == "Guard"
    stopped = shown("u1", "seal", "interrupted", "unlearn", "2026-01-01T00:00:00Z", None)
    assert [(s.name, s.when) for s in stopped.steps][1] == ("Fold", "wrong")


def test_words_for_values() -> None:
    assert coded("run `a <b>` now") == "run <code>a &lt;b&gt;</code> now"
    assert moment("2026-01-31T23:30:00-01:00") == "2026-02-01 00:30 UTC"
    assert [size(1), size(1536), size(5 * 2**30)] == ["1 bytes", "1.5 KiB", "5.0 GiB"]
