"""Facts about the command: it serves, works, ends when it is asked to, and loses nothing so."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from api_world import LEDGER_TESTS, MODEL, World
from typer.testing import CliRunner

from expunge.cli import serve as serve_command
from expunge.cli.main import app
from expunge.client import Client
from expunge.ledger import accounts
from expunge.ledger.counting import worker_present
from expunge.ledger.opening import Ledger
from expunge.service.passwords import Passwords
from expunge.service.serving import serve
from expunge.service.settings import settings_of

pytest_plugins = ["api_fixtures"]

BEGUN = "from expunge.cli.entry import run; run()"


@contextmanager
def serving(world: World, *options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`expunge serve` in a process of its own, and its address."""
    own = {**os.environ, "PYTHONPATH": str(LEDGER_TESTS), "OMP_NUM_THREADS": "1"}
    own |= {"EXPUNGE_SERVICE_POLL": "0.05", "EXPUNGE_SERVICE_PATIENCE": "30"}
    process = subprocess.Popen(
        [sys.executable, "-c", BEGUN, "serve", "--ledger", world.url, "--port", "0", *options],
        env=own, stdout=subprocess.PIPE, stderr=(world.folder / "log").open("a"), text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = ""
        while "Listening" not in said:
            said = process.stdout.readline()
            assert said, (world.folder / "log").read_text()
        yield process, said.split()[-1]
    finally:
        process.kill()
        process.wait()


def worker_of(world: World) -> int:
    """The number of the worker's process that was started last."""
    return int(re.findall(r'"process": (\d+)', (world.folder / "log").read_text())[-1])


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow  # four processes that import torch
def test_a_server_that_is_stopped_in_the_middle_of_work_loses_nothing(world: World) -> None:
    with serving(world) as (process, address):
        with Client(address, world.keys["operator"]) as client:
            requests = [
                client.submit(MODEL, "subject", [f"writer {i}"], method="retrain").request
                for i in range(3)
            ]
            for progress in client.progress(requests[0]):
                if any(step.step == "unlearn" for step in progress.steps):
                    break
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        worker = worker_of(world)
        assert not alive(worker)
    states = [world.working.state(request)[0] for request in requests]
    assert states[0] != "published" and set(states) <= {"received", "running"}
    with serving(world) as (process, address):
        with Client(address, world.keys["operator"]) as client:
            done = [client.wait(request, timeout=300).state for request in requests]
        assert done == ["published"] * 3
        assert [v["number"] for v in world.working.rows("versions")] == [0, 1, 2, 3]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with world.asking() as client:
        assert client("admin").post("/v1/verification", json={}).json()["holds"] is True


@pytest.mark.slow
def test_a_server_that_is_killed_leaves_a_worker_that_goes_on_or_is_followed(world: World) -> None:
    with serving(world) as (process, address):
        with Client(address, world.keys["operator"]) as client:
            request = client.submit(MODEL, "subject", ["writer 1"]).request
            process.kill()
            process.wait()
        worker = worker_of(world)
        if alive(worker):
            os.kill(worker, signal.SIGKILL)
    with serving(world) as (process, address), Client(address, world.keys["operator"]) as client:
        assert client.wait(request, timeout=300).state == "published"


def test_a_port_that_is_taken_ends_the_start(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = settings_of(port=taken.getsockname()[1])
        with pytest.raises(SystemExit):
            serve(world.ledger, settings, pytest.fail)
    assert not worker_present(world.ledger)


def test_the_first_start_tells_the_password_of_an_admin_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = Ledger.init(url)
    monkeypatch.setattr(serve_command, "answer", lambda *_: True)
    first = CliRunner().invoke(app, ["serve", "--ledger", url])
    again = CliRunner().invoke(app, ["serve", "--ledger", url])
    own = accounts.by_name(ledger, "admin")
    assert own is not None and own.admin and own.password_hash is not None
    password = first.output.splitlines()[0].rpartition(" ")[2]
    assert Passwords().verify(own.password_hash, password)
    assert (again.exit_code, again.output) == (0, "")
