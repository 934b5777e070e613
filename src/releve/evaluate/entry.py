"""The scores of one model on held-out rows."""

# N surveys, S species, F folds

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from releve.evaluate.facts import FoldFacts
from releve.lists import Lists
from releve.metrics.cells import CellScores, score_cells
from releve.metrics.intervals import bootstrap_interval, percentile_interval, ratio_interval, resample_species_f1
from releve.metrics.ranks import RankScores, mean_defined, rank_scores
from releve.metrics.sets import SetScores, score_sets


@dataclass(frozen=True, eq=False)
class Entry:
    """One row of the table of scores."""

    name: str
    sets: SetScores
    ranks: RankScores
    low: float
    high: float
    """95 % interval of sF1 by a bootstrap over spatial blocks."""
    cells: CellScores | None = None
    """Sums over cells, where probabilities were scored."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """95 % intervals of other scores."""

    def row(self) -> dict[str, float | str]:
        """Return the numbers, by name."""
        row: dict[str, float | str] = {"model": self.name} | self.sets.summary()
        row |= {"sample_f1_low": self.low, "sample_f1_high": self.high}
        for name, (low, high) in self.intervals.items():
            row |= {f"{name}_low": low, f"{name}_high": high}
        row |= rank_row(self.ranks)
        if self.cells is not None:
            slope, intercept = self.cells.calibration()
            row |= {"brier": self.cells.brier(), "ece": self.cells.ece()}
            row |= {"calibration_slope": slope, "calibration_intercept": intercept}
        return row | {f"top_{k}_accuracy": value for k, value in self.ranks.top_k_accuracy.items()}


def rank_row(ranks: RankScores) -> dict[str, float | str]:
    """Return the means over species, by name."""
    return {
        "auc_macro": ranks.auc_macro,
        "ap_macro": ranks.ap_macro,
        "boyce": mean_defined(ranks.boyce_S),
        "num_species_scored": ranks.num_species_scored,
    }


def score_model(
    name: str,
    probs: torch.Tensor | NDArray,
    lists: Lists,
    truth: Lists,
    blocks: NDArray[np.int64],
    seed: int,
    facts: FoldFacts | None = None,
    listed: NDArray[np.int64] | None = None,
) -> Entry:
    """Return the scores of lists and probabilities, with intervals over blocks; ranks are within folds.

    Parameters
    ----------
    name
        What to call the model.
    probs, lists, truth
        (N, S) probabilities, the lists made of them, and the observed sets.
    blocks
        (N,) block of each survey.
    seed
        Seed of the bootstrap.
    facts
        Folds, training prevalence and frequency classes; by default one fold and one class.
    listed
        Positions of the surveys whose lists are scored; by default all. Random places beside records have none.
    """
    of_lists = (lists, truth, blocks) if listed is None else (lists.take(listed), truth.take(listed), blocks[listed])
    sets = score_sets(*of_lists[:2], probs.shape[1])
    low, high = bootstrap_interval(sets.per_survey_f1, of_lists[2], np.random.default_rng(seed))
    if facts is None:
        ranks, cells = rank_scores(probs, truth), score_cells(probs, truth)
    else:
        ranks = rank_within_folds(probs, truth, facts.fold_of_row)
        cells = score_cells(
            probs,
            truth,
            thresholds_FS=facts.prevalence_FS,
            fold_of_row=facts.fold_of_row,
            class_of_species=facts.class_of_species,
        )
    return Entry(
        name, sets, ranks, low, high, cells, _intervals(sets, *of_lists[:2], probs.shape[1], of_lists[2], seed)
    )


def _intervals(
    sets: SetScores, lists: Lists, truth: Lists, num_species: int, blocks: NDArray[np.int64], seed: int
) -> dict[str, tuple[float, float]]:
    observed, listed, hits = (sets.per_survey[name].to_numpy() for name in ("num_observed", "num_predicted", "num_hit"))
    macro = resample_species_f1(lists, truth, num_species, blocks, np.random.default_rng(seed))
    num_present = sets.per_species.filter(pl.col("num_true") > 0).height  # species unknown to the model have F1 0
    macro_R = np.nansum(macro, axis=1) / num_present if np.isfinite(macro).any() else np.zeros(0)
    values = {
        "precision": np.divide(hits, listed, out=np.zeros(len(hits)), where=listed > 0),
        "recall": np.divide(hits, observed, out=np.zeros(len(hits)), where=observed > 0),
        "richness_bias": (listed - observed).astype(float),
    }
    found = {"macro_f1": percentile_interval(macro_R)}
    found["micro_f1"] = ratio_interval(2 * hits, listed + observed, blocks, np.random.default_rng(seed))
    for name, value_N in values.items():
        found[name] = bootstrap_interval(value_N, blocks, np.random.default_rng(seed))
    return found


def rank_within_folds(probs: torch.Tensor | NDArray, truth: Lists, folds: NDArray[np.integer]) -> RankScores:
    """Return AUC, average precision and Boyce index of each species as means over the folds that define them.

    Surveys of different folds are scored by different models and must not be ranked against each other: a species
    that happens to be common in one fold is rare in the training rows of that fold's model, so that pooling would
    punish every model (Parker, Gunter & Bedo 2007, Stratification bias in low signal microarray studies).

    Examples
    --------
    Each fold ranks its one presence first, though the second fold's scores are all lower:

    >>> probs = np.array([[0.9], [0.8], [0.2], [0.1]])
    >>> truth = Lists.from_rows([[0], [], [0], []])
    >>> rank_within_folds(probs, truth, np.array([0, 0, 1, 1])).auc_macro, rank_scores(probs, truth).auc_macro
    (1.0, 0.75)
    """
    groups = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    parts = [(rows, rank_scores(probs[rows], truth.take(rows))) for rows in groups]
    auc_S, ap_S, boyce_S = (
        _mean_where_defined(np.stack(values_FS))
        for values_FS in zip(*((part.auc_S, part.ap_S, part.boyce_S) for _, part in parts), strict=True)
    )
    num_pairs = np.array([truth.take(rows).lengths().sum() for rows, _ in parts], float)
    top_k = {
        k: float(np.average([part.top_k_accuracy[k] for _, part in parts], weights=num_pairs))
        for k in parts[0][1].top_k_accuracy
    }
    return RankScores(
        auc_macro=mean_defined(auc_S),
        ap_macro=mean_defined(ap_S),
        num_species_scored=int(np.isfinite(auc_S).sum()),
        auc_S=auc_S,
        ap_S=ap_S,
        boyce_S=boyce_S,
        top_k_accuracy=top_k,
    )


def _mean_where_defined(values_FS: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (S,) means over the folds that are not NaN; NaN where all are."""
    defined = np.isfinite(values_FS)
    count, total = defined.sum(axis=0), np.where(defined, values_FS, 0).sum(axis=0)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
