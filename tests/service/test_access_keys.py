"""Keys of programs: only a slow hash is kept, and revoking one is felt at the next request."""

from datetime import timedelta
from pathlib import Path

import pytest
from access_probe import HERE, PASSWORD, REQUEST, Probe, untrained_ledger
from argon2 import PasswordHasher, extract_parameters

from expunge.ledger import accounts
from expunge.service.access import CSRF_HEADER
from expunge.service.passwords import MOST, Argon2, Passwords

pytest_plugins = ["access_fixtures"]


def test_the_default_cost_is_the_second_recommended_one_of_rfc_9106() -> None:
    found = extract_parameters(Passwords().hashed("a secret"))
    assert found.type.name == "ID"
    assert (found.time_cost, found.memory_cost, found.parallelism) == (3, 65536, 4)
    assert (found.salt_len, found.hash_len, found.version) == (16, 32, 19)


def test_a_verified_key_is_hashed_once_and_asked_for_every_time(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []
    own = PasswordHasher.verify

    def verify(self: PasswordHasher, stored: str | bytes, secret: str | bytes) -> bool:
        verified.append(str(stored))
        return own(self, stored, secret)

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    program = probe.by_key("operator")
    for _ in range(5):
        assert program.get("/v1/me").json()["by"] == "key"
    assert len(verified) == 1
    accounts.revoke_key(probe.ledger, probe.rows("api_keys")[0]["id"])
    assert program.get("/v1/me").status_code == 401
    assert len(verified) == 1


def test_a_disabled_account_has_no_keys_until_it_is_enabled(probe: Probe) -> None:
    program = probe.by_key("operator")
    assert program.get("/v1/me").status_code == 200
    accounts.disable(probe.ledger, probe.ids["operator"])
    assert program.get("/v1/me").status_code == 401
    accounts.change(probe.ledger, probe.ids["operator"], disabled=False)
    assert program.get("/v1/me").status_code == 200


def test_grants_act_at_once_and_for_their_model_alone(probe: Probe) -> None:
    program, address = probe.by_key("operator"), f"/v1/probe/models/{HERE}"
    assert program.post(address).status_code == 200
    assert program.post("/v1/probe/models/emoji").status_code == 404
    accounts.grant(probe.ledger, probe.ids["operator"], HERE, accounts.Role.AUDITOR)
    assert program.post(address).status_code == 403
    accounts.withdraw(probe.ledger, probe.ids["operator"], HERE)
    found = program.post(address)
    assert found.status_code == 404
    unknown = program.post("/v1/probe/models/never")
    assert found.json()["detail"].replace(HERE, "never") == unknown.json()["detail"]
    accounts.grant(probe.ledger, probe.ids["operator"], "*", accounts.Role.REQUESTER)
    assert program.post(address).status_code == 200
    assert program.post("/v1/probe/models/emoji").status_code == 200


def test_a_key_past_its_time_opens_nothing(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    soon = (accounts.now() + timedelta(hours=1)).isoformat()
    admin = probe.by_key("admin")
    given = {"label": "for an hour", "expires_at": soon}
    made = admin.post(f"/v1/accounts/{probe.ids['requester']}/keys", json=given)
    assert made.status_code == 201, made.text
    program = probe.client(Authorization=f"Bearer {made.json()['key']}")
    assert program.get("/v1/me").json()["name"] == "requester"
    after = accounts.now() + timedelta(hours=1)
    monkeypatch.setattr(accounts, "now", lambda: after)
    assert program.get("/v1/me").status_code == 401


@pytest.mark.parametrize(
    "sent",
    [
        "Bearer",
        "Bearer x",
        "Bearer expunge_k000000000000_AAAA",
        "Bearer expunge__",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer other_k000000000000_AAAA",
        "",
    ],
)
def test_what_is_no_key_is_refused_alike(probe: Probe, sent: str) -> None:
    found = probe.client(Authorization=sent).get("/v1/me")
    assert found.status_code == 401
    assert found.headers["www-authenticate"] == "Bearer"
    assert found.headers["content-type"] == "application/problem+json"


def test_an_own_key_is_made_in_a_browser_and_revoked_by_its_owner_or_an_admin(
    probe: Probe,
) -> None:
    browser, token = probe.browser("requester")
    headers = {CSRF_HEADER: token}
    made = browser.post("/v1/me/keys", json={"label": "mine"}, headers=headers)
    assert made.status_code == 201, made.text
    program = probe.client(Authorization=f"Bearer {made.json()['key']}")
    assert program.post("/v1/me/keys", json={"label": "more"}).status_code == 403
    address = f"/v1/keys/{made.json()['id']}"
    foreign, unknown = (
        probe.by_key("operator").delete(where) for where in (address, "/v1/keys/k000000000000")
    )
    assert foreign.status_code == unknown.status_code == 404
    assert program.delete(address).status_code == 204
    assert program.get("/v1/me").status_code == 401
    again = probe.by_key("admin").delete(address)
    assert again.status_code == 204
    listed = browser.get("/v1/me/keys").json()["items"]
    assert [(own["label"], own["alive"]) for own in listed] == [("mine", False)]


def test_no_secret_is_kept_or_told_again(
    probe: Probe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    browser, token = probe.browser("operator")
    program = probe.by_key("operator")
    assert program.get("/v1/me").status_code == 200
    wrong = "a wrong password of somebody"
    probe.client().post("/v1/probe/sign-in", data={"name": "operator", "password": wrong})
    admin = probe.by_key("admin")
    shown = "".join(
        admin.get(address).text
        for address in ("/v1/accounts", f"/v1/accounts/{probe.ids['operator']}/keys", "/v1/actions")
    )
    secrets = [
        PASSWORD,
        wrong,
        token,
        browser.cookies["expunge"],
        *(probe.key(name).split("_", 2)[2] for name in ("operator", "admin")),
    ]
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*"))
    written = "".join(capfd.readouterr())
    for secret in secrets:
        assert secret.encode() not in stored
        assert secret not in written
        assert secret not in shown
    assert "argon2" not in shown
    assert repr(probe.here.passwords).count("argon2") == 0
    hashes = [row["password_hash"] for row in probe.rows("accounts")]
    hashes += [row["secret_hash"] for row in probe.rows("api_keys")]
    assert len(hashes) == 5
    assert all(own.startswith("$argon2id$") for own in hashes)


def test_the_memory_of_verified_secrets_is_bounded() -> None:
    passwords = Passwords(Argon2(1, 8, 1))
    stored = passwords.hashed("right")
    assert not passwords.remembers(stored, "right")
    assert not passwords.verify_remembering(stored, "wrong")
    assert not passwords.remembers(stored, "wrong")
    assert passwords.verify_remembering(stored, "right")
    assert passwords.remembers(stored, "right")
    assert not passwords.remembers(passwords.hashed("right"), "right")
    assert MOST < 10_000


def test_a_hash_of_another_cost_is_made_anew_at_sign_in(probe: Probe) -> None:
    old = Passwords(Argon2(2, 16, 1)).hashed(PASSWORD)
    accounts.set_password(probe.ledger, probe.ids["operator"], old)
    browser, _ = probe.browser("operator")
    [row] = probe.rows("accounts", name="operator")
    assert not probe.here.passwords.outdated(row["password_hash"])
    assert browser.get("/v1/me").status_code == 200


def test_a_requester_sees_its_own_requests_alone(tmp_path: Path) -> None:
    probe = Probe.make(untrained_ledger(tmp_path)).people()
    address = f"/v1/probe/requests/{REQUEST}"
    found = {name: probe.by_key(name).get(address).status_code for name in probe.ids}
    seeing = {"asker", "operator", "auditor", "every-auditor", "every-operator", "admin"}
    assert found == {name: 200 if name in seeing else 404 for name in probe.ids}
    unknown = probe.by_key("requester").get("/v1/probe/requests/r999999999999").json()
    hidden = probe.by_key("requester").get(address).json()
    assert unknown["detail"].replace("r999999999999", REQUEST) == hidden["detail"]
