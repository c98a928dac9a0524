"""The protocol: which groups are asked of which bases, by which rows, in which orders.

Every step is a list of jobs that run beside each other and are stored, so that a benchmark which
was stopped goes on where it was.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from expunge import registry
from expunge.benchmarks import demo
from expunge.benchmarks.continual_vlm import world
from expunge.benchmarks.continual_vlm.kinds import KINDS, SEQUENTIAL
from expunge.benchmarks.continual_vlm.work import (
    Conflicting,
    Course,
    Describing,
    Ending,
    First,
    Following,
    Knowing,
    Matching,
    Order,
    Preparing,
    Serving,
    Sweeping,
    Training,
    needed,
    prepares,
)
from expunge.benchmarks.jobs import Job, Result, Told, by_job
from expunge.data import emoji_grid
from expunge.errors import ExpungeError

FEW = ("cata", "sum")
"""The rules that the quick form folds other kinds by: the mean ends where the sum does."""

MAIN = ("cata", "sum", "mean")
"""The rules of long courses."""

CONTROL = "untrimmed"
"""The kind that is asked by few rules in every form: what confined vectors are made of."""

WHOLE = ("negation", "confined")
"""The kinds that the quick form folds by every rule, those of them that there are."""

IN_A_ROW = "sequential"
"""The kind of the rows of methods that start from the current model at each request."""

EVERY = (*KINDS, IN_A_ROW)
QUICK = tuple(kind for kind in EVERY if kind != "salun")
"""All kinds, and those of the quick form: a vector of SalUn's reads every retained row."""

Row = tuple[str, str]
"""A kind of vectors and a rule."""


@dataclass(frozen=True)
class Asked:
    """A course in one order of its requests; ``half`` is `named` where its groups were named."""

    half: str
    course: Course
    number: int
    order: Order


def quick_rows() -> tuple[Row, ...]:
    """Every rule on plain negation and on vectors of our own, two rules on the other kinds."""
    every = registry.names("aggregations")
    return tuple((kind, rule) for kind in KINDS for rule in (every if kind in WHOLE else FEW))


def full_rows(count: int) -> tuple[Row, ...]:
    """Every rule on every kind but the control for short courses, the main rows for long ones."""
    if count <= SHORT:
        every = registry.names("aggregations")
        return tuple((kind, rule) for kind in KINDS for rule in (FEW if kind == CONTROL else every))
    return main_rows()


def main_rows() -> tuple[Row, ...]:
    """The rows of long courses, and those whose curve over strength is drawn."""
    whole = tuple((kind, rule) for kind in KINDS if kind in WHOLE for rule in MAIN)
    return (*whole, (CONTROL, "sum"), ("graddiff", "sum"))


SHORT = 5
"""Requests of a course that is asked in every row."""


SLOW = "fine-tune"
"""The method in a row that reads every retained row at each request: the quick form, long courses
and further orders leave it out. Of long courses the others are asked in one order, too."""


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models, vectors and results are kept.
        groups: named groups that are asked of every base; none where they are drawn.
        halves: of the pool that groups are drawn from.
        seeds: of the reported bases; none for those of :data:`~.world.HALVES`.
        requests: numbers of requests T.
        orders: how many orders of each set, the first as drawn.
        full: every rule on every kind instead of the quick rows.
        kinds: those that are compared, ``sequential`` among them; every one by default.
        rules: those that are compared; every one by default.
        processes: jobs that run at once.
        frozen_on: a half of which nothing is reported: on its own bases the lengths of the main
            rows are matched, and at the median of these every reported base is measured, too.

    Raises:
        ExpungeError: a kind, rule or half is not known, groups overlap, there are fewer groups
            than requests, no row is left to compare, or lengths were to be frozen on what is
            reported.
    """

    folder: Path
    groups: Order = demo.GROUPS
    halves: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    requests: tuple[int, ...] = (5,)
    orders: int = 1
    full: bool = False
    kinds: tuple[str, ...] = EVERY
    rules: tuple[str, ...] = ()
    processes: int = 2
    frozen_on: str | None = None

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in EVERY:
                raise ExpungeError(
                    f"There is no kind of vectors {kind!r}; known are {', '.join(EVERY)}. Name one "
                    "of these."
                )
        for rule in self.rules:
            registry.load("aggregations", rule)
        if bool(self.groups) == bool(self.halves):
            raise ExpungeError(
                f"{len(self.groups)} groups and {len(self.halves)} halves were given; name either "
                "groups, or halves that they are drawn from."
            )
        if self.frozen_on is not None:
            own = set(self.seeds) & set(self._seeds(self.frozen_on))
            if self.groups or self.frozen_on in self.halves or own:
                raise ExpungeError(
                    f"Lengths were to be frozen on the {self.frozen_on} half and its bases, and "
                    f"{', '.join(self.groups or self.halves)} of seeds "
                    f"{', '.join(map(str, self.seeds)) or 'as shipped'} was to be reported. Report "
                    "on a half and on seeds that nothing is chosen on, or name a half alone."
                )
        if not self.requests:
            raise ExpungeError("No number of requests was given; at least one is expected.")
        if self.groups:
            world.requests(self.groups)
        for count in self.requests:
            for half in self._halves(count):
                world.enough(count, world.half(half), f"the {half} half")
            if self.groups:
                world.enough(count, self.groups, "what was named")
            world.orders(tuple(map(str, range(count))), 0, self.orders)
            if not self._rows(count) and not self._in_a_row(count):
                form = "the full form" if self.full else "the quick form"
                raise ExpungeError(
                    f"No row is left: {form} with {count} requests has none of "
                    f"{', '.join(self.kinds)} by {', '.join(self.rules) or 'any rule'}. Name other "
                    "kinds or rules."
                )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        start = time.perf_counter()
        courses, freezing = self._courses(told)
        asked = [
            Asked(half, course, number, order)
            for half, course in courses
            for number, order in enumerate(world.orders(course.groups, course.seed, self.orders))
        ]
        reported = {course.seed for _, course in courses}
        made = self._made(asked, freezing, told)
        found = self._strengths(asked, freezing, told)
        served = self._served(asked, found, told)
        frozen = self._frozen(asked, freezing, found)
        froze = self._jobs(list(dict.fromkeys(frozen.values())), told)
        return {
            "references": [
                {**_place(half, course), "requests": list(course.groups)}
                | dict(found[Describing(course)])
                for half, course in courses
            ],
            "conflicts": [
                {**_place(half, course), "kind": kind, **found[Conflicting(course, kind)]}
                for half, course in courses
                for kind in self._kinds(course)
            ],
            "prepared": [
                {"seed": job.seed, "kind": job.kind, **made[job]}
                for job in made
                if isinstance(job, Preparing) and job.seed in reported
            ],
            "vectors": self._vectors(courses, made),
            "rows": [row for one in asked for row in self._told(one, made, found, served)],
            "frozen": [
                {**_place(one.half, one.course), "order": one.number, "requests": list(one.order)}
                | {"kind": kind, "rule": rule, "factor": job.factor, "at": list(job.matching.order)}
                | {"left": froze[job]["left"], **froze[job]["after"]}
                for (one, kind, rule), job in frozen.items()
            ],
            "curves": [
                {**_place(half, course), "kind": kind, "rule": rule}
                | dict(served[self._sweeping(course, kind, rule, found)])
                for half, course in courses
                for kind, rule in self._drawn(len(course.groups))
            ],
            "chance": 1 / len(emoji_grid.concepts()),
            "seconds": time.perf_counter() - start,
        }

    def _made(
        self, asked: Sequence["Asked"], freezing: Sequence[Course], told: Told
    ) -> dict[Job, Result]:
        """Oracles, methods that go on from the current model, what is prepared; then vectors. Of
        bases that lengths are frozen on the vectors of the main rows alone."""
        courses = dict.fromkeys(one.course for one in asked)
        oracles = [Training(self.folder, c.seed, tuple(sorted(c.groups))) for c in courses]
        first: list[Job] = [oracle for oracle in oracles if not oracle.is_shipped]
        first += [following for one in asked for following in self._rest(one)]
        kinds = {course: self._kinds(course) for course in courses}
        kinds |= {course: _kinds_of(self._drawn(len(course.groups))) for course in freezing}
        vectors: list[Job] = []
        for course, its in kinds.items():
            for kind in its:
                if prepares(kind):
                    first.append(Preparing(self.folder, course.seed, kind))
                vectors += [course.vector(kind, group) for group in course.groups]
        return {**self._jobs(first, told), **self._jobs(vectors, told)}

    def _strengths(
        self, asked: Sequence["Asked"], freezing: Sequence[Course], told: Told
    ) -> dict[Job, Result]:
        """Base and oracle of every course, both strengths of every row, and the lengths that are
        frozen."""
        jobs: list[Job] = []
        for one in asked:
            jobs.append(Describing(one.course))
            for kind, rule in self._rows(len(one.order)):
                jobs.append(First(one.course, kind, one.order[0]))
                jobs.append(needed(one.course, kind, rule, one.order))
            jobs += [Conflicting(one.course, kind) for kind in self._kinds(one.course)]
        jobs += [needed(c, *row, c.groups) for c in freezing for row in self._drawn(len(c.groups))]
        return self._jobs(jobs, told)

    def _served(
        self, asked: Sequence["Asked"], found: Mapping[Job, Result], told: Told
    ) -> dict[Job, Result]:
        """Every row after every step, and the curves over strength."""
        jobs: list[Job] = []
        for one in asked:
            for kind, rule in self._rows(len(one.order)):
                jobs += [
                    self._serving(one, kind, rule, found),
                    self._ending(one, kind, rule, found),
                ]
        for course in dict.fromkeys(one.course for one in asked):
            jobs += [self._sweeping(course, *row, found) for row in self._drawn(len(course.groups))]
        return self._jobs(jobs, told)

    def _frozen(
        self, asked: Sequence["Asked"], freezing: Sequence[Course], found: Mapping[Job, Result]
    ) -> dict[tuple["Asked", str, str], Ending]:
        """The main rows, each at the median length that was matched for as many requests on bases
        of which nothing is reported; none where no such length was reached."""
        lengths: dict[tuple[int, str, str], list[float]] = {}
        for course in freezing:
            for kind, rule in self._drawn(len(course.groups)):
                its = found[needed(course, kind, rule, course.groups)]
                if its["reached"]:
                    lengths.setdefault((len(course.groups), kind, rule), []).append(its["length"])
        jobs = {}
        for one in asked:
            for kind, rule in self._drawn(len(one.order)):
                matching = needed(one.course, kind, rule, one.order)
                own, known = found[matching], lengths.get((len(one.order), kind, rule))
                if known and own["length"]:
                    factor = own["factor"] * median(known) / own["length"]
                    jobs[one, kind, rule] = Ending(matching, factor)
        return jobs

    def _serving(self, one: "Asked", kind: str, rule: str, found: Mapping[Job, Result]) -> Serving:
        first = found[First(one.course, kind, one.order[0])]["factor"]
        _, matched = _at_matched(one.course, kind, rule, one.order, found)
        return Serving(one.course, kind, rule, one.order, first, matched)

    def _ending(self, one: "Asked", kind: str, rule: str, found: Mapping[Job, Result]) -> Ending:
        return Ending(*_at_matched(one.course, kind, rule, one.order, found))

    def _sweeping(
        self, course: Course, kind: str, rule: str, found: Mapping[Job, Result]
    ) -> Sweeping:
        return Sweeping(*_at_matched(course, kind, rule, course.groups, found))

    def _rest(self, one: "Asked") -> list[Following]:
        names = self._in_a_row(len(one.order), one.number)
        return [Following(one.course, name, one.order) for name in names]

    def _in_a_row(self, count: int, number: int = 0) -> list[str]:
        asked = IN_A_ROW in self.kinds and (count <= SHORT or number == 0)
        methods = SEQUENTIAL if asked else ()
        slow = self.full and count <= SHORT and number == 0
        return [name for name in methods if slow or name != SLOW]

    def _rows(self, count: int) -> tuple[Row, ...]:
        return tuple(
            (kind, rule)
            for kind, rule in (full_rows(count) if self.full else quick_rows())
            if kind in self.kinds and (not self.rules or rule in self.rules)
        )

    def _kinds(self, course: Course) -> list[str]:
        return _kinds_of(self._rows(len(course.groups)))

    def _drawn(self, count: int) -> tuple[Row, ...]:
        """The rows whose curve is drawn, and whose length is frozen."""
        return tuple(row for row in self._rows(count) if row in main_rows())

    def _vectors(
        self, courses: Sequence[tuple[str, Course]], made: Mapping[Job, Result]
    ) -> list[dict[str, Any]]:
        """Length and cost of every vector, each once."""
        every = {
            (course.vector(kind, group), half): None
            for half, course in courses
            for kind in self._kinds(course)
            for group in course.groups
        }
        return [
            {"half": half, "seed": v.seed, "kind": v.kind, "request": v.group, **made[v]}
            for v, half in every
        ]

    def _told(
        self,
        one: "Asked",
        made: Mapping[Job, Result],
        found: Mapping[Job, Result],
        served: Mapping[Job, Result],
    ) -> Iterator[dict[str, Any]]:
        """The rows of one course in one order."""
        where = {
            **_place(one.half, one.course),
            "order": one.number,
            "requests": list(one.order),
        }
        for kind, rule in self._rows(len(one.order)):
            cell = served[self._serving(one, kind, rule, found)]
            vectors = [made[one.course.vector(kind, group)] for group in one.order]
            reached = {
                "first": found[First(one.course, kind, one.order[0])]["reached"],
                "matched": found[needed(one.course, kind, rule, one.order)]["reached"],
            }
            seconds = cell["seconds"] + sum(vector["seconds"] for vector in vectors)
            preparing = Preparing(self.folder, one.course.seed, kind)
            kept = made[preparing]["bytes"] if prepares(kind) else 0
            end = served[self._ending(one, kind, rule, found)]
            yield {**where, "kind": kind, "rule": rule, **cell} | {
                "matched": {**cell["matched"], **end["after"]},
                "seconds": seconds,
                "bytes": cell["bytes"] + kept,
                "reached": reached,
            }
        for following in self._rest(one):
            cell = made[following]
            yield {**where, "kind": IN_A_ROW, "rule": following.method, **cell} | {
                "reached": {"first": True, "matched": cell["reached"]}
            }

    def _courses(self, told: Told) -> tuple[list[tuple[str, Course]], list[Course]]:
        """Every base with its groups, those named or those drawn of what it knows: what is
        reported, and what lengths are frozen on."""
        counts = dict.fromkeys(self.halves or ("named",), self.requests)
        if self.frozen_on is not None and (drawn := tuple(filter(self._drawn, self.requests))):
            counts[self.frozen_on] = drawn
        bases = [
            (half, Training(self.folder, seed)) for half in counts for seed in self._seeds(half)
        ]
        self._jobs([base for _, base in bases if not base.is_shipped], told)
        askable = {half: world.half(half) if self.halves else self.groups for half in counts}
        knowing = [Knowing(base, askable[half]) for half, base in bases]
        known = self._jobs(knowing, told)
        reported: list[tuple[str, Course]] = []
        freezing: list[Course] = []
        for (half, base), job in zip(bases, knowing, strict=True):
            shares = known[job]["known"]
            for count in counts[half]:
                if self.halves:
                    groups = world.drawn(base.seed, half, count, shares)
                else:
                    groups = self.groups[:count]
                    world.checked(shares, groups)
                course = Course(self.folder, base.seed, groups, askable[half])
                if half == self.frozen_on:
                    freezing.append(course)
                else:
                    reported.append((half, course))
        return reported, freezing

    def _halves(self, count: int) -> tuple[str, ...]:
        """The halves that so many groups are drawn from."""
        if self.frozen_on is None or not self._drawn(count):
            return self.halves
        return (*self.halves, self.frozen_on)

    def _seeds(self, half: str) -> tuple[int, ...]:
        own = world.HALVES.get(half, (0,))
        return own if half == self.frozen_on else self.seeds or own

    def _jobs(self, jobs: Sequence[Job], told: Told) -> dict[Job, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


def _at_matched(
    course: Course, kind: str, rule: str, order: Order, found: Mapping[Job, Result]
) -> tuple[Matching, float]:
    """The matching of a row, and its factor."""
    matching = needed(course, kind, rule, order)
    return matching, found[matching]["factor"]


def _kinds_of(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(kind for kind, _ in rows))


def _place(half: str, course: Course) -> dict[str, object]:
    return {"half": half, "seed": course.seed, "count": len(course.groups)}
