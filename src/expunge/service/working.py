"""The worker beside the server: a process of its own, started again where it ended.

It is `expunge ledger run --forever`, so that a server that is killed takes no work with it, and any
other worker of the ledger may take its place.
"""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from expunge.ledger.opening import KEYS, URL
from expunge.service.logs import log

BEGUN = "from expunge.cli.entry import run; run()"
COMMAND = (sys.executable, "-c", BEGUN, "ledger", "run", "--forever")
QUIET = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
"""Its environment: a bar on standard error is no line of JSON."""
FIRST, LONGEST = 1.0, 60.0
"""Seconds until one that ended is started again: twice as long each time, up to so many."""
LOOK = 0.2
"""Seconds between two looks whether it still runs."""


@dataclass(eq=False)
class WorkerProcess:
    """A worker that runs for as long as the server does.

    Args:
        url: of the ledger; None for that of the environment.
        keys: folder of its keys; None as well.
        patience: seconds that it has to end in when it is stopped.
    """

    url: str | None
    keys: Path | None
    patience: float
    _process: "subprocess.Popen[bytes] | None" = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it, and again whenever it ends by itself."""
        self._thread = threading.Thread(target=self._keep, name="worker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end, and wait; what it was at is taken up by the next one."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _keep(self) -> None:
        pause = FIRST
        while not self._stopping.is_set():
            status = self._run()
            if self._stopping.is_set():
                return
            log.warning("worker ended", status=status, again_in=pause)
            self._stopping.wait(pause)
            pause = min(LONGEST, 2 * pause)

    def _run(self) -> int:
        """Its exit status, when it has ended or was stopped."""
        # the URL may hold a password, which the list of processes would show
        given = {URL: self.url, KEYS: None if self.keys is None else str(self.keys)}
        own = {**os.environ, **QUIET, **{name: value for name, value in given.items() if value}}
        self._process = subprocess.Popen(
            COMMAND, env=own, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in a terminal is the server's to hand on
        )  # fmt: skip
        log.info("worker started", process=self._process.pid)
        while self._process.poll() is None:
            if self._stopping.wait(LOOK):
                return self._ended(self._process)
        return self._process.returncode

    def _ended(self, process: "subprocess.Popen[bytes]") -> int:
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(self.patience)
        except subprocess.TimeoutExpired:
            log.warning("worker killed", process=process.pid)
            process.kill()
            return process.wait()
