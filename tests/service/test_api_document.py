"""Facts about the description of the API: whole, tidy, with an example of everything, and true."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import World
from jsonschema import Draft202012Validator

pytest_plugins = ["api_fixtures"]

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document(made_world: World) -> dict[str, Any]:
    """The description, as it is sent."""
    with made_world.asking() as client:
        found: dict[str, Any] = client("").get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, own in document["paths"].items():
        yield from ((path, method, operation) for method, operation in own.items())


def resolved(part: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    found: Any = part
    while "$ref" in found:
        place: Any = document
        for name in found["$ref"].removeprefix("#/").split("/"):
            place = place[name]
        found = place
    return dict(found)


def test_every_operation_has_a_name_of_its_own_a_summary_and_its_problems(
    document: dict[str, Any],
) -> None:
    assert document["openapi"].startswith("3.1")
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for path, method, operation in operations(document):
        assert method in METHODS
        assert operation["operationId"].isidentifier() and "_v1_" not in operation["operationId"]
        assert operation["summary"] and operation["description"], path
        assert {"400", "500", "503"} <= set(operation["responses"])
        if operation.get("security"):
            assert {"401", "403"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            told = resolved(response, document)
            if int(status) >= 400 and (path, status) != ("/readyz", "503"):
                assert list(told["content"]) == ["application/problem+json"], (path, status)


def test_only_what_is_meant_to_be_is_open_to_everybody(document: dict[str, Any]) -> None:
    every = operations(document)
    assert {p for p, _, operation in every if not operation.get("security")} == {
        "/healthz",
        "/readyz",
        "/v1/signing-key",
    }


def test_every_body_has_an_example_that_is_one(document: dict[str, Any]) -> None:
    seen = 0
    for path, method, operation in operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for told in (resolved(body, document) for body in bodies):
            for media, content in told.get("content", {}).items():
                assert "example" in content, (path, method, media)
                if "json" not in media or media == "application/vnd.in-toto+json":
                    continue
                schema = {**content["schema"], "components": document["components"]}
                Draft202012Validator(schema).validate(content["example"])
                seen += 1
    assert seen > 100


def test_it_names_no_machine_and_no_address_elsewhere(
    document: dict[str, Any], made_world: World
) -> None:
    text = json.dumps(document)
    assert "http://" not in text
    own = (Path.home(), Path.cwd(), Path(tempfile.gettempdir()), made_world.folder)
    assert [str(path) for path in own if path.name and str(path) in text] == []
