r"""The list with the highest expected F1, exactly, when species occur independently.

With Y_i ~ Bernoulli(p_i) independent and S = sum of all Y, a list H of k species has

    E[F1(H)] = E[ 2 |H n Y| / (k + S) ] = 2 sum_{i in H} p_i E[ 1 / (k + 1 + S_i) ],   S_i = S - Y_i,

and the best list of k species holds the k most probable. Instead of the usual dynamic programme over the
distribution of S, cubic in the number of species at worst, each inverse moment is written as an integral of
the probability generating function (Chao & Strawderman 1972), E[1 / (a + X)] = integral over t in [0, 1] of
t^(a - 1) E[t^X]:

    E[F1(k best)] = 2 integral_0^1  t^k  G(t)  sum_{i <= k} p_i / (1 - p_i + p_i t)  dt,
    G(t) = product over all species of (1 - p_i + p_i t).

The integrand is a polynomial without negative coefficients: Q Gauss-Legendre nodes give the integral without
cancellation, exactly if 2 Q >= k + number of species, and within the error bound of :func:`num_nodes`
otherwise. One pass yields all k at once: a cumulative sum over the species, best first.

Two bounds keep this short without giving up exactness. As F1 <= 2A / (k + A), A the number of hits, Jensen
gives E[F1(k best)] <= 2 m_k / (k + m_k) with m_k = p_1 + ... + p_k, which never rises with k: once it falls
to the best value found, no longer list can be better. And the species beyond the K best enter G(t) only,
through log(1 - p u) = - sum_r p^r u^r / r, u = 1 - t, hence through a few power sums.

The empty list has F1 1 on a plot on which nothing grows and 0 on any other, so that its expected F1 is the
probability of such a plot, product over all species of (1 - p_i).

References
----------
Dembczynski, Jachnik, Kotlowski, Waegeman & Hüllermeier (2013), Optimizing the F-measure in multi-label
classification: plug-in rule approach versus structured loss minimization, ICML, PMLR 28(3), 1130-1138.
Ye, Chai, Lee & Chieu (2012), Optimizing F-measures: a tale of two approaches, ICML, arXiv:1206.4625.
Chao & Strawderman (1972), Negative moments of positive random variables, Journal of the American Statistical
Association 67, 429-431, doi:10.1080/01621459.1972.10482404.
Trefethen (2008), Is Gauss quadrature better than Clenshaw-Curtis?, SIAM Review 50, 67-87,
doi:10.1137/060659831.
"""

# N surveys, B surveys of a block, S species, K best species, Q quadrature nodes, R powers

from __future__ import annotations

import functools
import math

import numpy as np
import torch

from releve.decide.blocks import best_first, lists_of_pairs, map_blocks
from releve.lists import Lists

TOLERANCE = 1e-11
"""Bound on the error of an expected F1 by quadrature, and again by the power sums."""

TIE = 1e-10
"""Of lists whose expected F1 differs by less, the shortest is taken."""

WORK_CELLS = 250_000
FIRST_K = 64
SHORTEST_K, LONGEST_K = 32, 256
TAIL_MAX = 0.1
UNTOLD = 0.04
"""A list of less expected F1 may hold species of .02 and, to be on the safe side, of .01."""


def expected_f1_sets(probs: np.ndarray | torch.Tensor) -> Lists:
    """Return, for each survey, the list with the highest expected F1 if species occur independently.

    The lists are exact up to 1e-10 of expected F1 (see the module's text); ties go to the shorter list and,
    between equally probable species, to the lower index. A list is empty where a plot without any species is the best
    guess.

    Parameters
    ----------
    probs
        (N, S) calibrated probabilities; worked through in blocks of rows, so a memory map may be larger than
        memory. A tensor is worked on where it lies.

    Raises
    ------
    TableError
        If a probability is NaN or outside [0, 1].

    References
    ----------
    See the module.

    Examples
    --------
    One sure species and two unlikely ones; five that are each as likely as not; and two that are hardly there.

    >>> probs = np.array([[1.0, 0.1, 0.1, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5, 0.5], [0.2, 0.1, 0.0, 0.0, 0.0]])
    >>> [row.tolist() for row in map(expected_f1_sets(probs).row, range(3))]
    [[0], [0, 1, 2, 3, 4], []]
    """
    num_species = probs.shape[-1]

    def work(first: int, block_BS: torch.Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
        rows = torch.arange(len(block_BS), device=block_BS.device)
        num_best, pairs = FIRST_K, []
        while len(rows):
            num_best = min(num_best, num_species)
            settled, sizes_B, columns_BK = _settle(block_BS[rows], num_best)
            taken_BK = torch.arange(num_best, device=rows.device) < sizes_B[:, None]
            surveys = first + rows[settled].repeat_interleave(sizes_B)
            pairs.append((surveys.cpu().numpy(), columns_BK[taken_BK].cpu().numpy()))
            rows, num_best = rows[~settled], 4 * num_best
        return pairs

    pairs = [pair for found in map_blocks(work, probs, probs=True) for pair in found]
    return lists_of_pairs(pairs, len(probs))


def expected_f1_sizes(
    best_first: tuple[np.ndarray, np.ndarray], moments_BR: np.ndarray, num_species: int
) -> np.ndarray:
    """Return (B,) the length of the list that :func:`expected_f1_sets` draws up, from the likelier species alone.

    It is -1 where they do not tell: where no list has an expected F1 of ``UNTOLD``, species that are not given may
    belong to the best one. (A species belongs to it from about half its expected F1 on.)

    Parameters
    ----------
    best_first
        (B,) how many species of each survey are given, and the probabilities of all of them, best first. Species that
        are not given may have .01 at most: of them the first powers are enough.
    moments_BR
        (B, R) sums of p, p^2, ... p^R over all species; four are enough for lengths that are exact up to 1e-8 of
        expected F1.
    num_species
        Number of all species.

    Examples
    --------
    >>> probs = np.array([[1.0, 0.1, 0.1, 0.0], [0.5, 0.5, 0.5, 0.5]])
    >>> moments = np.stack([(probs**power).sum(axis=1) for power in (1, 2, 3, 4)], axis=1)
    >>> expected_f1_sizes((np.array([3, 4]), probs[probs > 0]), moments, 4).tolist()
    [1, 4]
    """
    counts_B, probs_N = best_first
    ends_B, probs_N = np.cumsum(counts_B), np.append(probs_N, 0.0).astype(np.float64)
    needed_B = _enough((counts_B, probs_N[:-1]), moments_BR[:, 0])
    sizes_B, is_open_B, num_best = np.zeros(len(counts_B), np.int64), np.ones(len(counts_B), bool), SHORTEST_K // 2
    while is_open_B.any():
        num_best = min(2 * num_best, num_species)
        rows = np.flatnonzero(is_open_B & ((needed_B <= num_best) | (num_best == num_species)))
        if not len(rows):
            continue
        at_BK = (ends_B - counts_B)[rows, None] + np.arange(num_best)
        best_BK = np.where(at_BK < ends_B[rows, None], probs_N[np.minimum(at_BK, len(probs_N) - 1)], 0.0)
        settled = (best_BK[:, -1] <= TAIL_MAX) | (num_best == num_species)
        rest = np.minimum(ends_B[rows] - counts_B[rows] + num_best, ends_B[rows]), ends_B[rows]
        powers_BR = _powers_of_rest(best_BK, probs_N, rest, moments_BR[rows])[settled]
        best = torch.from_numpy(best_BK[settled])
        value_BK = _prefix_values(best, torch.from_numpy(powers_BR), num_species)
        top = value_BK.amax(dim=1)
        size = (1 + (value_BK >= top[:, None] - TIE).to(torch.uint8).argmax(dim=1)).numpy()
        log_empty = torch.log1p(-best).sum(dim=1).numpy() - powers_BR @ (1 / np.arange(1, powers_BR.shape[1] + 1))
        size[np.exp(log_empty) >= top.numpy() - TIE] = 0
        counts, best_value = counts_B[rows[settled]], np.maximum(np.exp(log_empty), top.numpy())
        all_seen = counts <= num_best
        size[all_seen & (counts < num_species) & (best_value < UNTOLD)] = -1
        if num_best < num_species:
            mass = best_BK[settled].sum(axis=1)
            proven = (2 * mass / (num_best + mass) <= top.numpy()) | all_seen
            settled[settled] = proven
            size = size[proven]
        sizes_B[rows[settled]], is_open_B[rows[settled]] = size, False
    return sizes_B


def _enough(best_first: tuple[np.ndarray, np.ndarray], mass_B: np.ndarray) -> np.ndarray:
    """Return (B,) how many of each survey's best species will most likely settle its list; a guess, nothing more.

    By Jensen, E[F1(k best)] is at least 2 m_k / (k + 1 + mass), and at most 2 m_k / (k + m_k), which never rises with
    k: where it has come down to the largest of the former, no longer list is better.
    """
    counts_B, probs_N = best_first
    most = min(int(counts_B.max(initial=0)), LONGEST_K)
    if not most:
        return np.full(len(counts_B), SHORTEST_K)
    at_BK, size_K = (np.cumsum(counts_B) - counts_B)[:, None] + np.arange(most), np.arange(1, most + 1)
    best_BK = np.where(np.arange(most) < counts_B[:, None], probs_N[np.minimum(at_BK, len(probs_N) - 1)], 0.0)
    held_BK = best_BK.cumsum(axis=1)
    least_B = (2 * held_BK / (size_K + 1 + mass_B[:, None])).max(axis=1)
    is_enough_BK = (2 * held_BK / (size_K + held_BK) <= least_B[:, None]) & (best_BK <= TAIL_MAX)
    found_B = np.where(is_enough_BK.any(axis=1), 1 + is_enough_BK.argmax(axis=1), 1 + most)
    return np.maximum(found_B, SHORTEST_K)


def _powers_of_rest(
    best_BK: np.ndarray, probs_N: np.ndarray, rest: tuple[np.ndarray, np.ndarray], moments_BR: np.ndarray
) -> np.ndarray:
    """Return (B, R) sums of p, p^2, ..., p^R over all species but the best.

    Of each survey ``rest`` says where the given ones that are not among the best begin and end.
    """
    powers, power_BK = [], np.ones_like(best_BK)
    for moment_B in moments_BR.T:
        power_BK *= best_BK
        powers.append(np.maximum(moment_B - power_BK.sum(axis=1), 0))
    first, end = rest
    some = np.flatnonzero(end > first)
    largest = min(float(probs_N[first[some]].max(initial=0.0)), TAIL_MAX)
    # Of each survey the sum from the first to the end: reduceat sums from one index to the next.
    bounds, power_N = np.stack([first[some], end[some]], axis=1).ravel(), np.append(probs_N, 0.0) ** len(powers)
    while _left_out(float(powers[0].max()), largest, len(powers)) > TOLERANCE:
        power_N[:-1] *= probs_N
        powers.append(np.zeros(len(best_BK)))
        powers[-1][some] = np.add.reduceat(power_N, bounds)[::2]
    return np.stack(powers, axis=1)


def _settle(probs_BS: torch.Tensor, num_best: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return which rows are settled by their ``num_best`` best species, and those rows' sizes and columns."""
    num_species = probs_BS.shape[1]
    best_BK, columns_BK = best_first(probs_BS, num_best)
    whole = num_best == num_species
    settled = torch.full((len(probs_BS),), True, device=probs_BS.device)
    if not whole:
        settled = best_BK[:, -1] <= TAIL_MAX
        if not settled.all():
            probs_BS, best_BK, columns_BK = probs_BS[settled], best_BK[settled], columns_BK[settled]
    best_BK = best_BK.double()
    powers_BR = None if whole else _power_sums(probs_BS, columns_BK, best_BK)
    value_BK = _prefix_values(best_BK, powers_BR, num_species)
    top = value_BK.amax(dim=1)
    size = 1 + (value_BK >= top[:, None] - TIE).to(torch.uint8).argmax(dim=1)
    size[_nothing_grows(probs_BS, top) >= top - TIE] = 0
    if not whole:
        mass = best_BK.sum(dim=1)
        proven = 2 * mass / (num_best + mass) <= top
        settled[settled.clone()] = proven
        size, columns_BK = size[proven], columns_BK[proven]
    return settled, size, columns_BK


def _nothing_grows(probs_BS: torch.Tensor, top_B: torch.Tensor) -> torch.Tensor:
    """Return (B,) the probability that a plot is empty, where that may reach ``top_B``, else 0.

    As 1 - p <= exp(-p), it is at most exp(-sum of all p): for most plots that is enough to know.
    """
    empty_B = torch.zeros_like(top_B)
    may = torch.exp(-0.999 * probs_BS.sum(dim=1)) >= top_B - TIE  # sums of float32 are right to a thousandth
    empty_B[may] = torch.log1p(-probs_BS[may].double()).sum(dim=1).exp()
    return empty_B


def _power_sums(probs_BS: torch.Tensor, columns_BK: torch.Tensor, best_BK: torch.Tensor) -> torch.Tensor:
    """Return (B, R) sums of p, p^2, ..., p^R over the species that are not among the best."""
    if not len(probs_BS):
        return best_BK
    rest_BS = probs_BS.double().scatter(1, columns_BK, 0.0)
    mass, largest = float(rest_BS.sum(dim=1).max()), float(best_BK[:, -1].max())
    half = 1
    while _left_out(mass, largest, 2 * half) > TOLERANCE:
        half += 1
    powers = rest_BS.new_empty(len(rest_BS), half + 1, rest_BS.shape[1])
    powers[:, 0] = 1.0
    for r in range(1, half + 1):
        torch.mul(powers[:, r - 1], rest_BS, out=powers[:, r])
    products = torch.bmm(powers, powers.transpose(1, 2))  # entry (a, b) is the sum of p^(a + b)
    return torch.cat([products[:, 0, 1:], products[:, half, 1:]], dim=1)


def _left_out(mass: float, largest: float, num_powers: int) -> float:
    """Return a bound on what log G lacks after so many powers: the sum over r > R of p^r u^r / r."""
    return mass * largest**num_powers / ((num_powers + 1) * (1 - largest))


def _prefix_values(best_BK: torch.Tensor, powers_BR: torch.Tensor | None, num_species: int) -> torch.Tensor:
    """Return (B, K) expected F1 of the 1, 2, ..., K best species, given the power sums of the others."""
    num_rows, num_best = best_BK.shape
    if not num_rows:
        return best_BK
    mass = best_BK.sum(dim=1) + (0.0 if powers_BR is None else powers_BR[:, 0])
    num = num_nodes(num_best, num_species, float(mass.max()))
    t_Q, weight_Q = (torch.from_numpy(x).to(best_BK.device) for x in _gauss_legendre(num))
    sizes_K = torch.arange(1, num_best + 1, device=best_BK.device)
    weight_QK = 2 * weight_Q[:, None] * t_Q[:, None] ** sizes_K
    values = []
    for first in range(0, num_rows, step := max(1, WORK_CELLS // (num * num_best))):
        p_B1K = best_BK[first : first + step, None, :]
        factor_BQK = 1 - p_B1K * (1 - t_Q)[:, None]
        product_BQ = factor_BQK.prod(dim=2)
        if powers_BR is not None:
            orders_R = torch.arange(1, powers_BR.shape[1] + 1, device=best_BK.device)
            series_RQ = (1 - t_Q) ** orders_R[:, None] / orders_R[:, None]
            product_BQ *= torch.exp(-powers_BR[first : first + step] @ series_RQ)
        share_BQK = (p_B1K / factor_BQK).cumsum_(dim=2).mul_(weight_QK)
        values.append(torch.bmm(product_BQ[:, None, :], share_BQK)[:, 0])
    return torch.cat(values)


def num_nodes(size: int, num_species: int, mass: float) -> int:
    """Return how many Gauss-Legendre nodes give E[F1] of up to ``size`` species within ``TOLERANCE``.

    Q nodes are exact up to degree 2 Q - 1, and the integrand has degree at most size + num_species - 1. With
    fewer, the error is at most (32/15) M rho^(-2 (Q - 1)) / (1 - rho^-2), where M bounds the integrand on the
    ellipse of foci 0 and 1 and parameter rho > 1 (Trefethen 2008, theorem 4.5, on an interval of length 1).
    Here |z| <= z0 = 1/2 + (rho + 1/rho) / 4 on the ellipse and, all coefficients being non-negative,
    M <= 2 mass z0^size exp(mass (z0 - 1)); the best rho of a grid is used.

    Parameters
    ----------
    size
        Length of the longest list.
    num_species
        Number of species, S.
    mass
        Sum of all probabilities.

    Examples
    --------
    >>> num_nodes(3, 5, 2.0), num_nodes(64, 10_000, 15.0)
    (8, 32)
    """
    rho = 1 + np.logspace(-3, 2, 200)
    reach = 0.5 + (rho + 1 / rho) / 4
    log_bound = math.log(64 / 15 * max(mass, 1.0) / TOLERANCE) - np.log1p(-(rho**-2))
    log_bound += size * np.log(reach) + mass * (reach - 1)
    enough = 1 + (log_bound / (2 * np.log(rho))).min()
    return 8 * math.ceil(min(enough, (size + num_species) / 2) / 8)


@functools.lru_cache(maxsize=64)
def _gauss_legendre(num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(num)
    return (nodes + 1) / 2, weights / 2


def expected_f1_value(probs_S: np.ndarray, chosen: int | np.ndarray | list[int]) -> float:
    """Return the expected F1 of one list, exactly, when species occur independently.

    Parameters
    ----------
    probs_S
        (S,) probabilities of one survey.
    chosen
        The indices of the listed species, or a number: so many of the most probable.

    Raises
    ------
    TableError
        If a probability is NaN or outside [0, 1].

    Examples
    --------
    With p = (1, 1/2), listing both gives F1 1 or 2/3 with equal chance, listing the first 1 or 2/3 as well.

    >>> [round(expected_f1_value(np.array([1.0, 0.5]), listed), 6) for listed in (2, [0], [1])]
    [0.833333, 0.833333, 0.333333]
    """
    (probs_1S,) = map_blocks(lambda _, block: block, np.array(probs_S, dtype=np.float64)[None], probs=True)
    if isinstance(chosen, int | np.integer):
        chosen = best_first(probs_1S, int(chosen))[1][0].numpy() if chosen else []
    listed = np.unique(np.asarray(chosen, dtype=np.int64))
    probs = probs_1S[0].numpy()
    if not len(listed):
        return float(np.prod(1 - probs))
    t_Q, weight_Q = _gauss_legendre(num_nodes(len(listed), len(probs), float(probs.sum())))
    product_Q = np.exp([np.log1p(-probs * (1 - t)).sum() for t in t_Q])
    share_Q = (probs[listed] / (1 - probs[listed] * (1 - t_Q[:, None]))).sum(axis=1)
    return float(2 * (weight_Q * t_Q ** len(listed) * product_Q * share_Q).sum())
