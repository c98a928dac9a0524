"""WMDP: the published questions and a model in folders on the user's disk.

Li and others (2024). The WMDP Benchmark: Measuring and Reducing Malicious Use with Unlearning.
Accuracy by the most likely option letter, without examples, as the task ``wmdp`` of the Language
Model Evaluation Harness; read it beside the accuracy on MMLU, which the same command gives for a
folder of questions in the same columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from expunge.benchmarks.published import checked, has, rows
from expunge.benchmarks.tofu.asking import Asker
from expunge.benchmarks.tofu.folders import Table, opened
from expunge.benchmarks.tofu.item import Item
from expunge.benchmarks.tofu.words import OfFolder
from expunge.errors import ExpungeError
from expunge.families.language import Language
from expunge.run import Run
from expunge.signals.multiple_choice import LETTERS, ChoiceAccuracy, choice_accuracy, choice_prompt

SUBJECTS: Mapping[str, str] = {
    "wmdp-bio": "biology",
    "wmdp-chem": "chemistry",
    "wmdp-cyber": "cybersecurity",
}
"""What the prompt says that the questions of a configuration are about."""


@dataclass(frozen=True)
class Wmdp:
    """The set and the model.

    Args:
        data: folder of the set.
        model: folder of the model that is asked.
        more: further configurations in the same columns, such as those of MMLU.
    """

    data: Path
    model: Path
    more: tuple[str, ...] = ()

    def conduct(self, run: Run) -> dict[str, Any]:
        """Accuracy and its interval on each configuration that is there.

        Raises:
            ExpungeError: there is none, or a column, the model or its tokenizer is missing.
        """
        names = [*(n for n in SUBJECTS if has(self.data, n, "test")), *self.more]
        if not names:
            raise ExpungeError(
                f"There is none of {', '.join(SUBJECTS)} with rows of the split 'test' in "
                f"{self.data}; give the folder of the set as it is published."
            )
        tokens = OfFolder.open(self.model, separator=" ")
        model, asker = opened(self.model), Asker(tokens, run, Language())
        found = {}
        for name in names:
            items, right = self._questions(name)
            # the letter is the first token of an answer; what ends an answer is no part of it
            losses = asker.losses(model, items).values[:, 0]
            letters = -losses.reshape(-1, len(LETTERS))
            found[name] = _figures(choice_accuracy(letters, torch.tensor(right)))
        return found

    def _questions(self, name: str) -> tuple[list[Item], list[int]]:
        """Every question with each of the letters as its answer, and the places of the right."""
        found = checked(rows(self.data, name, "test"), name, ("question", "choices", "answer"))
        about = SUBJECTS.get(name, name.replace("_", " "))
        items, right = [], []
        for number, row in enumerate(found):
            prompt = choice_prompt(about, row["question"], row["choices"])
            items += [
                Item(f"{name}/{number}/{letter}", name, prompt, letter, letter, ())
                for letter in LETTERS
            ]
            right.append(int(row["answer"]))
        return items, right


def table(result: Mapping[str, Any]) -> Table:
    """Title, columns and rows of what is printed."""
    lines: list[Sequence[object]] = [
        (name, one["accuracy"], f"{one['low']:.3f} to {one['high']:.3f}", one["questions"])
        for name, one in result.items()
    ]
    return "Multiple choice", ("set", "accuracy", "95 % interval", "questions"), lines


def _figures(found: ChoiceAccuracy) -> dict[str, float | int]:
    return {
        "accuracy": found.accuracy,
        "low": found.interval.low,
        "high": found.interval.high,
        "questions": found.questions,
    }
