"""The shipped example with weights, output and changes of a test's own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli import known_denoisers

from expunge.benchmarks.shipped import digits_classifier_work
from expunge.changes.weights import stored_tensors
from expunge.run import Run
from expunge.storage import write_tensors

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.yaml"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "digits.safetensors"
    work = digits_classifier_work()
    model = work.recipe.make(work.data, Run()).model
    write_tensors(path, stored_tensors(model))
    return path


@pytest.fixture
def example(tmp_path: Path, weights: Path) -> Callable[..., Path]:
    """The shipped example, its weights and output in a folder of the test, with changes."""

    def changed(**changes: object) -> Path:
        content = yaml.safe_load(EXAMPLE.read_text())
        content["model"]["weights"] = str(weights)
        content["out"] = str(tmp_path / "out")
        for key, value in changes.items():
            *path, last = key.split("__")
            place = content
            for part in path:
                place = place[int(part)] if isinstance(place, list) else place[part]
            place[last] = value
        path_of_file = tmp_path / "run.yaml"
        path_of_file.write_text(yaml.safe_dump(content))
        return path_of_file

    return changed


@pytest.fixture
def drawing(tmp_path: Path) -> Callable[..., Path]:
    """The run file of a model that draws, with changes."""
    known_denoisers.write(tmp_path)

    def changed(kind: Mapping[str, Any] = known_denoisers.LABELLED, **changes: object) -> Path:
        return known_denoisers.run_file(tmp_path, kind, changes)

    return changed
