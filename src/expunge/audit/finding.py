"""Finding: which other rows repeat what is to be forgotten, and how sure a "nowhere" is.

Every answer carries its evidence: what was searched, with which detectors, what was nearest, and
how alike rows are that have nothing to do with one another.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import torch

from expunge.data.duplicates.content import Compared, Prepared, Searched
from expunge.data.duplicates.exact import ExactCopy
from expunge.data.duplicates.found import Nearest
from expunge.data.duplicates.keys import KeyAgreement, Keys, NumbersAgree
from expunge.data.duplicates.pictures import Embed, NearEmbedding, NearPicture, Pictures
from expunge.data.duplicates.text import NearText, PlainText, QuotedText, Texts
from expunge.errors import ExpungeError
from expunge.models.efficientnet_lite import (
    DEVIATION,
    MEAN,
    EfficientNetLite0,
    imagenet_weights,
)

REFERENCE = 200
"""Unrelated rows, and forgotten rows, whose nearest row is measured as evidence."""
EMBEDDED_SIDE = 64
"""Pixels to which pictures are brought before the network reads them."""


@dataclass(frozen=True)
class Sought:
    """Rows that are looked for: ``rows`` of ``table``, under the name of a request."""

    name: str
    table: Searched
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Copy:
    """A row that repeats a sought one.

    Args:
        table: where it stands.
        id: its id.
        of: id of the sought row that it is most like.
        column: what was compared.
        detector: which detector said so; the strictest one, where several did.
        similarity: in the measure of that detector.
        named_by: the request that names the row already, where one does.
    """

    table: str
    id: str
    of: str
    column: str
    detector: str
    similarity: float
    named_by: str | None = None

    @property
    def exact(self) -> bool:
        """Whether it is equal, save for case, space and punctuation of a text."""
        return self.detector in (ExactCopy.name, PlainText.name)


@dataclass(frozen=True)
class Evidence:
    """What one table had to offer that was not named.

    Args:
        table: its name.
        digest: SHA-256 of its content.
        rows: number of rows that were searched.
        column: what was compared.
        detectors: names and thresholds.
        nearest: id of the most similar row, found or not; None where nothing was searched.
        of: id of the sought row that it is nearest to.
        similarity: of the two.
        measure: detector whose measure this is.
        asked: number of sought rows that were compared, of which that row is the most similar to
            one; the most similar of n unrelated rows is expected to rank at n / (n + 1).
        rank: share of unrelated rows whose own nearest row is less similar than that.
        unrelated: number of these rows.
    """

    table: str
    digest: str
    rows: int
    column: str
    detectors: Mapping[str, Mapping[str, object]]
    nearest: str | None
    of: str | None
    similarity: float
    measure: str
    asked: int
    rank: float | None
    unrelated: int


@dataclass(frozen=True)
class Finding:
    """What was found of one request."""

    name: str
    named: tuple[str, ...]
    copies: tuple[Copy, ...]
    evidence: tuple[Evidence, ...]

    @property
    def nowhere(self) -> bool:
        """No searched row repeats what was looked for."""
        return not self.copies


def detectors_for(part: Prepared) -> tuple[Any, ...]:
    """The detectors that read such content, the strictest first and the graded one second."""
    if isinstance(part, Texts):
        return (ExactCopy(), NearText(), PlainText(), QuotedText())
    if isinstance(part, Pictures):
        embedding = () if part.vectors is None else (NearEmbedding(),)
        return (ExactCopy(), NearPicture(), *embedding)
    return (KeyAgreement(),) if isinstance(part, Keys) else (NumbersAgree(),)


@dataclass
class Search:
    """Tables that are searched, prepared once for all requests.

    Args:
        tables: what is searched; the first one is what the model was trained on.
        columns: columns of content; by default those that each table has for itself.
        keys: identifying columns of tables of records.
        embed: a function from pictures to vectors, for the embedding detector.
    """

    tables: Sequence[Searched]
    columns: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    embed: Embed | None = None
    _prepared: dict[int, Compared] = field(default_factory=dict)

    def look(self, sought: Sequence[Sought]) -> list[Finding]:
        """What repeats each request, in every table. Nothing is changed.

        Raises:
            ExpungeError: a column is not there, or tables have no column in common.
        """
        named = {(id(one.table), row): one.name for one in reversed(sought) for row in one.rows}
        return [self._finding(one, named) for one in sought]

    def repeats(self, sought: Sought) -> tuple[Copy, ...]:
        """What repeats one request, without the evidence, which takes as long again.

        Raises:
            ExpungeError: as :meth:`look`.
        """
        return self._repeats(sought, {})

    def _finding(self, sought: Sought, named: Mapping[tuple[int, int], str]) -> Finding:
        ids = [sought.table.ids[row] for row in sought.rows]
        evidence = [
            _evidence(queries, rows, ids, table, kept, name)
            for table, kept, name, queries, rows in self._pairs(sought)
        ]
        return Finding(sought.name, tuple(ids), self._repeats(sought, named), tuple(evidence))

    def _repeats(self, sought: Sought, named: Mapping[tuple[int, int], str]) -> tuple[Copy, ...]:
        ids = [sought.table.ids[row] for row in sought.rows]
        copies: dict[tuple[int, int], Copy] = {}
        for table, kept, name, queries, rows in self._pairs(sought):
            for copy, row in _copies(queries, rows, ids, kept):
                found = dataclasses.replace(
                    copy,
                    table=table.name,
                    id=table.ids[row],
                    column=name,
                    named_by=named.get((id(table), row)),
                )
                copies.setdefault((id(table), row), found)
        return tuple(copies.values())

    def _pairs(
        self, sought: Sought
    ) -> Iterator[tuple[Searched, Sequence[int], str, Prepared, Prepared]]:
        """Every table with its rows that are not sought, and what both sides hold of a column."""
        queries = self._compared(sought.table).select(sought.rows)
        for table in self.tables:
            own = set(sought.rows) if table is sought.table else set()
            kept = [row for row in range(len(table)) if row not in own]
            rows = self._compared(table).select(kept)
            shared = [name for name in queries.parts if name in rows.parts]
            if not shared:
                raise ExpungeError(
                    f"{sought.table.name} and {table.name} have no column to compare in common "
                    f"({', '.join(queries.parts)}; {', '.join(rows.parts)}); name columns that "
                    "both have."
                )
            for name in shared:
                yield table, kept, name, queries.parts[name], rows.parts[name]

    def _compared(self, table: Searched) -> Compared:
        if id(table) not in self._prepared:
            columns = self.columns or table.compared_by_default()
            self._prepared[id(table)] = Compared.of(table, columns, self.keys, self.embed)
        return self._prepared[id(table)]


def _copies(
    queries: Any, rows: Any, ids: Sequence[str], kept: Sequence[int]
) -> list[tuple[Copy, int]]:
    """The best match of each row by the strictest detector that has one."""
    detectors = sorted(detectors_for(rows), key=lambda d: d.name not in ("exact", PlainText.name))
    found: dict[int, Copy] = {}
    for detector in detectors:
        best: dict[int, Copy] = {}
        for match in detector.matches(queries, rows):
            row = kept[match.row]
            if row in found or (row in best and best[row].similarity >= match.similarity):
                continue
            best[row] = Copy("", "", ids[match.query], "", detector.name, match.similarity)
        found |= best
    return [(copy, row) for row, copy in sorted(found.items())]


def _evidence(
    queries: Any, rows: Any, ids: Sequence[str], table: Searched, kept: Sequence[int], column: str
) -> Evidence:
    detectors = detectors_for(rows)
    graded = detectors[min(1, len(detectors) - 1)]
    asked = _some(len(ids))
    near: Nearest = graded.nearest(queries.select(asked), rows)
    best = int(near.similarity.argmax()) if len(asked) and len(kept) else None
    others = _some(len(kept))
    alone = graded.nearest(rows.select(others), rows, np.array(others, np.int64)).similarity
    similarity = 0.0 if best is None else float(near.similarity[best])
    return Evidence(
        table.name,
        table.digest,
        len(kept),
        column,
        {d.name: dataclasses.asdict(d) for d in detectors},
        None if best is None else table.ids[kept[int(near.rows[best])]],
        None if best is None else ids[asked[best]],
        similarity,
        graded.name,
        len(asked),
        float((alone < similarity).mean()) if len(others) > 1 and best is not None else None,
        len(others),
    )


def _some(count: int) -> list[int]:
    """At most `REFERENCE` positions, drawn with a fixed seed, ascending."""
    drawn = np.random.default_rng(0).permutation(count)[:REFERENCE]
    return sorted(int(row) for row in drawn)


@cache
def measured_recall() -> Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]:
    """Share of planted copies that were found, by content, set they were planted in, and kind.

    Figures of ``expunge bench near-duplicates --full``, on the test part, with the shipped
    thresholds: recall and its 95 % interval (``low``, ``high``).
    """
    file = resources.files("expunge.data.duplicates") / "measured.json"
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = json.loads(
        file.read_text(encoding="utf-8")
    )["recall"]
    return found


def efficientnet_features() -> Embed:
    """Pictures (n) to the 1,280 pooled features of EfficientNet-lite0, trained on ImageNet.

    About 5 ms a picture on one core.

    Raises:
        ExpungeError: the package with the weights is not installed.
    """
    model = EfficientNetLite0()
    model.load_state_dict(imagenet_weights())
    model.eval()
    mean, deviation = (torch.tensor(v).reshape(3, 1, 1) for v in (MEAN, DEVIATION))

    def embed(pictures: Sequence[Any]) -> Any:
        sized = [np.asarray(p.resize((EMBEDDED_SIDE, EMBEDDED_SIDE))) for p in pictures]
        pixels = torch.from_numpy(np.stack(sized)).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            return model.features((pixels - mean) / deviation).numpy()

    return embed
