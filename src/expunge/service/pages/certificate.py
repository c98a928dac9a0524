"""The page of a certificate: what it states in words, and its check in the browser."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from expunge.service.access import Actor, Permission, allowed, put_down
from expunge.service.api.asked import ModelName, VersionNumber
from expunge.service.api.certificates import read_signing_key
from expunge.service.api.versions import show_version
from expunge.service.pages.models import meaning
from expunge.service.pages.rendering import render, tabs
from expunge.service.state import Here

router = APIRouter(include_in_schema=False)
Seeing = Annotated[Actor, Depends(allowed(Permission.SEE_CERTIFICATE))]

PLAIN: Mapping[str, str] = {
    "registration": "The model was registered; nothing was removed yet.",
    "request": "This version answers removal requests.",
    "revocation": "A request was taken back: this version is made without it.",
    "seal": "The history was folded into a new base, and what could bring back the forgotten was "
    "destroyed.",
    "guard": "A guard refuses what is to be forgotten; the weights still hold it.",
}


@router.get("/models/{model}/versions/{number}/certificate")
def page(
    request: Request, here: Here, actor: Seeing, model: ModelName, number: VersionNumber
) -> Response:
    """What a certificate says; that it was read is put down."""
    removal = show_version(here, actor, model, number).statement
    put_down(here, actor, Permission.SEE_CERTIFICATE, f"{model}@{number}", model=model)
    return render(
        request,
        "certificate.html",
        actor,
        shown=tabs(actor, model),
        removal=removal,
        sentence=PLAIN[removal.cause],
        meaning=meaning(removal.deletion_state),
        address=f"/v1/models/{model}/versions/{number}/certificate",
        key=read_signing_key(here, actor),
    )
