"""The policy of a registered model: what may be published, what is tried before a request is
refused, and by when it has to be answered.

A threshold is a decision of whoever runs the model. Every default stands here with its reason; a
YAML file replaces those that it names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from expunge.errors import ExpungeError, first_line
from expunge.ledger.opening import Ledger

Share = Annotated[float, Field(ge=0, le=1)]
LATEST = 1_000_000
"""Days; more may lead beyond the last year that a calendar has."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gate(_Strict):
    """What keeps a version from being published."""

    kept: Share = Field(
        default=0.9,
        description="Least share of the original's retained score, on held-out rows of nobody's "
        "request. `expunge forget` stores nothing below it either.",
    )
    forgotten: Share = Field(
        default=0.1,
        description="How far the forgotten rows may be answered better than by a model that never "
        "saw them: the oracle with `oracle`, else its stand-in (docs/ledger.md). For errors, as a "
        "share of the original's.",
    )
    re_emergence: Share = Field(
        default=0.1,
        description="How far the rows of an earlier request may be answered better than right "
        "after it was served.",
    )
    oracle: bool = Field(
        default=False,
        description="Retrain from the recipe for every version and hold its score beside: the "
        "truth, at the price of a training.",
    )


class Strength(_Strict):
    """Apply the change of the request less, or more."""

    kind: Literal["strength"] = "strength"
    factors: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = (0.5, 0.7, 1.4, 2.0)


class OtherAggregation(_Strict):
    """Combine the changes of the history by another rule."""

    kind: Literal["aggregation"] = "aggregation"
    name: str


class OtherMethod(_Strict):
    """Answer the request with another method, from the base."""

    kind: Literal["method"] = "method"
    name: str
    parameters: dict[str, Any] = {}


class Retraining(_Strict):
    """Retrain from the recipe without the rows of every request."""

    kind: Literal["retrain"] = "retrain"


Repair = Annotated[
    Strength | OtherAggregation | OtherMethod | Retraining, Field(discriminator="kind")
]


class Revocation(_Strict):
    """Who may take a request back."""

    roles: tuple[str, ...] = Field(
        default=("operator", "admin"), description="Roles that `revoke` is open to."
    )


class Policy(_Strict):
    """How requests for one model are handled."""

    gate: Gate = Gate()
    repairs: tuple[Repair, ...] = Field(
        default=(),
        description="What is tried in this order where the gate refuses; each try is recorded. "
        "Nothing by default: then a refused request waits for a person.",
    )
    duplicates: Literal["ignore", "report", "include"] = Field(
        default="report",
        description="Rows that repeat a named one and are not named themselves: not looked for, "
        "counted in the answer, or forgotten, too.",
    )
    guard_first: bool = Field(
        default=False,
        description="Two phases: a guard is published first, within minutes, the weights later.",
    )
    batch: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="Requests that are answered together in one version, in arrival order.",
    )
    deadline_days: Annotated[float, Field(gt=0, le=LATEST, allow_inf_nan=False)] = Field(
        default=30.0,
        description="Days to answer a request that brings no deadline. A month is what Article "
        "12(3) of the GDPR grants.",
    )
    warn_days: Annotated[float, Field(ge=0, le=LATEST, allow_inf_nan=False)] = Field(
        default=7.0, description="Days before a deadline from which `status` warns."
    )
    revocation: Revocation = Revocation()

    @model_validator(mode="before")
    @classmethod
    def _short(cls, values: Any) -> Any:
        """A repair may be written in short: ``strength``, ``retrain``, ``aggregation: mean``."""
        if not isinstance(values, dict) or not isinstance(values.get("repairs"), list):
            return values
        return {**values, "repairs": [_repair(given) for given in values["repairs"]]}


def _repair(given: Any) -> Any:
    if isinstance(given, str):
        return {"kind": given}
    if isinstance(given, dict) and len(given) == 1 and "kind" not in given:
        [(kind, value)] = given.items()
        field = "factors" if kind == "strength" else "name"
        return {"kind": kind, **(value if isinstance(value, dict) else {field: value})}
    return given


def policy_of(ledger: Ledger, model: Mapping[str, Any]) -> Policy:
    """The policy of a registered model, by its row."""
    return ledger.made_of(model["policy"], Policy.model_validate_json)


def read_policy(path: Path | None) -> Policy:
    """The policy of a YAML file; the defaults without one.

    Raises:
        ExpungeError: the file cannot be read, or a key is unknown or of another kind.
    """
    if path is None:
        return Policy()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExpungeError(
            f"The policy {path} cannot be read ({error.strerror}); give a YAML file."
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ExpungeError(f"{path} is not readable YAML ({first_line(error)}).") from None
    try:
        return Policy.model_validate({} if content is None else content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ExpungeError(
            f"{path}: {where}: {first['msg']}; docs/ledger.md lists the keys of a policy."
        ) from None
