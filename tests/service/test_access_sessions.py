"""Sessions of browsers: no fixation, strict cookies, an end, and the token of every change."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from access_probe import CHEAP, PASSWORD, Later, Probe, untrained_ledger

from expunge.ledger import accounts
from expunge.service.access import CSRF_HEADER, Actor, renewed
from expunge.service.settings import settings_of

pytest_plugins = ["access_fixtures"]

FORM = "/v1/probe/form"
SIGN_IN = "/v1/probe/sign-in"
RIGHT = {"name": "operator", "password": PASSWORD}


def test_a_cookie_that_was_planted_is_not_the_one_that_is_signed_in(probe: Probe) -> None:
    browser = probe.client()
    browser.cookies.set("expunge", "planted")
    assert browser.post(SIGN_IN, data=RIGHT).status_code == 200
    assert len(probe.rows("sessions")) == 1
    victim = probe.client()
    victim.cookies.set("expunge", "planted")
    assert victim.get("/v1/me").status_code == 401


def test_a_second_sign_in_ends_the_first_session_under_another_id(probe: Probe) -> None:
    browser, _ = probe.browser("operator")
    first = browser.cookies["expunge"]
    assert browser.post(SIGN_IN, data=RIGHT).status_code == 200
    assert browser.cookies["expunge"] != first
    thief = probe.client()
    thief.cookies.set("expunge", first)
    assert thief.get("/v1/me").status_code == 401
    assert browser.get("/v1/me").json()["by"] == "session"


def test_the_cookie_is_strict_and_over_tls_bound_to_its_host(tmp_path: Path) -> None:
    ledger = untrained_ledger(tmp_path)
    plain = Probe.make(ledger).people("operator")
    said = plain.client().post(SIGN_IN, data=RIGHT).headers["set-cookie"]
    words = {part.strip().lower() for part in said.split(";")[1:]}
    assert said.startswith("expunge=")
    assert words == {"httponly", "path=/", "samesite=strict"}
    safe = Probe.make(ledger, settings_of(argon2=CHEAP, behind_proxy=True))
    said = safe.client().post(SIGN_IN, data=RIGHT).headers["set-cookie"]
    words = {part.strip().lower() for part in said.split(";")[1:]}
    assert said.startswith("__Host-expunge=")
    assert words == {"httponly", "path=/", "samesite=strict", "secure"}


def test_a_session_ends_when_it_is_idle_or_old(probe: Probe, later: Later) -> None:
    browser, _ = probe.browser("operator")
    for _ in range(25):  # in use: 12.5 hours, which are more than any session has
        later(timedelta(minutes=29))
        if browser.get("/v1/me").status_code == 401:
            break
        assert accounts.now() - _begun(probe) < timedelta(hours=12)
    else:
        pytest.fail("a session lasted more than 12 hours")
    browser, _ = probe.browser("operator")
    assert len(probe.rows("sessions")) == 1  # the one that was over is gone
    later(timedelta(minutes=31))
    assert browser.get("/v1/me").status_code == 401


def _begun(probe: Probe) -> datetime:
    return datetime.fromisoformat(probe.rows("sessions")[0]["created_at"])


def test_signing_out_ends_the_session_and_not_only_the_cookie(probe: Probe) -> None:
    browser, token = probe.browser("operator")
    kept = browser.cookies["expunge"]
    assert browser.post("/v1/probe/sign-out", headers={CSRF_HEADER: token}).status_code == 200
    assert "expunge" not in browser.cookies
    browser.cookies.set("expunge", kept)
    assert browser.get("/v1/me").status_code == 401


def test_another_password_or_a_disabled_account_ends_sessions(probe: Probe) -> None:
    first, token = probe.browser("operator")
    second, _ = probe.browser("operator")
    given = {"current": PASSWORD, "password": "another long sentence"}
    changed = first.post("/v1/me/password", json=given, headers={CSRF_HEADER: token})
    assert changed.status_code == 204, changed.text
    assert first.get("/v1/me").status_code == 200
    assert second.get("/v1/me").status_code == 401
    assert probe.client().post(SIGN_IN, data=RIGHT).status_code == 401
    accounts.disable(probe.ledger, probe.ids["operator"])
    assert first.get("/v1/me").status_code == 401
    changed_name = {"name": "operator", "password": "another long sentence"}
    refused = probe.client().post(SIGN_IN, data=changed_name)
    assert refused.status_code == 401
    assert refused.json()["detail"] == (
        "The name or the password is wrong, or the account is disabled."
    )


def test_a_password_is_changed_only_by_who_knows_it(probe: Probe) -> None:
    browser, token = probe.browser("operator")
    headers = {CSRF_HEADER: token}
    for given, status in (
        ({"current": "wrong", "password": "another long sentence"}, 403),
        ({"current": PASSWORD, "password": "short"}, 422),
        ({"current": PASSWORD, "password": "the operator of it"}, 422),
        ({"current": PASSWORD, "password": "aaaaaaaaaaaaaaaa"}, 422),
    ):
        found = browser.post("/v1/me/password", json=given, headers=headers)
        assert found.status_code == status, given
        assert given["password"] not in found.text
    assert probe.client().post(SIGN_IN, data=RIGHT).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({CSRF_HEADER: ""}, 403),
        ({CSRF_HEADER: "made up"}, 403),
        ({CSRF_HEADER: "ü"}, 403),
        ({CSRF_HEADER: "RIGHT"}, 200),
        ({CSRF_HEADER: "RIGHT", "Origin": "http://127.0.0.1"}, 200),
        ({CSRF_HEADER: "RIGHT", "Origin": "http://127.0.0.1:81"}, 403),
        ({CSRF_HEADER: "RIGHT", "Origin": "https://127.0.0.1"}, 403),
        ({CSRF_HEADER: "RIGHT", "Origin": "http://evil.example"}, 403),
        ({CSRF_HEADER: "RIGHT", "Origin": "null"}, 403),
        ({CSRF_HEADER: "RIGHT", "Sec-Fetch-Site": "same-origin"}, 200),
        ({CSRF_HEADER: "RIGHT", "Sec-Fetch-Site": "same-site"}, 403),
        ({CSRF_HEADER: "RIGHT", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_a_change_by_a_browser_needs_its_token_and_its_own_page(
    probe: Probe, headers: dict[str, str], status: int
) -> None:
    browser, token = probe.browser("operator")
    sent = {n: token if v == "RIGHT" else v for n, v in headers.items()}
    found = browser.post(
        "/v1/probe/models/digits", headers=[(n.encode(), v.encode()) for n, v in sent.items()]
    )
    assert found.status_code == status, found.text


def test_the_token_of_another_session_or_of_an_earlier_one_is_refused(probe: Probe) -> None:
    browser, stale = probe.browser("operator")
    _, foreign = probe.browser("requester")
    own = browser.post(SIGN_IN, data=RIGHT).json()
    assert len({own, stale, foreign}) == 3
    for token, status in ((stale, 403), (foreign, 403), (own, 200)):
        headers = {CSRF_HEADER: token}
        assert browser.post("/v1/probe/models/digits", headers=headers).status_code == status


def test_a_form_repeats_the_token_in_a_field(probe: Probe) -> None:
    browser, token = probe.browser("operator")
    for fields, status in (
        ({"word": "yes"}, 403),
        ({"word": "yes", "csrf": "made up"}, 403),
        ({"word": "yes", "csrf": token}, 200),
    ):
        assert browser.post(FORM, data=fields).status_code == status
    files = {"csrf": (None, token), "word": (None, "yes")}
    assert browser.post(FORM, files=files).status_code == 403  # a header, where it is no such form
    found = browser.post(FORM, files=files, headers={CSRF_HEADER: token})
    assert found.json() == "yes"


def test_a_form_without_a_length_or_a_huge_one_brings_no_token(probe: Probe) -> None:
    browser, token = probe.browser("operator")
    kind = {"content-type": "application/x-www-form-urlencoded"}
    body = f"word=yes&csrf={token}".encode()
    assert browser.post(FORM, content=iter([body]), headers=kind).status_code == 403
    huge = body + (b"&more=" + b"x" * 2**17) * 9
    assert browser.post(FORM, content=huge, headers=kind).status_code == 403


def test_reading_needs_no_token_and_a_key_never_does(probe: Probe) -> None:
    browser, _ = probe.browser("operator")
    assert browser.get("/v1/probe/models/digits/history").status_code == 200
    program = probe.by_key("operator")
    headers = {"Origin": "http://evil.example"}
    assert program.post("/v1/probe/models/digits", headers=headers).status_code == 200


def test_a_key_that_is_sent_is_asked_before_the_cookie(probe: Probe) -> None:
    browser, _ = probe.browser("admin")
    sent = {"Authorization": f"Bearer {probe.key('requester')}"}
    assert browser.get("/v1/me", headers=sent).json()["name"] == "requester"
    assert browser.get("/v1/me", headers={"Authorization": "Basic eDp5"}).status_code == 401


def test_another_site_cannot_sign_a_browser_in(probe: Probe) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        found = probe.client().post(SIGN_IN, data=RIGHT, headers=headers)
        assert found.status_code == 403
    assert probe.rows("sessions") == []


def test_what_goes_on_for_long_asks_again(probe: Probe) -> None:
    browser, _ = probe.browser("operator")
    assert browser.get("/v1/probe/renewed").json() is True
    program = probe.by_key("operator")
    assert program.get("/v1/probe/renewed").json() is True
    key = probe.rows("api_keys")[0]["id"]
    own = Actor(probe.ids["operator"], "operator", False, {}, None, key)
    known = renewed(probe.here, own)
    assert known is not None
    assert dict(known.grants) == {"digits": "operator"}
    accounts.revoke_key(probe.ledger, key)
    assert renewed(probe.here, own) is None


def test_signing_in_and_out_is_put_down_with_the_role(probe: Probe) -> None:
    browser, token = probe.browser("operator")
    browser.post("/v1/probe/sign-out", headers={CSRF_HEADER: token})
    own = probe.ids["operator"]
    assert probe.done() == [("sign in", own, "done"), ("sign out", own, "done")]
    assert {row["role"] for row in probe.rows("actions")} == {"operator"}
