"""What ``expunge tune`` and ``expunge compare`` take from a run file: case, panels, setting."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from expunge import __version__
from expunge.audit.case import Case, digest_of_samples
from expunge.audit.measure import Panel
from expunge.changes.weights import digest_of
from expunge.cli.own_method import MethodClass
from expunge.errors import ExpungeError
from expunge.run_file.reading import Loaded


def case_of(loaded: Loaded) -> Case:
    """The run file's model and requests."""
    return Case.of(loaded.deployment, loaded.requests, loaded.file.strength)


def validation_panel(loaded: Loaded, why: str) -> Panel:
    """The validation rows by request.

    Raises:
        ExpungeError: the run file names none; test rows never take their place.
    """
    if loaded.validation is None or loaded.validation_table is None:
        raise ExpungeError(
            f"{why} on validation rows and the run file has none; add `data.validation`, such as "
            "`validation: {source: digits, split: validation}`. The test rows are not used for it."
        )
    return Panel.of(loaded.validation, loaded.validation_table, loaded.requests)


def given_oracle(loaded: Loaded, path: Path | None) -> nn.Module | None:
    """The oracle of ``--oracle``; None where the recipe makes it.

    Raises:
        ExpungeError: there is a recipe, too, or the weights do not fit the model.
    """
    if path is None:
        return None
    if loaded.deployment.recipe is not None:
        raise ExpungeError(
            "--oracle was given and the run file has a `recipe`, from which the oracle is "
            "retrained; leave one of them out."
        )
    return loaded.with_weights(path)


def machine(loaded: Loaded) -> dict[str, object]:
    """Versions, device and precision: what figures depend on beside data, model and seed."""
    return {
        "expunge": __version__,
        "torch": torch.__version__,
        "device": loaded.file.device,
        "precision": loaded.file.precision,
    }


def shared_setting(
    loaded: Loaded, case: Case, validation: Panel, oracle: nn.Module | None
) -> dict[str, object]:
    """All that a trial depends on beside the method: no test row is part of it."""
    groups = [rows.tolist() for rows in (*validation.groups, validation.retained)]
    return {
        **machine(loaded),
        "case": case.describe(),
        "validation": [digest_of_samples(validation.samples), groups],
        "oracle": None if oracle is None else digest_of(oracle),
        "seed": loaded.file.seed,
    }


def setting_digest(shared: Mapping[str, object], method: MethodClass | None = None) -> str:
    """The digest under which trials of a method are stored; without a method, that of the case."""
    own: Any = None
    if method is not None:
        space = method.space
        own = [method.source, repr(dict(space.ranges)), repr(dict(space.defaults))]
    return hashlib.sha256(json.dumps([shared, own], sort_keys=True).encode()).hexdigest()
