"""Species of the virtual world: their niches, their commonness and their true probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from releve.simulate.covariates import COVER_GROUPS

NUM_OFFICIAL_IDS = 11_255
# by the modality that shows it: (axis, deviation of its slope over species, share of species that feel it)
LINEAR: dict[str, tuple[tuple[str, float, float], ...]] = {
    "covariates": (("continentality", 1.0, 0.7), ("sand", 1.6, 0.7), ("pressure", 1.0, 0.7)),
    "patch": (("canopy", 1.6, 0.8), ("rock", 1.6, 0.8), ("wet", 1.6, 0.8)),
    "landsat": (("deciduous", 1.6, 0.7), ("mown", 1.6, 0.7), ("opened", 1.6, 0.7)),
    "climate": (("warming", 1.9, 0.8), ("drying", 1.9, 0.8)),
}
# (axis, spread of optima, narrowest and widest tolerance): a bell on each axis, all covariates
BELLS = (("temperature", 1.2, 0.45, 1.1), ("rainfall", 1.2, 0.6, 1.4), ("acidity", 1.2, 0.5, 1.2))
COVER_STD = 1.5
SHARPNESS = 0.85  # scales every response: higher, and the oracle knows more

FEATURES: tuple[str, ...] = (
    "one",
    *(name for axis, *_ in BELLS for name in (axis, f"{axis}^2")),
    *(f"cover:{group}" for group in COVER_GROUPS),
    *(axis for axes in LINEAR.values() for axis, *_ in axes),
)


@dataclass(frozen=True)
class Species:
    """Niches of S species: ``logit p = features @ weights``.

    Attributes
    ----------
    species_id
        (S,) official ids, ascending, with gaps.
    weights
        (F, S) float32, one row per name of ``FEATURES``.
    prevalence
        (S,) expected share of places with the species.
    showiness
        (S,) how much observers like to record it, mean about 1.
    """

    species_id: NDArray[np.int64]
    weights: NDArray[np.float32]
    prevalence: NDArray[np.float64]
    showiness: NDArray[np.float64]

    def table(self) -> pl.DataFrame:
        """Return one row per species: id, prevalence, showiness and a column per weight."""
        columns = {"speciesId": self.species_id, "prevalence": self.prevalence, "showiness": self.showiness}
        return pl.DataFrame(columns | {f"w:{name}": row for name, row in zip(FEATURES, self.weights, strict=True)})


def make_features(axes: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float32]:
    """Return the (N, F) features of N places in N years from their axes.

    Parameters
    ----------
    axes
        The drivers at the place (see ``World.drivers``; ``cover`` is an IGBP class) and its latents
        (see ``surveys.LATENTS``), each (N,).
    """
    columns: list[NDArray[Any]] = [np.ones(len(axes["cover"]))]
    for axis, *_ in BELLS:
        columns += [axes[axis], axes[axis] ** 2]
    columns += [np.isin(axes["cover"], classes) for classes in COVER_GROUPS.values()]
    columns += [axes[axis] for axes_of in LINEAR.values() for axis, *_ in axes_of]
    return np.stack(columns, axis=1).astype(np.float32)


def make_species(
    num_species: int, features: NDArray[np.float32], rng: np.random.Generator, *, richness: float
) -> Species:
    """Return species whose mean probability over the sample of places follows a long-tailed commonness.

    Parameters
    ----------
    num_species
        S, at most 11,255.
    features
        (N, F) a sample of the world's places, for the intercepts.
    rng
        Source of randomness.
    richness
        Mean number of species at a place.
    """
    weights = np.zeros((len(FEATURES), num_species))
    row = {name: index for index, name in enumerate(FEATURES)}
    prevalence = make_commonness(num_species, richness, rng)
    # a common species is a generalist: its bells are wider
    breadth = 1 + 1.2 * np.clip(prevalence / 0.4, 0, 1)
    for axis, spread, narrow, wide in BELLS:
        optimum = rng.normal(0, spread, num_species) / breadth
        tolerance = rng.uniform(narrow, wide, num_species) * breadth
        weights[row[axis]] = optimum / tolerance**2
        weights[row[f"{axis}^2"]] = -0.5 / tolerance**2
    for group in COVER_GROUPS:
        weights[row[f"cover:{group}"]] = rng.normal(0, COVER_STD, num_species)
    for axes in LINEAR.values():
        for axis, std, share in axes:
            weights[row[axis]] = rng.normal(0, std, num_species) * (rng.random(num_species) < share)
    weights *= SHARPNESS
    weights[row["one"]] = solve_intercepts(features @ weights.astype(np.float32), prevalence)
    return Species(
        species_id=np.sort(rng.choice(NUM_OFFICIAL_IDS, num_species, replace=False)).astype(np.int64),
        weights=weights.astype(np.float32),
        prevalence=prevalence,
        showiness=rng.lognormal(-0.5, 1.0, num_species),
    )


def make_commonness(num_species: int, richness: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (S,) log-normal prevalences that sum to ``richness``; the commonest is on about 45 % of plots.

    Examples
    --------
    >>> commonness = make_commonness(300, 18.0, np.random.default_rng(0))
    >>> round(float(commonness.sum()), 1), bool(commonness.max() <= 0.48)
    (18.0, True)
    """
    mean = richness / num_species
    spread = 1.25 if mean > 0.02 else 2.0  # more species, a longer tail
    shape = np.exp(spread * rng.standard_normal(num_species))
    low, high = -20.0, 20.0
    for _ in range(80):  # a cap keeps the commonest from being everywhere, so scale until the sum fits
        middle = (low + high) / 2
        if np.minimum(shape * np.exp(middle), 0.45).sum() < richness:
            low = middle
        else:
            high = middle
    cap = 0.45 * rng.uniform(0.9, 1.06, num_species)
    capped = np.minimum(shape * np.exp(middle), cap)
    return capped * min(richness / capped.sum(), 0.48 / capped.max())


def solve_intercepts(logits: NDArray[np.float32], prevalence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (S,) intercepts such that ``sigmoid(logits + intercept)`` has the given mean in each column.

    Examples
    --------
    >>> intercepts = solve_intercepts(np.zeros((5, 1), np.float32), np.array([0.5]))
    >>> abs(float(intercepts[0])) < 1e-3
    True
    """
    low, high = np.full(len(prevalence), -60.0), np.full(len(prevalence), 60.0)
    for _ in range(24):
        middle = (low + high) / 2
        too_low = expit(logits + middle.astype(np.float32)).mean(axis=0) < prevalence
        low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
    return (low + high) / 2


def true_probabilities(species: Species, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (N, S) probabilities that each species grows at each place in its year."""
    return expit(features @ species.weights)


def oracle_sets(probs: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return the (N, S) sets of nearly best expected F1 that the true probabilities allow.

    The species are taken by falling probability; their number k maximises ``2 sum(top k p) / (k + sum p)``, the
    ratio of expectations in place of the expected ratio: within 0.01 sF1 of the exact optimum, as a test checks.

    Examples
    --------
    >>> oracle_sets(np.array([[0.9, 0.1, 0.8]])).tolist()
    [[True, False, True]]
    """
    order = np.argsort(-probs, axis=1, kind="stable")
    ranked = np.take_along_axis(probs, order, axis=1)
    sizes = np.arange(1, probs.shape[1] + 1)
    score = 2 * np.cumsum(ranked, axis=1) / (sizes + probs.sum(axis=1, keepdims=True))
    chosen = sizes <= score.argmax(axis=1)[:, None] + 1
    sets = np.zeros(probs.shape, bool)
    np.put_along_axis(sets, order, chosen, axis=1)
    return sets


def sample_f1(sets: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the (N,) F1 of each survey's set; 1 where both sets are empty.

    Examples
    --------
    >>> sample_f1(np.array([[True, True, False]]), np.array([[True, False, True]])).tolist()
    [0.5]
    """
    size = sets.sum(axis=1) + truth.sum(axis=1)
    return np.where(size == 0, 1.0, 2 * (sets & truth).sum(axis=1) / np.maximum(size, 1))
