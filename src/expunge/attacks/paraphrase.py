"""The paraphrase attack: a forgotten fact asked for in several ways, answered in any of them.

Who wants to know does not ask once. A fact counts as recovered where one of the askings (other
phrasings of its question, prefixes before it) is answered; so many tries bring chance, too, and the
level to read the share against is the oracle's under the same askings. After Patil, Hase, Bansal
(2024). Can Sensitive Information Be Deleted From LLMs? (rephrasing attack)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.run import Run
from expunge.signals.ask import ask


@dataclass(frozen=True)
class Asked:
    """Which facts were answered, by the way of asking.

    Args:
        facts: names of all facts that were asked for, sorted.
        answered: by asking, the facts of :attr:`facts` that were answered exactly.
        asked: by asking, how many were asked for.
    """

    facts: tuple[str, ...]
    answered: Mapping[str, frozenset[str]]
    asked: Mapping[str, int]

    @property
    def any(self) -> frozenset[str]:
        """The facts that some asking brought out."""
        return frozenset().union(*self.answered.values())

    @property
    def share(self) -> float:
        """Of all facts, those in :attr:`any`."""
        return len(self.any) / len(self.facts)


def asked_in_ways(
    family: Family,
    model: nn.Module,
    ways: Mapping[str, Samples],
    run: Run,
    fact: Callable[[str], str] = str,
) -> Asked:
    """What a model answers, asked in several ways.

    Args:
        family: with answers.
        model: it stays as it is.
        ways: rows by the name of the way of asking, none of them empty.
        run: its device is asked on.
        fact: the fact that a row, by its id, asks for; rows of one fact are one by one enough.

    Raises:
        ExpungeError: there is no way, or one without rows.
    """
    empty = [name for name, rows in ways.items() if not len(rows)]
    if not ways or empty:
        raise ExpungeError(
            f"{len(ways)} ways of asking were given"
            f"{', without rows ' + repr(empty[0]) if empty else ''}; at least one, each with rows, "
            "is expected."
        )
    answered, asked, facts = {}, {}, set()
    for name, rows in ways.items():
        right = ask(family, model, rows, run).query("correct")[0]
        named = [fact(row) for row in rows.ids]
        answered[name] = frozenset(named[i] for i in torch.nonzero(right).reshape(-1).tolist())
        asked[name] = len(set(named))
        facts |= set(named)
    return Asked(tuple(sorted(facts)), answered, asked)
