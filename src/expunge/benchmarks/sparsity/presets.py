"""What shipped presets do to pruned models: every method that has one, but LAF, under the masks.

Nothing is tuned. A preset finds its fields on the sparse model as it would on a dense one; the
figures are held against the oracles of the same masks, and what is kept against the pruned model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from expunge import registry
from expunge.audit.case import reason_of, source_of
from expunge.audit.kept import LEAST
from expunge.benchmarks.classification.protocol import LEFT_OUT
from expunge.benchmarks.classification.rows import gap
from expunge.benchmarks.classification.tables import kept_of
from expunge.benchmarks.jobs import Result, Told
from expunge.benchmarks.sparsity.protocol import Models, check_known
from expunge.benchmarks.sparsity.tables import Table, percent
from expunge.benchmarks.sparsity.work import AVERAGED, KINDS, Asking, Reading, room
from expunge.methods.presets import AtPreset, HasPreset
from expunge.methods.protocol import Method, learner_of


@cache
def methods() -> tuple[str, ...]:
    """Registered methods for classifiers that have a preset and read no record of a learner, but
    those that :data:`~expunge.benchmarks.classification.protocol.LEFT_OUT` leaves out."""
    named = [name for name in registry.names("methods") if name not in LEFT_OUT]
    made: dict[str, Method] = {name: registry.load("methods", name)() for name in named}
    return tuple(
        name
        for name, method in made.items()
        if isinstance(method, HasPreset) and learner_of(method) is None
    )


@dataclass(frozen=True)
class Answering:
    """Let a method find its preset on the base of one seed, and answer with it."""

    asking: Asking
    method: str
    source: str
    seed: int

    @property
    def title(self) -> str:
        """World, pruner, request, method, seed."""
        return f"{self.asking.title}: {self.method} at its preset, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """The request, the method with its code, the seed."""
        facts = {"preset of": self.method, "source": self.source, "seed": self.seed}
        return {**self.asking.facts_of_one(), **facts}

    def done(self) -> Result:
        """Figures on test rows; or why there are none."""
        method = AtPreset.of(registry.load("methods", self.method)())
        try:
            model = self.asking.answered(method, self.seed)
        except Exception as error:  # a preset may refuse, and a method fail; the others go on
            return {"failed": reason_of(error)}
        return {"figures": self.asking.read(model, self.seed, "test")}


@dataclass(frozen=True)
class Presets(Models):
    """Which presets answer on the pruned models.

    Args:
        folder: see :class:`~expunge.benchmarks.sparsity.protocol.Models`.
        world: see there.
        pruners: see there.
        seeds: see there.
        processes: see there.
        methods: names of :func:`methods`, all of them by default.
    """

    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_known(self.methods, methods(), "method with a preset")

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        asked, its = self.asked(), room(self.world)
        self.trained(told)
        named = self.methods or methods()
        sources = {name: source_of(registry.load("methods", name)) for name in named}

        def answering(asking: Asking, name: str) -> list[Answering]:
            return [Answering(asking, name, sources[name], seed) for seed in asking.seeds]

        answers = self.jobs(
            [job for a in asked for name in named for job in answering(a, name)], told
        )
        readings = self.jobs([Reading(a) for a in asked], told)
        return {
            "world": self.world,
            "about": its.about,
            "seeds": self.seeds,
            "requests": {
                kind: {
                    "request": its.request(kind).name,
                    "forget rows": len(its.request(kind).target.rows(its.train_table)),
                    "pruners": {
                        a.place.pruner: _found(
                            readings[Reading(a)],
                            {name: [answers[job] for job in answering(a, name)] for name in named},
                        )
                        for a in asked
                        if a.kind == kind
                    },
                }
                for kind in KINDS
            },
        }


def _found(reading: Result, answers: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """What was found on one pruned model; lists hold a value a seed."""
    oracles, originals = reading["oracles"], reading["originals"]
    return {
        "oracles": oracles,
        "originals": originals,
        "gap among oracles": [
            gap(one, [o for place, o in enumerate(oracles) if place != own], AVERAGED)
            for own, one in enumerate(oracles)
        ],
        "gap of the originals": [gap(one, oracles, AVERAGED) for one in originals],
        "methods": {
            name: {
                "failed": [one.get("failed") for one in its],
                "figures": [one.get("figures") for one in its],
                "gap": [
                    gap(one["figures"], oracles, AVERAGED) if "figures" in one else None
                    for one in its
                ],
                "kept": [
                    kept_of(one["figures"], before) if "figures" in one else None
                    for one, before in zip(its, originals, strict=True)
                ],
            }
            for name, its in answers.items()
        },
    }


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Of each request what every preset keeps and its gap, one column a pruned model."""
    found: list[Table] = []
    for kind, its in result["requests"].items():
        about, pruners = f"{result['world']}, {kind} ({its['forget rows']} rows)", its["pruners"]
        named = list(dict.fromkeys(name for one in pruners.values() for name in one["methods"]))
        kept: list[Sequence[object]] = [
            [name, *(_kept(one["methods"][name]) for one in pruners.values())] for name in named
        ]
        found.append((f"{about}: kept by presets, %, worst seed", ["", *pruners], kept))
        gaps: list[Sequence[object]] = [
            ["oracles", *(percent(one["gap among oracles"]) for one in pruners.values())],
            ["none", *(percent(one["gap of the originals"]) for one in pruners.values())],
            *([name, *(_gap(one["methods"][name]) for one in pruners.values())] for name in named),
        ]
        found.append((f"{about}: gap of presets to the sparse oracles", ["", *pruners], gaps))
    return found


REFUSED = "refused"
"""Shown where in some seed a preset found no fields that fit and said so, or the method failed."""


def _kept(its: Mapping[str, Any]) -> str:
    shares = [share for share in its["kept"] if share is not None]
    if len(shares) < len(its["kept"]):
        return REFUSED
    return f"{100 * min(shares):.0f}{'*' if min(shares) < LEAST else ''}"


def _gap(its: Mapping[str, Any]) -> str:
    return REFUSED if None in its["gap"] else percent(its["gap"])


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What the columns are, and why methods refused."""
    reasons: dict[str, list[str]] = {}
    for kind, its in result["requests"].items():
        for pruner, one in its["pruners"].items():
            for name, found in one["methods"].items():
                reason = next((why for why in found["failed"] if why), None)
                if reason is not None:  # that of the first seed: others differ in a figure or two
                    reasons.setdefault(f"{name}: {reason}", []).append(f"{pruner}, {kind}")
    return [
        "kept: the smaller of the accuracies on retain and on test rows, as a share of the pruned "
        f"model's. *: below {100 * LEAST:.0f} %, which `expunge forget` refuses. gap: mean "
        "distance of UA, RA, TA and SVC-MIA (confidence) on test rows to the mean of the oracles "
        "under the same masks, in points, mean±sd over seeds; oracles: of one of them to the "
        "others; none: of the pruned model as it is. refused: in a seed the preset found no fields "
        "that fit, or the method failed, as is said below.",
        *(f"{', '.join(where)}: {reason}" for reason, where in reasons.items()),
    ]
