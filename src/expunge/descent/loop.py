"""The gradient loop. A method is an expression over its parts; the loop knows no method.

``Descent(Player(forget=Ascent(), retain=Loss()))`` is gradient difference. All randomness of a step
is drawn before its losses are computed, each term has its own stream and generator, and the state
of all players is checkpointed, so a resumed descent ends in the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from expunge.changes.guarded import unguarded
from expunge.descent.averages import Average
from expunge.descent.best import BestOf
from expunge.descent.length import Length
from expunge.descent.player import Adversary, OfBlocks, Opens, Player, Transform
from expunge.descent.state import Each, State
from expunge.descent.until import Until
from expunge.errors import ExpungeError
from expunge.models.modes import evaluating
from expunge.problem import Access, Problem
from expunge.run import Run
from expunge.storage import Bundle


@dataclass(frozen=True)
class Descended:
    """The modules after a descent, each a copy: the model, and every companion that played.

    They are those after ``kept`` of ``steps`` steps, which differ where the best iterate was kept;
    ``score`` is its score.
    """

    model: nn.Module
    companions: Mapping[str, nn.Module] = field(default_factory=dict)
    steps: int = 0
    kept: int = 0
    score: float | None = None


class Descent:
    """A loop over players.

    Args:
        players: who moves; at each step in this order.
        length: how many steps, and whose turn it is at each of them.
        batch_size: rows a batch, where a term does not say otherwise.
        transform: changes the gradients of every player.
        adversary: changes the batches.
        average: keeps an average of the model's weights, and ends there.
        keep: ends at the best iterate instead of the last; the role that it scores is opened.
        until: ends as soon as it is reached; the roles that it looks at are opened.

    Raises:
        ExpungeError: an average is asked for beside the best iterate or an end to look for.
    """

    def __init__(
        self,
        *players: Player,
        length: Length,
        batch_size: int = 64,
        transform: Transform | None = None,
        adversary: Adversary | None = None,
        average: Average | None = None,
        keep: BestOf | None = None,
        until: Until | None = None,
    ) -> None:
        if average is not None and (keep is not None or until is not None):
            raise ExpungeError(
                "A descent was given both an average and a best iterate to keep, or an end that "
                "is looked for; give one of them, since the model that is looked at has other "
                "weights than the result."
            )
        self.players, self.length, self.batch_size = players, length, batch_size
        self.transform, self.adversary = transform, adversary
        self.average, self.keep, self.until = average, keep, until

    @property
    def access(self) -> Access:
        """The roles and fields that the terms and the score read, and the roles whose rows the
        length counts."""
        opened = Access(dict.fromkeys(self.length.roles, frozenset()))
        if self.keep is not None:
            opened |= Access({self.keep.role: self.keep.score.fields})
        if self.until is not None:
            opened |= self.until.access
        for player in self.players:
            for on in player.terms().values():
                opened |= Access(dict.fromkeys(on.roles, on.term.fields))
                if isinstance(on.source, Opens):
                    opened |= on.source.access
        return opened

    @property
    def needs(self) -> tuple[type, ...]:
        """The abilities that the terms and the score need, each once."""
        found = [
            ability
            for player in self.players
            for on in player.terms().values()
            for ability in on.term.needs
        ]
        found += [*(self.keep.score.needs if self.keep else ())]
        return tuple(dict.fromkeys([*found, *(self.until.needs if self.until else ())]))

    def minimise(
        self, problem: Problem, run: Run, name: str = "descent", each: Each | None = None
    ) -> Descended:
        """Run the loop on copies of the problem's modules.

        Args:
            problem: the modules and the rows.
            run: where, and with which random numbers.
            name: separates the checkpoints and random streams of several descents in one run.
            each: called after each step with the number of steps so far and the live model in
                evaluation mode, which it may look at and must not change. It leaves the result as
                it is. So that it sees every step, such a descent is not checkpointed.

        Raises:
            ExpungeError: there is no step, no parameter was selected, or a term or a weight is not
                finite.
        """
        return _finished(State(self, problem, run, name, each))


def _finished(state: State) -> Descended:
    """Run, or resume, to the last step."""
    descent, modules = state.descent, state.modules
    trained = {p.module for p in descent.players if p.training}
    required = [(p, p.requires_grad) for m in modules.values() for p in m.parameters()]
    modes = [(part, part.training) for m in modules.values() for part in m.modules()]
    for module_name, module in modules.items():
        if module_name not in trained:
            module.eval()
        elif not module.training:  # else the owner's mode of every submodule stands
            module.train()
        module.requires_grad_(False)
    _rest(state)
    if state.path is not None and state.path.exists():
        stored = Bundle.load(state.path)
        if stored.facts.get("identity") == state.identity:  # else it is of another descent
            state.restore(stored)
    with state.run.progress(state.name, state.total) as bar:
        while state.step < state.total and not state.reached:
            _one_step(state)
            _look(state)
            bar.advance()
            due = state.step % state.run.checkpoint_every == 0
            if state.path is not None and due and not state.reached:
                state.bundle().save(state.path)
    _settle(state)
    for parameter, needed in required:
        parameter.requires_grad_(needed)
    for part, training in modes:
        part.training = training
    _check(state)
    _say_unreached(state)
    if state.path is not None:
        state.path.unlink(missing_ok=True)
    return _descended(state)


def _rest(state: State) -> None:
    """Put the submodules of which nothing moves into evaluation mode: a frozen batch norm keeps its
    statistics, a dropout inside of what is frozen does nothing."""
    moving = {id(p) for mover in state.movers for p in mover.parameters}
    for name, module in state.players().items():
        for part in module.modules():
            own = {id(p) for p in part.parameters()}
            if own and not own & moving:
                part.eval()
        selections = [p.parameters for p in state.descent.players if p.module == name]
        blocks = [each for each in selections if isinstance(each, OfBlocks)]
        if blocks and len(blocks) == len(selections):
            found = [each.weightless(module, state.problem) for each in blocks]
            parts = dict(unguarded(module).named_modules())
            for key in found[0]:
                if not any(known.get(key, True) for known in found):
                    parts[key].eval()


def _one_step(state: State) -> None:
    descent, setting = state.descent, state.setting()
    turn = descent.length.turn(state.step, state.rows, descent.batch_size)
    for mover in state.movers:
        if mover.player.moves_at(state.step):
            mover.move(setting, turn, descent.transform, descent.adversary)
    state.step += 1
    if descent.average and (share := descent.average.share(state.step, state.total)):
        for name, parameter in state.moving():
            state.averaged[name].lerp_(parameter.detach(), share)


def _look(state: State) -> None:
    """Let the score, the caller and what ends the descent look at the model after a step."""
    keep, model = state.descent.keep, state.modules["model"]
    scored = keep is not None and (state.step % keep.every == 0 or state.step == state.total)
    until = state.descent.until
    looked = until is not None and state.step % until.every == 0
    if state.each is None and not scored and not looked:
        return
    with evaluating(nn.ModuleList(state.players().values())):
        if keep is not None and scored:
            score = keep.mean(state.problem, model, state.run, state.name)
            state.best.offer(state.step, score, state.players())
        if state.each is not None:
            state.each(state.step, model)
        if until is not None and looked:
            state.reached = until.reached(state.problem, model, state.run, state.name)


def _settle(state: State) -> None:
    """Put the average or the best iterate in the place of the last, where one is asked for."""
    if state.descent.average:
        with torch.no_grad():
            for name, parameter in state.moving():
                parameter.copy_(state.averaged[name])
    if state.descent.keep:
        state.best.put_into(state.players())


def _check(state: State) -> None:
    if state.descent.until is not None and not state.reached:
        raise ExpungeError(
            f"After all {state.total} steps of {state.name!r}, {state.descent.until.missed}; take "
            "another method or another learning rate."
        )
    for name, module in state.modules.items():
        for key, parameter in module.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise ExpungeError(
                    f"The parameter {key!r} of {name!r} is no longer finite after the "
                    "descent; finite weights are expected. Lower the learning rate."
                )


def _say_unreached(state: State) -> None:
    """Warn of selected parameters that no term depends on, and that weight decay moved all the
    same; without decay they are as they were, as a term on embeddings leaves the head."""
    for mover in state.movers:
        names = sorted(mover.names[n] for n in mover.unreached)
        decays = any(group.get("weight_decay", 0) for group in mover.optimiser.param_groups)
        # none is reached where a player never had its turn
        if decays and names and len(names) < len(mover.names):
            others = f" and {len(names) - 1} others" if len(names) > 1 else ""
            state.run.warn(
                f"No gradient of {state.name!r} reached {names[0]!r}{others}; weight decay alone "
                "moved them. Freeze what the losses do not read."
            )


def _descended(state: State) -> Descended:
    companions = {n: state.modules[n] for n in state.playing - {"model"}}
    model, total = state.modules["model"], state.step
    if state.descent.keep is None:
        return Descended(model, companions, total, total)
    return Descended(model, companions, total, state.best.step, state.best.score)
