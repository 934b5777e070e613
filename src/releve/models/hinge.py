"""Hinge regression, the family of MaxEnt: for each species a penalised logistic regression on hinges, no iteration."""

# B batch, N rows, M rows of one species, C columns, K features, S species

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from releve.data.gather import Batch, Gatherer
from releve.data.statistics import Statistics
from releve.models.background import Background, background_of
from releve.models.fitted import FittedModel
from releve.models.places import EvenColumns

KNOTS = (-0.8, -0.48, -0.16, 0.16, 0.48, 0.8)
"""Where hinges begin, on a scale on which the training rows are spread evenly from -1 to 1."""
PENALTY = 33.0
"""Weight of half the sum of squared coefficients against the log-likelihood, in which each presence counts 1."""
MOST_RANDOM = 3000
"""Random places that are looked at; more hardly change a mean."""
LEAST_OTHERS, OTHERS_A_PRESENCE = 3000, 10
"""Other places that a species is compared with: all, or a sample of as many as this at least."""
LEAST_SPREAD = 0.05
"""A feature that varies less is not stretched: what is all but constant in training would weigh most where it is not,
such as the square of a number of two values where that number is missing."""
MAX_STEPS = 20
CLOSE = 1e-3
"""Steps end where no coefficient moves farther."""


class HingeFeatures:
    """Turns the tables of a batch into linear, quadratic, hinge and category features."""

    def __init__(self, statistics: Statistics) -> None:
        """Look up quantiles and codes of the training rows."""
        self.even = EvenColumns(statistics)

    def of(self, batch: Batch) -> Tensor:
        """Return (B, K) float32 features, on the CPU; NaN for those of what is missing."""
        numbers_BC, codes_BC = self.even.of(batch)
        hinges = [(numbers_BC - knot).clamp(min=0) for knot in KNOTS]
        return torch.cat([numbers_BC, numbers_BC**2, *hinges, codes_BC], dim=1)


class HingeModel(FittedModel[HingeFeatures]):
    """Logits that are linear in hinge features."""

    mean_K: Tensor
    scale_K: Tensor
    weight_KS: Tensor
    bias_S: Tensor

    def __init__(self, statistics: Statistics, tensors: dict[str, Tensor]) -> None:
        """Make a model of what was fitted, or of what was saved."""
        super().__init__(statistics, HingeFeatures(statistics), tensors)

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Tensor:
        """Return (B, S) float32 logits."""
        return standardise(self.features.of(batch), self.mean_K, self.scale_K) @ self.weight_KS + self.bias_S


def standardise(features_NK: Tensor, mean_K: Tensor, scale_K: Tensor) -> Tensor:
    """Return features with the mean 0; what is missing is at the mean, and so says nothing."""
    return torch.nan_to_num((features_NK - mean_K) / scale_K, nan=0.0)


def fit_hinge(gatherer: Gatherer, rows: NDArray[np.int64], statistics: Statistics, *, seed: int) -> HingeModel:
    """Return hinge regressions of all species.

    Presences and background weigh the same in total, so that what is fitted is where a species is against where it
    could have been recorded; then the logits are shifted to its share of the rows. The likelihood of a presence counts
    the same for all species, so that one penalty holds back those of few records most.

    Parameters
    ----------
    gatherer, rows
        What gathers the training rows, and where they are.
    statistics
        Those of the training rows.
    seed
        Draws rows where there are very many.

    References
    ----------
    Fithian & Hastie (2013), Finite-sample equivalence in statistical models for presence-only data,
    doi:10.1214/13-AOAS667. Phillips, Anderson, Dudik, Schapire & Blair (2017), Opening the black box: an open-source
    release of Maxent, doi:10.1111/ecog.03049: the features.
    """
    store, num_species = gatherer.store, len(statistics.species_ids)
    labels = store.labels.take(rows)
    features_NK = HingeFeatures(statistics).of(gatherer.batch(rows))
    known = background_of(store.is_random[rows], is_target_group=store.is_target_group)
    sites_NK = features_NK[known.sites]
    mean_K = torch.nan_to_num(sites_NK.nanmean(dim=0))
    scale_K = torch.nan_to_num((sites_NK - mean_K).square().nanmean(dim=0).sqrt())
    scale_K[scale_K < LEAST_SPREAD] = 1.0
    features_NK = standardise(features_NK, mean_K, scale_K)
    found = labels.to_csr(num_species).tocsc()

    def fit(species: int) -> tuple[Tensor, float]:
        present = found.indices[found.indptr[species] : found.indptr[species + 1]]
        chosen, weight_M = compared_with(present, known, np.random.default_rng([seed, species]))
        return fit_logistic(features_NK[chosen], len(present), torch.from_numpy(weight_M))

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        weights, biases = zip(*pool.map(fit, range(num_species)), strict=True)
    share_S = torch.from_numpy(np.diff(found.indptr) / len(known.sites))
    bias_S = torch.tensor(biases, dtype=torch.float64) + torch.logit(share_S, eps=1e-6)
    tensors = {"mean_K": mean_K, "scale_K": scale_K, "weight_KS": torch.stack(weights, dim=1), "bias_S": bias_S.float()}
    return HingeModel(statistics, tensors).eval()


def compared_with(
    present: NDArray[np.integer], known: Background, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows of a species, those it is compared with, and their weights; both weigh the same in total.

    Examples
    --------
    >>> known = Background(np.arange(4), np.array([4, 5]), random_share=0.25)
    >>> rows, weights = compared_with(np.array([1, 3]), known, np.random.default_rng(0))
    >>> rows[:4].tolist(), sorted(rows[4:].tolist()), weights.tolist()
    ([1, 3, 0, 2], [4, 5], [1.0, 1.0, 0.75, 0.75, 0.25, 0.25])
    """
    others = np.setdiff1d(known.sites, present)
    most = max(LEAST_OTHERS, OTHERS_A_PRESENCE * len(present))
    if len(others) > most:
        others = rng.choice(others, most, replace=False)
    random = rng.permutation(known.random)[:MOST_RANDOM]
    share = known.random_share if len(others) else float(len(random) > 0)
    parts = ((len(present), 1.0), (len(others), 1 - share), (len(random), share))
    weights = [
        np.full(number, 1.0 if i == 0 else len(present) * total / max(number, 1), np.float32)
        for i, (number, total) in enumerate(parts)
    ]
    return np.concatenate([present, others, random]).astype(np.int64), np.concatenate(weights)


def fit_logistic(features_MK: Tensor, num_present: int, weight_M: Tensor) -> tuple[Tensor, float]:
    """Return the (K,) coefficients and the intercept of a penalised logistic regression, by Newton's method.

    Parameters
    ----------
    features_MK
        float32; the first ``num_present`` rows are presences.
    num_present
        Without any, or without other rows, everything is 0.
    weight_M
        Of each row in the log-likelihood.
    """
    num_features = features_MK.shape[1]
    if not 0 < num_present < len(features_MK):
        return torch.zeros(num_features), 0.0
    x_MK = torch.cat([features_MK, torch.ones(len(features_MK), 1)], dim=1)
    present_M = (torch.arange(len(x_MK)) < num_present).float()
    penalty_K = torch.full((num_features + 1,), PENALTY, dtype=torch.float64)
    penalty_K[-1] = 1e-6  # the intercept is free
    beta_K = torch.zeros(num_features + 1, dtype=torch.float64)
    for _ in range(MAX_STEPS):
        prob_M = torch.sigmoid(x_MK @ beta_K.float())
        gradient_K = (x_MK.T @ (weight_M * (prob_M - present_M))).double() + penalty_K * beta_K
        curvature_KK = (x_MK.T @ (x_MK * (weight_M * prob_M * (1 - prob_M))[:, None])).double()
        step_K = torch.linalg.solve(curvature_KK + penalty_K.diag(), gradient_K)
        beta_K -= step_K
        if float(step_K.abs().max()) < CLOSE:
            break
    return beta_K[:-1].float(), float(beta_K[-1])
