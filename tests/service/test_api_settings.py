"""Facts about settings: the environment and options say the same, and nothing unsafe is started."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from expunge.cli.main import app
from expunge.errors import ExpungeError
from expunge.service.settings import settings_of


def test_options_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_SERVICE_PORT", "9000")
    monkeypatch.setenv("EXPUNGE_SERVICE_TRUSTED_HOSTS", "forget.example.org, 10.0.0.7")
    monkeypatch.setenv("EXPUNGE_SERVICE_WORKER", "false")
    found = settings_of(port=None)
    assert (found.port, found.worker) == (9000, False)
    assert {"forget.example.org", "10.0.0.7", "127.0.0.1", "localhost"} <= found.hosts
    assert settings_of(port=9001).port == 9001


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "forget.example.org"])
def test_nothing_is_served_to_others_unencrypted(host: str, tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="--tls-cert and --tls-key, or --behind-proxy"):
        settings_of(host=host)
    assert settings_of(host=host, behind_proxy=True).secure
    assert settings_of(host=host, tls_cert=tmp_path / "c", tls_key=tmp_path / "k").secure


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_this_machine_needs_no_encryption(host: str) -> None:
    found = settings_of(host=host)
    assert (found.loopback, found.secure) == (True, False)
    assert host in found.hosts


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"port": 70000}, "EXPUNGE_SERVICE_PORT"),
        ({"tls_cert": Path("c.pem")}, "tls_cert and tls_key belong together"),
        ({"threads": 100}, "EXPUNGE_SERVICE_THREADS"),
        ({"poll": float("nan")}, "EXPUNGE_SERVICE_POLL"),
        ({"colour": "red"}, "EXPUNGE_SERVICE_COLOUR"),
    ],
)
def test_what_cannot_be_used_is_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ExpungeError) as error:
        settings_of(**given)
    assert named in str(error.value)


def test_serving_without_a_ledger_says_how_to_make_one(tmp_path: Path) -> None:
    asked = ["serve", "--ledger", f"sqlite:///{tmp_path / 'none.db'}"]
    found = CliRunner().invoke(app, asked)
    assert isinstance(found.exception, ExpungeError)
    assert "expunge ledger init" in str(found.exception)
    found = CliRunner().invoke(app, ["serve", "--host", "0.0.0.0"])
    assert "would be encrypted" in str(found.exception)
