"""The report of the demo: its measurements laid out as figures, statements and pictures."""

import base64
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import torch
from datasets import Dataset
from torch import Tensor

from expunge import __version__
from expunge.audit.figures import (
    Answer,
    ConfigurationRow,
    HeadlineFigure,
    IntervalFigure,
    PictureFigure,
    PictureGroup,
    RelearningCurve,
    RelearningSection,
    ReportFigures,
    RevocationSection,
    StrengthSection,
)
from expunge.audit.measure import Measured
from expunge.audit.relearning import relearning_speed
from expunge.benchmarks.demo import (
    BEST,
    POINTS,
    RELEARNING_RATE,
    RELEARNING_STEPS,
    Demo,
    Result,
    correct_answers,
)
from expunge.changes.weights import digest_of
from expunge.data import emoji_grid, tables
from expunge.signals import Interval, binomial_interval, bootstrap_interval
from expunge.signals.ask import logits_of

PICTURES_EACH = 3
"""Pictures shown for each request."""

SHOWN_STEPS = (0, 1, 2, 5, 10)
"""Relearning steps that are printed; the report draws all."""

COMPARED_STEP = 5
"""Relearning step at which starts are compared in words."""


def report(demo: Demo) -> ReportFigures:
    """Everything that `expunge demo` shows, as plain values."""
    names = [request.name for request in demo.setting.requests]
    return {
        "title": "Five requests, one after another",
        "summary": _summary(demo),
        "headline": _table(
            demo,
            demo.matched,
            "Matched on the validation vendor",
            "Each configuration has a common factor on its strengths (the sequential method on its "
            "whole change): the largest that gives up at most "
            f"{100 * POINTS:.0f} points of retained accuracy on the validation vendor. Figures are "
            "of the test vendor, where what is given up differs a little. Seconds are those of "
            "making and folding the changes, without the search for strengths.",
        ),
        "further_tables": [
            _table(
                demo,
                demo.fixed,
                "Strengths as they come",
                "cata and sum: one strength for all, fixed after request 1. + strength: each "
                "request's own, calibrated alone on the base when it arrives. No common factor.",
            )
        ],
        "statements": _statements(demo),
        "persistence": {
            "score": "accuracy on the test vendor's drawings",
            "matrices": [
                {**r.matrix.figure(r.found.name), "role": r.found.kind} for r in demo.matched
            ],
            "highlighted": ["cata", "sum", BEST],
        },
        "re_emergence": {
            "requests": names,
            "rows": [r.matrix.re_emergence_row(r.found.name) for r in demo.matched],
        },
        "relearning": _relearning(demo),
        "strengths": _strengths(demo),
        "revocation": _revocation(demo),
        "pictures": _pictures(demo),
        "limits": [
            "One seed, one order and one choice of groups: this shows what the tool does, and "
            "ranks no rules.",
            "Eight drawings a request: one picture is 12.5 points. Intervals are over concepts.",
            "Strengths are set to the level of the final oracle, which a user would not have when "
            "the first request comes.",
            f"The oracle's level is {float(demo.oracle.requests.mean()):.3f}, not 0: the prompts "
            "of what it never saw remain, and neighbours transfer to them. Below it is no better.",
            "The frozen lower part of the tower was trained on ImageNet and is not covered.",
            "The base and the stored changes together restore what was forgotten.",
        ],
        "provenance": {
            "versions": {
                "expunge": __version__,
                "python": platform.python_version(),
                "torch": version("torch"),
            },
            "seeds": {"run": demo.setting.run.seed, "recipe": demo.setting.work.recipe.seed},
            "hashes": {
                "base": digest_of(demo.setting.base),
                "oracle": digest_of(demo.setting.oracle),
            },
            "settings": {
                "pictures": "Twemoji, copyright Twitter, Inc. and other contributors, CC-BY-4.0 "
                "(creativecommons.org/licenses/by/4.0), rendered at 64 pixels on white",
            },
            "cost": {
                "seconds unlearning": f"{demo.setting.run.meter.seconds:.0f}",
                "peak memory": f"{demo.setting.run.meter.peak_bytes / 2**20:.0f} MiB",
            },
        },
    }


def _forgotten(scores: Measured, demo: Demo) -> Tensor:
    return correct_answers(scores, demo.setting.test.groups)[0]


def _summary(demo: Demo) -> str:
    best, plain = demo.result(BEST), demo.result("cata")
    return (
        f"Of {len(demo.setting.test.samples.ids):,} concepts, five groups of eight were to be "
        f"forgotten. The model named {_share(demo.before, demo)} of them before, a model retrained "
        f"without them names {_share(demo.oracle, demo)}. For at most {100 * POINTS:.0f} points of "
        f"retained accuracy on the validation vendor, CATA leaves {_share(plain.steps[-1], demo)}, "
        f"and {BEST} leaves {_share(best.steps[-1], demo)} (test vendor)."
    )


def _named(scores: Measured, demo: Demo) -> float:
    """Share of all forgotten rows that are still answered rightly."""
    return float(_forgotten(scores, demo).double().mean())


def _share(scores: Measured, demo: Demo) -> str:
    return f"{100 * _named(scores, demo):.0f} %"


def _row(
    name: str,
    scores: Measured,
    demo: Demo,
    role: str,
    seconds: float | None = None,
    note: str | None = None,
) -> ConfigurationRow:
    correct, concepts = correct_answers(scores, demo.setting.test.groups)
    hits, count = int(correct.sum()), len(correct)
    spread = (
        bootstrap_interval(correct, concepts)
        if 0 < hits < count
        else binomial_interval(hits, count)
    )
    row: ConfigurationRow = {
        "name": name,
        "role": role,  # type: ignore[typeddict-item]
        "forgotten": scores.requests.tolist(),
        "forgotten_mean": hits / count,
        "forgotten_mean_interval": _interval(spread),
        "forgotten_worst": float(scores.requests.max()),
        "retained": scores.retained,
        "retained_interval": _interval(scores.retained_interval()),
        "seconds": seconds,
    }
    if note is not None:
        row["note"] = note
    return row


def _interval(spread: Interval) -> IntervalFigure:
    return {"low": spread.low, "high": spread.high, "level": spread.level}


def _table(demo: Demo, results: Sequence[Result], title: str, note: str) -> HeadlineFigure:
    rows = [
        _row("original", demo.before, demo, "original"),
        _row("oracle", demo.oracle, demo, "oracle", note="retrained without the five groups"),
    ]
    rows += [
        _row(
            r.found.name,
            r.steps[-1],
            demo,
            r.found.kind,
            r.found.seconds,
            f"common factor {r.found.factor:.2f}" if r.found.factor != 1 else None,
        )
        for r in results
    ]
    names = [request.name for request in demo.setting.requests]
    return {"title": title, "note": note, "requests": names, "rows": rows}


def _statements(demo: Demo) -> list[str]:
    """What goes with strength, what a retain term does, and what relearning tells."""
    said = []
    for first, second in (("cata", "sum"), ("cata+strength", "sum+strength")):
        raw = [_mean(demo, demo.fixed, name) for name in (first, second)]
        level = [_mean(demo, demo.matched, name) for name in (first, second)]
        kept = [_find(demo.fixed, name).steps[-1].retained for name in (first, second)]
        said.append(
            f"{first} against {second}: as they come they leave {raw[0]:.3f} and {raw[1]:.3f} of "
            f"the forgotten, but keep {kept[0]:.3f} and {kept[1]:.3f} of the rest. Matched, they "
            f"leave {level[0]:.3f} and {level[1]:.3f}. The difference of {raw[0] - raw[1]:+.3f} "
            f"becomes {level[0] - level[1]:+.3f}: what goes away is an effect of strength."
        )
    each = [_mean(demo, demo.matched, name) for name in ("sum", "sum+strength", BEST)]
    said.append(
        f"Matched, a strength for each request changes the sum from {each[0]:.3f} to "
        f"{each[1]:.3f}; vectors made with a retain term change it to {each[2]:.3f}. As they come, "
        f"without any common factor, the latter leave {_mean(demo, demo.fixed, BEST):.3f} and keep "
        f"{_find(demo.fixed, BEST).steps[-1].retained:.3f} of {demo.before.retained:.3f} (the "
        f"oracle: {demo.oracle.retained:.3f})."
    )
    return [*said, _relearned(demo)]


def _relearned(demo: Demo) -> str:
    """Only a start that is down at the oracle's level can come back faster than the oracle."""
    count = len(_forgotten(demo.before, demo))
    start, later = (
        {name: round(values[k] * count) for name, values in demo.relearning.items()}
        for k in (0, COMPARED_STEP)
    )
    level = binomial_interval(start["oracle"], count).high * count
    after = binomial_interval(later["oracle"], count).high
    down = [name for name in start if name != "oracle" and start[name] <= level]
    above = [name for name in start if name != "oracle" and start[name] > level]
    faster = [n for n in down if binomial_interval(later[n], count).low > after]
    words = [
        f"After {COMPARED_STEP} relearning steps on one drawing a concept the oracle names "
        f"{later['oracle']} of {count}"
        + "".join(f", {name} {later[name]} (from {start[name]})" for name in down)
        + "."
    ]
    if faster:
        words.append(
            f"{' and '.join(faster)} come back faster than the oracle, with intervals apart: part "
            "of what is gone there is suppressed, not deleted."
        )
    if above:
        words.append(
            "Before any relearning, "
            + ", ".join(f"{name} still names {start[name]}" for name in above)
            + "."
        )
    return " ".join(words)


def _find(results: Sequence[Result], name: str) -> Result:
    return next(r for r in results if r.found.name == name)


def _mean(demo: Demo, results: Sequence[Result], name: str) -> float:
    return _named(_find(results, name).steps[-1], demo)


def _relearning(demo: Demo) -> RelearningSection:
    before = float(_forgotten(demo.before, demo).mean())
    curves: list[RelearningCurve] = []
    for name, values in demo.relearning.items():
        speed = relearning_speed(values, demo.relearning["oracle"], before)
        role = "oracle" if name == "oracle" else demo.result(name).found.kind
        curve: RelearningCurve = {
            "name": name,
            "role": role,
            "values": values,
            "steps_to_level": str(speed.model),
        }
        if name != "oracle":
            curve["ratio_to_oracle"] = str(speed)
        curves.append(curve)
    return {
        "score": "accuracy on all five requests",
        "note": (
            f"{RELEARNING_STEPS} steps of AdamW at {RELEARNING_RATE:g} on one drawing (Noto) of "
            "each of the 40 forgotten concepts, measured on the test vendor's. A model that comes "
            "back in fewer steps than the oracle, which never saw them, still holds them."
        ),
        "panels": [{"request": "all five requests", "level": 0.9 * before, "curves": curves}],
    }


def _strengths(demo: Demo) -> StrengthSection:
    return {
        "requests": [request.name for request in demo.setting.requests],
        "rows": [
            {
                "name": r.found.name,
                "strengths": [s * r.found.factor for s in r.found.strengths],
                "chosen": f"{r.found.chosen}; times the common factor {r.found.factor:.2f}",
            }
            for r in demo.matched
        ],
    }


def _revocation(demo: Demo) -> RevocationSection:
    revoked = demo.revoked
    return {
        "request": revoked.request,
        "statement": (
            f"{revoked.request!r} is withdrawn after all five. What came before it stays; the "
            "later changes, made with retain data that left its rows out, are made again, and all "
            "are folded. The result is compared with a model that never had the request. Accuracy "
            f"on it: {revoked.forgotten:.2f} before, {revoked.accuracy:.2f} after."
        ),
        "equal": demo.ledger.revoked_equal,
        "largest_difference": demo.ledger.difference,
        "forgotten_after": revoked.accuracy,
    }


def proven(demo: Demo) -> list[str]:
    """What the ledger says of the requests, sentence by sentence."""
    ledger, revoked = demo.ledger, demo.revoked
    checked = ledger.verified
    weights = "those folded in memory, bit for bit" if ledger.equal else "NOT those folded above"
    again = "bit for bit" if ledger.revoked_equal else "NOT equal"
    return [
        f"The same five requests through a ledger ({BEST}, matched; the gate had {ledger.repaired} "
        f"of them served at a larger strength): its weights are {weights}.",
        f"Revoking {revoked.request!r} there: accuracy on it {revoked.forgotten:.2f} -> "
        f"{revoked.accuracy:.2f}; equal to a model that never had the request: {again}.",
        f"The ledger verifies: {checked.events} events, {checked.objects} objects, "
        f"{checked.certificates} signed certificates, the current version rebuilt."
        if checked.holds
        else f"The ledger does NOT verify: {checked.faults[0]}",
        f"Certificate: {ledger.certificate}; check it with `expunge certificate verify`.",
    ]


def _pictures(demo: Demo) -> list[PictureGroup]:
    """The first pictures of each request that the base named, with the answers of three models."""
    setting, best = demo.setting, demo.result(BEST)
    table = setting.work.test_table
    assert isinstance(table, Dataset)
    concepts = list(emoji_grid.concepts()["concept"])
    last = len(setting.requests) - 1
    models = {
        "before": setting.base,
        "after": best.found.model(setting.base, last),
        "oracle": setting.oracle,
    }
    family = setting.work.recipe.family
    groups: list[PictureGroup] = []
    for request, rows in zip(setting.requests, setting.test.groups, strict=True):
        samples = setting.test.samples.select(rows)
        read = {n: logits_of(family, m, samples, setting.run) for n, m in models.items()}
        answers = {n: (logits.softmax(1).max(1), labels) for n, (logits, labels) in read.items()}
        right = answers["before"][0].indices == answers["before"][1]
        order = torch.argsort((~right).int(), stable=True).tolist()  # those it named come first
        raw = tables.column(table.select(rows.tolist()), "image").to_pylist()
        pictures: list[PictureFigure] = []
        for i in order[:PICTURES_EACH]:
            said = {n: _answer(top, labels, i, concepts) for n, (top, labels) in answers.items()}
            pictures.append(
                {
                    "data": base64.b64encode(raw[i]["bytes"]).decode(),
                    "kind": "image/webp",
                    "concept": concepts[int(answers["before"][1][i])],
                    "before": said["before"],
                    "after": said["after"],
                    "oracle": said["oracle"],
                }
            )
        groups.append({"request": request.name, "configuration": BEST, "pictures": pictures})
    return groups


def _answer(
    top: torch.return_types.max, labels: Tensor, row: int, concepts: Sequence[str]
) -> Answer:
    said = int(top.indices[row])
    return {
        "answer": concepts[said],
        "correct": said == int(labels[row]),
        "probability": float(top.values[row]),
    }


def printed(figures: ReportFigures) -> Mapping[str, tuple[list[str], list[list[object]]]]:
    """The tables that the command prints: title to (columns, rows)."""
    shown: dict[str, tuple[list[str], list[list[object]]]] = {}
    for table in [figures["headline"], *figures["further_tables"]]:
        columns = ["", "forgotten", "95 %", "worst", "retained", "95 %", "s"]
        rows: list[list[object]] = [
            [
                row["name"],
                row["forgotten_mean"],
                _between(row["forgotten_mean_interval"]),
                row["forgotten_worst"],
                f"{row['retained']:.3f}",
                _between(row["retained_interval"]),
                row["seconds"],
            ]
            for row in table["rows"]
        ]
        shown[f"{table['title']}: accuracy on the 40 to forget and on the rest"] = columns, rows
    section = figures["re_emergence"]
    for matrix, returned in zip(figures["persistence"]["matrices"], section["rows"], strict=True):
        requests = matrix["requests"]
        rows = [["before", *matrix["before"]]]
        rows += [[f"after {n}", *r] for n, r in zip(requests, matrix["after"], strict=True)]
        rows.append(["oracle", *matrix["oracle"]])
        rows.append(["R[T,j] - R[j,j]", *returned["drift"]])
        shown[f"Persistence matrix, {matrix['name']}"] = ["accuracy on", *requests], rows
    shown["What came back (RE, signed, against the oracle) and what it cost others"] = (
        ["", "RE mean", "RE max", "Avg. Delta", "persistence", "damage"],
        [
            [
                r["name"],
                r["re_emergence_mean"],
                r["re_emergence_max"],
                r["avg_delta"],
                r["persistence"],
                r["damage"],
            ]
            for r in section["rows"]
        ],
    )
    [panel] = figures["relearning"]["panels"]
    shown["Relearning: accuracy on the 40 after k steps; steps to 90 %, over the oracle's"] = (
        ["k =", *map(str, SHOWN_STEPS), "steps", "ratio"],
        [
            [
                c["name"],
                *(c["values"][k] for k in SHOWN_STEPS),
                c["steps_to_level"],
                c.get("ratio_to_oracle", "1"),
            ]
            for c in panel["curves"]
        ],
    )
    return shown


def _between(spread: IntervalFigure) -> str:
    return f"{spread['low']:.2f}-{spread['high']:.2f}"
