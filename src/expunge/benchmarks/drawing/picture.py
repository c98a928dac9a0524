"""A contact sheet: what each model draws from the same noise. People look before they read."""

from io import BytesIO

import torch

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
    from matplotlib.figure import Figure

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
    figure = Figure(figsize=(0.5 * len(told) + 2.2, 0.55 * len(rows)), dpi=110)
    axes = figure.subplots(len(rows), len(told), squeeze=False)
    for line, (title, pictures) in zip(axes, rows.items(), strict=True):
        for i, (axis, picture) in enumerate(zip(line, pictures, strict=True)):
            axis.imshow(picture[0], cmap="gray_r", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
            for side in axis.spines.values():
                side.set_color("crimson" if i < SHOWN else "lightgrey")
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    left = 2.2 / (0.5 * len(told) + 2.2)
    figure.subplots_adjust(left=left, right=0.99, top=0.98, bottom=0.02)
    written = BytesIO()
    figure.savefig(written, format="png", metadata={"Software": ""})
    return written.getvalue()


def _model(job: Looking) -> torch.nn.Module:
    if job.what is None:
        return world().recipe.builder(job.seed + 1000)
    assert isinstance(job.what, Training | Unlearning)
    return job.what.model()
