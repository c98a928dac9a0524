"""Every method that is told in words runs on a folder in the layout of Stable Diffusion."""

from pathlib import Path

import pytest
import torch
from tests.models.diffusion_folders import written

from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data.samples import TensorSamples
from expunge.families.diffusion_folder import DiffusionFolder
from expunge.families.diffusion_sampling import DDIM
from expunge.methods.concept_ablation import ConceptAblation
from expunge.methods.esd import ESDU, ESDX
from expunge.methods.protocol import Method, Suppresses, unlearn
from expunge.methods.safe_latent import SafeLatent
from expunge.methods.uce import UCE, AllTokens
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run

METHODS: tuple[Method, ...] = (
    ESDX(steps=2, sampler_steps=3, learning_rate=1e-3),
    ESDU(steps=2, sampler_steps=3, learning_rate=1e-3),
    UCE(),
    UCE(aligned=AllTokens()),
    ConceptAblation(steps=2, pictures=4, sampler_steps=3, learning_rate=1e-3),
    SafeLatent.maximum(),
)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_method_changes_what_a_folder_draws(method: Method, tmp_path: Path) -> None:
    opened = DiffusionFolder(written(tmp_path))
    family, model = opened.family(), opened.model()
    texts = ("a cat", "a dog")
    told = family.conditions(texts)
    prompts = TensorSamples(texts, texts, {"prompt": told})
    request = Request("cats", Rows("concept", ("cat",)), anchor="dog", text="cat")
    problem = Problem(model, family, request, {Role.PROMPTS: prompts}, History())
    after = unlearn(method, problem, Run()).applied_to(model)
    assert (digest_of(after) == digest_of(model)) == isinstance(method, Suppresses)
    before, found = (DDIM(3).drawn(family, m, told, Run(), "two") for m in (model, after))
    assert found.shape == (2, 3, 16, 16)
    assert not torch.equal(before[0], found[0])
