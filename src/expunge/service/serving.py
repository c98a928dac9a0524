"""Serving: a server for the application that ends cleanly, with a worker beside it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from expunge.ledger.opening import Ledger
from expunge.service import logs
from expunge.service.app import create_app
from expunge.service.settings import Settings
from expunge.service.state import Service
from expunge.service.working import WorkerProcess


class Server(uvicorn.Server):
    """A server whose streams end when it is asked to, instead of holding it up.

    Args:
        config: of the server.
        here: the service.
        started: called with the address when it answers.
    """

    def __init__(
        self, config: uvicorn.Config, here: Service, started: Callable[[str], None]
    ) -> None:
        super().__init__(config)
        self.here = here
        self.told = started

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the streams, then everything else."""
        self.here.stopping.set()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: Any = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets=sockets)
        if not self.should_exit:
            scheme = "https" if self.config.is_ssl else "http"
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            self.told(f"{scheme}://{shown}:{port}")


def serve(
    ledger: Ledger,
    settings: Settings,
    started: Callable[[str], None],
    url: str | None = None,
    keys: Path | None = None,
) -> bool:
    """Answer until the process is asked to end (SIGTERM, Ctrl-C); whether it could listen.

    Args:
        ledger: that is served.
        settings: of the service.
        started: called with the address when it answers.
        url: of the ledger, for the worker.
        keys: folder of its keys, for the worker.
    """
    logs.configure()
    app = create_app(ledger, settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,  # it has whole paths
        server_header=False,
        proxy_headers=settings.behind_proxy,
        forwarded_allow_ips=list(settings.proxies),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=round(settings.patience),
        lifespan="on",
    )
    worker = WorkerProcess(url, keys, settings.patience)

    def listening(address: str) -> None:
        started(address)
        if settings.worker:
            worker.start()

    server = Server(config, app.state.service, listening)
    with _handled_signals():
        try:
            server.run()
        finally:
            worker.stop()
    return server.started


@contextmanager
def _handled_signals() -> Iterator[None]:
    """The server raises a signal again when it has ended by it; then nothing is left to be done,
    and the worker is still to be waited for."""
    asked = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(sig, lambda *_: None) for sig in asked]
    try:
        yield
    finally:
        for sig, handler in zip(asked, before, strict=True):
            signal.signal(sig, handler)
