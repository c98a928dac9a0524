"""What the benchmark of label-free forgetting found: a table a task, and what it says."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from expunge.benchmarks.label_free.work import LAF_ROW, STEP_3, STEP_4

CAPTION = (
    "Accuracies (chance 10) and ASR in %, mean±sd over seeds, test rows. gap: mean distance of "
    "the columns to the mean of the oracles, in points; of an oracle, to the others. ASR: boosted "
    "trees on sorted probabilities, where 50 is chance; closer to the oracle is better. labels: "
    "whose labels are read to unlearn. Of noisy labels, Train_f counts the wrong label as right, "
    "and Test is clean. x: the multiple of the preset's strength, chosen on validation rows by the "
    "gap to the oracles."
)

Table = tuple[str, Sequence[str], list[Sequence[object]]]

FALLS, KEEPS, SLIGHT = 0.6, 0.08, 0.15
"""Points of a class's rows that are to be lost, of the others at most, and of single rows at most
beyond the oracle's."""

SUPERVISED = ("fine-tune", "random label", "SCRUB", "NegGrad+")


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of what is printed."""
    found: list[Table] = []
    for world, tasks in result["worlds"].items():
        for task, its in tasks.items():
            for setting in ("preset", "tuned"):
                about = f"{world}, {task} ({its['forget rows']} of {its['train rows']} rows)"
                columns = ["", "labels", *its["columns"], "gap", "x", "seconds"]
                rows = [_row(name, row, its["columns"]) for name, row in its[setting].items()]
                found.append((f"{about}: {_SHOWN[setting]}", columns, rows))
    return found


_SHOWN = {"preset": "presets", "tuned": "tuned on validation rows"}


def _row(name: str, row: Mapping[str, Any], columns: Sequence[str]) -> Sequence[object]:
    if "failed" in row:
        return [name, row["labels"], *("failed" for _ in columns), "-", "-", "-"]
    seconds = f"{fmean(row['seconds']):.1f}" if "seconds" in row else "-"
    strength = f"{row['strength']:g}" if "strength" in row else "-"
    lost = f" ({len(row['failures'])} failed)" if row.get("failures") else ""
    shown = [spread(row[column]) for column in columns]
    return [name + lost, row["labels"], *shown, spread(row["gap"], 1), strength, seconds]


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Mean and standard deviation in percent."""
    mean = f"{100 * fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean}±{100 * stdev(values):.{digits}f}"


def checks(result: Mapping[str, Any]) -> dict[str, bool]:
    """What was expected, and whether it was found; by setting, world and task."""
    found: dict[str, bool] = {}
    for world, tasks in result["worlds"].items():
        for task, its in tasks.items():
            for setting in ("preset", "tuned"):
                about = f"{world}, {task}, {_SHOWN[setting]}"
                for sentence, so in _of_task(task, its[setting]).items():
                    found[f"{about}: {sentence}"] = so
    return found


def _of_task(task: str, rows: Mapping[str, Any]) -> dict[str, bool]:
    laf, original, oracle = rows[LAF_ROW], rows["original"], rows["oracle"]
    if "failed" in laf:
        return {"LAF answers": False}
    gaps = {name: fmean(rows[name]["gap"]) for name in rows if "gap" in rows[name]}
    best = min((gaps[name] for name in SUPERVISED if name in gaps), default=float("inf"))
    found = {
        "LAF is nearer to the oracles than the original": gaps[LAF_ROW] < gaps["original"],
        "LAF is as near as the best that reads labels": gaps[LAF_ROW] <= best,
    }
    gone = _mean(original, "Train_f") - _mean(laf, "Train_f")
    lost = _mean(original, "Train_r") - _mean(laf, "Train_r")
    if task == "class":
        found[
            f"the class loses more than {100 * FALLS:.0f} points, the others less than "
            f"{100 * KEEPS:.0f}"
        ] = gone > FALLS and lost < KEEPS
    if task == "random":
        below = _mean(oracle, "Train_f") - _mean(laf, "Train_f")
        found[f"the rows move, at most {100 * SLIGHT:.0f} points below the oracle"] = (
            gone > 0 and below < SLIGHT
        )
    if "Train_r" in rows.get(STEP_3, {}):
        found["without the alignment more of Train_r is lost"] = _mean(rows[STEP_3], "Train_r") < (
            _mean(laf, "Train_r")
        )
    if "Train_f" in rows.get(STEP_4, {}):
        found["the alignment alone forgets less"] = _mean(rows[STEP_4], "Train_f") > (
            _mean(laf, "Train_f")
        )
    return found


def _mean(row: Mapping[str, Any], column: str) -> float:
    return fmean(row[column])


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What the columns are, what was expected, and why a method failed."""
    reasons = {
        f"{world}, {task}: {name} failed: {row['failed']}"
        for world, tasks in result["worlds"].items()
        for task, its in tasks.items()
        for name, row in its["preset"].items()
        if "failed" in row
    }
    return [
        CAPTION,
        *sorted(reasons),
        *(f"{'yes' if so else 'NO'}: {what}" for what, so in checks(result).items()),
    ]
