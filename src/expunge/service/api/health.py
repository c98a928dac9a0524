"""The service itself: whether it lives and can work, its figures, its description, its problems."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from expunge.errors import ExpungeError
from expunge.ledger.counting import worker_present
from expunge.service import metrics
from expunge.service.access import Actor, Permission, Rule, Token, public
from expunge.service.api import told
from expunge.service.problems import BY_SLUG, Problem
from expunge.service.state import Here, Service

router = APIRouter(tags=["service"])
Anybody = Annotated[Actor | None, Depends(public())]
LOCAL = {"127.0.0.1", "::1"}


@dataclass(frozen=True)
class LocalRule(Rule):
    """A rule that this machine need not follow, as long as no proxy asks in the place of others."""

    def __call__(self, request: Request, here: Here, token: Token) -> Actor | None:  # type: ignore[override]
        """The actor; None where this machine asks."""
        asking = request.client.host if request.client else ""
        if asking in LOCAL and not here.settings.behind_proxy:
            return None
        return super().__call__(request, here, token)


@router.get("/healthz")
async def check_health(actor: Anybody) -> told.Health:
    """That the process answers."""
    return told.Health()


@router.get(
    "/readyz",
    responses={503: {"model": told.Readiness, "description": "It cannot do its work now."}},
)
def check_readiness(here: Here, actor: Anybody, response: Response) -> told.Readiness:
    """Whether database and store are in reach. Without a worker or a signing key requests are
    taken, and wait."""
    found = _ready(here)
    response.status_code = 200 if found.ready else 503
    return found


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"description": "Figures.", "content": {metrics.MEDIA_TYPE: {
        "schema": {"type": "string"}}}}},
)  # fmt: skip
def read_metrics(
    request: Request,
    actor: Annotated[Actor | None, Depends(LocalRule(Permission.SEE_METRICS, on="everything"))],
) -> Response:
    """Figures for Prometheus: from this machine, or with a key that may see them."""
    return Response(request.app.state.metrics.text(), media_type=metrics.MEDIA_TYPE)


@router.get("/openapi.json", include_in_schema=False)
def describe(request: Request, actor: Anybody) -> JSONResponse:
    """The description of the API (OpenAPI 3.1)."""
    found: dict[str, Any] = request.app.openapi()
    return JSONResponse(found)


@router.get("/problems/{slug}", include_in_schema=False)
def explain_problem(slug: str, actor: Anybody) -> PlainTextResponse:
    """What a kind of problem means."""
    kind = BY_SLUG.get(slug)
    if kind is None:
        raise Problem(404, "There is no such kind of problem.")
    return PlainTextResponse(f"{kind.status} {kind.title}\n\n{kind.meaning}\n")


def _ready(here: Service) -> told.Readiness:
    ledger = here.ledger
    database = store = worker = False
    try:
        worker = worker_present(ledger)
        with ledger.database.reading():
            database = True
        ledger.claim()
        store = True
    except ExpungeError:  # what is out of reach stays False
        pass
    return told.Readiness(
        ready=database and store,
        database=database,
        store=store,
        signing=ledger.keys.signing is not None,
        worker=worker,
    )
