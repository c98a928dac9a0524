"""TOFU itself: the published set and models in folders on the user's disk.

Maini, Feng, Schwarzschild, Lipton, Kolter (2024). TOFU: A Task of Fictitious Unlearning for LLMs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from expunge.benchmarks.published import checked, has, rows
from expunge.benchmarks.tofu.asking import Asker
from expunge.benchmarks.tofu.battery import AUTHORS, FACTS, RETAIN, Battery, Figures
from expunge.benchmarks.tofu.item import Item
from expunge.benchmarks.tofu.words import OfFolder
from expunge.errors import ExpungeError
from expunge.families.language import Language
from expunge.models.checkpoint import Checkpoint
from expunge.run import Run

Table = tuple[str, Sequence[str], list[Sequence[object]]]

KEPT: Mapping[str, str] = {
    RETAIN: "retain_perturbed",
    AUTHORS: "real_authors_perturbed",
    FACTS: "world_facts_perturbed",
}
"""The published configuration of each kept split."""


@dataclass(frozen=True)
class Folders:
    """The set and the models.

    Args:
        data: folder of the set.
        model: folder of the model that is asked.
        oracle: folder of a model that was trained without the forget set.
        forget: which forget set: ``forget01``, ``forget05``, ``forget10``.
        separator: stands between question and answer.
        chat: questions and answers as turns of the tokenizer's chat template instead.
        longest: tokens at most of a generated answer.
    """

    data: Path
    model: Path
    oracle: Path | None = None
    forget: str = "forget10"
    separator: str = "\n"
    chat: bool = False
    longest: int = 200

    def conduct(self, run: Run) -> dict[str, Any]:
        """Figures of the model, and of the oracle where one is given.

        Raises:
            ExpungeError: a split, a column, a model or a tokenizer is missing.
        """
        battery = self._battery(run)
        known, of_oracle = [], None
        if self.oracle is not None:
            oracle = opened(self.oracle)
            known = [battery.known(oracle)]
            of_oracle = battery.whole(oracle, [])
            del oracle
        return {
            "questions": len(battery.forget),
            "forget": self.forget,
            "model": battery.whole(opened(self.model), known),
            "oracle": of_oracle,
        }

    def _battery(self, run: Run) -> Battery:
        tokens = OfFolder.open(self.model, self.separator, self.chat)
        holdout = self.forget.replace("forget", "holdout")
        return Battery(
            Asker(tokens, run, Language(), self.longest),
            items(self.data, f"{self.forget}_perturbed"),
            {split: items(self.data, name) for split, name in KEPT.items()},
            _plain(self.data, holdout) if has(self.data, holdout) else (),
        )


def items(folder: Path, name: str) -> list[Item]:
    """The questions of a published configuration with wrong answers.

    Raises:
        ExpungeError: it is missing, or a column of it is.
    """
    found = checked(rows(folder, name), name, ("question", "answer", "perturbed_answer"))
    return [
        Item(
            f"{name}/{number}",
            name,
            row["question"],
            row["answer"],
            row.get("paraphrased_answer") or row["answer"],
            tuple(row["perturbed_answer"]),
        )
        for number, row in enumerate(found)
    ]


def _plain(folder: Path, name: str) -> list[Item]:
    found = checked(rows(folder, name), name, ("question", "answer"))
    return [
        Item(f"{name}/{number}", name, row["question"], row["answer"], row["answer"], ())
        for number, row in enumerate(found)
    ]


def opened(folder: Path) -> nn.Module:
    """The language model in a folder.

    Raises:
        ExpungeError: it holds another kind of model, or cannot be read.
    """
    checkpoint = Checkpoint.open(folder)
    if checkpoint.kind != "language":
        raise ExpungeError(
            f"The model in {folder} is a {checkpoint.kind}; a language model is expected."
        )
    return checkpoint.model()


def table(result: Mapping[str, Any]) -> Table:
    """Title, columns and rows of what is printed."""
    of_model: Figures = result["model"]
    of_oracle: Figures = result["oracle"] or {}
    lines: list[Sequence[object]] = [
        (name, value, of_oracle.get(name)) for name, value in of_model.items()
    ]
    title = f"TOFU, {result['forget']} ({result['questions']} questions)"
    return title, ("figure", "model", "oracle"), lines
