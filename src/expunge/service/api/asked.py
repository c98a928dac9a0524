"""What may be asked of the API: the bodies of requests, and the parameters of paths."""

from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from expunge.ledger.policy import Policy
from expunge.ledger.registering import NAME
from expunge.ledger.submitting import LARGEST

VALUES = 100_000
"""Values that one request may name."""
LARGEST_NUMBER = 2**31 - 1
"""Of a version: every database holds it as a number."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]

ModelName = Annotated[
    str,
    Path(
        pattern=f"^{NAME.pattern}$", description="Name of a registered model.", examples=["emoji"]
    ),
]
RequestId = Annotated[
    str,
    Path(
        pattern="^r[0-9a-f]{12}$",
        description="Id of a removal request.",
        examples=["r3214905aea05"],
    ),
]
RunId = Annotated[
    str, Path(pattern="^u[0-9a-f]{12}$", description="Id of a run.", examples=["u390c0a7e03cc"])
]
VersionNumber = Annotated[
    int, Path(ge=0, le=LARGEST_NUMBER, description="Number of a version.", examples=[1])
]


def example(**fields: Any) -> ConfigDict:
    """The configuration of a body or an answer, with one example."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [fields]})


SCOPE: dict[str, Any] = {
    "name": "two sea animals",
    "column": "subject",
    "values": ["1f40b", "1f419"],
}


class Scope(BaseModel):
    """What is to be forgotten: every row that has one of these values in this column."""

    model_config = example(**SCOPE)

    column: Word = Field(description="Of the training table: id, subject, label, concept ...")
    values: Annotated[list[Text], Field(min_length=1, max_length=VALUES)]
    name: Text | None = Field(default=None, description="What people call it; kept encrypted.")
    anchor: Text | None = Field(
        default=None, description="The concept in the place of the target, where a method asks it."
    )
    text: Text | None = Field(
        default=None, description="Words that a model which is told sentences must not draw."
    )


class Submission(Scope):
    """A removal request."""

    model_config = example(**SCOPE, priority=0, metadata={"ticket": 4711})

    method: Word | None = Field(default=None, description="The model's own by default.")
    parameters: dict[str, JsonValue] = Field(default={}, description="Fields of the method.")
    aggregation: Word | None = Field(default=None, description="The model's own by default.")
    strength: float | None = Field(
        default=None, description="How far the change is applied, above 0; the model's own."
    )
    deadline: Word | None = Field(
        default=None, description="ISO 8601 with a zone; the policy's days from now by default."
    )
    priority: Annotated[int, Field(ge=-LARGEST, le=LARGEST)] = Field(
        default=0, description="Larger ones are answered first."
    )
    metadata: dict[str, JsonValue] = Field(
        default={}, description="Values of your own; kept encrypted."
    )
    known: bool = Field(default=False, description="Refuse values that no training row has.")


class Reason(BaseModel):
    """Why something is taken back."""

    model_config = example(reason="the person withdrew it")

    reason: Text = Field(description="Kept encrypted.")


class Registration(BaseModel):
    """A model that is to be registered."""

    model_config = example(
        name="faces", run_file="faces.yaml", policy={"gate": {"kept": 0.9}, "deadline_days": 30}
    )

    name: Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]
    run_file: Word = Field(description="Name of a file in the folder of run files.")
    policy: Policy = Field(default=Policy(), description="docs/ledger.md lists its keys.")


class Seal(BaseModel):
    """What a seal takes."""

    model_config = example(before="2027-01-01T00:00:00+00:00")

    before: Word | None = Field(
        default=None, description="Requests published before this time (ISO 8601); all by default."
    )
    planned: list[Word] | None = Field(
        default=None,
        description="Ids that the plan listed: nothing is sealed where there are others by now.",
    )


class Check(BaseModel):
    """How far a ledger is checked."""

    model_config = example(rebuild=True)

    rebuild: bool = Field(
        default=True, description="Fold the current version of every model again."
    )
