"""How similar places are to the training rows, covariate by covariate; the least is their MESS.

A number at rank r of the training rows, 0 to 1, has the similarity 200 min(r, 1 - r): 100 is the median, 0 the end of
their range. Outside, it is minus the distance from that end in hundredths of the range. Where many rows share a value,
such as no rain, it is taken to have the rank in their middle. A class that training knew has 100, another -100: Elith
et al. have numbers only.

References
----------
Elith, Kearney & Phillips (2010), The art of modelling range-shifting species, Methods in Ecology and Evolution 1,
330-342, doi:10.1111/j.2041-210X.2010.00036.x.
"""

# B places, N numbers, C classes, K covariates, Q quantiles

from __future__ import annotations

import torch
from torch import Tensor

LEAST = -10_000.0
"""Similarities end here, a hundred ranges outside; so does anything but the one value that training knew."""
KNOWN_CLASS, UNKNOWN_CLASS = 100.0, -100.0


def similarity_of_numbers(values_BN: Tensor, quantiles_NQ: Tensor) -> Tensor:
    """Return (B, N) similarities, -10,000 to 100; NaN where a value is.

    Parameters
    ----------
    values_BN
        Of each place.
    quantiles_NQ
        Ascending values of the training rows at equally spaced ranks, the first and last their ends.

    Examples
    --------
    Training rows from 0 to 10, evenly: a quarter of them lies below 2.5.

    >>> quantiles = torch.linspace(0, 10, 101)[None]
    >>> similarity_of_numbers(torch.tensor([[5.0], [2.5], [10.0], [12.0]]), quantiles).flatten().tolist()
    [100.0, 50.0, 0.0, -20.0]
    """
    values_NB, last = values_BN.T.contiguous(), quantiles_NQ.shape[1] - 1
    low_NB = torch.searchsorted(quantiles_NQ, values_NB)
    high_NB = torch.searchsorted(quantiles_NQ, values_NB, right=True)
    left_NB, right_NB = (quantiles_NQ.gather(1, at.clamp(0, last)) for at in (low_NB - 1, low_NB))
    between_NB = low_NB - 1 + (values_NB - left_NB) / (right_NB - left_NB)
    rank_NB = torch.where(high_NB > low_NB, (low_NB + high_NB - 1) / 2, between_NB) / last
    inside_BN = 200 * torch.minimum(rank_NB, 1 - rank_NB).T
    width_N = quantiles_NQ[:, -1] - quantiles_NQ[:, 0]
    beyond_BN = beyond(values_BN, quantiles_NQ)
    outside_BN = (-100 * beyond_BN / width_N.clamp(min=torch.finfo(torch.float32).tiny)).clamp(min=LEAST)
    found_BN = torch.where(beyond_BN > 0, outside_BN, inside_BN)
    return torch.where(torch.isnan(values_BN), values_BN, found_BN)


def similarity_of_classes(values_BC: Tensor, codes: tuple[tuple[float, ...], ...]) -> Tensor:
    """Return (B, C) similarities of codes: 100 for those that training knew, -100 for others; NaN where a value is.

    Examples
    --------
    >>> similarity_of_classes(torch.tensor([[3.0], [4.0], [torch.nan]]), ((1.0, 3.0),)).flatten().tolist()
    [100.0, -100.0, nan]
    """
    known_BC = torch.ones_like(values_BC, dtype=torch.bool)
    for i, each in enumerate(codes):
        known_BC[:, i] = torch.isin(values_BC[:, i], torch.tensor(each))
    found_BC = torch.where(known_BC, KNOWN_CLASS, UNKNOWN_CLASS)
    return torch.where(torch.isnan(values_BC), values_BC, found_BC)


def beyond(values_BN: Tensor, quantiles_NQ: Tensor) -> Tensor:
    """Return (B, N) how far values lie outside the range of training, in their units; 0 inside, and where NaN."""
    out_BN = torch.maximum(quantiles_NQ[:, 0] - values_BN, values_BN - quantiles_NQ[:, -1])
    return out_BN.nan_to_num(nan=0.0, posinf=torch.finfo(torch.float32).max).clamp(min=0)


def least(similarity_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B,) the least similarity of each place and (B,) which covariate has it; NaN and -1 where none is known.

    Examples
    --------
    >>> found, which = least(torch.tensor([[80.0, -3.0], [torch.nan, 40.0], [torch.nan, torch.nan]]))
    >>> found.tolist(), which.tolist()
    ([-3.0, 40.0, nan], [1, 1, -1])
    """
    if not similarity_BK.shape[1]:
        similarity_BK = similarity_BK.new_full((len(similarity_BK), 1), torch.nan)
    known_BK = ~torch.isnan(similarity_BK)
    least_B, which_B = similarity_BK.masked_fill(~known_BK, torch.inf).min(dim=1)
    nothing_B = ~known_BK.any(dim=1)
    return least_B.masked_fill(nothing_B, torch.nan), which_B.masked_fill(nothing_B, -1)
