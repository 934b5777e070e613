"""The encoders of time series, and the one rule by which a series is cut at the survey's date."""

# B batch, C channels, Y years, Q seasons, R years back, E embedding

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from releve.data.statistics import ArrayStatistics


def align_series(
    values_BCYQ: Tensor, year_B: Tensor, month_B: Tensor, *, first_year: int, years_back: int
) -> tuple[Tensor, Tensor]:
    """Return a series counted back from the survey, and which of its steps had ended by the survey's date.

    Step (r, q) of the result is season q of the r-th year before the survey's year (r = 0: the survey's own year).
    A step is visible if it lies in the series and had ended before the survey: all seasons of earlier years, and of
    the own year those that ended before the survey's month. A survey that names no month (0) is taken as dated
    1 January, so that nothing of its own year is seen.

    Parameters
    ----------
    values_BCYQ
        Series by calendar year.
    year_B, month_B
        Date of each survey; month 0 if unknown.
    first_year
        Calendar year of the first step.
    years_back
        R, the years to look back, the own year included.

    Returns
    -------
    tuple of Tensor
        (B, C, R, Q) values (anything where not visible) and (B, R, Q) bool.

    Examples
    --------
    A survey of May 2002 and a series of 2000 to 2003 by half-years. Its own year is the first row; the first half
    of 2002 had not ended in May:

    >>> series = torch.tensor([[0, 1], [10, 11], [20, 21], [30, 31]]).reshape(1, 1, 4, 2)
    >>> values, visible = align_series(
    ...     series, torch.tensor([2002]), torch.tensor([5]), first_year=2000, years_back=3)
    >>> values[0, 0].tolist(), visible[0].tolist()
    ([[20, 21], [10, 11], [0, 1]], [[False, False], [True, True], [True, True]])

    In August it had:

    >>> align_series(series, torch.tensor([2002]), torch.tensor([8]), first_year=2000, years_back=1)[1].tolist()
    [[[True, False]]]
    """
    num_years, num_seasons = values_BCYQ.shape[2:]
    back_R = torch.arange(years_back, device=values_BCYQ.device)
    index_BR = year_B[:, None] - first_year - back_R
    inside_BR = (index_BR >= 0) & (index_BR < num_years)
    gather = index_BR.clamp(0, num_years - 1)[:, None, :, None].expand(-1, values_BCYQ.shape[1], -1, num_seasons)
    season_end_month = (torch.arange(num_seasons, device=values_BCYQ.device) + 1) * 12 // num_seasons
    ended_BQ = season_end_month < month_B[:, None]
    visible_BRQ = inside_BR[:, :, None] & ((back_R > 0)[None, :, None] | ended_BQ[:, None, :])
    narrow = values_BCYQ.dtype == torch.uint16  # which GPUs do not gather
    aligned_BCRQ = (values_BCYQ.view(torch.int16) if narrow else values_BCYQ).gather(2, gather)
    return aligned_BCRQ.view(torch.uint16) if narrow else aligned_BCRQ, visible_BRQ


def zero_last_layer(layers: nn.Sequential) -> None:
    """Set the weights of the last layer to 0, so that a residual branch adds nothing at the start."""
    with torch.no_grad():
        layers[-1].get_parameter("weight").zero_()


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut; the seasons wrap round (December is next to January)."""

    def __init__(self, width_in: int, width_out: int, stride: tuple[int, int]) -> None:
        """Make a block that takes every ``stride``-th year and season."""
        super().__init__()
        self.first = _convolution(width_in, width_out, stride)
        self.second = _convolution(width_out, width_out, (1, 1))
        self.shortcut = (
            nn.Identity()
            if width_in == width_out and stride == (1, 1)
            else nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True),  # a strided 1 x 1 convolution would skip years and seasons
                nn.Conv2d(width_in, width_out, 1, bias=False),
            )
        )
        zero_last_layer(self.second)  # the block starts as its shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class SeasonConvolution(nn.Module):
    """A 3 x 3 convolution over (years, seasons): zeros beyond the first and last year, seasons wrapped."""

    def __init__(self, width_in: int, width_out: int, stride: tuple[int, int]) -> None:
        """Make the convolution; no bias, since a normalisation follows."""
        super().__init__()
        self.convolution = nn.Conv2d(width_in, width_out, 3, stride=stride, padding=(1, 0), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, years, seasons)."""
        return self.convolution(torch.cat([x[..., -1:], x, x[..., :1]], dim=-1))


def _convolution(width_in: int, width_out: int, stride: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(SeasonConvolution(width_in, width_out, stride), nn.BatchNorm2d(width_out))


class SeriesScale(nn.Module):
    """A raw series as an encoder sees it: cut at the survey's date, counted back from it, scaled."""

    mean: Tensor
    std: Tensor

    def __init__(self, statistics: ArrayStatistics, years_back: int) -> None:
        """Build from the statistics of the training rows."""
        super().__init__()
        assert statistics.first_year is not None
        self.fill, self.first_year, self.years_back = statistics.fill, statistics.first_year, years_back
        self.register_buffer("mean", torch.tensor(statistics.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(statistics.std)[:, None, None])

    def forward(self, values_BCYQ: Tensor, year_B: Tensor, month_B: Tensor) -> Tensor:
        """Return (B, C + 1, R, Q): scaled values, 0 where not visible, and the share of channels that are visible."""
        aligned, visible_BRQ = align_series(
            values_BCYQ, year_B, month_B, first_year=self.first_year, years_back=self.years_back
        )
        values = aligned.to(self.mean.dtype)
        visible = visible_BRQ[:, None].expand_as(values)
        if self.fill is not None:
            visible = visible & (values != self.fill)
        scaled = torch.where(visible, (values - self.mean) / self.std, 0.0)
        return torch.cat([scaled, visible.to(scaled.dtype).mean(dim=1, keepdim=True)], dim=1)


class ConvolutionEncoder(nn.Module):
    """A small residual network over (years back, seasons)."""

    def __init__(self, statistics: ArrayStatistics, embedding_dim: int, width: int, years_back: int) -> None:
        """Build from the statistics of the training rows; ``width`` is that of the first layer."""
        super().__init__()
        num_channels, _, num_seasons = statistics.shape
        self.num_features = embedding_dim
        self.scale = SeriesScale(statistics, years_back)
        # Twelve months are first joined to four seasons, which keeps the cost of both series alike.
        months = max(1, num_seasons // 4)
        self.stem = nn.Sequential(
            nn.Conv2d((num_channels + 1), width, (1, months), stride=(1, months)),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(
            ResidualBlock(width, width, (1, 1)),
            ResidualBlock(width, 2 * width, (2, 1)),
            ResidualBlock(2 * width, 4 * width, (2, 2)),
        )
        self.out = nn.Linear(4 * width, embedding_dim)

    def forward(self, values_BCYQ: Tensor, year_B: Tensor, month_B: Tensor) -> Tensor:
        """Return (B, E) embeddings of a raw series."""
        features = self.blocks(self.stem(self.scale(values_BCYQ, year_B, month_B)))
        return self.out(features.mean(dim=(2, 3)))


class YearsEncoder(nn.Module):
    """One layer that sees a year, the same for all years, then one that sees all years side by side.

    Two matrix products, a thirtieth of the arithmetic of the convolutions.
    """

    def __init__(self, statistics: ArrayStatistics, embedding_dim: int, width: int, years_back: int) -> None:
        """Build from the statistics of the training rows; ``width`` is that of what is kept of a year."""
        super().__init__()
        num_channels, _, num_seasons = statistics.shape
        self.num_features = embedding_dim
        self.scale = SeriesScale(statistics, years_back)
        self.year = nn.Sequential(nn.Linear((num_channels + 1) * num_seasons, width), nn.SiLU())
        self.years = nn.Linear(years_back * width, embedding_dim)

    def forward(self, values_BCYQ: Tensor, year_B: Tensor, month_B: Tensor) -> Tensor:
        """Return (B, E) embeddings of a raw series."""
        scaled = self.scale(values_BCYQ, year_B, month_B)
        of_each_year = self.year(scaled.transpose(1, 2).flatten(2))  # (B, R, width)
        return self.years(of_each_year.flatten(1))


SERIES_ENCODERS: dict[str, Callable[[ArrayStatistics, int, int, int], nn.Module]] = {
    "convolution": ConvolutionEncoder,
    "years": YearsEncoder,
}
