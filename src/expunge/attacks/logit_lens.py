"""The logit lens: what the head of a language model would answer from the state after each layer.

nostalgebraist (2020), interpreting GPT: the logit lens; as an attack on edited facts Patil, Hase,
Bansal (2024), Can Sensitive Information Be Deleted From LLMs? Where a late layer was taught to turn
an answer away, the layers below it still hold it. The state after a layer is put in the place of
the state after the last one, so that the final norm, the head and whatever its config does to
logits act on it as they act on the last; after the last layer the lens is the plain answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expunge.data.samples import Samples, batches
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasAnswers, able
from expunge.models.modes import evaluating
from expunge.run import Run, on_device

READ_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Lens:
    """What can be read after each of the layers, from the first to the last.

    Args:
        correct: bool (layers, n): every token of the true answer is the most likely one there,
            given those before it.
        rank: int64 (layers, n): place of the first answer token among all tokens, from 1.
        log_probability: float32 (layers, n) of the first answer token, in nats.
    """

    correct: Tensor
    rank: Tensor
    log_probability: Tensor

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the rows, those whose answer is read wholly right, by layer."""
        return tuple(self.correct.float().mean(1).tolist())


def logit_lens(family: Family, model: nn.Module, samples: Samples, run: Run) -> Lens:
    """The true answers as the head reads them after each layer.

    Args:
        family: with answers; its taps are the layers.
        model: it stays as it is.
        samples: n rows with answers.
        run: device and precision.

    Raises:
        ExpungeError: there is no row, or the model has no list of layers.
    """
    scorer = able(family, HasAnswers)
    taps = list(family.anatomy(model).taps.values())
    if not taps or not len(samples):
        raise ExpungeError(
            f"The logit lens got {len(samples)} rows and a {type(model).__name__} with "
            f"{len(taps)} layers; at least one of each is expected."
        )
    found = []
    with evaluating(on_device(model, run)) as asked, torch.inference_mode(), run.autocast():
        for raw in batches(samples, READ_AT_ONCE):
            batch = {name: tensor.to(run.device) for name, tensor in raw.items()}
            layers = []
            for tap in taps:
                with _ending_after(asked, tap, taps[-1]):
                    layers.append(_read(scorer.answers(asked, batch)))
            found.append([torch.stack(parts) for parts in zip(*layers, strict=True)])
    correct, rank, likely = (torch.cat(parts, 1).cpu() for parts in zip(*found, strict=True))
    return Lens(correct, rank, likely)


def _read(tokens: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Of the logits of a batch: rows wholly right (B,), and of their first tokens the rank and the
    log-probability."""
    hits = tokens.units(tokens.hits().float())
    correct = (hits.values >= 1).where(hits.mask, True).all(1)
    first = tokens.places == 0
    logits, true = tokens.values[first].float(), tokens.tokens[first].unsqueeze(1)
    rank = 1 + (logits > logits.gather(1, true)).sum(1)
    return correct, rank, logits.log_softmax(1).gather(1, true).squeeze(1)


@contextmanager
def _ending_after(model: nn.Module, layer: str, last: str) -> Iterator[None]:
    """Inside, the last layer answers with what ``layer`` answered."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: Any, output: Any) -> None:
        kept[:] = [output[0] if isinstance(output, tuple) else output]

    def put(module: nn.Module, given: Any, output: Any) -> Any:
        return (kept[0], *output[1:]) if isinstance(output, tuple) else kept[0]

    if layer == last:
        yield
        return
    hooks = [
        model.get_submodule(layer).register_forward_hook(keep),
        model.get_submodule(last).register_forward_hook(put),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
