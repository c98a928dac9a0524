"""AltPO's check: other answers, and those after forgetting, are of the kind that is asked for."""

from collections.abc import Sequence

import pytest

from expunge.benchmarks.facts.people import (
    CALLINGS,
    COOKED,
    DISHES,
    END,
    FIELDS,
    FIRST_TUNING,
    FOODS,
    PREFIXES,
    People,
)
from expunge.benchmarks.facts.work import right_about
from expunge.benchmarks.facts.world import Size, World
from expunge.data.samples import TensorSamples
from expunge.descent.alternatives import Sampled
from expunge.descent.player import Setting
from expunge.families.language import IGNORED
from expunge.methods.altpo import AltPO
from expunge.methods.presets import AtPreset, preset_of
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.generation import generated

SMALL = Size(20, 4, 2, layers=2, width=64, inner=128, epochs=70, learning_rate=3e-3)
RIGHT = 0.8
"""Share of answers of the right kind that the check asks for."""


def kind_of(people: People, said: Sequence[str]) -> str | None:
    """The kind of an answer, by the words that it is put together of."""
    _, _, places = people.words
    pools = {
        "place": ((places,), (PREFIXES, places)),
        "work": ((FIELDS, CALLINGS),),
        "dish": ((COOKED, FOODS, DISHES),),
    }
    for kind, forms in pools.items():
        for form in forms:
            if len(form) == len(said) and all(
                w in part for w, part in zip(said, form, strict=True)
            ):
                return kind
    return None


def right_kind(people: People, samples: TensorSamples, answers: Sequence[Sequence[int]]) -> float:
    """Share of answers (tokens, with or without their end) of the kind that their rows ask for."""
    asked = [name.split("-")[1] for name in samples.ids]
    told = [people.text([t for t in answer if t != END]).split() for answer in answers]
    return sum(kind_of(people, w) == k for w, k in zip(told, asked, strict=True)) / len(asked)


def labels_of(samples: TensorSamples) -> list[list[int]]:
    return [row[row != IGNORED].tolist() for row in samples.columns["labels"]]


def test_the_kind_of_an_answer_is_told_by_its_words() -> None:
    people = People(FIRST_TUNING, 12)
    for person in people.everybody:
        for kind, answer in person.facts.items():
            assert kind_of(people, answer.split()) == kind
    assert kind_of(people, ["marine"]) is kind_of(people, ["pie", "soup"]) is None
    assert kind_of(people, []) is None


def test_the_preset_samples_less_freely_than_the_paper() -> None:
    """At temperature 1 half of what a small model might have said answers another question."""
    world = World(FIRST_TUNING, SMALL)
    untrained = world.recipe(0).builder(0)
    problem = world.deployment(untrained, 0).problem(world.corner(), AltPO())
    method = preset_of(AltPO(), problem)
    assert isinstance(method, AltPO)
    assert method.temperature == 0.3 < AltPO().temperature


@pytest.mark.slow
def test_answers_are_of_the_right_kind_before_and_after_forgetting() -> None:
    world = World(FIRST_TUNING, SMALL)
    base = world.recipe(0).make({Role.TRAIN: world.train}, Run(0)).model
    forget = world.train.select(world.about(world.train, 0, SMALL.corner))
    deployment = world.deployment(base, 0)
    problem = deployment.problem(world.corner(), AltPO())
    setting = Setting(problem, {"model": base}, lambda: base, Run(0), label="kinds")

    def sampled(temperature: float) -> float:
        drawn = Sampled(5, temperature).drawn(setting, forget)
        assert isinstance(drawn, TensorSamples)
        return right_kind(world.people, drawn, labels_of(drawn))

    assert sampled(0.3) >= RIGHT
    assert sampled(1.0) < sampled(0.3)
    deployment.forget(world.corner(), AtPreset.of(AltPO()), Run(0))
    assert right_about(world, deployment.model, SMALL.corner, Run())[0] <= 0.05
    ids, labels = (forget.columns[name] for name in ("input_ids", "labels"))
    prompts = [
        row[: int((told != IGNORED).int().argmax())].tolist()
        for row, told in zip(ids, labels, strict=True)
    ]
    answers = generated(deployment.model, prompts, Run(), most=5, end=(END,))
    assert right_kind(world.people, forget, answers) >= RIGHT
