"""What a question-answering benchmark asks: a question, its answer, a paraphrase, wrong answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from expunge.errors import ExpungeError


@dataclass(frozen=True)
class Item:
    """One question.

    Args:
        id: stable and unique.
        subject: whom or what it is about.
        question: as a model is asked.
        answer: as it was taught.
        paraphrase: the answer in other words; the answer itself where there is none.
        wrong: answers that are as plausible and not true, in the words of the paraphrase.
    """

    id: str
    subject: str
    question: str
    answer: str
    paraphrase: str
    wrong: tuple[str, ...]


def equally_wrong(name: str, items: Sequence[Item]) -> int:
    """How many wrong answers each of the items has.

    Raises:
        ExpungeError: there is no item, one has none, or they differ.
    """
    counts = sorted({len(item.wrong) for item in items})
    if len(counts) != 1 or counts[0] < 1:
        raise ExpungeError(
            f"The questions of {name!r} have {' or '.join(map(str, counts)) or 'no'} wrong answers "
            f"each ({len(items)} questions); as many for each, at least one, are expected."
        )
    return counts[0]
