"""The denoising loss of models that draw: how well each row's noise is seen, told its condition.

It bounds the likelihood that a model gives a row (Ho, Jain, Abbeel 2020, Denoising Diffusion
Probabilistic Models), and is what membership attacks on such models read (Matsumoto, Miura, Yanai
2023, Membership Inference Attacks against Diffusion Models).
"""

import torch
from torch import Tensor, nn

from expunge.data.samples import ROW, Batch, Samples, batches
from expunge.families.abilities import Family, HasLoss, able
from expunge.families.diffusion import DROPPED
from expunge.models.modes import evaluating
from expunge.run import Run, on_device
from expunge.signals.metric import Metric

DENOISING_LOSS = Metric(
    "denoising loss",
    "lower",
    "mean squared error of the predicted noise, which has variance 1",
    query="denoising loss",
    decimals=3,
)

DRAWS = 8
"""Times and noises that every row is asked at; those of a row hang on the seed and its id alone, so
that two models, and two sets of rows, are asked the same of it."""


def denoising_losses(
    family: Family, model: nn.Module, samples: Samples, run: Run, batch_size: int = 256
) -> Tensor:
    """Mean loss (n,) float32 of every row over :data:`DRAWS` times and noises, no condition left
    out; in evaluation mode, without gradients.

    Raises:
        ExpungeError: the family has no losses, or the rows are no pictures of its size.
    """
    return _losses(family, model, samples, run, batch_size, untold=False)


def untold_losses(
    family: Family, model: nn.Module, samples: Samples, run: Run, batch_size: int = 256
) -> Tensor:
    """The same of a model that is told no condition, where it is told one: how well it sees the
    noise in rows of which it does not know what they show."""
    return _losses(family, model, samples, run, batch_size, untold=True)


def _losses(
    family: Family, model: nn.Module, samples: Samples, run: Run, batch_size: int, *, untold: bool
) -> Tensor:
    scorer, found, ids = able(family, HasLoss), [], iter(samples.ids)
    with evaluating(on_device(model, run)) as asked, torch.inference_mode(), run.autocast():
        for rows in batches(samples, max(1, batch_size // DRAWS)):
            drawn = _drawn(family, rows, [next(ids) for _ in rows[ROW]], run)
            if DROPPED in drawn:
                drawn[DROPPED] = torch.full_like(drawn[DROPPED], untold)
            batch = {name: tensor.to(run.device) for name, tensor in drawn.items()}
            losses = scorer.losses(asked, batch).means()
            found.append(losses.float().cpu().view(-1, DRAWS).mean(1))
    return torch.cat(found)


def _drawn(family: Family, rows: Batch, ids: list[str], run: Run) -> dict[str, Tensor]:
    """Every row :data:`DRAWS` times, each at a time and noise of its own."""
    parts = []
    for place, name in enumerate(ids):
        copies = {n: t[place : place + 1].repeat_interleave(DRAWS, 0) for n, t in rows.items()}
        parts.append(family.draw(copies, run.generator(f"denoising/{name}")))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
