"""What the benchmark of datamodel matching found, as tables."""

from collections.abc import Mapping, Sequence
from typing import Any

CAPTION = (
    "KLoM: 95th percentile / mean over the rows of the divergence of the margins of the unlearned "
    "models from those of oracles, in nats; lower is nearer, and the floor is what further oracles "
    "have. Right: share of the rows answered with their label, in %. Of the baselines the learning "
    "rate that does best on these very figures is shown."
)

SETS = ("forget", "retain", "validation")

Table = tuple[str, Sequence[str], list[Sequence[object]]]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of what is printed."""
    models, halves = result["models"], result["half-data models"]
    columns = ("model", *(f"KLoM {name}" for name in SETS), "right F / R / V", "seconds")
    rows = [_row(name, its) for name, its in result["rows"].items()]
    title = f"digits, 20 alike eights: {models} models, {halves} half-data models"
    attributions: list[Sequence[object]] = [
        (name, *(f"{its[figure]:.2f}" for figure in ("correlation", "slope", "scale")))
        for name, its in result["attributions"].items()
    ]
    return [
        (title, columns, rows),
        (
            "what the forget rows add to their own logits, predicted and true",
            ("attribution", "correlation", "slope", "scale by leave-outs"),
            attributions,
        ),
    ]


def _row(name: str, its: Mapping[str, Any]) -> Sequence[object]:
    shown = name if not isinstance(its["setting"], float) else f"{name}, rate {its['setting']:g}"
    if "sets" not in its:
        return (shown, *("failed" for _ in SETS), "-", "-")
    sets = [its["sets"][name] for name in SETS]
    distances = ("-" if one is None else f"{one['p95']:.2f} / {one['mean']:.2f}" for one in sets)
    right = ("-" if one is None else f"{100 * one['accuracy']:.1f}" for one in sets)
    return (shown, *distances, " / ".join(right), f"{its['seconds']:.0f}")


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What the columns are, what it cost, and what was expected."""
    found = [
        CAPTION,
        f"Training all models took {result['seconds of training']:.0f} processor seconds; those in "
        "the table are of unlearning all originals.",
    ]
    return found + [
        f"{'yes' if so else 'NO'}: {expected}" for expected, so in result["checks"].items()
    ]
