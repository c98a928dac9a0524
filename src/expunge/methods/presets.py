"""Presets: a method's hyper-parameters fitted to the problem at hand, where it ships a rule."""

from typing import Protocol, Self, runtime_checkable

from expunge.methods.protocol import Method
from expunge.problem import Problem


@runtime_checkable
class HasPreset(Protocol):
    """A method that ships a preset."""

    def for_problem(self, problem: Problem) -> Self:
        """The method with its hyper-parameters fitted to the problem."""
        ...


def preset_of(method: Method, problem: Problem) -> Method:
    """The preset of a method, which sees what its access opens; itself where it ships none."""
    if not isinstance(method, HasPreset):
        return method
    fitted: Method = method.for_problem(
        problem.opened(method.prepares_with | method.unlearns_with)
    )
    return fitted
