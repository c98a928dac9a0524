"""The description of the API (OpenAPI 3.1): every route with its examples and its problems."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from expunge.service.access import COOKIE, CSRF_HEADER, PublicRule, rule_of
from expunge.service.api import accounts, asked, told
from expunge.service.problems import KINDS, MEDIA_TYPE, body

SUMMARY = "Removal requests for models: submit, watch, take back, seal, prove."
DESCRIPTION = """\
Every error is a problem (RFC 9457). Lists come in pages: give `next` of one as `cursor` of the
following. Whoever repeats a submission with the same `Idempotency-Key` gets the same request.
"""
SECURITY: Mapping[str, Any] = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key of an account."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": f"A browser that is signed in; what changes something needs {CSRF_HEADER}.",
    },
}
BINARY, LISTENED = "application/octet-stream", "text/event-stream"
MADE: Mapping[str, Any] = {
    BINARY: "(the bytes of a safetensors file)",
    LISTENED: 'event: progress\nid: 5f0c3d1d5f0c3d1d\ndata: {"state":"running"}\n\n',
    "text/plain; version=1.0.0; charset=utf-8": 'expunge_runs{model="emoji",state="running"} 1.0\n',
    "text/plain; version=0.0.4; charset=utf-8": 'expunge_runs{model="emoji",state="running"} 1.0\n',
}
SIMPLE: Mapping[str, Any] = {"string": "...", "integer": 0, "number": 0.0, "boolean": False}
UUID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def install(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Have an application described in this way.

    Args:
        app: what is described.
        routers: whose routes are.
    """
    made: dict[str, Any] = {}

    def described() -> dict[str, Any]:
        if not made:
            made.update(_document(app, routes_of(routers)))
        return made

    app.openapi = described  # type: ignore[method-assign]


def _document(app: FastAPI, routes: Sequence[APIRoute]) -> dict[str, Any]:
    found: dict[str, Any] = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        summary=SUMMARY,
        description=DESCRIPTION,
        routes=list(routes),
    )
    parts = found.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for name, examples in _examples():  # those in the document have lost their nulls
        if name in schemas:
            schemas[name]["examples"] = examples
    schemas["Problem"] = _problem_schema()
    parts["securitySchemes"] = dict(SECURITY)
    parts["responses"] = {kind.slug: _response(kind.status) for kind in KINDS.values()}
    for route in routes:
        for method in route.methods or ():
            operation = found["paths"][route.path_format][method.lower()]
            operation["operationId"] = route.name
            _complete(operation, schemas, isinstance(rule_of(route), PublicRule))
    return found


def routes_of(routers: Sequence[APIRouter]) -> list[APIRoute]:
    """The routes that the description has."""
    every = [route for router in routers for route in router.routes]
    return [route for route in every if isinstance(route, APIRoute) and route.include_in_schema]


def _examples() -> Iterator[tuple[str, list[Any]]]:
    """The examples of bodies and answers, by the names of their schemas."""
    for module in (asked, told, accounts):
        for name, found in vars(module).items():
            extra = getattr(found, "model_config", {}).get("json_schema_extra")
            if isinstance(extra, dict) and "examples" in extra:
                yield name, extra["examples"]


def _complete(operation: dict[str, Any], schemas: Mapping[str, Any], is_public: bool) -> None:
    """Add what is common: who may, which problems there are, and an example of everything."""
    responses = operation["responses"]
    for status in [*_problems(operation, is_public), 500]:
        kind = KINDS[status]
        responses.setdefault(str(status), {"$ref": f"#/components/responses/{kind.slug}"})
    if "HTTPValidationError" in str(responses.get("422")):
        responses["422"] = {"$ref": f"#/components/responses/{KINDS[422].slug}"}
    if not is_public:
        operation["security"] = [{"key": []}, {"session": []}]
    bodies = [operation.get("requestBody", {}), *responses.values()]
    for part in bodies:
        for media, content in part.get("content", {}).items():
            content.setdefault("example", _example(media, content["schema"], schemas))


def _problems(operation: Mapping[str, Any], is_public: bool) -> list[int]:
    """The problems that an operation can answer with."""
    found = [400, 503]
    if not is_public:
        found += [401, 403, 429]
    places = {parameter["in"] for parameter in operation.get("parameters", ())}
    taken = set(operation.get("requestBody", {}).get("content", ()))
    if "path" in places or taken:
        found += [404, 409]
    if places or taken:
        found.append(422)
    if taken:
        found.append(413)
    if taken - {"application/json"}:
        found.append(415)
    return found


def _example(media: str, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """An example of a body: the one of its schema, or one that is put together of its parts."""
    if media in MADE:
        return MADE[media]
    return _of_schema(schema, schemas)


def _of_schema(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    if known := schema.get("examples") or schema.get("enum"):
        return known[0]
    if "default" in schema:
        return schema["default"]
    part = schema.get("anyOf", [schema])[0]
    if "$ref" in part:
        return _of_schema(schemas[part["$ref"].rpartition("/")[2]], schemas)
    if part.get("type") == "array":
        return [_of_schema(part["items"], schemas)]
    if part.get("type") == "object":
        own = part.get("properties", {})
        return {name: _of_schema(given, schemas) for name, given in own.items()}
    return SIMPLE.get(str(part.get("type")))


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object",
        "title": "Problem",
        "description": "Problem details (RFC 9457).",
        "required": ["type", "title", "status"],
        "properties": {
            "type": {**text, "description": "Its page tells what the kind of problem means."},
            "title": text,
            "status": {"type": "integer"},
            "detail": {**text, "description": "One sentence: what was given, and what to do."},
            "instance": {**text, "description": "What the log of the service has it under."},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["where", "message"],
                    "properties": {"where": text, "message": text},
                },
            },
        },
        "examples": [
            body(404, "There is no model 'faces' that this account may see.", "urn:uuid:" + UUID)
        ],
    }


def _response(status: int) -> dict[str, Any]:
    kind = KINDS[status]
    return {
        "description": kind.meaning,
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": body(status, kind.meaning, "urn:uuid:" + UUID),
            }
        },
    }
