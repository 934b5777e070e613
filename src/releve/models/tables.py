"""Encoders of point values: covariates, survey facts, location."""

# B batch, K columns, N numeric columns, E embedding

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from releve.data.statistics import NUM_QUANTILES, TableStatistics


class QuantileScore(nn.Module):
    """Map each numeric column to a standard normal score by the training rows' quantiles.

    Skewed, bounded and heavy-tailed variables (precipitation, human footprint, plot area) all come out on one scale,
    and a value beyond those seen in training is held at the end of the scale.
    """

    quantiles_NQ: Tensor
    scores_Q: Tensor

    def __init__(self, quantiles: list[list[float]]) -> None:
        """Keep (N, 101) ascending quantiles at equally spaced ranks."""
        super().__init__()
        table = torch.tensor(quantiles, dtype=torch.float64).reshape(-1, NUM_QUANTILES)
        ranks = torch.linspace(0, 1, NUM_QUANTILES, dtype=torch.float64)
        inner = ranks.clamp(0.5 / NUM_QUANTILES, 1 - 0.5 / NUM_QUANTILES)
        self.register_buffer("quantiles_NQ", table.float().contiguous())
        self.register_buffer("scores_Q", (math.sqrt(2) * torch.erfinv(2 * inner - 1)).float())

    def forward(self, values_BN: Tensor) -> Tensor:
        """Return (B, N) scores, about -2.6 to 2.6; NaN stays NaN."""
        values_NB = values_BN.T.contiguous()
        low = torch.searchsorted(self.quantiles_NQ, values_NB, right=False)
        high = torch.searchsorted(self.quantiles_NQ, values_NB, right=True)
        last = self.quantiles_NQ.shape[1] - 1
        # In a run of equal quantiles: the middle of the run. Between two quantiles: linear.
        tied = high > low
        below = (low - 1).clamp(0, last)
        above = low.clamp(0, last)
        left, right = self.quantiles_NQ.gather(1, below), self.quantiles_NQ.gather(1, above)
        weight = ((values_NB - left) / (right - left).clamp(min=1e-12)).clamp(0, 1)
        between = torch.lerp(self.scores_Q[below], self.scores_Q[above], torch.nan_to_num(weight))
        middle = (self.scores_Q[low.clamp(0, last)] + self.scores_Q[(high - 1).clamp(0, last)]) / 2
        scores = torch.where(tied, middle, between)
        # Training on a constant says nothing of other values.
        scores = scores * (self.quantiles_NQ[:, :1] < self.quantiles_NQ[:, -1:])
        return torch.where(torch.isnan(values_NB), values_NB, scores).T


class CategoryEmbedding(nn.Module):
    """A learned vector for each code; one more for missing and for a code that training did not know."""

    codes: Tensor

    def __init__(self, codes: list[float]) -> None:
        """Make the vectors, half as wide as there are codes and at most 8."""
        super().__init__()
        self.register_buffer("codes", torch.tensor(codes, dtype=torch.float32))
        self.num_features = min(8, 1 + len(codes) // 2)
        self.vectors = nn.Embedding(len(codes) + 1, self.num_features)
        nn.init.normal_(self.vectors.weight, std=0.5)

    def forward(self, values_B: Tensor) -> Tensor:
        """Return (B, width)."""
        matches = values_B[:, None] == self.codes
        return self.vectors((matches * torch.arange(1, len(self.codes) + 1, device=values_B.device)).sum(dim=1))


class TableEncoder(nn.Module):
    """Numeric columns by quantile scores with missing flags, categories by embeddings, then a small network."""

    numeric: Tensor

    def __init__(self, statistics: TableStatistics, embedding_dim: int, dropout: float, input_dropout: float) -> None:
        """Build from the statistics of the training rows.

        Parameters
        ----------
        statistics
            Columns, quantiles and codes.
        embedding_dim
            Width of the output.
        dropout
            Applied after the first layer.
        input_dropout
            Share of the columns hidden (as missing) in each training row, so that a model can do with fewer
            columns than it was trained on (masked predictors).
        """
        super().__init__()
        columns = statistics.columns
        numeric = [i for i, name in enumerate(columns) if name in statistics.quantiles]
        self.register_buffer("numeric", torch.tensor(numeric, dtype=torch.int64), persistent=False)
        self.categorical = [i for i, name in enumerate(columns) if name in statistics.codes]
        self.input_dropout = input_dropout
        self.score = QuantileScore([statistics.quantiles[columns[i]] for i in numeric])
        categories = [CategoryEmbedding(statistics.codes[columns[i]]) for i in self.categorical]
        self.categories = nn.ModuleList(categories)
        self.num_features = embedding_dim
        width = 2 * len(numeric) + sum(category.num_features for category in categories)
        self.layers = nn.Sequential(
            nn.Linear(width, embedding_dim),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(embedding_dim, embedding_dim),
        )

    def forward(self, values_BK: Tensor, year_B: Tensor, month_B: Tensor) -> Tensor:
        """Return (B, E) embeddings of (B, K) float32 columns with NaN for missing; the date is not used."""
        if self.training and self.input_dropout > 0:
            hidden = torch.rand_like(values_BK) < self.input_dropout
            values_BK = values_BK.masked_fill(hidden, math.nan)
        scores_BN = self.score(values_BK.index_select(1, self.numeric))
        missing_BN = torch.isnan(scores_BN)
        parts = [torch.nan_to_num(scores_BN), missing_BN.to(scores_BN.dtype)]
        parts += [category(values_BK[:, i]) for i, category in zip(self.categorical, self.categories, strict=True)]
        return self.layers(torch.cat(parts, dim=1))


class LocationEncoder(nn.Module):
    """Longitude and latitude by waves of several lengths, then a small network.

    The shortest wave is limited on purpose: a model that can tell every block apart learns the map of the plots,
    not the plants' needs.
    """

    centre: Tensor
    half_extent: Tensor
    frequencies: Tensor

    def __init__(self, statistics: TableStatistics, embedding_dim: int, dropout: float, num_waves: int) -> None:
        """Build from the extent of the training rows; wave lengths halve from twice the extent."""
        super().__init__()
        bounds = torch.tensor([[statistics.quantiles[c][0], statistics.quantiles[c][-1]] for c in ("lon", "lat")])
        self.register_buffer("centre", bounds.mean(dim=1))
        self.register_buffer("half_extent", ((bounds[:, 1] - bounds[:, 0]) / 2).clamp(min=1e-3))
        self.register_buffer("frequencies", torch.pi / 2 * 2.0 ** torch.arange(num_waves))
        self.num_features = embedding_dim
        self.layers = nn.Sequential(
            nn.Linear(2 + 4 * num_waves, embedding_dim),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(embedding_dim, embedding_dim),
        )

    def forward(self, lon_lat_B2: Tensor, year_B: Tensor, month_B: Tensor) -> Tensor:
        """Return (B, E) embeddings of degrees; the date is not used."""
        scaled = ((lon_lat_B2 - self.centre) / self.half_extent).clamp(-1.5, 1.5)
        angles = (scaled[:, :, None] * self.frequencies).flatten(1)
        return self.layers(torch.cat([scaled, angles.sin(), angles.cos()], dim=1))
