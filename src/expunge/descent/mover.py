"""A player at work: its parameters, its optimiser, and the streams of its terms."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from expunge.data.samples import ROW, Batch, Samples
from expunge.descent.holding import Held, within
from expunge.descent.player import (
    Adversary,
    Evolving,
    On,
    Player,
    Setting,
    StepGradients,
    Transform,
)
from expunge.descent.sources import PART, Pool, Pooled
from expunge.descent.streams import Stream, reading
from expunge.errors import ExpungeError
from expunge.recipe import Role


class Mover:
    """The state of one player in a descent; ``label`` names its generators, ``drawn`` those of its
    batches."""

    def __init__(
        self, label: str, player: Player, setting: Setting, batch_size: int, drawn: str
    ) -> None:
        self.player, self.label, run = player, label, setting.run
        module = setting.modules[player.module]
        selected = player.parameters.select(module, setting.problem, run)
        named = dict(module.named_parameters())
        if not selected:
            raise ExpungeError(
                f"No parameter of {player.module!r} was selected to move; it has "
                f"{len(named)}, such as {next(iter(named), 'none')!r}. Select some, or let "
                "them require gradients."
            )
        self.names = tuple(selected)
        self.parameters = tuple(named[n] for n in self.names)
        support = setting.problem.support if player.module == "model" else {}
        there = {n: within(support[n], named[n]) for n in self.names if n in support}
        own = {n: _both(mask, there.get(n)) for n, mask in selected.items()}
        self.cut = tuple(_held(own[n], named[n]) for n in self.names)
        self.kept = (
            self.cut if player.holds else tuple(_held(there.get(n), named[n]) for n in self.names)
        )
        pulled = self.parameters if player.proximal is not None else ()
        self.starts = tuple(p.detach().clone() for p in pulled)
        self.unreached = set(range(len(self.names)))
        self.optimiser = player.optimiser.over(self.parameters)
        self.peaks = [group["lr"] for group in self.optimiser.param_groups]
        self.terms = player.terms()
        self.sizes = {name: on.term.batch_size or batch_size for name, on in self.terms.items()}
        self.streams: dict[str, Stream] = {}
        self.draws: dict[str, torch.Generator] = {}
        self.prepared: dict[str, object] = {}
        for name, on in self.terms.items():
            self.draws[name] = run.generator(f"{drawn}/{name}/draw")
            if on.roles:
                parts = [setting.problem.data[role] for role in on.roles]
                samples: Samples = parts[0] if isinstance(on.source, Role) else Pooled.of(*parts)
                order = run.generator(f"{drawn}/{name}/order")
                self.streams[name] = Stream(samples, self.sizes[name], on.term.fields, order)
                labelled = replace(setting, label=f"{label}/{name}")
                self.prepared[name] = on.term.start(labelled, samples)

    def move(
        self,
        setting: Setting,
        turn: Role | None,
        transform: Transform | None,
        adversary: Adversary | None,
    ) -> None:
        """The step ``setting.step``, at which it is the ``turn`` of the terms on one role."""
        step = setting.step
        values: dict[str, Callable[[], Tensor]] = {}
        for name, on in self.terms.items():
            if step % on.term.every == 0 and (turn is None or turn in (on.roles or [turn])):
                values[name] = self._value(name, on, setting, adversary)
        if not values:
            return
        for parameter in self.parameters:  # of all players, only this one's are differentiated
            parameter.requires_grad_(True)
        draws, device = f"{self.label}/{step}/transform", setting.run.device
        at = StepGradients(
            self.parameters,
            values,
            self.cut,
            lambda: setting.run.generator(draws, device),
            self.unreached,
        )
        found = at.total() if transform is None else transform.gradients(at)
        held = [
            (p, one) for p, one in zip(self.parameters, self.kept, strict=True) if one is not None
        ]
        for parameter, one in held:
            one.keep(parameter)
        share = self.player.optimiser.schedule.share(step, setting.total)
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * share
        for parameter, gradient in zip(self.parameters, found, strict=True):
            parameter.grad = gradient
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._pull(setting)
        for parameter, one in held:  # momentum and decay moved what a mask holds, too
            one.restore(parameter)
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        for name, one_of in self.evolving().items():
            if name in values:
                one_of.stepped()

    def _pull(self, setting: Setting) -> None:
        """The proximal step, where the player has one."""
        if (proximal := self.player.proximal) is None:
            return
        rate = self.optimiser.param_groups[0]["lr"]
        for parameter, start in zip(self.parameters, self.starts, strict=True):
            proximal.pull(parameter, start, rate, setting.step, setting.total)

    def evolving(self) -> dict[str, Evolving]:
        """What the terms prepared that changes as the descent goes, by term."""
        return {n: one for n, one in self.prepared.items() if isinstance(one, Evolving)}

    def _batch(self, name: str, on: On, setting: Setting) -> Batch:
        if isinstance(on.source, Role | Pool):
            raw = self.streams[name].next()
            part = raw.get(PART, torch.zeros_like(raw[ROW]))
            for i, role in enumerate(on.roles):
                setting.run.meter.touch(role.value, int((part == i).sum()))
            drawn = setting.family.draw(raw, self.draws[name])
        else:
            drawn = on.source.batch(setting, self.sizes[name], self.draws[name])
        return {key: tensor.to(setting.run.device) for key, tensor in drawn.items()}

    def _value(
        self, name: str, on: On, setting: Setting, adversary: Adversary | None
    ) -> Callable[[], Tensor]:
        setting = replace(setting, label=f"{self.label}/{name}")
        batch = self._batch(name, on, setting)
        if adversary is not None:
            batch = adversary.perturbed(setting, name, batch)

        def value() -> Tensor:
            with setting.run.seeded(f"{setting.label}/{setting.step}"), setting.run.autocast():
                try:
                    with reading(batch):
                        found = on.term.value(setting, batch, self.prepared.get(name))
                except ValueError as error:
                    if "more than 1 value per channel" not in str(error):
                        raise
                    raise ExpungeError(
                        f"A batch of the {name} term holds one row, from which batch norm in "
                        "training mode can take no variance; give a larger set and larger "
                        "batches, or a player with training=False."
                    ) from None
            if not torch.isfinite(found):
                raise ExpungeError(
                    f"The {name} term became {float(found.detach())} at step {setting.step}; "
                    "a finite value is expected. Lower the learning rate, or clip the gradient."
                )
            return on.term.weight * found

        return value


def _both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """What two masks let move; None lets everything."""
    if one is None or other is None:
        return other if one is None else one
    return one & other.to(one.device)


def _held(mask: Tensor | None, parameter: Tensor) -> Held | None:
    return None if mask is None else Held(mask, parameter)
