"""Certificates that somebody holds: whether they hold, and the key that says so."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from expunge.errors import IntegrityError
from expunge.ledger.certificate import PAYLOAD, Removal, verified
from expunge.ledger.verifying import issued
from expunge.service.access import Actor, Permission, allowed, public
from expunge.service.api import told
from expunge.service.computing import computed
from expunge.service.state import Here, Service
from expunge.service.uploads import check_type

router = APIRouter(prefix="/v1", tags=["certificates"])
TYPES = (PAYLOAD, "application/json")
EXAMPLE = {
    "payloadType": PAYLOAD,
    "payload": "eyJfdHlwZSI6ICJodHRwczovL2luLXRvdG8uaW8vU3RhdGVtZW50L3YxIn0=",
    "signatures": [{"keyid": "3f" * 32, "sig": "c2lnbmF0dXJl"}],
}
"""The form of a certificate; this one does not hold."""
ANYTHING = {"description": "A certificate; of anything else it is told that it does not hold."}


@router.post(
    "/certificates/verification",
    openapi_extra={"requestBody": {"required": True, "content": {
        kind: {"schema": ANYTHING, "example": EXAMPLE} for kind in TYPES}}},
)  # fmt: skip
async def verify_certificate(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.CHECK_CERTIFICATE, on="somewhere"))],
    request: Request,
) -> told.CertificateChecked:
    """Whether a certificate, sent as it was issued, was signed by this ledger and stands in it."""
    check_type(request, *TYPES)
    return await computed(here, _checked, here, await request.body())


@router.get("/signing-key")
def read_signing_key(
    here: Here, actor: Annotated[Actor | None, Depends(public())]
) -> told.SigningKey:
    """The public key of this ledger: with it a certificate is checked without the service."""
    keys = here.ledger.keys
    return told.SigningKey(key_id=keys.key_id, pem=keys.public.decode())


def _checked(here: Service, envelope: bytes) -> told.CertificateChecked:
    try:
        stated = verified(envelope, here.ledger.keys.public)
        removal = Removal.from_json(stated["predicate"])
    except IntegrityError as error:
        return told.CertificateChecked(
            holds=False, sentence=str(error), listed=False, statement=None
        )
    listed = issued(here.ledger, envelope)
    stands = "and the version stands in" if listed else "but the version is not listed any more in"
    return told.CertificateChecked(
        holds=True,
        sentence=f"The signature holds, {stands} this ledger.",
        listed=listed,
        statement=told.Statement.of(removal),
    )
