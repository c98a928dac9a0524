"""Verdicts: pass, fail, or not enough evidence, each with the figures that it rests on.

A verdict is as good as the evidence below it: every item has its value, what it was held against,
the threshold, and one plain sentence. What an item could not show is said, never counted as a pass.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from torch import Tensor

from expunge.signals.accuracy import Interval


class Result(StrEnum):
    """What an item of evidence, or a question, came to."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "not enough evidence"


def worst(results: Iterable[Result]) -> Result:
    """A failure before missing evidence, missing evidence before a pass; unknown for nothing."""
    found = set(results)
    if Result.FAIL in found:
        return Result.FAIL
    return Result.PASS if found == {Result.PASS} else Result.UNKNOWN


@dataclass(frozen=True, eq=False)
class Evidence:
    """One figure, what it was held against, and what that says.

    Args:
        name: of the figure.
        result: what it says of the question.
        sentence: the same in words.
        value: of the deployed model; None where it could not be measured.
        reference: the value to hold it against.
        against: what the reference is of: the oracles, or the substitute that stands for them.
        threshold: the largest distance to the reference that passes, or the least value that does;
            the sentence says which.
        interval: of the value.
        original: the value of the model before.
        details: whatever a report draws: curves, values sample by sample. JSON values, with tensors
            allowed.
    """

    name: str
    result: Result
    sentence: str
    value: float | None = None
    reference: float | None = None
    against: str = ""
    threshold: float | None = None
    interval: Interval | None = None
    original: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def no_more(
        cls,
        name: str,
        sentence: str,
        value: float,
        reference: float,
        against: str,
        allowed: float,
        original: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Self:
        """A figure that passes as long as it is no more than ``allowed`` above its reference."""
        result = Result.FAIL if value - reference > allowed else Result.PASS
        known = details or {}
        return cls(
            name, result, sentence, value, reference, against, allowed, None, original, known
        )

    def to_json(self) -> dict[str, Any]:
        """The evidence as JSON values; numbers that are not finite become None."""
        interval = self.interval
        return {
            "name": self.name,
            "result": self.result.value,
            "sentence": self.sentence,
            "value": plain(self.value),
            "reference": plain(self.reference),
            "against": self.against,
            "threshold": plain(self.threshold),
            "interval": None
            if interval is None
            else {
                "low": plain(interval.low),
                "high": plain(interval.high),
                "level": interval.level,
            },
            "original": plain(self.original),
            "details": plain(self.details),
        }


@dataclass(frozen=True, eq=False)
class Verdict:
    """The answer to one question.

    Args:
        question: its key, as in the policy.
        asks: the question in words.
        evidence: what was measured; every item counts.
        missing: what has to be given or done before the question can be answered, sentence by
            sentence. Anything here keeps a question from passing.
        notes: substitutes that were used, and what a higher level would add.
    """

    question: str
    asks: str
    evidence: tuple[Evidence, ...]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def result(self) -> Result:
        """Fail if any item fails; pass if all pass and nothing is missing."""
        lacking = (Result.UNKNOWN,) if self.missing else ()
        return worst([*(item.result for item in self.evidence), *lacking])

    @property
    def reason(self) -> str:
        """The sentence that decided: of the first item with the verdict's own result."""
        found = [item.sentence for item in self.evidence if item.result is self.result]
        if self.result is Result.UNKNOWN:
            found = [*found, *self.missing]
        return found[0] if found else "Nothing was measured."

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return {
            "question": self.question,
            "asks": self.asks,
            "result": self.result.value,
            "reason": self.reason,
            "evidence": [item.to_json() for item in self.evidence],
            "missing": list(self.missing),
            "notes": list(self.notes),
        }


def plain(value: Any) -> Any:
    """Numbers, texts, tensors and what holds them as JSON values; None for what is not finite."""
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value
