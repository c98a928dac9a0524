"""Makes a tabular regressor of your own kind: house prices in a CSV file, a network, its weights.

    expunge data fetch ames
    python examples/house_prices.py                # some seconds
    expunge forget examples/house_prices.yaml

Everything is written under ``runs/house_prices``: ``houses.csv`` and ``model.safetensors``. The
run file names :func:`network` as its builder. The training loop is plain torch, as yours would be.
"""

import sys
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn

from expunge.data.catalogue import at_hand

TARGET = "Sale_Price"
INPUTS = (
    "Lot_Area", "Year_Built", "Year_Remod_Add", "Mas_Vnr_Area", "Total_Bsmt_SF", "First_Flr_SF",
    "Second_Flr_SF", "Gr_Liv_Area", "Full_Bath", "Bedroom_AbvGr", "Fireplaces", "Garage_Cars",
    "Garage_Area", "Longitude", "Latitude",
)  # fmt: skip
EPOCHS, BATCH, LEARNING_RATE = 60, 64, 2e-3  # the recipe in house_prices.yaml says the same


def network(hidden: int = 64) -> nn.Module:
    """From standardised inputs (B, 15) to standardised prices (B, 1)."""
    return nn.Sequential(
        nn.Linear(len(INPUTS), hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 1),
    )


def standardised(rows: pd.DataFrame, train: pd.DataFrame) -> torch.Tensor:
    """Columns (n, D) with the mean and standard deviation of the training rows taken out."""
    return torch.tensor(((rows - train.mean()) / train.std(ddof=0)).to_numpy(), dtype=torch.float32)


def main(out: Path, houses: pd.DataFrame, epochs: int = EPOCHS) -> None:
    """Write the table, train the model on its training rows, and save the weights."""
    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    houses.to_csv(out / "houses.csv", index=False)
    train, test = (houses[houses["split"] == split] for split in ("train", "test"))
    inputs = standardised(train[list(INPUTS)], train[list(INPUTS)])
    prices = standardised(train[[TARGET]], train[[TARGET]])
    model = network()
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.0)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(BATCH):
            loss = (model(inputs[batch]) - prices[batch]).square().mean()
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    save_file(model.state_dict(), out / "model.safetensors")
    with torch.no_grad():
        answers = model(standardised(test[list(INPUTS)], train[list(INPUTS)]))
    wrong = (answers - standardised(test[[TARGET]], train[[TARGET]])).abs().mean()
    error = wrong.item() * train[TARGET].std(ddof=0)
    print(f"mean absolute error on {len(test)} test houses: {error:,.0f} dollars")


if __name__ == "__main__":
    place = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1] / "runs/house_prices"
    main(place, at_hand("ames").load().to_pandas())
