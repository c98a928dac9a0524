"""The policy of an audit: which questions count, and where each of them stops to pass.

A threshold is a decision of whoever deploys the model, not a fact about it. Every default stands
here with its reason; a YAML file replaces those that it names.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from expunge.errors import ExpungeError

Question = Literal[
    "forgotten", "kept", "private", "stays forgotten", "deleted or suppressed", "duplicates left"
]
QUESTIONS: tuple[Question, ...] = (
    "forgotten",
    "kept",
    "private",
    "stays forgotten",
    "deleted or suppressed",
    "duplicates left",
)
"""In the order in which they are asked and shown."""

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Forgotten(_Strict):
    """How close to the oracles the forgotten rows must be answered."""

    tolerance: Share = Field(
        default=0.05,
        description="Largest distance to the oracles in accuracy, in the mean probability of the "
        "right answer, or in error as a share of the original's. A twentieth: below it, a request "
        "of a hundred rows cannot be told from another draw of rows.",
    )
    over_forgotten: Positive = Field(
        default=10.0,
        description="Nats by which the mean log-odds of the right answer may lie below the "
        "oracles'. Rows that a model denies 20,000 times more firmly than one that never saw them "
        "are marked by that.",
    )


class Kept(_Strict):
    """How much of everything else must be left."""

    least: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.95,
        description="Share of the original's retained score. `expunge forget` refuses to store "
        "below 0.9; what is to pass an audit is held to half of that loss.",
    )
    tolerance: Share = Field(
        default=0.03,
        description="How far the retained score may be below the oracles'. Retraining loses a "
        "little, too; three points are more than its spread on a few hundred rows.",
    )


class Private(_Strict):
    """What a membership attack may still find."""

    apart: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.1,
        description="Largest distance of the attack's AUC to the oracles', above or below. A "
        "tenth needs about 65 rows a side to be measured; 0.05 needs about 260.",
    )
    power: Annotated[float, Field(ge=0.5, lt=1)] = Field(
        default=0.5,
        description="Chance to find a distance of `apart`. 0.5 asks only that the 95 % interval "
        "is no wider; 0.8 needs twice the rows.",
    )
    outside: Share = Field(
        default=0.25,
        description="Adversarial level: largest share of the forgotten rows whose margin is "
        "outside the oracles' 95 % range, beyond the share that one more oracle has.",
    )
    klom: Positive = Field(
        default=2.0,
        description="Adversarial level: largest distance of the 95th percentile of KLoM to its "
        "floor, in nats; 11.5 is as far as it goes.",
    )


class StaysForgotten(_Strict):
    """What may come back after the removal."""

    speed: Share = Field(
        default=0.5,
        description="Least share of the oracles' steps to relearn the forgotten rows. Half: the "
        "order of the rows alone moves the steps by a third. Where the oracles do not arrive in "
        "`steps`, the model may be ahead of them by the rest, half of the way, in the score.",
    )
    back: Share = Field(
        default=0.1,
        description="Largest rise of the score on forgotten rows over the oracles' by related or "
        "unrelated fine-tuning, by rounding the weights, or by later requests.",
    )
    shown: Annotated[int, Field(ge=1)] = Field(
        default=16, description="Forgotten rows that the relearner is given: one batch."
    )
    steps: Count = Field(default=60, description="Steps of fine-tuning.")
    rates: Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        default=(1e-3, 3e-4, 3e-3),
        description="Learning rates of fine-tuning (AdamW), the oracles' as well. The level "
        "standard takes the first one; adversarial takes all, and each of them counts.",
    )


class Deleted(_Strict):
    """What tells deletion from suppression."""

    back: Share = Field(
        default=0.1,
        description="Largest rise of the score on forgotten rows when guards, adapters and hooks "
        "are switched off, or answers are asked several times and averaged.",
    )
    speed: Share = Field(
        default=0.25,
        description="Share of the oracles' steps below which relearning shows that the knowledge "
        "was there all the time.",
    )
    read: Share = Field(
        default=0.1,
        description="How much better a linear probe may read the forgotten kind from the features "
        "than from the oracles', and how much more of it a constant may bring back.",
    )
    asks: Annotated[int, Field(ge=2)] = Field(
        default=32,
        description="Times that a model whose answers vary is asked; noise falls to a sixth.",
    )


class Duplicates(_Strict):
    """Copies of forgotten rows among those that were kept."""

    copies: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Copies that may be left. One copy teaches what was to be removed."
    )


class Policy(_Strict):
    """What an audit asks, and where it stops to pass."""

    questions: tuple[Question, ...] = Field(
        default=QUESTIONS, min_length=1, description="The questions that are asked, and count."
    )
    confidence: Share = Field(
        default=0.99,
        description="Coverage of the interval in which one more oracle is expected (Student's "
        "prediction interval over the oracles). A distance inside it is never held against a "
        "model. With three oracles it is wide: 11 standard deviations.",
    )
    oracles: Annotated[int, Field(ge=2)] = Field(
        default=3,
        description="Oracles at the standard level; two have a spread, three a usable one.",
    )
    shadows: Annotated[int, Field(ge=4, multiple_of=2)] = Field(
        default=8,
        description="Shadow models at the standard level: each row is in half of them, and LiRA "
        "needs two with and two without it.",
    )
    population: Annotated[int, Field(ge=20, multiple_of=2)] = Field(
        default=20, description="Oracles and shadows at the adversarial level; KLoM needs 20."
    )
    forgotten: Forgotten = Field(default=Forgotten(), description="Is it forgotten?")
    kept: Kept = Field(default=Kept(), description="Is everything else kept?")
    private: Private = Field(default=Private(), description="Can members be told?")
    stays_forgotten: StaysForgotten = Field(
        default=StaysForgotten(), description="Does it stay forgotten?"
    )
    deleted: Deleted = Field(default=Deleted(), description="Deleted, or only suppressed?")
    duplicates: Duplicates = Field(default=Duplicates(), description="Are copies left?")

    @classmethod
    def read(cls, path: Path) -> "Policy":
        """The policy of a YAML file; what it does not name stays at its default.

        Raises:
            ExpungeError: no such file, no YAML, an unknown key, or a value out of its range.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ExpungeError(
                f"The policy {path} cannot be read ({error.strerror}); give a YAML file, or leave "
                "--policy out for the defaults."
            ) from None
        except (yaml.YAMLError, ValueError) as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ExpungeError(
                f"The policy {path} is not readable YAML ({said}); docs/verification.md shows one."
            ) from None
        return cls.of(content or {}, str(path))

    @classmethod
    def of(cls, content: object, source: str = "The policy") -> "Policy":
        """The policy of these keys.

        Raises:
            ExpungeError: a key is unknown, or a value is out of its range.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            found = error.errors()
            first = min(found, key=lambda each: each["type"] != "extra_forbidden")
            raise ExpungeError(f"{source}: {_said(cls, first)}") from None


def _said(policy: type[BaseModel], error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    where = ".".join(path) or "the file"
    if error["type"] != "extra_forbidden":
        said = str(error["msg"]).removeprefix("Value error, ")
        said = said[:1].lower() + said[1:]
        given = error.get("input")
        shown = "" if isinstance(given, dict | list) else f" (given: {given!r})"
        return f"{where}: {said}{shown}; docs/verification.md explains every key."
    known = _keys(policy, path[:-1])
    close = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}."
    return f"{where}: there is no such key; {hint}"


def _keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys of the section that a path leads to."""
    for part in path:
        inner = model.model_fields[part].annotation
        assert isinstance(inner, type) and issubclass(inner, BaseModel)
        model = inner
    return list(model.model_fields)
