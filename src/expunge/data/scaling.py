"""Scaling: columns of numbers brought to mean 0 and standard deviation 1, by one table for all."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Scaling:
    """Means and standard deviations of the population (D,) of the table that was looked at.

    A column without spread is only centred: its deviation counts as 1.
    """

    means: Tensor
    deviations: Tensor

    @classmethod
    def of(cls, column: Tensor) -> "Scaling":
        """The scaling of numbers (n,) or (n, D)."""
        rows = (column if column.dim() == 2 else column.unsqueeze(1)).double()
        spread = rows.std(0, correction=0)
        return cls(rows.mean(0), spread.where(spread > 0, spread.new_ones(())))

    def applied(self, column: Tensor) -> Tensor:
        """The numbers (n,) or (n, D) in this scale, float32."""
        rows = column if column.dim() == 2 else column.unsqueeze(1)
        scaled = ((rows.double() - self.means) / self.deviations).float()
        return scaled if column.dim() == 2 else scaled.squeeze(1)
