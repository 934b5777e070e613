"""Lists that keep a promise: few observed species left out, or few listed species absent.

A list holds all species with a probability of a threshold or more. The threshold is set on calibration surveys such
that, for new surveys exchangeable with them, the *miss rate* (share of the observed species that are not listed) or
the *false-list rate* (share of the listed species that are not observed) stays below 1 - coverage, whether or not the
probabilities are any good: poor probabilities only make longer lists.

- :func:`miss_rate_thresholds`, conformal risk control: the mean miss rate stays below, on average over calibration
  sets. Weights make it hold where places differ from those of the calibration, if the weights are right.
- :func:`miss_risk_threshold`, risk-controlling prediction sets: the mean miss rate stays below for all but a share of
  calibration sets.
- :func:`false_risk_threshold`, learn then test: the same for the false-list rate, which need not fall with the
  threshold.

Surveys without an observed species have no miss rate and are left out of the first two. An empty list has a false-list
rate of 0.

References
----------
Angelopoulos, Bates, Fisch, Lei & Schuster (2024), Conformal risk control, ICLR, arXiv:2208.02814.
Bates, Angelopoulos, Lei, Malik & Jordan (2021), Distribution-free, risk-controlling prediction sets, Journal of the
ACM 68, 43, doi:10.1145/3478535.
Angelopoulos, Bates, Candès, Jordan & Lei (2025), Learn then test: calibrating predictive algorithms to achieve risk
control, Annals of Applied Statistics 19, 1641-1662, arXiv:2110.01052.
Tibshirani, Barber, Candès & Ramdas (2019), Conformal prediction under covariate shift, NeurIPS, arXiv:1904.06019.
"""

# N calibration surveys, M surveys to be listed, B surveys of a block, S species, G thresholds of the grid, P pairs

from __future__ import annotations

import math

import numpy as np
import scipy.optimize
import scipy.stats
import torch

from releve.decide.blocks import lists_of_pairs, map_blocks
from releve.decide.grid import THRESHOLDS_G, counts_reached
from releve.errors import ConfigError, TableError
from releve.lists import Lists

Probs = np.ndarray | torch.Tensor


def miss_rate_thresholds(
    probs: Probs,
    truth: Lists,
    coverage: float,
    *,
    weights_N: np.ndarray | None = None,
    weights_M: np.ndarray | None = None,
) -> np.ndarray:
    """Return the highest thresholds whose lists miss no more than 1 - coverage on average, (M,).

    Conformal risk control: the threshold of a new survey of weight v is the highest t with

        (sum_i w_i miss_i(t) + v) / (sum_i w_i + v) <= 1 - coverage,

    the last term being the worst that the new survey itself could do. Without weights all are 1 and one threshold
    serves all surveys. With w and v the ratios of the density of the places to be listed to that of the calibration
    places, the bound holds for the former. A survey for which no threshold will do gets 0: all species.

    Parameters
    ----------
    probs
        (N, S) probabilities of calibration surveys, by models not trained on them; a memory map is read in blocks.
    truth
        Their observed sets. A species without a column is missed by every list.
    coverage
        Between 0 and 1: the least mean share of the observed species that are listed.
    weights_N
        Weights of the calibration surveys.
    weights_M
        Weights of the surveys to be listed; without them, one of weight 1.

    Raises
    ------
    ConfigError
        If ``coverage`` is not between 0 and 1.
    TableError
        If a probability is NaN or outside [0, 1], the numbers of surveys differ, no survey has an observed species,
        weights are not finite and positive or 0, or, without weights, no list could keep the promise: too few surveys
        or too many species without a column.

    Examples
    --------
    Nine surveys with one species each. At most (10 x .2) - 1 = 1 may be missed, so the threshold is the second lowest.

    >>> probs = np.linspace(0.1, 0.9, 9)[:, None]
    >>> miss_rate_thresholds(probs, Lists.from_rows([[0]] * 9), 0.8).round(2).tolist()
    [0.2]

    A new survey that weighs twice as much leaves no room, and all are listed:

    >>> miss_rate_thresholds(probs, Lists.from_rows([[0]] * 9), 0.8, weights_M=np.array([1.0, 2.0])).round(2).tolist()
    [0.2, 0.1]
    """
    check_coverage(coverage)
    _check_rows(probs, truth)
    own_M = np.ones(1) if weights_M is None else np.asarray(weights_M, dtype=np.float64)
    weights_N = np.ones(truth.num_surveys) if weights_N is None else np.asarray(weights_N, dtype=np.float64)
    _check_weights(weights_N, truth.num_surveys)
    _check_weights(own_M, len(own_M))
    value_P, mass_P, never = _observed_pairs(probs, truth, weights_N)
    total = float(weights_N[truth.lengths() > 0].sum())
    budget_M = (1 - coverage) * (total + own_M) - own_M
    if weights_M is None and budget_M[0] < never:
        needed = math.ceil(coverage / (1 - coverage))
        raise TableError(
            f"no list covers {coverage:.3g} of the observed species: {np.count_nonzero(truth.lengths())} calibration "
            f"surveys, {never / total:.1%} of whose species the model does not know",
            expected=f"at least {needed} surveys and less than {1 - coverage:.3g} unknown",
            action="Lower decide.coverage, or calibrate on more surveys",
        )
    return _highest_within(value_P, mass_P, budget_M - never)


def miss_risk_threshold(probs: Probs, truth: Lists, coverage: float, confidence: float = 0.9) -> float:
    """Return the highest threshold whose lists miss no more than 1 - coverage, at a confidence.

    Risk-controlling prediction sets with the Hoeffding-Bentkus bound: for all but a share 1 - confidence of
    calibration sets, the mean miss rate of the population is at most 1 - coverage.

    Parameters
    ----------
    probs, truth, coverage
        As for :func:`miss_rate_thresholds`.
    confidence
        Between 0 and 1.

    Raises
    ------
    ConfigError
        If ``coverage`` or ``confidence`` is not between 0 and 1.
    TableError
        If a probability is NaN or outside [0, 1], the numbers of surveys differ, no survey has an observed species,
        or there are too few surveys or too many unknown species for any list.

    Examples
    --------
    With 100 surveys of one species each, at most 4 may be missed to be sure of 10 % at 90 %.

    >>> probs = np.linspace(0.01, 1, 100)[:, None]
    >>> round(miss_risk_threshold(probs, Lists.from_rows([[0]] * 100), 0.9), 2)
    0.05
    """
    check_coverage(coverage)
    check_coverage(confidence, name="confidence")
    _check_rows(probs, truth)
    value_P, mass_P, never = _observed_pairs(probs, truth, np.ones(truth.num_surveys))
    num = int(np.count_nonzero(truth.lengths()))

    def excess(miss_rate: float) -> float:
        return float(hoeffding_bentkus(np.array([miss_rate]), num, 1 - coverage)[0]) - (1 - confidence)

    lowest = never / num
    if excess(lowest) > 0:
        raise TableError(
            f"no list covers {coverage:.3g} of the observed species at a confidence of {confidence:.3g}: {num} "
            f"calibration surveys, {lowest:.1%} of whose species the model does not know",
            expected=f"at least {_fewest(1 - coverage, confidence)} surveys that know all species",
            action="Lower decide.coverage or decide.confidence, or calibrate on more surveys",
        )
    # the p-value jumps where num x rate passes a whole number, so the pairs themselves are tried, not a root found
    good_P = hoeffding_bentkus((never + _mass_below(value_P, mass_P)) / num, num, 1 - coverage) <= 1 - confidence
    return float(value_P[good_P].max(initial=0.0))


def false_risk_threshold(probs: Probs, truth: Lists, coverage: float, confidence: float = 0.9) -> float:
    """Return the lowest threshold at which no more than 1 - coverage of the listed species are absent.

    Learn then test: the hypotheses that the mean false-list rate exceeds 1 - coverage are tested by the
    Hoeffding-Bentkus p-value from the highest of ``THRESHOLDS_G`` downwards, until one cannot be refused (fixed
    sequence testing). For all but a share 1 - confidence of calibration sets, the promise holds.

    Parameters
    ----------
    probs, truth, confidence
        As for :func:`miss_risk_threshold`.
    coverage
        Between 0 and 1: the least mean share of the listed species that are observed.

    Raises
    ------
    ConfigError
        If ``coverage`` or ``confidence`` is not between 0 and 1.
    TableError
        If a probability is NaN or outside [0, 1], the numbers of surveys differ or are 0, or there are too few surveys
        or too many false species even at the highest threshold.

    Examples
    --------
    A sure species that is there, and one of probability .2 that is not:

    >>> truth = Lists.from_rows([[0]] * 60)
    >>> 0.2 < false_risk_threshold(np.array([[0.99, 0.2]] * 60), truth, 0.8) < 0.21
    True
    """
    check_coverage(coverage)
    check_coverage(confidence, name="confidence")
    _check_rows(probs, truth)
    known = truth.to_csr(probs.shape[1])

    def work(first: int, block_BS: torch.Tensor) -> np.ndarray:
        listed_BG, hits_BG = counts_reached(block_BS, known[first : first + len(block_BS)].toarray())
        return np.asarray((1 - hits_BG / np.maximum(listed_BG, 1) - (listed_BG == 0)).sum(axis=0))

    rate_G = np.sum(map_blocks(work, probs, probs=True), axis=0) / truth.num_surveys
    refused_G = hoeffding_bentkus(rate_G, truth.num_surveys, 1 - coverage) <= 1 - confidence
    length = int(refused_G[::-1].cumprod().sum())
    if not length:
        raise TableError(
            f"no threshold keeps {coverage:.3g} of the listed species right at a confidence of {confidence:.3g}: with "
            f"{truth.num_surveys} calibration surveys, {rate_G[-1]:.1%} are wrong at {THRESHOLDS_G[-1]:.4f}",
            expected=f"at least {_fewest(1 - coverage, confidence)} surveys and a better model",
            action="Lower decide.coverage or decide.confidence, or calibrate on more surveys",
        )
    return float(THRESHOLDS_G[-length])


def hoeffding_bentkus(mean_risk: np.ndarray, num: int, limit: float) -> np.ndarray:
    """Return p-values of the hypothesis that a risk between 0 and 1 is over a limit, from its mean over surveys.

    The smaller of Hoeffding's exp(-num h(min(mean, limit), limit)), h(a, b) = a log(a / b) + (1 - a) log((1 - a) /
    (1 - b)), and Bentkus' e P(Binomial(num, limit) <= ceil(num mean)).

    Parameters
    ----------
    mean_risk
        Mean risks.
    num
        Surveys that each is the mean of.
    limit
        The limit.

    Examples
    --------
    >>> hoeffding_bentkus(np.array([0.0, 0.05, 0.2]), 100, 0.1).round(4).tolist()
    [0.0, 0.1565, 1.0]
    """
    mean = np.minimum(mean_risk, limit)
    hoeffding = np.exp(-num * (scipy.special.rel_entr(mean, limit) + scipy.special.rel_entr(1 - mean, 1 - limit)))
    whole = np.ceil(num * np.asarray(mean_risk) - 1e-9)  # a sum of shares that is 3 may have come out as 3.0000001
    return np.asarray(np.minimum(hoeffding, np.e * scipy.stats.binom.cdf(whole, num, limit)).clip(max=1.0))


def row_threshold_sets(probs: Probs, thresholds_N: np.ndarray) -> Lists:
    """Return the species of each survey whose probability reaches the threshold of the survey.

    Parameters
    ----------
    probs
        (N, S) probabilities.
    thresholds_N
        One for each survey, or one for all, (1,).

    Raises
    ------
    TableError
        If a probability is NaN or outside [0, 1], or the number of thresholds is neither N nor 1.

    Examples
    --------
    >>> row_threshold_sets(np.array([[0.2, 0.6], [0.2, 0.6]]), np.array([0.5, 0.1])).lengths().tolist()
    [1, 2]
    """
    if thresholds_N.shape not in ((1,), (len(probs),)):
        raise TableError(f"thresholds of shape {thresholds_N.shape}", expected=f"one for each of {len(probs)} surveys")
    thresholds_N = np.broadcast_to(thresholds_N, (len(probs),))

    def work(first: int, block_BS: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        cut_B = torch.as_tensor(thresholds_N[first : first + len(block_BS)].copy()).to(block_BS)
        rows, columns = (block_BS >= cut_B[:, None]).nonzero(as_tuple=True)
        return first + rows.cpu().numpy(), columns.cpu().numpy()

    return lists_of_pairs(map_blocks(work, probs, probs=True), len(probs))


def check_coverage(value: float, *, name: str = "coverage") -> None:
    """Refuse a share that no or every list would keep.

    Raises
    ------
    ConfigError
        If it is not between 0 and 1, both exclusive.
    """
    if not 0 < value < 1:
        raise ConfigError(
            f"{name} is {value:.6g}",
            expected="more than 0, which any list keeps, and less than 1, which only the list of all species or an "
            "empty one could keep",
        )


def _observed_pairs(probs: Probs, truth: Lists, weights_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the probability and weight of each observed known species, ascending, and the weight of the unknown.

    Every survey shares its weight equally among its observed species.
    """
    lengths_N = truth.lengths()
    if not lengths_N.any():
        raise TableError("no calibration survey has an observed species", expected="surveys with species")
    num_species = probs.shape[1]
    surveys, known = truth.surveys(), truth.indices < num_species
    share_P = weights_N[surveys] / lengths_N[surveys]
    rows, species = surveys[known], truth.indices[known]

    def work(first: int, block_BS: torch.Tensor) -> np.ndarray:
        pairs = slice(*np.searchsorted(rows, [first, first + len(block_BS)]))
        return block_BS[rows[pairs] - first, species[pairs]].double().cpu().numpy()

    value_P = np.concatenate(map_blocks(work, probs, probs=True))
    order = np.argsort(value_P, kind="stable")
    return value_P[order], share_P[known][order], float(share_P[~known].sum())


def _highest_within(value_P: np.ndarray, mass_P: np.ndarray, budget_M: np.ndarray) -> np.ndarray:
    """Return, for each budget, the highest value below which no more mass lies; 0 if the budget is negative."""
    num_M = np.searchsorted(_mass_below(value_P, mass_P), budget_M + 1e-9 * mass_P.sum(), side="right")
    highest_M = np.append(value_P, 0.0)[num_M - 1]
    return np.where(budget_M < 0, 0.0, highest_M)


def _mass_below(value_P: np.ndarray, mass_P: np.ndarray) -> np.ndarray:
    """Return how much mass lies below each of ascending values."""
    return np.concatenate([[0.0], mass_P.cumsum()])[np.searchsorted(value_P, value_P, side="left")]


def _fewest(limit: float, confidence: float) -> int:
    """Return the number of surveys without a fault from which a limit can be promised."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - limit))


def _check_weights(weights: np.ndarray, num: int) -> None:
    if weights.shape != (num,) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise TableError(
            f"weights of shape {weights.shape}, {np.count_nonzero(~np.isfinite(weights))} not finite, "
            f"{np.count_nonzero(weights < 0)} negative",
            expected=f"{num} weights of 0 or more, not all 0",
        )


def _check_rows(probs: Probs, truth: Lists) -> None:
    if len(probs) != truth.num_surveys or not len(probs):
        raise TableError(
            f"{len(probs)} rows of probabilities for {truth.num_surveys} observed sets",
            expected="the same surveys, one or more, in the same order",
            action="Fit on the calibration role, which must not be empty",
        )
