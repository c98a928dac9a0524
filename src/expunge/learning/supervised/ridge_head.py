"""A ridge head on fixed features: learned in one pass, in phases, and exactly without any row.

Tang et al. (2025), ACU: Analytic Continual Unlearning for Efficient and Exact Forgetting with
Privacy Preservation; the learner is that of analytic continual learning (Zhuang et al. 2022). The
algebra is in :mod:`~expunge.learning.supervised.ridge`.

What the last linear layer reads of a row, and 1 where it has a bias, is rounded to multiples of
2^-bits. Sums of products of such numbers are exact in float64 as long as they stay below
2^(53 - 2 bits), in whatever order they are added: a sum from which a row was taken is in every bit
the one that never had it. This rounding is ours. The products are formed in float64; the head that
is served is rounded to the type of its layer, the record keeps all bits.

The random features of the paper are a module before the head
(:class:`~expunge.models.random_features.RandomReLU`); without one the features are taken as
they are. Whatever lies below the last linear layer is left as it was.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.changes.deletion import Below
from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.learning.present_rows import PresentRows, each_once
from expunge.learning.supervised.last_layer import (
    BLOCK,
    Read,
    check_bits,
    check_head,
    read,
    width_of,
    with_head,
)
from expunge.learning.supervised.ridge import SOLVERS, Chunk, Resolve, Sign, Solved, Solver, Sums
from expunge.recipe import LEARNER, Record, Role, Trained
from expunge.run import Run

GATHERED = 1024
"""Rows whose features are in memory at once."""

EXACT = 53
"""Bits of a float64 number."""


@dataclass(frozen=True, eq=False)
class RidgeRecord:
    """The record of a ridge head: its sums and weights, and which rows are in them."""

    solved: Solved
    rows: PresentRows


@dataclass(frozen=True)
class RidgeHead:
    """A learner of the last linear layer alone, and what moves its head later.

    Args:
        ridge: lambda, in squared units of the features, for all rows together.
        solver: :class:`~expunge.learning.supervised.ridge.Resolve` or
            :class:`~expunge.learning.supervised.ridge.Recursion`.
        below: whether the layers below the head were trained on rows that may have to go. Only if
            they never saw one is a model without the rows' part in its head one that was trained
            without the rows.
        bits: b, features are multiples of 2^-b.
        block: rows that the model is given at once. Later removals read with the same.

    Raises:
        ExpungeError: a value is out of range.
    """

    name: ClassVar[str] = "ridge-head"
    choices: ClassVar[Mapping[str, Mapping[str, type]]] = {"solver": SOLVERS}

    ridge: float = 1e-3
    solver: Solver = field(default_factory=Resolve)
    below: Below = "unknown"
    bits: int = 14
    block: int = BLOCK

    def __post_init__(self) -> None:
        if not (self.ridge > 0 and 0 <= self.bits <= 24 and self.block >= 1):
            raise ExpungeError(
                f"A ridge head got ridge {self.ridge:g}, bits {self.bits} and block {self.block}; "
                "a ridge above 0, 0 to 24 bits and blocks of at least 1 row are expected."
            )
        if self.below not in get_args(Below):
            raise ExpungeError(
                f"A ridge head got {self.below!r} for the layers below it; one of "
                f"{', '.join(map(repr, get_args(Below)))} is expected."
            )

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained:
        """A copy of ``model`` whose last linear layer is learned from the role ``train``."""
        rows = data[Role.TRAIN]
        each_once(rows.ids)
        check_bits(model, family, rows, run, self.block)
        sums, present = Sums.none(*width_of(model)), PresentRows.none()
        for part in self.gathered(model, family, rows, run):
            present = present.having(part.ids, _contents(part))
            sums = self._exact(sums.moved(_chunk(part, model), 1))
            run.meter.touch(Role.TRAIN.value, len(part.ids))
        return self.trained(model, RidgeRecord(self.solver.anew(sums, self.ridge), present))

    def added(self, trained: Trained, family: Family, samples: Samples, run: Run) -> Trained:
        """The head after further rows: a new phase, new classes, or rows that come back.

        Args:
            trained: what this learner made before.
            family: of the model.
            samples: rows that are not there yet.
            run: device and meter.

        Raises:
            ExpungeError: a row is there already.
            IntegrityError: model and record do not belong together.
        """
        check_bits(trained.model, family, samples, run, self.block)
        kept = kept_by(trained.record)
        check_head(trained.model, kept.solved.head)
        run.meter.touch(Role.TRAIN.value, len(samples))
        return self.trained(trained.model, self.moved(kept, trained.model, family, samples, run, 1))

    def moved(
        self,
        kept: RidgeRecord,
        model: nn.Module,
        family: Family,
        samples: Samples,
        run: Run,
        sign: Sign,
    ) -> RidgeRecord:
        """What is kept after the rows of one request came (1) or went (-1); ``kept`` stays.

        Raises:
            ExpungeError: a row is given twice, comes that is there, or goes that is not; or the
                sums that would be left tell no weights.
        """
        each_once(samples.ids)
        present = kept.rows

        def chunks() -> Iterator[Chunk]:
            nonlocal present
            for part in self.gathered(model, family, samples, run):
                move = present.having if sign == 1 else present.without
                present = move(part.ids, _contents(part))
                yield _chunk(part, model)

        solved = self.solver.moved(kept.solved, self.ridge, chunks(), sign)
        self._exact(solved.sums)
        return RidgeRecord(solved, present)

    def gathered(
        self, model: nn.Module, family: Family, samples: Samples, run: Run
    ) -> Iterator[Read]:
        """Every row once, about :data:`GATHERED` at a time, with rounded features."""
        held: list[Read] = []
        for block in read(model, family, samples, run, self.block):
            held.append(replace(block, features=rounded(block.features, self.bits)))
            if sum(len(one.ids) for one in held) >= GATHERED:
                yield _joined(held)
                held = []
        if held:
            yield _joined(held)

    def trained(self, model: nn.Module, kept: RidgeRecord) -> Trained:
        """A copy of the model with the head of a record, and the record."""
        return Trained(with_head(model, kept.solved.head), self.record(kept))

    def record(self, kept: RidgeRecord) -> Record:
        """What is kept, to be stored."""
        solved = kept.solved
        tensors = {
            "gram": solved.sums.gram,
            "cross": solved.sums.cross,
            "counts": solved.sums.counts,
            "head": solved.head,
            "ids": kept.rows.ids,
            "contents": kept.rows.contents,
        }
        if solved.inverse is not None:
            tensors["inverse"] = solved.inverse
        facts = {
            LEARNER: self.name,
            "ridge": self.ridge,
            "solver": {"name": self.solver.name, **asdict(self.solver)},  # type: ignore[call-overload]
            "below": self.below,
            "bits": self.bits,
            "block": self.block,
            "since": solved.since,
        }
        return Record(tensors, facts)

    @classmethod
    def of(cls, record: Record | None) -> "RidgeHead":
        """The learner that made a record.

        Raises:
            ExpungeError: it is the record of another learner.
        """
        facts: Mapping[str, Any] = {} if record is None else record.facts
        _check(record)
        solver = dict(facts["solver"])
        made = SOLVERS[solver.pop("name")](**solver)
        own = {one.name: facts[one.name] for one in fields(cls) if one.name != "solver"}
        return cls(solver=made, **own)

    def _exact(self, sums: Sums) -> Sums:
        """The same sums, of which every one is known to be exact: none is larger than the largest
        sum of squares.

        Raises:
            ExpungeError: they may not be.
        """
        largest, most = float(sums.gram.diagonal().max()), 2.0 ** (EXACT - 2 * self.bits)
        if largest >= most:
            raise ExpungeError(
                f"The squares of a feature add up to {largest:.3g}, and with {self.bits} bits "
                f"sums are exact below {most:.3g}; learn the head with fewer bits, or scale the "
                "features down."
            )
        return sums


def kept_by(record: Record | None) -> RidgeRecord:
    """What a record holds.

    Raises:
        ExpungeError: it is the record of another learner.
    """
    tensors = _check(record).tensors
    solved = Solved(
        Sums(tensors["gram"], tensors["cross"], tensors["counts"]),
        tensors["head"],
        tensors.get("inverse"),
        int(str(_check(record).facts["since"])),
    )
    return RidgeRecord(solved, PresentRows(tensors["ids"], tensors["contents"]))


def rounded(features: Tensor, bits: int) -> Tensor:
    """Multiples of 2^-bits, the nearest ones."""
    return (features * 2.0**bits).round() / 2.0**bits


def _check(record: Record | None) -> Record:
    if record is None or record.facts.get(LEARNER) != RidgeHead.name:
        given = (
            "no record was given"
            if record is None
            else f"this record holds {', '.join(sorted(record.facts)) or 'no facts'}"
        )
        raise ExpungeError(
            f"The record of a ridge head is needed, and {given}; train the head with the learner "
            "RidgeHead (expunge.learning.supervised.ridge_head)."
        )
    return record


def _joined(parts: Iterable[Read]) -> Read:
    held = list(parts)
    return Read(
        torch.cat([one.features for one in held]),
        torch.cat([one.labels for one in held]),
        tuple(name for one in held for name in one.ids),
    )


def _chunk(part: Read, model: nn.Module) -> Chunk:
    return Chunk(part.features, F.one_hot(part.labels, width_of(model)[1]).double())


def _contents(part: Read) -> list[bytes]:
    """What is learned of each row."""
    labels, features = part.labels.tolist(), part.features.numpy()
    return [
        f"{label}:".encode() + row.tobytes() for label, row in zip(labels, features, strict=True)
    ]
