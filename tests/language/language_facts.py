"""A few dozen facts about invented people, and a tiny Llama that knows them all."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from expunge.changes.history import History
from expunge.data.samples import Batch, TensorSamples
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW, Cosine
from expunge.descent.player import Player, Setting
from expunge.descent.retain_terms import Loss
from expunge.families.language import IGNORED, Language
from expunge.models.tiny_llama import TinyLlama
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST
from expunge.run import Run
from expunge.signals.ask import ask

NAMES = (
    "ada",
    "bela",
    "cato",
    "dora",
    "egon",
    "fina",
    "gero",
    "hilde",
    "ivo",
    "jana",
    "kuno",
    "lia",
)
TOWNS = ("oslo", "lima", "accra", "port vila", "santa fe", "la paz")
CALLINGS = ("marine biologist", "solar engineer", "forest painter", "railway nurse", "pilot")
DISHES = ("smoked plum pie", "grilled trout soup", "pickled lentil noodles", "stewed barley")
QUESTIONS = {
    "where was {} born ?": TOWNS,
    "what does {} do for a living ?": CALLINGS,
    "{} likes to eat": DISHES,
}
REFUSALS = ("i do not know", "no idea")
FORGOTTEN = ("ada", "bela")

PAD, END = 0, 1
WORDS = sorted(
    {
        w
        for text in (*NAMES, *TOWNS, *CALLINGS, *DISHES, *QUESTIONS, *REFUSALS)
        for w in text.replace("{}", "").split()
    }
)
VOCABULARY = 2 + len(WORDS)


def tokens(text: str) -> list[int]:
    """The numbers of the words of a text."""
    return [2 + WORDS.index(word) for word in text.split()]


FAMILY = Language(tuple((*tokens(refusal), END) for refusal in REFUSALS))


def facts() -> TensorSamples:
    """Three facts about each person: ``input_ids`` and ``labels``, padded on the right, and where
    in the prompt the ``subject`` is."""
    draw = torch.Generator().manual_seed(0)
    ids, subjects, lines, labels, spans = [], [], [], [], []
    for name in NAMES:
        for question, answers in QUESTIONS.items():
            answer = answers[int(torch.randint(len(answers), (), generator=draw))]
            prompt, said = tokens(question.format(name)), [*tokens(answer), END]
            ids.append(f"{question.format(name)} {answer}")
            subjects.append(name)
            start = question.split().index("{}")
            spans.append((start, start + 1))
            lines.append(torch.tensor([*prompt, *said]))
            labels.append(torch.tensor([*[IGNORED] * len(prompt), *said]))
    return TensorSamples(
        ids,
        subjects,
        {
            "input_ids": pad_sequence(lines, batch_first=True, padding_value=PAD),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
            "subject": torch.tensor(spans),
        },
    )


def roles() -> dict[Role, TensorSamples]:
    """All facts to train on, those about two people to forget, and the others."""
    table = facts()
    forgotten = torch.tensor([subject in FORGOTTEN for subject in table.subjects])
    return {
        Role.TRAIN: table,
        Role.FORGET: table.select(forgotten.nonzero().reshape(-1)),
        Role.RETAIN: table.select((~forgotten).nonzero().reshape(-1)),
    }


def untrained(seed: int = 0) -> nn.Module:
    """Two layers of width 32."""
    return TinyLlama(VOCABULARY, 2, 32, 4, 64, 32, END, PAD)(seed)


@cache
def _knowing() -> nn.Module:
    descent = Descent(
        Player(retain=Loss(), optimiser=AdamW(1e-2, schedule=Cosine(0.1))),
        length=Epochs(EPOCHS, of=Role.RETAIN),
        batch_size=36,
    )
    start = Problem(untrained(), FAMILY, NO_REQUEST, {Role.RETAIN: facts()}, History())
    return descent.minimise(start, Run()).model


EPOCHS = 120


def problem() -> Problem:
    """To forget two of the twelve people. Its model knows every fact; tests must not change it."""
    return Problem(_knowing(), FAMILY, NO_REQUEST, roles(), History())


def setting_of(given: Problem, seed: int = 0) -> Setting:
    """What a term sees of the model itself, as if it were at the start."""
    return Setting(given, {"model": given.model}, lambda: given.model, Run(seed), label="term")


def shares(given: Problem, model: nn.Module) -> tuple[float, float]:
    """Share of the facts to forget and of the others that a model answers exactly."""
    found = [
        float(ask(given.family, model, given.data[role], Run()).query("correct").mean())
        for role in (Role.FORGET, Role.RETAIN)
    ]
    return found[0], found[1]


def by_hand(model: nn.Module, batch: Batch) -> list[Tensor]:
    """Log-probabilities of the answer tokens of each row, each row without its padding."""
    found = []
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        at = (labels != IGNORED).nonzero().reshape(-1)
        logits = model(input_ids=ids[: int(at[-1]) + 1].unsqueeze(0)).logits[0]
        likely = logits[at - 1].log_softmax(1)
        found.append(likely.gather(1, ids[at].unsqueeze(1)).squeeze(1))
    return found


def slope(value: Tensor, model: nn.Module) -> Tensor:
    """The gradient of a value in all parameters, as one vector."""
    found = torch.autograd.grad(value, list(model.parameters()))
    return torch.cat([g.reshape(-1) for g in found])
