"""Guessing passwords: five tries, waits that double, and nothing told about who has an account."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from access_probe import PASSWORD, Later, Probe
from argon2 import PasswordHasher

from expunge.ledger import accounts

pytest_plugins = ["access_fixtures"]

SIGN_IN = "/v1/probe/sign-in"


def tried(probe: Probe, name: str, password: str = "wrong", host: str = "10.0.0.1") -> Any:
    return probe.client(host).post(SIGN_IN, data={"name": name, "password": password})


def test_after_five_failures_even_the_right_password_waits(probe: Probe, later: Later) -> None:
    found = [tried(probe, "operator") for _ in range(6)]
    assert [answer.status_code for answer in found] == [401] * 5 + [429]
    assert found[-1].headers["retry-after"] == "30"
    assert tried(probe, "operator", PASSWORD).status_code == 429
    assert tried(probe, " OPERATOR ", PASSWORD, "10.0.0.2").status_code == 429
    assert tried(probe, "requester", PASSWORD).status_code == 200
    later(timedelta(seconds=30))
    assert tried(probe, "operator", PASSWORD).status_code == 200
    assert tried(probe, "operator").status_code == 401  # counting began anew


def test_waits_double_up_to_a_quarter_of_an_hour(probe: Probe, later: Later) -> None:
    for _ in range(5):
        tried(probe, "operator")
    waits = []
    for _ in range(7):
        refused = tried(probe, "operator")
        waits.append(int(refused.headers["retry-after"]))
        later(timedelta(seconds=waits[-1]))
        assert tried(probe, "operator").status_code == 401
    assert waits == [30, 60, 120, 240, 480, 900, 900]


def test_failures_that_lie_apart_do_not_add_up(probe: Probe, later: Later) -> None:
    for _ in range(12):
        assert tried(probe, "operator").status_code == 401
        later(timedelta(minutes=16))


def test_a_name_that_nobody_has_is_answered_as_one_that_somebody_has(
    probe: Probe, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[str] = []
    own = PasswordHasher.verify

    def verify(self: PasswordHasher, stored: str | bytes, secret: str | bytes) -> bool:
        work.append(str(stored).rsplit("$", 2)[0])
        return own(self, stored, secret)

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    accounts.disable(probe.ledger, probe.ids["requester"])
    keys_alone = accounts.create(probe.ledger, "program", None)
    answers: dict[str, list[tuple[int, str, str | None]]] = {}
    names = ("operator", "requester", "program", "nobody", "no name ' OR 1=1 --", "nul\0")
    for name in names:
        found = [tried(probe, name, host=f"10.0.1.{len(answers)}") for _ in range(6)]
        answers[name] = [
            (a.status_code, a.json()["detail"], a.headers.get("retry-after")) for a in found
        ]
    assert len({str(found) for found in answers.values()}) == 1, answers
    assert len(work) == 5 * len(names)
    assert len(set(work)) == 1  # the same cost, whatever there was to compare with
    assert keys_alone


def test_an_address_that_tries_many_names_waits_too(probe: Probe, later: Later) -> None:
    found = [tried(probe, f"name{i}").status_code for i in range(21)]
    assert found == [401] * 20 + [429]
    assert tried(probe, "operator", PASSWORD).status_code == 429
    assert tried(probe, "operator", PASSWORD, "10.0.0.2").status_code == 200


def test_the_network_of_a_household_is_one_address(probe: Probe, later: Later) -> None:
    found = [tried(probe, f"name{i}", host=f"2001:db8::{i + 1:x}") for i in range(21)]
    assert found[-1].status_code == 429
    assert tried(probe, "operator", PASSWORD, "2001:db8:0:1::1").status_code == 200


def test_many_tries_at_once_are_not_free(probe: Probe, later: Later) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: tried(probe, "operator").status_code, range(16)))
    assert sorted(found) == [401] * 5 + [429] * 11


def test_wrong_keys_of_an_address_wait_and_a_known_key_does_not(probe: Probe, later: Later) -> None:
    program = probe.by_key("operator")
    assert program.get("/v1/me").status_code == 200
    identifier = probe.key("operator").split("_")[1]
    guessing = {"Authorization": f"Bearer expunge_{identifier}_AAAA"}
    found = [probe.client(**guessing).get("/v1/me").status_code for _ in range(21)]
    assert found == [401] * 20 + [429]
    assert program.get("/v1/me").status_code == 200
    assert probe.by_key("requester").get("/v1/me").status_code == 429
    assert tried(probe, "operator", PASSWORD, "127.0.0.1").status_code == 200


def test_what_failed_is_kept_without_names_and_addresses(probe: Probe, later: Later) -> None:
    tried(probe, "operator", host="10.9.8.7")
    tried(probe, "somebody", host="10.9.8.7")
    text = str(probe.rows("failures")) + str(probe.rows("events")) + str(probe.rows("actions"))
    assert not any(word in text for word in ("operator", "somebody", "10.9.8.7"))
    assert probe.done() == [
        ("sign in", probe.ids["operator"], "refused"),
        ("sign in", None, "refused"),
    ]
    assert len(probe.rows("failures")) == 3
    later(timedelta(minutes=16))
    tried(probe, "requester", PASSWORD)
    assert len(probe.rows("failures")) == 1  # of the address, with none that counts


@pytest.mark.parametrize("field", ["name", "password"])
def test_a_text_of_marks_that_is_long_costs_an_unknown_caller_no_time(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    """To normalise takes the square of the length: a minute for a body of 1 MiB, beside which
    nothing else is answered."""
    longest = []

    def normalize(form: str, text: str) -> str:
        longest.append(len(text))
        return text

    monkeypatch.setattr("unicodedata.normalize", normalize)
    sent = {"name": "operator", "password": PASSWORD, field: "e" + "\u0300\u0316" * 50_000}
    assert probe.client().post(SIGN_IN, data=sent).status_code == 401
    assert longest
    assert max(longest) <= 4097


def test_a_password_that_was_changed_while_its_hash_was_renewed_opens_nothing(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody changes it after the old one was verified, and before the session is opened."""
    passwords, own = probe.here.passwords, probe.ids["operator"]
    monkeypatch.setattr(passwords, "outdated", lambda stored: True)
    hashed = passwords.hashed

    def meanwhile(secret: str) -> str:
        accounts.set_password(probe.ledger, own, hashed("quite another one 7"))
        return hashed(secret)

    monkeypatch.setattr(passwords, "hashed", meanwhile)
    assert tried(probe, "operator", PASSWORD).status_code == 401
    assert probe.rows("sessions") == []
