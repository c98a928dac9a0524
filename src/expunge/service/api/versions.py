"""Versions of a model, and their certificates."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from expunge.ledger.certificate import PAYLOAD, Removal, verified
from expunge.ledger.listing import versions_page
from expunge.ledger.serving import version_row
from expunge.service import paging
from expunge.service.access import Actor, Permission, allowed, put_down
from expunge.service.api import told
from expunge.service.api.asked import ModelName, VersionNumber
from expunge.service.api.certificates import EXAMPLE
from expunge.service.paging import Cursor, Limit, Page
from expunge.service.state import Here

router = APIRouter(prefix="/v1", tags=["versions"])


@router.get("/models/{model}/versions")
def list_versions(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_HISTORY))],
    model: ModelName,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[told.VersionSummary]:
    """Versions of a model, the newest first."""
    found = versions_page(here.ledger, model, after=paging.read(cursor, int), limit=limit)
    return paging.page_of(found, lambda row: told.VersionSummary(**vars(row)))


@router.get("/models/{model}/versions/{number}")
def show_version(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_HISTORY))],
    model: ModelName,
    number: VersionNumber,
) -> told.VersionDetail:
    """A version, and what its certificate states of it."""
    _, row = version_row(here.ledger, model, number)
    stated = verified(here.ledger.read(row["certificate"]), here.ledger.keys.public)
    [found] = versions_page(here.ledger, model, after=(number + 1,), limit=1).rows
    return told.VersionDetail(
        **vars(found),
        statement=told.Statement.of(Removal.from_json(stated["predicate"])),
    )


@router.get(
    "/models/{model}/versions/{number}/certificate",
    response_class=Response,
    responses={200: {"description": "The certificate as it was issued: a DSSE envelope.",
                     "content": {PAYLOAD: {"schema": {"type": "object"}, "example": EXAMPLE}}}},
)  # fmt: skip
def read_certificate(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_CERTIFICATE))],
    model: ModelName,
    number: VersionNumber,
) -> Response:
    """The certificate of a version, to be kept outside the ledger."""
    _, row = version_row(here.ledger, model, number)
    envelope = here.ledger.read(row["certificate"])
    put_down(here, actor, Permission.SEE_CERTIFICATE, f"{model}@{number}", model=model)
    named = f'attachment; filename="{model}@{number}.json"'
    return Response(envelope, media_type=PAYLOAD, headers={"Content-Disposition": named})
