"""Facts about the API under generated requests: no fault, and no answer that is not described."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from api_world import World
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from expunge.service.app import API
from expunge.service.document import routes_of

pytest_plugins = ["api_fixtures"]

OPERATIONS = sorted(route.name for route in routes_of(API))
SEED = 20261121


@pytest.fixture(scope="module")
def described(
    lived_world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, dict[str, str]]]:
    """The schema of a service whose ledger may be changed, and what an admin signs in with."""
    world = lived_world.copy(tmp_path_factory.mktemp("schema") / "ledger")
    app = world.app(trusted_hosts="testserver", stream_time=0.2)
    yield schemathesis.openapi.from_asgi("/openapi.json", app), world.headers("admin")
    world.ledger.database.close()


def breaches(described: tuple[Any, dict[str, str]], name: str, examples: int) -> None:
    """Send generated requests for one operation; raise at the first answer that is a breach."""
    schema, headers = described
    operation = schema.find_operation_by_id(name)
    fitting, unfitting = (
        operation.as_strategy(generation_mode=mode)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    )

    @seed(SEED)
    @settings(
        max_examples=examples,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=fitting | unfitting)
    def sent(case: Any) -> None:
        # a schema cannot say which columns, methods or names there are
        case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])

    sent()


@pytest.mark.parametrize("name", OPERATIONS)
def test_generated_requests_find_no_fault(described: Any, name: str) -> None:
    breaches(described, name, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_many_generated_requests_find_no_fault(described: Any, name: str) -> None:
    breaches(described, name, 40)
