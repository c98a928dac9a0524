"""Where a person or a term is named: whole words in every column that holds text."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from expunge.data.duplicates.keys import ADDRESS
from expunge.data.duplicates.normal import UNSPACED, normalised, words
from expunge.errors import ExpungeError

BEFORE = rf"(?<![^\W_{UNSPACED}])"
AFTER = rf"(?![^\W_{UNSPACED}])"
BETWEEN = r"(?:[\W_]+(?:[^\W\d_][\W_]+)?)"
"""Between two parts of a name: space or punctuation, and at most one initial."""
AROUND = 30
"""Characters of an excerpt on either side."""


@dataclass(frozen=True)
class Hit:
    """A cell that names the term, with the normalised text around its first mention."""

    column: str
    row: int
    excerpt: str


@dataclass(frozen=True)
class NearestWord:
    """For one part of a term: the rows that hold it, and the most similar word of the columns."""

    part: str
    rows: int
    nearest: str
    similarity: float


@dataclass(frozen=True)
class Term:
    """A name, word, phrase or e-mail address that is looked for.

    The parts stand in the given order or with the last part first ("Lovelace, Ada"); an initial may
    stand between two of them. Case, accents, width forms and white space do not count. An address
    is found with and without what follows ``+``. Of unspaced scripts, any place in a text counts.

    Raises:
        ExpungeError: the text has no word.
    """

    text: str

    def __post_init__(self) -> None:
        if not words(self.text):
            raise ExpungeError(
                f"The term {self.text!r} has no letter and no digit; give a name, a word or an "
                "e-mail address."
            )

    @property
    def parts(self) -> list[str]:
        """The normalised words of the term; an address is one part."""
        plain = normalised(self.text)
        return [plain] if ADDRESS.fullmatch(plain) else _spaced(plain)

    def pattern(self) -> re.Pattern[str]:
        """What the term looks like in a normalised text."""
        address = ADDRESS.fullmatch(normalised(self.text))
        if address:
            name, place = re.escape(address[1].partition("+")[0]), re.escape(address[2])
            return re.compile(rf"(?<![\w.+-]){name}(?:\+[^\s@]*)?@{place}(?![\w-]|\.\w)")
        parts = self.parts
        orders = {tuple(parts), (parts[-1], *parts[:-1])}
        ways = (BETWEEN.join(map(re.escape, order)) for order in sorted(orders))
        return re.compile(f"{BEFORE}(?:{'|'.join(ways)}){AFTER}")

    def hits(self, columns: Mapping[str, Sequence[str]]) -> list[Hit]:
        """Every cell that names the term, by column and row."""
        pattern, needed = self.pattern(), self.parts[0].partition("+")[0].partition("@")[0]
        found = []
        for column, cells in columns.items():
            for row, cell in enumerate(cells):
                plain = normalised(cell)
                match = pattern.search(plain) if needed in plain else None
                if match:
                    found.append(Hit(column, row, _excerpt(plain, *match.span())))
        return found

    def nearest(self, columns: Mapping[str, Sequence[str]]) -> list[NearestWord]:
        """For each part, how many rows hold it and the word most like it: evidence of absence."""
        held: Counter[str] = Counter()
        count = max((len(cells) for cells in columns.values()), default=0)
        for row in range(count):
            held.update({word for cells in columns.values() for word in _tokens(cells[row])})
        return [_nearest(part, held) for part in self.parts]


def _spaced(plain: str) -> list[str]:
    """Words, where a run of an unspaced script is one."""
    return re.findall(r"[^\W_]+", plain)


def _tokens(cell: str) -> Iterable[str]:
    plain = normalised(cell)
    yield from _spaced(plain)
    yield from (match[0] for match in ADDRESS.finditer(plain))


def _nearest(part: str, held: Counter[str]) -> NearestWord:
    close = difflib.get_close_matches(part, sorted(held), n=1, cutoff=0.5)
    if not close:
        return NearestWord(part, held[part], "", 0.0)
    similarity = difflib.SequenceMatcher(None, close[0], part).ratio()
    return NearestWord(part, held[part], close[0], similarity)


def _excerpt(plain: str, start: int, end: int) -> str:
    left, right = max(0, start - AROUND), min(len(plain), end + AROUND)
    return ("…" if left else "") + plain[left:right] + ("…" if right < len(plain) else "")
