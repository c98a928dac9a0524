"""The methods for language models on three dozen facts: who forgets, who keeps, what they read."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from expunge import registry
from expunge.changes.weights import digest_of
from expunge.data.samples import Batch, Samples
from expunge.descent.optimisers import AdamW
from expunge.errors import AccessError, ExpungeError
from expunge.families.classifier import Classifier
from expunge.families.language import Language, answered_with
from expunge.methods.altpo import AltPO
from expunge.methods.ceu import CEU
from expunge.methods.dpo import DPO
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.idk import IDK
from expunge.methods.kl_minimisation import KLMinimisation
from expunge.methods.negation import Negation
from expunge.methods.npo import NPO, NPOKL, NPORetain
from expunge.methods.protocol import ByDescent, Method, unlearn
from expunge.methods.satimp import SatImp
from expunge.methods.simnpo import SimNPO
from expunge.methods.two_terms import TwoTerms
from expunge.methods.undial import UNDIAL
from expunge.methods.wga import WGA
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run
from language_facts import FAMILY, by_hand, problem, shares

KEPT: Mapping[str, Any] = {"retain_weight": 5.0, "retain_batch_size": 30}
KEEPING: Mapping[str, TwoTerms] = {
    "altpo": AltPO(40, 3e-3, **KEPT),
    "dpo": DPO(40, 3e-3, **KEPT),
    "idk": IDK(40, 3e-3, **KEPT),
    "kl-minimisation": KLMinimisation(40, 3e-3, **KEPT),
    "npo-kl": NPOKL(40, 3e-3, **KEPT),
    "npo-rt": NPORetain(40, 3e-3, **KEPT),
    "satimp": SatImp(40, 6e-3, forget_weight=1.0, retain_weight=0.1, retain_batch_size=30),
    "simnpo": SimNPO(40, 3e-3, retain_batch_size=30),
    "undial": UNDIAL(40, 3e-3, **KEPT),
    "wga": WGA(40, 3e-3, retain_batch_size=30),
}
FORGETTING: Mapping[str, TwoTerms] = {"npo": NPO(40, 3e-3), "ceu": CEU(40, 3e-3)}
EVERY: Mapping[str, TwoTerms] = {**KEEPING, **FORGETTING}


def after(method: Method, given: Problem, seed: int = 0) -> nn.Module:
    return unlearn(method, given, Run(seed)).applied_to(given.model)


def forget_loss(given: Problem, model: nn.Module) -> float:
    batch = given.data[Role.FORGET].batch(torch.arange(6))
    return -float(torch.cat(by_hand(model, batch)).mean().detach())


@pytest.mark.parametrize("name", sorted(KEEPING))
def test_beside_all_retain_rows_the_facts_go_and_the_others_stay(name: str) -> None:
    given = problem()
    assert shares(given, given.model) == (1.0, 1.0)
    forget, retain = shares(given, after(KEEPING[name], given))
    assert forget < 0.2  # one of six, whose answer may be a likely one
    assert retain >= 0.9


@pytest.mark.parametrize("name", sorted(FORGETTING))
def test_without_retain_rows_the_facts_go(name: str) -> None:
    given = problem()
    assert shares(given, after(FORGETTING[name], given))[0] == 0


def test_npo_ends_where_ascent_goes_on() -> None:
    given = problem()
    losses = [
        forget_loss(given, after(method, given))
        for method in (GradientAscent(100, 1e-2), NPO(100, 1e-2, beta=1.0))
    ]
    assert losses[0] > 5 * losses[1]
    assert losses[1] > 3  # and yet it forgot


@pytest.mark.parametrize("name", sorted(EVERY))
def test_a_method_reads_the_roles_of_its_terms_and_no_others(name: str) -> None:
    method, given = replace(EVERY[name], epochs=1), problem()
    keeps = name in KEEPING
    roles = (Role.FORGET, Role.RETAIN) if keeps else (Role.FORGET,)
    assert method.unlearns_with == Access.to(*roles)
    assert method.prepares_with == Access()
    alone: Mapping[Role, Samples] = {Role.FORGET: given.data[Role.FORGET]}
    if not keeps:
        unlearn(method, replace(given, data=alone), Run())
        return
    with pytest.raises(ExpungeError, match="needs the retain set"):
        unlearn(method, replace(given, data=alone), Run())
    without = replace(method, retain_weight=0.0)  # type: ignore[call-arg]
    assert without.unlearns_with == Access.to(Role.FORGET)
    unlearn(without, replace(given, data=alone), Run())


@pytest.mark.parametrize("name", sorted(EVERY))
def test_the_same_seed_gives_the_same_bits_and_the_model_stays_as_it_was(name: str) -> None:
    method, given = replace(EVERY[name], epochs=2), problem()
    before = digest_of(given.model)
    first, again, other = (digest_of(after(method, given, seed)) for seed in (0, 0, 1))
    assert first == again
    assert before not in (first, other)
    assert digest_of(given.model) == before
    assert isinstance(registry.load("methods", name)(), type(method))


def test_without_weights_on_retain_rows_npo_rt_is_npo_bit_for_bit() -> None:
    given = problem()
    one = after(NPO(3, 1e-3), given)
    for kind in (NPORetain, NPOKL):
        assert digest_of(after(kind(3, 1e-3, retain_weight=0.0), given)) == digest_of(one)


def test_satimp_without_importance_is_wga() -> None:
    same = SatImp(saturation=1.0, importance=0.0, forget_weight=1.0)
    assert same.forget() == WGA().forget()


def test_after_idk_a_refusal_is_likelier_than_the_answer() -> None:
    given, family = problem(), FAMILY
    batch = given.data[Role.FORGET].batch(torch.arange(6))

    def likely(model: nn.Module, batch: Batch) -> torch.Tensor:
        return torch.stack([row.sum() for row in by_hand(model, batch)])

    def refused(model: nn.Module) -> torch.Tensor:
        each = [answered_with(batch, [torch.tensor(words)] * 6) for words in family.refusals]
        return torch.stack([likely(model, one) for one in each]).logsumexp(0)

    assert bool((refused(given.model) < likely(given.model, batch)).all())
    model = after(KEEPING["idk"], given)
    assert bool((refused(model) > likely(model, batch)).all())


@pytest.mark.parametrize("method", [IDK(), DPO()])
def test_refusals_are_asked_for_before_anything_is_trained(method: TwoTerms) -> None:
    given = replace(problem(), family=Language())
    with pytest.raises(ExpungeError, match="no refusals"):
        unlearn(method, given, Run())


@pytest.mark.parametrize("method", [NPOKL(), UNDIAL(), CEU(), KLMinimisation(), AltPO()])
def test_a_family_without_answers_has_no_distributions_over_tokens(method: TwoTerms) -> None:
    with pytest.raises(ExpungeError, match="lacks HasAnswers"):
        unlearn(method, replace(problem(), family=Classifier(classes=2)), Run())


def test_the_rate_rises_over_the_first_epochs_and_falls_to_zero() -> None:
    def shares_of(method: TwoTerms, steps: int = 100) -> list[float]:
        [player] = method.descent().players
        assert isinstance(player.optimiser, AdamW)
        return [player.optimiser.schedule.share(step, steps) for step in range(steps)]

    found = shares_of(NPO())
    assert found.index(max(found)) == 10
    assert found[0] < 0.1 < found[9] < found[10] == 1
    assert found[-1] == pytest.approx(1 / 90)
    assert shares_of(NPO(warm_up=0.0))[0] == 1
    assert all(0 < share < 1 for share in shares_of(NPO(1)))


@pytest.mark.parametrize(
    ("method", "forgets"),
    [
        (GradientAscent(20, 1e-3), True),
        (GradientDifference(40, 3e-3, retain_weight=5.0), True),
        (Negation(20, 1e-2, kept=1.0), True),
        (FineTune(20, 1e-3), False),
    ],
)
def test_methods_for_any_family_run_on_language_models_as_they_are(
    method: ByDescent | Negation, forgets: bool
) -> None:
    given = problem()
    forget, retain = shares(given, after(method, given))
    assert (forget == 0) == forgets
    if not isinstance(method, GradientAscent | Negation):
        assert retain >= 0.9


def test_what_is_closed_stays_closed() -> None:
    opened = problem().opened(NPO().unlearns_with)
    with pytest.raises(AccessError):
        opened.data[Role.RETAIN]
