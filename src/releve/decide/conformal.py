"""Lists that keep a promise: on average, few observed species are left out.

A list holds all species with a probability of a threshold or more. The threshold is set on calibration surveys such
that, for new surveys exchangeable with them, the *miss rate* (share of the observed species that are not listed) stays
below 1 - coverage on average over calibration sets, whether or not the probabilities are any good: poor probabilities
only make longer lists. Surveys without an observed species have no miss rate and are left out.
"""

# N calibration surveys, B surveys of a block, S species, P pairs

from __future__ import annotations

import math

import numpy as np
import torch

from releve.decide.blocks import check_rows, map_blocks
from releve.errors import TableError
from releve.lists import Lists


def miss_rate_threshold(probs: np.ndarray | torch.Tensor, truth: Lists, coverage: float) -> float:
    """Return the highest threshold whose lists miss no more than 1 - coverage on average.

    Conformal risk control: the highest t with (sum_i miss_i(t) + 1) / (N + 1) <= 1 - coverage, the 1 being the worst
    that the new survey itself could do.

    Parameters
    ----------
    probs
        (N, S) probabilities of calibration surveys, by models not trained on them; a memory map is read in blocks.
    truth
        Their observed sets. A species without a column is missed by every list.
    coverage
        Between 0 and 1: the least mean share of the observed species that are listed.

    Raises
    ------
    TableError
        If a probability is NaN or outside [0, 1], the numbers of surveys differ, no survey has an observed species, or
        no list could keep the promise: too few surveys or too many species without a column.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei & Schuster (2024), Conformal risk control, ICLR, arXiv:2208.02814.

    Examples
    --------
    Nine surveys with one species each. At most (10 x .2) - 1 = 1 may be missed, so the threshold is the second lowest.

    >>> probs = np.linspace(0.1, 0.9, 9)[:, None]
    >>> round(miss_rate_threshold(probs, Lists.from_rows([[0]] * 9), 0.8), 2)
    0.2
    """
    check_rows(probs, truth)
    lengths_N = truth.lengths()
    num_scored = np.count_nonzero(lengths_N)
    if not num_scored:
        raise TableError("no calibration survey has an observed species", expected="surveys with species")
    surveys, known = truth.surveys(), truth.indices < probs.shape[1]
    share_P = 1 / lengths_N[surveys]  # every survey shares a weight of 1 among its observed species
    rows, species = surveys[known], truth.indices[known]

    def work(first: int, block_BS: torch.Tensor) -> np.ndarray:
        pairs = slice(*np.searchsorted(rows, [first, first + len(block_BS)]))
        return block_BS[rows[pairs] - first, species[pairs]].double().cpu().numpy()

    value_P = np.concatenate(map_blocks(work, probs, probs=True))
    never = float(share_P[~known].sum())
    budget = (1 - coverage) * (num_scored + 1) - 1 - never
    if budget < 0:
        raise TableError(
            f"no list covers {coverage:.3g} of the observed species: {num_scored} calibration surveys, "
            f"{never / num_scored:.1%} of whose species the model does not know",
            expected=f"{math.ceil(coverage / (1 - coverage))} surveys or more and less than {1 - coverage:.3g} unknown",
            action="Lower decide.coverage, or calibrate on more surveys",
        )
    order = np.argsort(value_P, kind="stable")
    value_P = value_P[order]
    missed_P = np.append(0.0, share_P[known][order].cumsum())[np.searchsorted(value_P, value_P, side="left")]
    return float(value_P[np.searchsorted(missed_P, budget + 1e-9 * num_scored, side="right") - 1])
