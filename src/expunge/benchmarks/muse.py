"""MUSE: the published set and models in folders on the user's disk, criteria C1 to C4.

Shi and others (2024). MUSE: Machine Unlearning Six-Way Evaluation for Language Models. C5 and C6
are the same figures for larger forget sets and for requests one after another: run it for each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from expunge.benchmarks.published import checked, has, rows
from expunge.benchmarks.tofu.asking import Asker
from expunge.benchmarks.tofu.folders import Table, opened
from expunge.benchmarks.tofu.item import Item
from expunge.benchmarks.tofu.words import OfFolder
from expunge.families.language import Language
from expunge.run import Run
from expunge.signals.generation import generated
from expunge.signals.muse import ANSWERED, CONTINUED, few_shot, knowmem, verbmem
from expunge.signals.text_membership import RETRAINED_AUC, membership_auc, min_k_score, privleak

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Muse:
    """The set and the models.

    Args:
        data: folder of the set.
        model: folder of the model that is asked.
        oracle: folder of a model that was trained without the forget set.
        corpus: ``news`` or ``books``: whose published AUC of a retrained model PrivLeak takes where
            there is no oracle.
    """

    data: Path
    model: Path
    oracle: Path | None = None
    corpus: str | None = None

    def conduct(self, run: Run) -> dict[str, Any]:
        """VerbMem, KnowMem and PrivLeak of the model, and of the oracle where one is given.

        Raises:
            ExpungeError: a split, a column, a model or a tokenizer is missing.
        """
        tokens = OfFolder.open(self.model, separator="")
        auc = None if self.corpus is None else RETRAINED_AUC[self.corpus]
        of_oracle: Figures | None = None
        if self.oracle is not None:
            of_oracle = self._figures(opened(self.oracle), tokens, run, None)
            auc = of_oracle["AUC of Min-40%, hold-out"]
        of_model = self._figures(opened(self.model), tokens, run, auc)
        return {"model": of_model, "oracle": of_oracle}

    def _figures(
        self, model: nn.Module, tokens: OfFolder, run: Run, retrained: float | None
    ) -> Figures:
        found: Figures = {
            "C1 VerbMem, forget": float(self._continued(model, tokens, run).mean()),
            "C2 KnowMem, forget": float(self._answered(model, tokens, run, "forget_qa").mean()),
            "C4 KnowMem, retain": float(self._answered(model, tokens, run, "retain_qa").mean()),
        }
        forget, holdout = (
            min_k_score(Asker(tokens, run, Language()).losses(model, self._texts(split)))
            for split in ("forget", "holdout")
        )
        leak = None if retrained is None else privleak(forget, holdout, retrained)
        return {
            **found,
            "AUC of Min-40%, hold-out": membership_auc(holdout, forget),
            "C3 PrivLeak": leak,
        }

    def _continued(self, model: nn.Module, tokens: OfFolder, run: Run) -> Tensor:
        """VerbMem of each passage; the true continuation is cut at as many tokens."""
        found = checked(rows(self.data, "verbmem", "forget"), "verbmem", ("prompt", "gt"))
        prompts, true = [row["prompt"] for row in found], [row["gt"] for row in found]
        ended = tokens.lines(prompts, true)
        said = generated(model, ended.prompts, run, most=CONTINUED, end=tokens.ends)
        expected = [
            tokens.text(answer[: len(answer) - ended.end][:CONTINUED]) for answer in ended.answers
        ]
        return verbmem([tokens.text(answer) for answer in said], expected)

    def _answered(self, model: nn.Module, tokens: OfFolder, run: Run, split: str) -> Tensor:
        """KnowMem of each question, after the examples of the set."""
        examples = _questions(self.data, f"{split}_icl") if self._has(f"{split}_icl") else []
        asked = _questions(self.data, split)
        asker = Asker(tokens, run, Language(), ANSWERED)
        said = asker.said(model, [few_shot(question, examples) for question, _ in asked])
        return knowmem(said, [answer for _, answer in asked])

    def _has(self, split: str) -> bool:
        return has(self.data, "knowmem", split)

    def _texts(self, split: str) -> Sequence[Item]:
        """Passages that are all answer."""
        found = checked(rows(self.data, "privleak", split), "privleak", ("text",))
        return [
            Item(f"{split}/{number}", split, "", row["text"], row["text"], ())
            for number, row in enumerate(found)
        ]


def table(result: Mapping[str, Any]) -> Table:
    """Title, columns and rows of what is printed."""
    of_oracle = result["oracle"] or {}
    lines: list[Sequence[object]] = [
        (name, value, of_oracle.get(name)) for name, value in result["model"].items()
    ]
    return "MUSE", ("figure", "model", "oracle"), lines


def _questions(folder: Path, split: str) -> list[tuple[str, str]]:
    found = checked(rows(folder, "knowmem", split), f"knowmem {split}", ("question", "answer"))
    return [(row["question"], row["answer"]) for row in found]
