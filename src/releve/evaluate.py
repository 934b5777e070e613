"""Score a run on its held-out folds, beside reference models, with intervals."""

# N surveys, S species

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator

from releve.decide import reliability_table, to_logits
from releve.decide.decision import DecideConfig, fit_decision
from releve.errors import nearest, pick
from releve.geo import block_ids, equal_area_crs, project
from releve.metrics import Lists, RankScores, SetScores, bootstrap_interval, rank_scores, score_sets
from releve.models.baselines import BASELINES
from releve.prepare.split import split_rows
from releve.store import Store

BOOTSTRAP_BLOCK_KM = 50.0
"""Surveys of one block are drawn together, since neighbours are alike."""


class EvaluateConfig(BaseModel):
    """What a run is compared with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    baselines: tuple[str, ...] = tuple(BASELINES)
    """Reference models fitted on the same folds."""

    @field_validator("baselines")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in BASELINES:
                raise ValueError(f"unknown baseline {name!r}, {nearest(name, BASELINES)}")
        return names


@dataclass(frozen=True, eq=False)
class Entry:
    """One row of the table of scores."""

    name: str
    sets: SetScores
    ranks: RankScores
    low: float
    high: float
    """95 % interval of sF1 by a bootstrap over spatial blocks."""

    def row(self) -> dict[str, float | str]:
        """Return the numbers, by name."""
        interval = {"sample_f1_low": self.low, "sample_f1_high": self.high}
        ranks = {"auc_macro": self.ranks.auc_macro, "ap_macro": self.ranks.ap_macro}
        top = {f"top_{k}_accuracy": value for k, value in self.ranks.top_k_accuracy.items()}
        return {"model": self.name} | self.sets.summary() | interval | ranks | top


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a model and of the reference models on the same held-out rows."""

    entries: list[Entry]
    surveys: pl.DataFrame
    """One row a held-out survey: id, place, fold, F1, observed and predicted richness."""
    species: pl.DataFrame
    """One row a species: id, counts, precision, recall, F1, AUC and average precision."""
    reliability: pl.DataFrame
    """Predicted against observed frequency."""

    def table(self) -> pl.DataFrame:
        """Return one row a model, the best first."""
        return pl.DataFrame([entry.row() for entry in self.entries]).sort("sample_f1", descending=True)


def score_model(
    name: str,
    probs: torch.Tensor | NDArray,
    lists: Lists,
    truth: Lists,
    blocks: NDArray[np.int64],
    seed: int,
    folds: NDArray[np.integer] | None = None,
) -> Entry:
    """Return the scores of lists and probabilities, with the interval of sF1 over blocks; ranks are within folds."""
    sets = score_sets(lists, truth, probs.shape[1])
    low, high = bootstrap_interval(sets.per_survey_f1, blocks, np.random.default_rng(seed))
    ranks = rank_scores(probs, truth) if folds is None else rank_within_folds(probs, truth, folds)
    return Entry(name, sets, ranks, low, high)


def rank_within_folds(probs: torch.Tensor | NDArray, truth: Lists, folds: NDArray[np.integer]) -> RankScores:
    """Return AUC and average precision of each species as means over the folds in which they are defined.

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
    parts = [(rows, rank_scores(probs[rows], truth.take(rows))) for rows in _rows_of_each(folds)]
    auc_S = _mean_where_defined(np.stack([part.auc_S for _, part in parts]))
    ap_S = _mean_where_defined(np.stack([part.ap_S for _, part in parts]))
    num_pairs = np.array([truth.take(rows).lengths().sum() for rows, _ in parts], float)
    top_k = {
        k: float(np.average([part.top_k_accuracy[k] for _, part in parts], weights=num_pairs))
        for k in parts[0][1].top_k_accuracy
    }
    return RankScores(
        auc_macro=float(auc_S[np.isfinite(auc_S)].mean()) if np.isfinite(auc_S).any() else float("nan"),
        ap_macro=float(ap_S[np.isfinite(ap_S)].mean()) if np.isfinite(ap_S).any() else float("nan"),
        num_species_scored=int(np.isfinite(auc_S).sum()),
        auc_S=auc_S,
        ap_S=ap_S,
        boyce_S=_mean_where_defined(np.stack([part.boyce_S for _, part in parts])),
        top_k_accuracy=top_k,
    )


def _rows_of_each(folds: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(folds == fold) for fold in np.unique(folds)]


def _mean_where_defined(values_FS: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (S,) means over the folds that are not NaN; NaN where all are."""
    defined = np.isfinite(values_FS)
    count, total = defined.sum(axis=0), np.where(defined, values_FS, 0).sum(axis=0)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def evaluate_held_out(
    store: Store,
    rows: NDArray[np.int64],
    probs: torch.Tensor,
    lists: Lists,
    config: EvaluateConfig,
    *,
    buffer_km: float,
    seed: int,
    name: str = "model",
) -> Evaluation:
    """Return the scores of held-out predictions, and of the reference models fitted on the same folds.

    Parameters
    ----------
    store
        The labelled store.
    rows
        Positions of the held-out rows.
    probs
        (N, S) calibrated probabilities of these rows, each by members not trained on it.
    lists
        Their species lists.
    config
        The reference models.
    buffer_km
        As in training.
    seed
        Seed of reference models and bootstrap.
    name
        What to call the model in the tables.
    """
    truth = store.labels.take(rows)
    lon, lat = store.lon[rows], store.lat[rows]
    blocks = block_ids(project(lon, lat, equal_area_crs(lon, lat)), BOOTSTRAP_BLOCK_KM)
    model = score_model(name, probs, lists, truth, blocks, seed, store.folds[rows])
    entries = [model]
    for baseline in config.baselines:
        base_probs, base_lists = held_out_baseline(store, rows, baseline, buffer_km=buffer_km, seed=seed)
        entries.append(score_model(baseline, base_probs, base_lists, truth, blocks, seed, store.folds[rows]))
    surveys = store.surveys[rows.tolist()].select("survey_id", "lon", "lat", "year", "country", "fold")
    surveys = surveys.with_columns(
        f1=model.sets.per_survey_f1, num_observed=truth.lengths(), num_predicted=lists.lengths()
    )
    ranks = pl.DataFrame(
        {
            "species_index": np.arange(len(store.species_ids)),
            "species_id": store.species_ids,
            "auc": model.ranks.auc_S,
            "average_precision": model.ranks.ap_S,
        }
    )
    species = ranks.join(model.sets.per_species, on="species_index", how="left").sort("species_index")
    return Evaluation(entries, surveys, species, reliability_table(probs, truth))


def assessment_groups(store: Store, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return groups of positions in ``rows`` that are decided by what was fitted on the other groups.

    They are the folds; within a single fold, two halves of its spatial blocks.
    """
    groups = _rows_of_each(store.folds[rows])
    if len(groups) == 1:
        lon, lat = store.lon[rows], store.lat[rows]
        blocks = block_ids(project(lon, lat, equal_area_crs(lon, lat)), BOOTSTRAP_BLOCK_KM)
        groups = _rows_of_each(np.random.default_rng(0).permutation(blocks.max() + 1)[blocks] % 2)
    return groups


def decide_held_out(
    logits: dict[str, torch.Tensor], truth: Lists, groups: list[NDArray[np.int64]], config: DecideConfig
) -> tuple[torch.Tensor, Lists]:
    """Return (N, S) probabilities and lists of held-out rows by calibrations and rules fitted on other groups.

    So no row is scored by a calibration, share or setting that it helped to fit.

    Parameters
    ----------
    logits
        By kind of member, (N, S) logits.
    truth
        The N observed sets.
    groups
        Positions of the rows of each group; a single group is decided by what is fitted on itself.
    config
        The rule.
    """
    probs = torch.empty_like(next(iter(logits.values())))
    pairs: list[tuple[NDArray, NDArray]] = []
    everything = np.arange(len(probs))
    for group in groups:
        others = np.setdiff1d(everything, group) if len(groups) > 1 else group
        decision = fit_decision({kind: z[others] for kind, z in logits.items()}, truth.take(others), config)
        probs[group] = decision.probs({kind: z[group] for kind, z in logits.items()})
        lists = decision.lists(probs[group])
        pairs.append((group[lists.surveys()], lists.indices))
    surveys, species = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return probs, Lists.from_pairs(surveys, species, len(probs))


def held_out_baseline(
    store: Store, rows: NDArray[np.int64], name: str, *, buffer_km: float, seed: int
) -> tuple[NDArray[np.float32], Lists]:
    """Return a reference model's calibrated probabilities of held-out rows, and its expected-F1 lists."""
    predict = pick(BASELINES, name, what="baseline")
    probs = np.zeros((len(rows), len(store.species_ids)), np.float32)
    for fold in np.unique(store.folds[rows]).tolist():
        train, _, _ = split_rows(store.folds, store.lon, store.lat, fold, buffer_km)
        train = train[store.is_scored[train]]
        inside = np.flatnonzero(store.folds[rows] == fold)
        probs[inside] = predict(store, train, store, rows[inside], seed)
    logits = torch.from_numpy(np.asarray(to_logits(np.clip(probs, 1e-6, 1 - 1e-6))))
    truth = store.labels.take(rows)
    decided, lists = decide_held_out({"baseline": logits}, truth, assessment_groups(store, rows), DecideConfig())
    return decided.numpy(), lists
