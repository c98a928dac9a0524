"""A contact sheet: what each model draws from the same noise."""

import torch

from expunge.benchmarks import contact_sheet
from expunge.benchmarks.digits_judge import NAMES
from expunge.benchmarks.drawing.protocol import Protocol
from expunge.benchmarks.drawing.rivals import ONCE, SEVERAL
from expunge.benchmarks.drawing.work import Looking, Training, Unlearning, sampler_of
from expunge.benchmarks.drawing.worlds import world
from expunge.run import Run

SHOWN = 8
"""Pictures of the forgotten class in a row; one of every other class follows."""


def sheet(protocol: Protocol, strengths: dict[str, dict[str, object]]) -> bytes:
    """A PNG: a row a model of seed 0, the pictures of the forgotten class first."""
    forgotten = protocol.place.forgotten
    others = [c for c in range(len(NAMES)) if c != forgotten]
    told = torch.tensor([forgotten] * SHOWN + others)
    rows = {}
    for row, job in protocol.models(strengths).items():
        sampler = ONCE if job.once else SEVERAL
        if isinstance(job.what, Unlearning):
            sampler = sampler_of(job.what.rival)
        model = _model(job)
        rows[row] = sampler.drawn(world().family, model, told, Run(0), "sheet")
    framed = torch.arange(len(told)) < SHOWN
    return contact_sheet.sheet(rows, dict.fromkeys(rows, framed))


def _model(job: Looking) -> torch.nn.Module:
    if job.what is None:
        return world().recipe.builder(job.seed + 1000)
    assert isinstance(job.what, Training | Unlearning)
    return job.what.model()
