"""What the attacks found, as tables; and the pictures of the curves."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure

from expunge.audit.plots import LIGHT, as_png

Table = tuple[str, Sequence[str], list[Sequence[object]], str]
"""Title, columns, rows, and the sentence below."""

FIGURES = {
    "AUC": "AUC",
    "TPR": "TPR at 1 %",
    "AUC of redrawn": "AUC, redrawn",
    "TPR of redrawn": "TPR, redrawn",
}
DRAWN = ("loss", "RMIA", "LiRA offline", "LiRA, fixed variance")
"""The attacks of the picture."""


def tables(result: Mapping[str, Any]) -> list[Table]:
    """A table for every setting of the pools, and one of what methods leave."""
    return [_pool(result, name) for name in result["pools"]] + [_unlearning(result)]


def _pool(result: Mapping[str, Any], name: str) -> Table:
    found = result["pools"][name]
    rows: list[Sequence[object]] = [
        [attack, *(_spread([one["attacks"][attack].get(f) for one in found]) for f in FIGURES)]
        for attack in found[0]["attacks"]
    ]
    below = (
        f"{result['models']} models, each the target or a shadow of {result['targets']} targets; "
        f"accuracy on own rows {_spread([one['trained'] for one in found])}, on others "
        f"{_spread([one['held out'] for one in found])}. AUC .5 is chance; redrawn: rows whose "
        "label was drawn again, their TPR at a threshold that 1 % of all non-members pass."
    )
    return f"Membership on the {name} pool", ["", *FIGURES.values()], rows, below


def _unlearning(result: Mapping[str, Any]) -> Table:
    columns = {
        "forgotten": "U-LiRA",
        "one-sided": "above never seen",
        "two-sided": "above or below",
        "kept": "kept rows",
        "difference": "before and after",
    }
    rows: list[Sequence[object]] = []
    failed = []
    for name, found in result["unlearning"].items():
        if reason := next((one["failed"] for one in found if "failed" in one), None):
            failed.append(f"{name}: {reason}")
            continue
        rows.append(
            [
                name,
                *(_spread([one["scores"][score] for one in found]) for score in columns),
                *(_spread([one[part] for one in found]) for part in ("forget", "retain", "test")),
            ]
        )
    below = (
        "AUC with which rows that a model forgot are told from rows that it never saw (.5: as if "
        "never seen; read it beside retrained), and kept rows from those; before and after: by how "
        "far the margin fell, which shows what was removed to who saw both models. Accuracy on "
        "forgotten, kept and never seen rows. Each model forgets "
        f"{result['each']} of {result['asked']} rows, half of which have redrawn labels."
    )
    heads = ["", *columns.values(), "forget", "retain", "test"]
    return "U-LiRA on the noisy pool", heads, rows, " ".join([below, *failed])


def picture(result: Mapping[str, Any]) -> bytes:
    """The curves of some attacks on the first model of the noisy pool, both axes logarithmic."""
    curves = result["pools"]["noisy"][0]["curves"]
    figure = Figure(figsize=(5, 4.2), layout="constrained", facecolor=LIGHT.surface)
    axes = figure.add_subplot()
    for name, colour in zip(DRAWN, LIGHT.series, strict=False):
        fpr, tpr = curves[name]
        axes.plot(fpr, [max(share, 1e-3) for share in tpr], color=colour, label=name)
    axes.plot([1e-3, 1], [1e-3, 1], color=LIGHT.faint, linestyle=":", label="chance")
    axes.set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-3, 1))
    axes.set_xlabel("share of non-members called members")
    axes.set_ylabel("share of members found")
    axes.legend(frameon=False)
    return as_png(figure, 140)


def _spread(values: Sequence[float | None]) -> str:
    """Mean and standard deviation over seeds; a dash where one is missing."""
    found = [value for value in values if value is not None]
    if not found or len(found) < len(values):
        return "-"
    mean = f"{fmean(found):.3f}"
    return mean if len(found) < 2 else f"{mean}±{stdev(found):.3f}"
