"""A bank of concepts: for each a direction in a model's embedding, found from examples.

Kim, Wattenberg, Gilmer, Cai, Wexler, Viegas, Sayres (2018). Interpretability Beyond Feature
Attribution: Quantitative Testing with Concept Activation Vectors (TCAV). In the form of
Yuksekgonul, Wang, Zou (2023). Post-hoc Concept Bottleneck Models: a linear support vector machine
between equally many embeddings with and without the concept; its normal is the direction v, its
offset the intercept b, and the score of an embedding e is its distance (<v, e> + b) / |v|.

Examples come as two roles. The subject of a row is the concept that it is an example of, and a row
that is one of several concepts stands there once for each.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from expunge.data.samples import Batch, Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.families.heads import embeddings_of
from expunge.problem import Missing
from expunge.run import Run
from expunge.storage import Bundle

FEWEST = 4
"""Examples of either side: two to learn from and two to be asked about."""


@dataclass(frozen=True, eq=False)
class ConceptBank:
    """Concepts as directions in an embedding of d dimensions.

    Args:
        names: of the N concepts.
        directions: (N, d) float64, unit vectors.
        intercepts: (N,) float64, in units of the embedding.
        accuracies: (N,) float64, shares of examples read right that no direction was learned from;
            the best of the costs tried is chosen on the same examples, so that the share flatters
            a little.
    """

    names: tuple[str, ...]
    directions: Tensor
    intercepts: Tensor
    accuracies: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Signed distances (n, N) float64 of embeddings (n, d) from the planes of the concepts.

        Raises:
            ExpungeError: the embeddings have another width than the bank.
        """
        width = self.directions.shape[1]
        if features.dim() != 2 or features.shape[1] != width:
            raise ExpungeError(
                f"The concept bank has directions of {width} numbers and the model embeds rows as "
                f"{tuple(features.shape[1:])}; prepare the bank with this model."
            )
        return features.double() @ self.directions.T + self.intercepts

    @property
    def condition(self) -> float:
        """Largest over smallest singular value of the directions: 1 where concepts are at right
        angles; where it is large, what is said of single concepts is not unique."""
        size = torch.linalg.svdvals(self.directions)
        return float(size[0] / size[-1].clamp(min=torch.finfo(size.dtype).tiny))

    def bundle(self) -> Bundle:
        """The bank as it is stored."""
        tensors = {
            "directions": self.directions,
            "intercepts": self.intercepts,
            "accuracies": self.accuracies,
        }
        return Bundle(tensors, {"concepts": list(self.names)})

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """A stored bank.

        Raises:
            ExpungeError: what is stored is none.
        """
        names = bundle.facts.get("concepts")
        wanted = "directions", "intercepts", "accuracies"
        if not isinstance(names, list) or not set(wanted) <= set(bundle.tensors):
            raise ExpungeError(
                "What was prepared holds no concept bank; prepare it with examples of concepts, "
                "under the roles positive and negative."
            )
        tensors = (bundle.tensors[name].double() for name in wanted)
        return cls(tuple(map(str, names)), *tensors)


def one_sided(positive: Samples, negative: Samples) -> tuple[Missing, ...]:
    """What examples lack to be a bank: each concept needs :data:`FEWEST` of either side.

    Args:
        positive: rows with a concept, whose subjects name it.
        negative: rows without it, likewise.
    """
    counts = {"positive": _counts(positive), "negative": _counts(negative)}
    if not counts["positive"]:
        sentence = (
            f"The concept bank has {len(negative)} negative examples and no positive one; give "
            "rows that have the concepts under the role positive, their subjects naming these."
        )
        return (Missing("needs positive examples of concepts; there is none", sentence),)
    for side, others in (("positive", "negative"), ("negative", "positive")):
        for name in counts[others]:
            found = counts[side].get(name, 0)
            if found < FEWEST:
                sentence = (
                    f"The concept {name!r} has {found} {side} and {counts[others][name]} {others} "
                    f"examples; at least {FEWEST} of either are expected. Give more, or leave the "
                    "concept out."
                )
                return (Missing(f"needs {side} examples of {name!r}", sentence),)
    return ()


@dataclass(frozen=True)
class Examples:
    """How a bank is learned from examples.

    Args:
        examples: rows of either side that a direction is learned from at most; as many others are
            asked about. Where there are fewer than twice as many, half of them.
        costs: C of the support vector machine, among which these others decide; the accuracy
            that is reported is that of the best.
        least: accuracy on them below which a concept cannot be read from the embedding and is left
            out.
    """

    examples: int = 50
    costs: tuple[float, ...] = (0.01, 0.1)
    least: float = 0.6

    def __post_init__(self) -> None:
        if self.examples < 2 or not self.costs or min(self.costs) <= 0 or not 0 <= self.least <= 1:
            raise ExpungeError(
                f"A concept bank got {self.examples} examples, the costs {self.costs} and a least "
                f"accuracy of {self.least:g}; at least 2 examples, costs above 0 and a share are "
                "expected."
            )

    def bank(
        self, family: Family, model: torch.nn.Module, positive: Samples, negative: Samples, run: Run
    ) -> ConceptBank:
        """The concepts that can be read from a model's embedding, in the order of their names.

        Raises:
            ExpungeError: a concept has too few examples of one side, the model has no embedding,
                or no concept can be read from it.
        """
        for lack in one_sided(positive, negative):
            raise ExpungeError(lack.sentence)
        found: dict[str, tuple[Tensor, float, float]] = {}
        for name in sorted(set(positive.subjects)):
            sides = []
            for side, rows in (("positive", positive), ("negative", negative)):
                draws = run.generator(f"concept/{side}/{name}")
                own = rows.select(_drawn(rows.subjects, name, 2 * self.examples, draws))
                run.meter.touch(side, len(own))
                sides.append(embedded(family, model, own, run))
            found[name] = self._direction(*sides)
        accuracies = {name: accuracy for name, (_, _, accuracy) in found.items()}
        known = [name for name in found if accuracies[name] >= self.least]
        if not known:
            best = max(accuracies, key=lambda name: accuracies[name])
            raise ExpungeError(
                f"None of the {len(found)} concepts can be read from the model's embedding: the "
                f"best, {best!r}, is told right in {accuracies[best]:.2f} of the examples that "
                f"were not learned from, and {self.least:g} is expected. Give other concepts, or "
                "more examples."
            )
        return ConceptBank(
            tuple(known),
            torch.stack([found[name][0] for name in known]),
            torch.tensor([found[name][1] for name in known], dtype=torch.float64),
            torch.tensor([accuracies[name] for name in known], dtype=torch.float64),
        )

    def _direction(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, float, float]:
        """Unit direction (d,), intercept and accuracy, from equally many rows of either side."""
        count = min(len(positive), len(negative))
        learned = count // 2
        labels = torch.tensor([1, 0]).repeat_interleave(learned).numpy()
        rows = torch.cat([positive[:learned], negative[:learned]]).numpy()
        tries = [self._fitted(cost, rows, labels) for cost in self.costs]
        asked = positive[learned:count], negative[learned:count]

        def right(tried: tuple[Tensor, float]) -> float:
            with_it, without = (rows @ tried[0] + tried[1] for rows in asked)
            return float(torch.cat([with_it > 0, without <= 0]).double().mean())

        best = max(tries, key=right)  # of equal ones the first: the smaller cost
        return *best, right(best)

    @staticmethod
    def _fitted(cost: float, rows: object, labels: object) -> tuple[Tensor, float]:
        from sklearn.svm import SVC

        machine = SVC(C=cost, kernel="linear").fit(rows, labels)
        normal = torch.from_numpy(machine.coef_[0].copy()).double()
        length = float(normal.norm())
        if length == 0:  # embeddings that do not differ have no normal, and say nothing
            return normal, 0.0
        return normal / length, float(machine.intercept_[0]) / length


def embedded(family: Family, model: torch.nn.Module, rows: Samples, run: Run) -> Tensor:
    """The embedding (n, d) float64 of rows: what the head reads.

    Raises:
        NoEmbeddingError: the answers of the model are not those of its last linear layer.
        ExpungeError: there are no rows, or an embedding is not finite.
    """
    features = embeddings_of(family, model, rows, run)
    if not bool(features.isfinite().all()):
        raise ExpungeError(
            "The model embeds rows as NaN or infinite numbers; finite ones are expected. It has "
            "probably diverged: give other weights."
        )
    return features.double()


def examples_of(rows: Samples, concepts: Mapping[str, Tensor]) -> tuple[Samples, Samples]:
    """Positive and negative examples from rows of which every concept is known.

    Args:
        rows: n of them, best held out: a row that is to be forgotten later would stay an example.
        concepts: truth values (n,) by the name of the concept.

    Returns:
        The rows with each concept and those without, once for each concept, whose name is the
        subject.

    Raises:
        ExpungeError: there is no concept, or not one value for each row.
    """
    for name, held in concepts.items():
        if held.shape != (len(rows),) or held.dtype != torch.bool:
            raise ExpungeError(
                f"The concept {name!r} has {held.dtype} of shape {tuple(held.shape)} for "
                f"{len(rows)} rows; one truth value for each is expected."
            )
    if not concepts:
        raise ExpungeError("No concept was given; give at least one, with examples.")
    with_it, without = (
        {name: (held if side else ~held).nonzero().reshape(-1) for name, held in concepts.items()}
        for side in (True, False)
    )
    return _Named.by(rows, with_it), _Named.by(rows, without)


@dataclass(frozen=True, eq=False)
class _Named:
    """Rows under other subjects: those of the concepts that they are examples of."""

    rows: Samples
    subjects: Sequence[str]

    @classmethod
    def by(cls, rows: Samples, places: Mapping[str, Tensor]) -> "_Named":
        names = [name for name, own in places.items() for _ in range(len(own))]
        return cls(rows.select(torch.cat(list(places.values()))), names)

    @property
    def ids(self) -> Sequence[str]:
        return self.rows.ids

    @property
    def fields(self) -> frozenset[str]:
        return self.rows.fields

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        return self.rows.batch(rows, fields)

    def select(self, rows: Tensor) -> "_Named":
        return _Named(self.rows.select(rows), [self.subjects[i] for i in rows.tolist()])


def _counts(rows: Samples) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in rows.subjects:
        found[name] = found.get(name, 0) + 1
    return found


def _drawn(names: Sequence[str], name: str, most: int, draws: torch.Generator) -> Tensor:
    """Positions of at most so many examples of a concept, in an order of their own."""
    own = torch.tensor([place for place, given in enumerate(names) if given == name])
    return own[torch.randperm(len(own), generator=draws)[:most]]
