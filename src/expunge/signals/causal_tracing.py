"""Causal tracing: which states of a language model carry a fact from its subject to its answer.

Meng, Bau, Andonian, Belinkov (2022). Locating and Editing Factual Associations in GPT. The subject
of a prompt is made unreadable by noise on its embeddings; then one state of the clean run is put
back. How much of the answer's probability comes back is the indirect effect of that state.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expunge.data.encoding import prompt_tokens
from expunge.data.prompts import SUBJECT
from expunge.data.samples import Samples, batches
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.families.decoder import DecoderLayer, decoder_layers
from expunge.families.language import head_of, input_embedding
from expunge.models.modes import evaluating
from expunge.problem import Missing
from expunge.run import Run, on_device

KINDS = ("state", "mlp", "attention")
"""What is put back: the state after a layer, or the outputs of a part of several layers."""

PLACES = ("first subject", "middle subject", "last subject", "first after", "further", "last")
"""Tokens of a prompt. A subject of one token is its last; a prompt that ends with its subject has
no last token beside it."""

WINDOW = 10 / 48
"""Layers whose parts are put back together, as a share of the depth: 10 of 48 in the paper."""

READ_AT_ONCE, RUN_AT_ONCE = 256, 256
"""Rows that are read, and rows of a forward pass."""


@dataclass(frozen=True, eq=False)
class Fact:
    """A prompt (l,) of tokens, the positions of its subject, and the first token of its answer."""

    prompt: Tensor
    subject: tuple[int, int]
    answer: int


@dataclass(frozen=True, eq=False)
class EffectMap:
    """Mean indirect effects, in probability of the answer's first token.

    Args:
        effects: (kinds, layers, places) float32 on the CPU, in the order of :data:`KINDS` and
            :data:`PLACES`; NaN where no fact has such a token.
        clean: mean probability with the prompt as it is.
        corrupted: mean probability with noise on the subject.
        facts: facts that were traced: those answered right.
        wrong: facts that were left out.
    """

    effects: Tensor
    clean: float
    corrupted: float
    facts: int
    wrong: int

    def at(self, kind: str, place: str = "last subject") -> Tensor:
        """Effects (layers,) of one kind at one place."""
        return self.effects[KINDS.index(kind), :, PLACES.index(place)]

    def strongest(self, kind: str) -> str:
        """The place at which the largest effect of one kind is."""
        found = self.effects[KINDS.index(kind)].nan_to_num(-torch.inf)
        return PLACES[int(found.amax(0).argmax())]

    def largest(self, kind: str, count: int, place: str = "last subject") -> tuple[int, ...]:
        """Positions of the layers with the largest effects, ascending; of equal ones the first."""
        order = self.at(kind, place).sort(descending=True, stable=True).indices
        return tuple(sorted(order[:count].tolist()))


def untold(samples: Samples) -> tuple[Missing, ...]:
    """What rows lack that do not say where their subjects are."""
    if SUBJECT in samples.fields:
        return ()
    has = ", ".join(sorted(samples.fields)) or "none"
    return (
        Missing(
            f"needs the field {SUBJECT!r} of each row; there is {has}",
            f"The field {SUBJECT!r} of each row is needed, the position of the first token of its "
            f"subject and the one after its last; these rows have {has}. Add it; in a run file "
            "`columns.prompt_subject` names the column with the text of the subjects.",
        ),
    )


def facts_of(samples: Samples) -> list[Fact]:
    """The facts that rows with ``input_ids``, ``labels`` and :data:`SUBJECT` (n, 2) tell.

    Raises:
        ExpungeError: the rows do not say where their subjects are, or one says it wrongly.
    """
    for lack in untold(samples):
        raise ExpungeError(lack.sentence)
    found: list[Fact] = []
    for batch in batches(samples, READ_AT_ONCE):
        prompts = prompt_tokens(batch["input_ids"], batch["labels"])
        rows = zip(batch["input_ids"], prompts, batch[SUBJECT].tolist(), strict=True)
        for ids, prompt, (start, stop) in rows:
            end = len(prompt)
            if not 0 <= start < stop <= end:
                raise ExpungeError(
                    f"The subject of {samples.ids[len(found)]!r} is said to be at the tokens "
                    f"{start} to {stop} of a prompt of {end}; a span inside the prompt is expected."
                )
            found.append(Fact(prompt, (start, stop), int(ids[end])))
    return found


def causal_trace(
    family: Family,
    model: nn.Module,
    facts: Sequence[Fact],
    run: Run,
    *,
    noise: float = 3.0,
    copies: int = 10,
    window: int | None = None,
) -> EffectMap:
    """Trace every fact that the model answers right.

    Args:
        family: names the layers.
        model: a decoder of ``transformers``; it stays as it is.
        facts: one or more.
        run: device and random numbers: a fact has the same noise in every run of the model.
        noise: its standard deviation, in those of the embeddings of all subjects' tokens.
        copies: draws of the noise.
        window: layers whose feed-forward parts (or attentions) are put back together, around the
            one that is named; None for :data:`WINDOW` of the depth.

    Raises:
        ExpungeError: the model answers none of the facts right, there is no draw, or its layers
            have no parts that are known.
    """
    if copies < 1 or noise < 0:
        raise ExpungeError(
            f"{copies} draws of noise of strength {noise} were asked for; at least 1 draw and a "
            "strength of 0 or more are expected."
        )
    with evaluating(on_device(model, run)) as asked, torch.no_grad():
        layers = decoder_layers(family, asked)
        wide = max(1, round(WINDOW * len(layers))) if window is None else window
        scale = noise * _spread(asked, facts, run)
        width = next(input_embedding(asked).parameters()).shape[-1]
        generator, traced = run.generator("causal tracing"), list[_Tracing]()
        for fact in facts:
            tokens = fact.subject[1] - fact.subject[0]
            drawn = torch.randn(copies, tokens, width, generator=generator)
            one = _Tracing(asked, layers, wide, fact, (scale * drawn).to(run.device))
            if one.right:
                one.trace()
                traced.append(one)
    if not traced:
        raise ExpungeError(
            f"The model answers none of the {len(facts)} facts right, so there is nothing to "
            "trace; give facts that it knows."
        )
    return EffectMap(
        torch.stack([one.effects for one in traced]).nanmean(0),
        sum(one.clean for one in traced) / len(traced),
        sum(one.corrupted for one in traced) / len(traced),
        len(traced),
        len(facts) - len(traced),
    )


class _Tracing:
    """One fact: its clean run, and runs with noise on its subject."""

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[DecoderLayer],
        window: int,
        fact: Fact,
        noise: Tensor,
    ) -> None:
        self.model, self.layers, self.window = model, layers, window
        self.fact, self.noise = fact, noise
        names = [n for layer in layers for n in (layer.name, layer.attention, layer.mlp)]
        self.kept: dict[str, Tensor] = {}
        with ExitStack() as hooks:
            for name in names:
                hooks.enter_context(_changed(model.get_submodule(name), self._keeping(name)))
            answered = self._probabilities(1)[0]
        self.right = int(answered.argmax()) == fact.answer
        self.clean = float(answered[fact.answer])
        self.corrupted = self._with_noise([], torch.zeros(1, dtype=torch.int64))[0]
        # NaN at places that the prompt does not have
        self.effects = torch.full((len(KINDS), len(layers), len(PLACES)), torch.nan)

    def trace(self) -> None:
        """Find the effects (kinds, layers, places)."""
        start, last = self.fact.subject[0], len(self.fact.prompt) - 1
        places = torch.arange(start, last + 1)  # before the subject nothing was changed
        names = [self._place(int(place)) for place in places]
        for kind in range(len(KINDS)):
            for layer in range(len(self.layers)):
                parts = self._parts(KINDS[kind], layer)
                back = torch.tensor(self._with_noise(parts, places)) - self.corrupted
                for number in set(names):
                    chosen = torch.tensor([name == number for name in names])
                    self.effects[kind, layer, number] = back[chosen].mean()

    def _place(self, position: int) -> int:
        """The number in :data:`PLACES` of a token."""
        start, stop = self.fact.subject
        if position == stop - 1:
            return 2
        if position < stop:
            return 0 if position == start else 1
        if position == len(self.fact.prompt) - 1:
            return 5
        return 3 if position == stop else 4

    def _parts(self, kind: str, layer: int) -> list[str]:
        """The modules whose outputs are put back."""
        if kind == "state":
            return [self.layers[layer].name]
        first = layer - self.window // 2
        around = self.layers[max(0, first) : first + self.window]
        return [one.mlp if kind == "mlp" else one.attention for one in around]

    def _with_noise(self, parts: Sequence[str], places: Tensor) -> list[float]:
        """The answer's mean probability over the noise, with the clean outputs of some modules put
        back at one token: for each of the places (p,)."""
        copies, at_once = len(self.noise), max(1, RUN_AT_ONCE // len(self.noise))
        found: list[float] = []
        for first in range(0, len(places), at_once):
            some = places[first : first + at_once]
            rows = some.repeat_interleave(copies).to(self.noise.device)
            with ExitStack() as hooks:
                embedding = input_embedding(self.model)
                hooks.enter_context(_changed(embedding, self._disturbing(len(some))))
                for name in parts:
                    module = self.model.get_submodule(name)
                    hooks.enter_context(_changed(module, self._restoring(name, rows)))
                answered = self._probabilities(len(rows))[:, self.fact.answer]
            found += answered.reshape(-1, copies).mean(1).tolist()
        return found

    def _probabilities(self, rows: int) -> Tensor:
        """Of the token after the prompt (rows, V)."""
        ids = self.fact.prompt.to(self.noise.device).expand(rows, -1)
        head = head_of(self.model)

        def last(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (given[0][:, -1:],)

        hook = head.register_forward_pre_hook(last)
        try:
            answer = self.model(input_ids=ids, use_cache=False)
        finally:
            hook.remove()
        found: Tensor = answer.logits[:, -1].float().softmax(1)
        return found

    def _keeping(self, name: str) -> Callable[[Tensor], Tensor]:
        def keep(output: Tensor) -> Tensor:
            self.kept[name] = output[0].clone()
            return output

        return keep

    def _disturbing(self, times: int) -> Callable[[Tensor], Tensor]:
        def disturb(output: Tensor) -> Tensor:
            start, stop = self.fact.subject
            output = output.clone()
            output[:, start:stop] += self.noise.repeat(times, 1, 1).to(output)
            return output

        return disturb

    def _restoring(self, name: str, places: Tensor) -> Callable[[Tensor], Tensor]:
        def restore(output: Tensor) -> Tensor:
            output = output.clone()
            output[torch.arange(len(places)), places] = self.kept[name][places]
            return output

        return restore


def _spread(model: nn.Module, facts: Sequence[Fact], run: Run) -> float:
    """Standard deviation over all entries of the embeddings of all subjects' tokens."""
    tokens = torch.cat([fact.prompt[slice(*fact.subject)] for fact in facts])
    embedded: Tensor = input_embedding(model)(tokens.to(run.device))
    return float(embedded.float().std(correction=0))


@contextmanager
def _changed(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, the (first) output of a module is what ``change`` makes of it."""

    def hook(asked: nn.Module, given: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return change(output[0]), *output[1:]
        return change(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
