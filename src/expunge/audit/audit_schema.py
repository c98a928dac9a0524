"""StoredAudit: what an audit stores and its report reads, and the JSON schema that is published.

Keys are words with blanks between them, as they stand in ``audit.json``. Parts that a later version
may add (facts and details) are let through; everything that a report shows is checked.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from expunge.errors import ExpungeError

Outcome = Literal["pass", "fail", "not enough evidence"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1)]
Some = Annotated[list[Number], Field(min_length=1)]
At = Annotated[str, Field(pattern=r"^(0|1|0\.[0-9]+|1e-[0-9]+)$")]
"""A rate of false positives as a key."""
UNKNOWN_STATE = "unknown"
"""The deletion state of a model whose history is not known."""
Gap = Number | None
"""A number, or null where it was not finite or could not be measured."""


def _words(name: str) -> str:
    return name.replace("_", " ")


class _Exact(BaseModel):
    model_config = ConfigDict(
        alias_generator=_words, extra="forbid", frozen=True, use_attribute_docstrings=True
    )


class _Open(_Exact):
    model_config = ConfigDict(extra="allow")


class StoredInterval(_Exact):
    """An interval and its coverage, such as 0.95."""

    low: Gap
    high: Gap
    level: Number


class StoredCurve(_Exact):
    """A ROC, point by point; both lists are of one length and do not fall."""

    fpr: Annotated[list[Rate], Field(min_length=1)]
    """Rates of false positives."""
    tpr: Annotated[list[Rate], Field(min_length=1)]
    """Rates of true positives."""


class StoredRate(_Exact):
    """The rate of true positives at one rate of false positives."""

    value: Gap
    interval: Annotated[list[Gap], Field(min_length=2, max_length=2)] | None
    """Both ends; null where there are too few rows for one."""


class StoredAttack(_Open):
    """What a membership attack found on one model."""

    roc: StoredCurve
    tpr_at_fpr: dict[At, StoredRate] = {}
    """By rate of false positives, such as 0.01."""


class StoredMargins(_Exact):
    """Log-odds of the right answer on each forgotten row, in nats."""

    samples: Annotated[list[str], Field(min_length=1)]
    """The rows' ids, in the order of all lists here."""
    deployed: Some
    oracles: list[Some]
    original: Some


class StoredCopy(_Exact):
    """A retained row that repeats a forgotten one."""

    id: str
    """The retained row."""
    of: str
    """The forgotten row."""
    detector: str
    similarity: Number


class StoredDetails(_Open):
    """What pictures are drawn from; each figure has a few of these keys."""

    oracles: list[Gap] | list[Some] | None = None
    """The figure of each oracle, or the relearning curve of each."""
    margins: StoredMargins | None = None
    roc: StoredCurve | None = None
    """Of the deployed model."""
    tpr_at_fpr: dict[At, StoredRate] = {}
    """Of the deployed model, by rate of false positives."""
    members: Annotated[int, Field(ge=1)] | None = None
    """Forgotten rows that were attacked."""
    non_members: int | None = Field(default=None, ge=1, alias="non-members")
    """Rows like them that nobody trained on."""
    original: StoredAttack | list[Number] | None = None
    """Of the model before: its attack, or its KLoM row by row."""
    shown: str | None = None
    """The rows that relearning is given."""
    rate: Gap = None
    """The learning rate of relearning."""
    deployed: Some | None = None
    """Score of the deployed model after 0, 1, ... steps of relearning."""
    level: Gap = None
    """The score that counts as relearned."""
    values: Some | None = None
    """KLoM of each row, in nats."""
    floor: Some | None = None
    """KLoM of further oracles on the same rows."""
    requests: list[str] | None = None
    """Names of the requests of a history, in order."""
    before: list[Number] | None = None
    """Score on the rows of each request before any was served."""
    after: list[list[Number]] | None = None
    """``after[t][j]``: score on the rows of request j after step t."""
    copies: list[StoredCopy] | None = None


class StoredEvidence(_Exact):
    """One figure, what it was held against, and what that says."""

    name: str
    result: Outcome
    sentence: str
    """The same in words."""
    value: Gap
    """Of the deployed model."""
    reference: Gap
    """What it is held against."""
    against: str
    """What the reference is of: the oracles, or the substitute for them."""
    threshold: Gap
    """The largest distance to the reference that passes, or the least value that does."""
    interval: StoredInterval | None
    """Of the value."""
    original: Gap
    """Of the model before."""
    details: StoredDetails


class StoredVerdict(_Exact):
    """The answer to one question."""

    question: str
    """Its key in the policy."""
    asks: str
    """The question in words."""
    result: Outcome
    reason: str
    """The sentence that decided."""
    evidence: list[StoredEvidence]
    missing: list[str]
    """What has to be given or done before the question can be answered."""
    notes: list[str]
    """Substitutes that were used, and what a higher level would add."""


class StoredRows(_Exact):
    """A set of rows."""

    count: Annotated[int, Field(ge=0)]
    digest: str
    """SHA-256 over the rows."""


class StoredModels(_Exact):
    """SHA-256 of the weights of each model."""

    original: str
    deployed: str
    oracles: list[str]


class StoredReferences(_Exact):
    """What the deployed model was held against."""

    oracles: Annotated[int, Field(ge=0)]
    """How many, the given ones among them."""
    given: Annotated[int, Field(ge=0)]
    """Of these, how many were not trained by the audit."""
    shadows: Annotated[int, Field(ge=0)]
    """Shadow models, each trained on a random half of the rows."""
    in_words: str


class StoredAudit(_Open):
    """An audit of one deployed model: verdicts, the evidence for each, and what they depend on."""

    level: Literal["quick", "standard", "adversarial"]
    """What was allowed to be trained."""
    result: Outcome
    """Fail if a question failed, pass if all passed."""
    verdicts: Annotated[list[StoredVerdict], Field(min_length=1)]
    request: str
    """What was to be forgotten."""
    metric: str
    """What answers are scored with."""
    models: StoredModels
    rows: dict[str, StoredRows]
    """By kind: forget, retain, held-out."""
    references: StoredReferences
    seed: int
    device: str
    policy: dict[str, Any]
    """Every threshold, by section; docs/verification.md explains the keys."""
    torch: str
    """Version of torch."""
    seconds: dict[str, Number]
    """Wall time by question, and of all."""
    expunge: str | None = None
    """Version of expunge, where the command wrote this."""
    run_file: str | None = None
    method: str | None = None
    exit_code: int | None = None
    deletion_state: str = UNKNOWN_STATE
    """What is left of the forgotten rows in what is in use, as in docs/architecture.md; unknown
    where the history of the model is not known."""


def checked_audit(stored: object, source: str = "The audit") -> StoredAudit:
    """A stored audit, with every part that a report shows as the schema expects it.

    Raises:
        ExpungeError: it is a self-test, or a key is missing, unknown or of another type.
    """
    if isinstance(stored, dict) and "confusion" in stored:
        raise ExpungeError(
            f"{source} is a self-test of many audits; the stored audit of one model is expected. "
            "Take audit.json from the folder of `expunge audit RUN_FILE --out FOLDER`."
        )
    try:
        audit = StoredAudit.model_validate(stored, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ExpungeError(
            f"{source} does not fit the schema of audits at {where}: {first['msg'].lower()}. "
            "Write it anew with `expunge audit`; docs/audit.schema.json says what is expected."
        ) from None
    for verdict in audit.verdicts:
        for item in verdict.evidence:
            _check_lengths(item, source)
    return audit


def read_audit(path: Path) -> StoredAudit:
    """The audit in a file that ``expunge audit`` wrote.

    Raises:
        ExpungeError: the file cannot be read, is no JSON, or does not fit the schema.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExpungeError(
            f"{path} cannot be read ({error.strerror}); give the audit.json of `expunge audit`."
        ) from None
    except (ValueError, RecursionError) as error:
        raise ExpungeError(
            f"{path} is not readable JSON ({error}); give the audit.json of `expunge audit`."
        ) from None
    return checked_audit(stored, str(path))


def schema_text() -> str:
    """The JSON schema of a stored audit, as published in ``docs/audit.schema.json``."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **StoredAudit.model_json_schema(by_alias=True),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _check_lengths(item: StoredEvidence, source: str) -> None:
    """Lists that belong together must be of one length, or a picture would be wrong."""
    details = item.details
    found: list[tuple[str, int, int]] = []
    curves = [details.roc]
    if isinstance(details.original, StoredAttack):
        curves.append(details.original.roc)
    found += [("roc", len(one.tpr), len(one.fpr)) for one in curves if one is not None]
    if details.margins is not None:
        rows, count = details.margins, len(details.margins.samples)
        parts = [rows.deployed, rows.original, *rows.oracles]
        found += [("margins", len(part), count) for part in parts]
    if details.requests is not None:
        count = len(details.requests)
        found += [("before", len(details.before or []), count)]
        found += [("after", len(details.after or []), count)]
        found += [("after", len(row), count) for row in details.after or []]
    for key, given, expected in found:
        if given != expected:
            raise ExpungeError(
                f"{source} has {given} values for {expected} under {key!r} of {item.name!r}; one "
                "for each is expected. Write it anew with `expunge audit`."
            )
