"""ReportFigures: everything a report shows, as plain values that JSON can hold.

The report computes nothing: each number in it is a number of this dict, and ``figures.json`` holds
them all. Every section but the title is optional. Performances are shares in [0, 1] unless
``score`` says otherwise; a value that was not measured is None.
"""

import base64
import binascii
import json
from typing import Annotated, Literal, NotRequired

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict  # pydantic reads this one on Python 3.11 as well

from expunge.errors import ExpungeError

_EXACT = ConfigDict(extra="forbid", allow_inf_nan=False)


def _picture(data: str) -> str:
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("the bytes of a picture are expected as base64") from error
    return data


Base64 = Annotated[str, AfterValidator(_picture)]
_SOME = Field(min_length=1)


@with_config(_EXACT)
class IntervalFigure(TypedDict):
    """An interval and its coverage, such as 0.95."""

    low: float
    high: float
    level: float


@with_config(_EXACT)
class ConfigurationRow(TypedDict):
    """One configuration after the last step. ``role`` sets its colour in the pictures."""

    name: str
    role: NotRequired[Literal["original", "oracle", "rule", "best"]]
    forgotten: list[float]
    forgotten_intervals: NotRequired[list[IntervalFigure | None]]
    forgotten_mean: float
    forgotten_mean_interval: NotRequired[IntervalFigure]
    forgotten_worst: float
    retained: float
    retained_interval: NotRequired[IntervalFigure]
    seconds: NotRequired[float | None]
    peak_memory_mib: NotRequired[float | None]
    note: NotRequired[str]


@with_config(_EXACT)
class HeadlineFigure(TypedDict):
    """A table of configurations: ``requests`` name the columns of ``forgotten``."""

    title: str
    note: NotRequired[str]
    requests: list[str]
    rows: list[ConfigurationRow]


@with_config(_EXACT)
class PersistenceFigure(TypedDict):
    """The full matrix of one configuration: ``after[t][j]`` on request j after step t."""

    name: str
    role: NotRequired[Literal["original", "oracle", "rule", "best"]]
    requests: Annotated[list[str], _SOME]
    before: list[float]
    after: list[list[float]]
    oracle: NotRequired[list[float]]
    note: NotRequired[str]


@with_config(_EXACT)
class PersistenceSection(TypedDict):
    """Persistence matrices on one scale. ``highlighted`` names those of the headline picture."""

    score: str
    scale: NotRequired[tuple[float, float]]
    matrices: list[PersistenceFigure]
    highlighted: NotRequired[list[str]]


@with_config(_EXACT)
class ReEmergenceRow(TypedDict):
    """What came back in one configuration.

    ``drift`` holds ``R[T, j] - R[j, j]`` and ``re_emergence`` holds ``RE_q`` per request; the last
    request has no ``RE_q`` (None).
    """

    name: str
    drift: list[float]
    re_emergence: list[float | None]
    re_emergence_mean: float | None
    re_emergence_max: float | None
    avg_delta: NotRequired[float]
    persistence: NotRequired[float | None]
    damage: NotRequired[float | None]


@with_config(_EXACT)
class ReEmergenceSection(TypedDict):
    """Drift and re-emergence of all configurations."""

    requests: list[str]
    rows: list[ReEmergenceRow]


@with_config(_EXACT)
class RelearningCurve(TypedDict):
    """Performance of one model after 0, 1, 2 ... relearning steps."""

    name: str
    role: NotRequired[Literal["original", "oracle", "rule", "best"]]
    values: Annotated[list[float], _SOME]
    steps_to_level: NotRequired[str]
    ratio_to_oracle: NotRequired[str]


@with_config(_EXACT)
class RelearningPanel(TypedDict):
    """The curves of one request; ``level`` is the performance that counts as relearned."""

    request: str
    level: NotRequired[float]
    curves: Annotated[list[RelearningCurve], _SOME]


@with_config(_EXACT)
class RelearningSection(TypedDict):
    """Relearning beside the oracle, one panel per request."""

    score: str
    note: NotRequired[str]
    panels: list[RelearningPanel]


@with_config(_EXACT)
class StrengthRow(TypedDict):
    """The strengths of one configuration, one per request, and how they were chosen."""

    name: str
    strengths: list[float]
    chosen: str


@with_config(_EXACT)
class StrengthSection(TypedDict):
    """Strengths of all configurations."""

    requests: list[str]
    rows: list[StrengthRow]


@with_config(_EXACT)
class RevocationSection(TypedDict):
    """One request taken back. ``equal``: the result is the fold of the others, bit for bit."""

    request: str
    statement: str
    equal: bool
    largest_difference: float
    forgotten_after: NotRequired[float]


@with_config(_EXACT)
class Answer(TypedDict):
    """A model's first answer. ``correct`` says whether it names the picture's concept."""

    answer: str
    correct: bool
    probability: NotRequired[float]


@with_config(_EXACT)
class PictureFigure(TypedDict):
    """One picture and what the models call it; ``data`` are the file's bytes as base64."""

    data: Base64
    kind: Literal["image/png", "image/webp"]
    concept: str
    before: Answer
    after: Answer
    oracle: NotRequired[Answer]


@with_config(_EXACT)
class PictureGroup(TypedDict):
    """Pictures of one request. ``configuration`` is the model behind the answers after."""

    request: str
    configuration: str
    pictures: list[PictureFigure]


@with_config(_EXACT)
class Provenance(TypedDict, total=False):
    """Where the numbers come from: names and values, shown as given."""

    versions: dict[str, str]
    seeds: dict[str, int]
    hashes: dict[str, str]
    cost: dict[str, str]
    settings: dict[str, str]


@with_config(_EXACT)
class ReportFigures(TypedDict):
    """One report. ``statements`` are sentences below the headline, such as what a strength does."""

    title: str
    summary: NotRequired[str]
    headline: NotRequired[HeadlineFigure]
    further_tables: NotRequired[list[HeadlineFigure]]
    statements: NotRequired[list[str]]
    persistence: NotRequired[PersistenceSection]
    re_emergence: NotRequired[ReEmergenceSection]
    relearning: NotRequired[RelearningSection]
    strengths: NotRequired[StrengthSection]
    revocation: NotRequired[RevocationSection]
    pictures: NotRequired[list[PictureGroup]]
    limits: NotRequired[list[str]]
    provenance: NotRequired[Provenance]


_REPORT = TypeAdapter(ReportFigures)


def checked_figures(figures: object) -> ReportFigures:
    """The figures, with every key, type and length as the schema and the report expect.

    Raises:
        ExpungeError: a key is unknown or missing, a value has another type or is not finite, or a
            row has another length than its header.
    """
    try:
        checked = _REPORT.validate_python(figures)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the report"
        raise ExpungeError(
            f"The report's figures do not fit their schema at {where}: {first['msg'].lower()}. "
            "See ReportFigures for what is expected."
        ) from error
    for where, found, expected in _lengths(checked):
        if found != expected:
            raise ExpungeError(
                f"The report's figures have {found} values for {expected} requests at {where}; "
                "one per request is expected."
            )
    _check_persistence(checked)
    return checked


def read_figures(text: str) -> ReportFigures:
    """The figures in the text of a ``figures.json``.

    Raises:
        ExpungeError: the text is no JSON, or does not fit the schema.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ExpungeError(
            f"The report's figures are no JSON ({error.msg}, line {error.lineno}); the text of a "
            "figures.json is expected."
        ) from error
    return checked_figures(values)


def _check_persistence(figures: ReportFigures) -> None:
    if "persistence" not in figures:
        return
    section = figures["persistence"]
    low, high = section.get("scale", (0.0, 1.0))
    if not low < high:
        raise ExpungeError(
            f"The report's persistence section has the scale {low} to {high}; a lower and a higher "
            "end are expected."
        )
    names = [matrix["name"] for matrix in section["matrices"]]
    for name in section.get("highlighted", []):
        if name not in names:
            raise ExpungeError(
                f"The report's persistence section has {name!r} highlighted; one of "
                f"{', '.join(names)} is expected."
            )


def _lengths(figures: ReportFigures) -> list[tuple[str, int, int]]:
    """(where, length found, length expected) of every row that has one value per request."""
    found: list[tuple[str, int, int]] = []
    tables = [*([figures["headline"]] if "headline" in figures else [])]
    for table in [*tables, *figures.get("further_tables", [])]:
        size = len(table["requests"])
        for row in table["rows"]:
            found.append((f"{table['title']}, {row['name']}", len(row["forgotten"]), size))
            if "forgotten_intervals" in row:
                place = f"{table['title']}, intervals of {row['name']}"
                found.append((place, len(row["forgotten_intervals"]), size))
    for matrix in figures["persistence"]["matrices"] if "persistence" in figures else []:
        place, size = f"persistence of {matrix['name']}", len(matrix["requests"])
        rows = [matrix["before"], *matrix["after"], matrix.get("oracle", matrix["before"])]
        found += [(place, len(row), size) for row in rows] + [(place, len(matrix["after"]), size)]
    if "re_emergence" in figures:
        size = len(figures["re_emergence"]["requests"])
        for returned in figures["re_emergence"]["rows"]:
            place = f"re-emergence of {returned['name']}"
            found.append((place, len(returned["drift"]), size))
            found.append((place, len(returned["re_emergence"]), size))
    if "strengths" in figures:
        size = len(figures["strengths"]["requests"])
        for chosen in figures["strengths"]["rows"]:
            found.append((f"strengths of {chosen['name']}", len(chosen["strengths"]), size))
    return found
