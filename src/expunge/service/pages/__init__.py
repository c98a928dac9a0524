"""The pages: what people look at. Each module is one page, which calls what the API calls."""

from fastapi import APIRouter

from expunge.service.pages import (
    accounts,
    certificate,
    history,
    models,
    new_request,
    request,
    seal,
    sign_in,
)

router = APIRouter(include_in_schema=False)
"""Every page; its routes are those of the modules, one after another."""
for page in (sign_in, models, new_request, request, history, certificate, seal, accounts):
    router.routes.extend(page.router.routes)
