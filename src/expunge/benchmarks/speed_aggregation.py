"""Speed and memory of the streaming aggregation, against plain torch, stacking and the memory bus.

Every time is the best of several repeats, taken in one process on the same threads. Four questions:
is the time of an added request flat in the history; how far is one fused pass of CATA from the
plain torch expression of the same state and from a copy; what does stacking all deltas cost, as
model mergers do; how much memory does ``add`` take beside the state.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from expunge.aggregation.cata import Cata
from expunge.aggregation.columns import Columns
from expunge.aggregation.kernels import COUNTED_VOTES, MAJORITY_MEAN
from expunge.changes.delta import Delta
from expunge.changes.slices import SLICE
from expunge.changes.trim import trimmed

ADD_BYTES, COMBINE_BYTES, COPY_BYTES = 28, 16, 8
"""Bytes a parameter that must move: ``add`` reads the delta and reads and writes two float32 and
two int16 columns; ``combine`` reads the columns and writes the result; a copy reads and writes."""

FLOORS = {"flat": 1.1, "plain": 5.0, "copy": 0.3, "slices": 2.0}


def run(parameters: int = 64_000_000, quick: bool = False) -> dict[str, Any]:
    """Measure all four questions.

    Args:
        parameters: size of the delta that the fused pass folds.
        quick: an eighth of every size, and fewer repeats.

    Returns:
        JSON values: seconds, bytes a second, ratios and the floors that they should meet.
    """
    parameters = parameters // 8 if quick else parameters
    repeats = 4 if quick else 8
    smaller = max(parameters // 16, 1)
    return {
        "parameters": parameters,
        "threads": torch.get_num_threads(),
        "compiled": COUNTED_VOTES.is_compiled() and MAJORITY_MEAN.is_compiled(),
        "repeats": repeats,
        "floors": FLOORS,
        "flat": _flat(smaller, repeats),
        "fused": _fused(parameters, repeats),
        "stacking": [_stacking(smaller, count, repeats // 2) for count in (5, 20, 50)],
        "memory": _memory(parameters),
    }


def rows(result: dict[str, Any]) -> list[str]:
    """The result as printed lines, one ratio and its floor in each."""
    flat, fused, floors = result["flat"], result["fused"], result["floors"]
    form = "numba" if result["compiled"] else "plain torch; numba does not work here"
    lines = [
        f"{result['parameters']:,} parameters, {result['threads']} threads, best of "
        f"{result['repeats']}, fused pass: {form}",
        f"request 100 against request 2: {flat['ratio']:.2f} x the time (at most "
        f"{floors['flat']:.1f}); {flat['second'] * 1e3:.1f} and {flat['hundredth'] * 1e3:.1f} ms "
        f"at {flat['parameters']:,} parameters",
        f"cata add + combine against plain torch: {fused['ratio']:.1f} x faster (at least "
        f"{floors['plain']:.0f}); {fused['seconds']:.3f} against {fused['plain_seconds']:.3f} s",
        f"share of the copy bandwidth: {fused['share']:.0%} (aim {floors['copy']:.0%}); plain "
        f"torch {fused['plain_share']:.0%}; copy {fused['copy_bytes_a_second'] / 1e9:.1f} GB/s",
        f"the same with a checked Delta made by combine: {fused['checked_seconds']:.3f} s",
    ]
    lines += [
        f"against stacking {row['requests']} deltas: {row['ratio']:.0f} x faster for one more "
        f"request ({row['seconds'] * 1e3:.1f} against {row['stacked_seconds'] * 1e3:.0f} ms at "
        f"{row['parameters']:,} parameters)"
        for row in result["stacking"]
    ]
    lines += [
        f"peak memory of add beside the state, {row['form']}: {row['slices']:.2f} slices of "
        f"{SLICE * 4 / 2**20:.0f} MiB (at most {floors['slices']:.0f}) for a delta of "
        f"{row['delta_slices']:.1f}"
        for row in result["memory"]
    ]
    return [*lines, "memory is what torch allocates on one thread, as its profiler accounts for it"]


def _best(repeats: int, *actions: Callable[[], object]) -> list[float]:
    """The shortest time of each action, in seconds; the actions take turns, after one of each."""
    times = [float("inf")] * len(actions)
    for turn in range(repeats + 1):
        for place, action in enumerate(actions):
            start = time.perf_counter()
            action()
            if turn:
                times[place] = min(times[place], time.perf_counter() - start)
    return times


def _vector(parameters: int, seed: int) -> Delta:
    """A dense task vector of normal numbers."""
    values = torch.randn(parameters, generator=torch.Generator().manual_seed(seed))
    return Delta("0" * 64, {"weight": values})


def _flat(parameters: int, repeats: int) -> dict[str, Any]:
    """The time of request 2 and of request 100 of one history, in several histories."""
    rule, deltas = Cata(), [_vector(parameters, seed) for seed in range(4)]
    best = {2: float("inf"), 100: float("inf")}
    for _ in range(repeats):
        state = rule.empty(deltas[0].shapes(), deltas[0].base)
        for request in range(1, 103):
            start = time.perf_counter()
            state = rule.add(state, deltas[request % len(deltas)])
            near = 2 if 2 <= request <= 4 else 100 if 100 <= request <= 102 else 0
            if near:  # three requests at either end: single times of milliseconds are noisy
                best[near] = min(best[near], time.perf_counter() - start)
    return {
        "parameters": parameters,
        "second": best[2],
        "hundredth": best[100],
        "ratio": best[100] / best[2],
    }


def _fused(parameters: int, repeats: int) -> dict[str, Any]:
    """One add and one combine in memory, the plain expression of the same, and a copy."""
    rule, delta = Cata(), _vector(parameters, 0)
    values, out = delta.dense("weight"), torch.zeros(parameters)
    state = rule.add(rule.empty(delta.shapes(), delta.base), delta)

    def fused() -> None:
        nonlocal state
        state = rule.add(state, delta)
        state.written({"weight": out}, MAJORITY_MEAN)

    def checked() -> None:
        nonlocal state
        state = rule.add(state, delta)
        rule.combine(state)

    def plain() -> None:
        plain_add(state, values)
        plain_combine(state)

    seconds, plain_seconds, checked_seconds, copy_seconds = _best(
        repeats, fused, plain, checked, partial(out.copy_, values)
    )
    copied = COPY_BYTES * parameters / copy_seconds
    moved = (ADD_BYTES + COMBINE_BYTES) * parameters
    return {
        "seconds": seconds,
        "plain_seconds": plain_seconds,
        "checked_seconds": checked_seconds,
        "ratio": plain_seconds / seconds,
        "copy_bytes_a_second": copied,
        "share": moved / seconds / copied,
        "plain_share": moved / plain_seconds / copied,
    }


def plain_add(state: Columns, values: Tensor) -> None:
    """The plain torch expression of one CATA ``add`` on the whole tensor, in place."""
    positive, negative, ups, downs = state.values["weight"].values()
    positive += values.clamp(min=0)
    negative += (-values).clamp(min=0)
    ups += values > 0
    downs += values < 0


def plain_combine(state: Columns) -> Tensor:
    """The plain torch expression of one CATA ``combine`` on the whole tensor."""
    positive, negative, ups, downs = state.values["weight"].values()
    lost = torch.where(negative > positive, -negative / downs, 0.0)
    return torch.where(positive > negative, positive / ups, lost)


def stacked(deltas: Sequence[Tensor]) -> Tensor:
    """CATA by stacking, as mergers compute TIES: all deltas in one (T, d) tensor, on each call."""
    stack = torch.stack(list(deltas))
    elected = stack.sum(0).sign()
    agreeing = (stack.sign() == elected) & (stack != 0)
    return (stack * agreeing).sum(0) / agreeing.sum(0).clamp(min=1)


def _stacking(parameters: int, count: int, repeats: int) -> dict[str, Any]:
    """What request ``count`` costs: streaming, and with all deltas stacked again."""
    rule, deltas = Cata(), [_vector(parameters, seed) for seed in range(count)]
    tensors, out = [delta.dense("weight") for delta in deltas], torch.zeros(parameters)
    state = rule.empty(deltas[0].shapes(), deltas[0].base)
    for delta in deltas[:-1]:
        state = rule.add(state, delta)

    def streaming() -> None:
        nonlocal state
        state = rule.add(state, deltas[-1])
        state.written({"weight": out}, MAJORITY_MEAN)

    seconds, stacked_seconds = _best(repeats, streaming, partial(stacked, tensors))
    return {
        "parameters": parameters,
        "requests": count,
        "seconds": seconds,
        "stacked_seconds": stacked_seconds,
        "ratio": stacked_seconds / seconds,
    }


def _memory(parameters: int) -> list[dict[str, Any]]:
    """The peak of torch's allocations during one ``add``, in slices, for a dense, a sparse and a
    strided delta, and for the torch form. The fused loops allocate nothing.

    The profiler sees the calling thread only, so that this runs on one thread; on more, the pieces
    that are copied are smaller in proportion.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _memory_rows(parameters)
    finally:
        torch.set_num_threads(threads)


def _memory_rows(parameters: int) -> list[dict[str, Any]]:
    rule, dense = Cata(), _vector(parameters, 0)
    side = max(int(parameters**0.5), 1)
    strided = Delta(dense.base, {"weight": dense.dense("weight")[: side * side].view(side, side).T})
    measured = []
    forms = {"dense": dense, "sparse": trimmed(dense, 0.3), "strided": strided}
    for form, delta in forms.items():
        state = rule.add(rule.empty(delta.shapes(), delta.base), delta)
        measured.append(_peak_row(form, delta, partial(rule.add, state, delta)))
    state = rule.empty(dense.shapes(), dense.base)
    plain = replace(COUNTED_VOTES, loop="")
    measured.append(_peak_row("dense, torch form", dense, partial(state.added, dense, 0.5, plain)))
    return measured


def _peak_row(form: str, delta: Delta, action: Callable[[], object]) -> dict[str, Any]:
    size = sum(shape.numel() for shape in delta.shapes().values())
    return {"form": form, "slices": peak_slices(action), "delta_slices": size / SLICE}


def peak_slices(action: Callable[[], object]) -> float:
    """The most memory that torch held at once for ``action`` on this thread, in slices.

    The sum of its allocations and releases in time order, from the profiler of torch.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    assert profiler.profiler is not None
    held = peak = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / (4 * SLICE)
