"""The tables as columns on one even scale, and coordinates that can be cut along diagonals too."""

# B batch, C columns

from __future__ import annotations

import math

import torch
from torch import Tensor

from releve.data.gather import Batch
from releve.data.statistics import Statistics
from releve.models.tables import QuantileScore

LOCATION = "location"


class PlaceColumns:
    """East and north, and the same turned by 45 degrees, of the extent of the training rows."""

    def __init__(self, statistics: Statistics) -> None:
        """Look up the extent; a model that does not look at the location has no columns."""
        table = statistics.tables.get(LOCATION)
        self.num_columns = 0 if table is None else 4
        if table is not None:
            (west, *_, east), (south, *_, north) = (table.quantiles[name] for name in ("lon", "lat"))
            self.centre = torch.tensor([(west + east) / 2, (south + north) / 2], dtype=torch.float64)
            self.shrink = torch.tensor([math.cos(math.radians((south + north) / 2)), 1.0], dtype=torch.float64)
            size = (torch.tensor([east - west, north - south], dtype=torch.float64) * self.shrink).max() / 2
            self.size = max(float(size), 1e-9)

    def of(self, batch: Batch) -> Tensor:
        """Return (B, 4) float32 columns, about -1.4 to 1.4 inside the extent; (B, 0) without location."""
        if not self.num_columns:
            return torch.zeros(len(batch), 0)
        lon_lat_B2 = torch.zeros(len(batch), 2, dtype=torch.float64) + self.centre
        if LOCATION in batch.values:
            lon_lat_B2[batch.places[LOCATION].cpu()] = batch.values[LOCATION].cpu().double()
        place_B2 = (lon_lat_B2 - self.centre) * self.shrink / self.size
        east_B, north_B = place_B2.T
        return torch.stack([east_B, north_B, (east_B + north_B) * HALF, (east_B - north_B) * HALF], dim=1).float()


HALF = math.sqrt(0.5)


class EvenColumns:
    """Turns the tables of a batch into numbers from -1 to 1 and indicators of categories.

    A number is its rank among the training rows, so that nothing is extrapolated; what is missing is NaN. Coordinates
    are linear, and there twice, the second time turned by 45 degrees.
    """

    def __init__(self, statistics: Statistics) -> None:
        """Look up quantiles, codes and the extent of the training rows."""
        self.tables = {name: table for name, table in statistics.tables.items() if name != LOCATION}
        self.scores = {
            name: QuantileScore([table.quantiles[column] for column in table.columns if column in table.quantiles])
            for name, table in self.tables.items()
        }
        self.place = PlaceColumns(statistics)

    def of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (B, C) float32 numbers and indicators, on the CPU."""
        numbers, codes = [self.place.of(batch)], [torch.zeros(len(batch), 0)]
        for name, table in self.tables.items():
            values_BC = torch.full((len(batch), len(table.columns)), torch.nan)
            if name in batch.values:
                values_BC[batch.places[name].cpu()] = batch.values[name].cpu()
            numeric = [i for i, column in enumerate(table.columns) if column in table.quantiles]
            numbers.append(2 * torch.special.ndtr(self.scores[name](values_BC[:, numeric])) - 1)
            for i in (i for i, column in enumerate(table.columns) if column in table.codes):
                is_code = values_BC[:, i, None] == torch.tensor(table.codes[table.columns[i]], dtype=torch.float32)
                codes.append(is_code.float().masked_fill(values_BC[:, i, None].isnan(), torch.nan))
        return torch.cat(numbers, dim=1), torch.cat(codes, dim=1)
