"""The application: every route, and what stands around them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.to_thread
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from expunge import __version__
from expunge.errors import ExpungeError
from expunge.ledger.opening import Ledger
from expunge.service import document, pages, problems
from expunge.service.api import accounts, certificates, health, models, requests, runs, versions
from expunge.service.guarding import Guarded, Headed
from expunge.service.logs import Watched
from expunge.service.metrics import Metrics
from expunge.service.settings import Settings
from expunge.service.state import Service

API = (
    health.router,
    models.router,
    requests.router,
    versions.router,
    certificates.router,
    runs.router,
    accounts.router,
)
"""The routes that are described; pages are not."""
SEALED = 5.0
"""Seconds between two looks whether a model in memory was sealed."""


def create_app(ledger: Ledger, settings: Settings) -> FastAPI:
    """The service of a ledger.

    Args:
        ledger: that is served.
        settings: hosts, limits, folders.
    """
    app = FastAPI(
        title="expunge",
        version=__version__,
        openapi_url=None,  # it is a route with a rule, like any other
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
        # it would hand on what a request named to whoever collects traces
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = Service(ledger, settings)
    app.state.metrics = Metrics(ledger)
    problems.install(app)
    for router in (*API, pages.router):
        app.include_router(router)
    app.mount("/static", StaticFiles(packages=[("expunge.service", "static")]))
    document.install(app, API)
    app.add_middleware(  # the one that is added last is the outermost
        Guarded,
        hosts=settings.hosts,
        limit=settings.body_limit,
        uploads={
            "/identification": settings.upload_limit,
            "/certificates/verification": settings.certificate_limit,
        },
    )
    app.add_middleware(Watched, metrics=app.state.metrics)
    app.add_middleware(Headed, secure=settings.secure)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    here: Service = app.state.service
    anyio.to_thread.current_default_thread_limiter().total_tokens = here.settings.threads
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_letting_go, here)
        yield
        here.stopping.set()
        tasks.cancel_scope.cancel()


async def _letting_go(here: Service) -> None:
    """What a seal destroyed on disk is not to stay in this process's memory either."""
    while True:
        await anyio.sleep(SEALED)
        with suppress(ExpungeError):  # the database is out of reach: the next look tells
            await anyio.to_thread.run_sync(here.models.let_go)
