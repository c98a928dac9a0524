"""The processor time of single steps of a descent."""

import time

from torch import nn

from expunge.descent.loop import Descent
from expunge.problem import Problem
from expunge.run import Run


def step_ends(descent: Descent, problem: Problem, run: Run) -> tuple[list[float], nn.Module]:
    """The processor time at the end of each step, and where the descent ends."""
    ends: list[float] = []
    found = descent.minimise(problem, run, each=lambda _, __: ends.append(time.process_time()))
    return ends, found.model
