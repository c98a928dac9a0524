"""Asking a language model the questions of a benchmark: losses of answers, and what it says.

Everything that is reported follows from these answers (signals/probability.py, truth_ratio.py,
rouge.py, memorisation.py, text_membership.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from expunge.benchmarks.tofu.item import Item, equally_wrong
from expunge.benchmarks.tofu.words import PAD, Tokens
from expunge.data.encoding import padded
from expunge.data.samples import TensorSamples
from expunge.families.abilities import UnitLosses
from expunge.families.language import Language
from expunge.run import Run
from expunge.signals.ask import answers_of
from expunge.signals.generation import generated
from expunge.signals.memorisation import exact_memorisation, extraction_strength
from expunge.signals.rouge import rouge_l
from expunge.signals.truth_ratio import truth_ratios

LONGEST = 200
"""Tokens at most of a generated answer, as in TOFU."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answers on n questions.

    Args:
        losses: (n, U) of the tokens of the true answers.
        hits: (n, U) which of them are the most likely ones.
        right: (n,) mean losses of the paraphrases.
        wrong: (n, k) mean losses of the wrong answers.
        rouge: (n,) ROUGE-L recall of what is generated, stemmed.
    """

    losses: UnitLosses
    hits: UnitLosses
    right: Tensor
    wrong: Tensor
    rouge: Tensor

    @property
    def mean_losses(self) -> Tensor:
        """(n,) of the true answers, by token."""
        return self.losses.means()

    @property
    def ratios(self) -> Tensor:
        """Truth ratios (n,)."""
        return truth_ratios(self.right, self.wrong)

    def memorised(self) -> dict[str, float]:
        """Extraction strength and exact memorisation, means over the questions."""
        return {
            "extraction strength": float(extraction_strength(self.hits).mean()),
            "exact memorisation": float(exact_memorisation(self.hits).mean()),
        }


@dataclass(frozen=True, eq=False)
class Asker:
    """Asks models through one tokenizer."""

    tokens: Tokens
    run: Run
    family: Language = field(default_factory=Language)
    longest: int = LONGEST

    def samples(self, items: Sequence[Item]) -> TensorSamples:
        """Questions and answers as rows, padded on the right to the longest."""
        rows = self._rows([item.question for item in items], [item.answer for item in items])
        return TensorSamples(
            [item.id for item in items], [item.subject for item in items], rows.columns
        )

    def ask(self, model: nn.Module, name: str, items: Sequence[Item]) -> Answers:
        """What a model answers on the questions of a split.

        Raises:
            ExpungeError: the questions have no wrong answers, or not equally many.
        """
        count = equally_wrong(name, items)
        questions = [item.question for item in items]
        losses, hits = answers_of(self.family, model, self.samples(items), self.run)
        right = losses.means()
        if any(item.paraphrase != item.answer for item in items):
            right = self._losses(model, questions, [item.paraphrase for item in items])
        wrong = self._losses(
            model,
            [question for question in questions for _ in range(count)],
            [text for item in items for text in item.wrong],
        )
        said = self.said(model, questions)
        rouge = rouge_l(said, [item.answer for item in items], stem=True).recall
        return Answers(losses, hits, right, wrong.reshape(-1, count), rouge)

    def losses(self, model: nn.Module, items: Sequence[Item]) -> UnitLosses:
        """Of the tokens of the true answers alone, (n, U)."""
        return answers_of(self.family, model, self.samples(items), self.run)[0]

    def said(self, model: nn.Module, questions: Sequence[str]) -> list[str]:
        """What a model generates after each question."""
        prompts = self.tokens.lines(questions, [""] * len(questions)).prompts
        answers = generated(model, prompts, self.run, most=self.longest, end=self.tokens.ends)
        return [self.tokens.text(answer) for answer in answers]

    def _losses(self, model: nn.Module, questions: Sequence[str], answers: Sequence[str]) -> Tensor:
        found, _ = answers_of(self.family, model, self._rows(questions, answers), self.run)
        return found.means()

    def _rows(self, questions: Sequence[str], answers: Sequence[str]) -> TensorSamples:
        lines = self.tokens.lines(questions, answers)
        names = [str(row) for row in range(len(lines.prompts))]
        return TensorSamples(names, names, padded(lines.prompts, lines.answers, PAD))
