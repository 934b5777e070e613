"""Score a run and the reference models on the same held-out rows: entries and tables."""

# N surveys, S species

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from releve.config import Config
from releve.evaluate import tables
from releve.evaluate.coverage import coverage_table
from releve.evaluate.entry import Entry, rank_row, rank_within_folds, score_model
from releve.evaluate.facts import FoldFacts, bootstrap_blocks, measure_folds
from releve.evaluate.held_out import fold_designs, held_out_reference, predict_reference
from releve.evaluate.references import SAMPLED_REFERENCE_MODELS
from releve.evaluate.references.design import Design
from releve.lists import Lists
from releve.metrics.auc import Difference, auc_difference
from releve.metrics.intervals import bootstrap_interval
from releve.metrics.ranks import mean_defined
from releve.progress import say
from releve.store.read import Store


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a model and of the reference models on the same held-out rows."""

    entries: list[Entry]
    surveys: pl.DataFrame
    """One row a held-out survey: id, place, fold, F1, counts, distance to the nearest training plot, novelty."""
    species: pl.DataFrame
    """One row a species: id, frequency, counts, precision, recall, F1, AUC and more."""
    reliability: pl.DataFrame
    """Predicted against observed frequency."""
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    """All tables by name, as written to files: scores, surveys, species, frequency_classes, countries, regions,
    distances, novelties, reliability, calibration, folds, examples, coverage."""

    def table(self) -> pl.DataFrame:
        """Return one row a model that is compared, the best first, to be printed: NaN for what is not defined."""
        scores = self.tables["scores"]
        if "auc_gain" not in scores.columns:
            scores = scores.filter(pl.col("sample_f1").is_not_null())
        return scores.with_columns(pl.col(pl.Float64).fill_null(float("nan")))


def evaluate_held_out(
    store: Store,
    rows: NDArray[np.int64],
    probs: torch.Tensor,
    lists: Lists,
    config: Config,
    *,
    seed: int,
    promised: Lists | None = None,
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
        The recipe of the run: which reference models there are, and what they get as the run does.
    seed
        Seed of reference models and bootstrap.
    promised
        Conformal lists of the same rows, whose coverage is told.

    Raises
    ------
    TableError
        If a probability is NaN or outside [0, 1].
    """
    truth = store.labels.take(rows)
    blocks = bootstrap_blocks(store.lon[rows], store.lat[rows], config.split.block_size_km)
    facts = measure_folds(store, rows, config.split.buffer_km)
    listed = np.flatnonzero(store.is_plot[rows] | (truth.lengths() > 0))  # random places beside records have no list
    model = score_model(config.title or "model", probs, lists, truth, blocks, seed, facts, listed)
    entries, sampled = [model], []
    ranked: dict[str, torch.Tensor | NDArray] = {model.name: probs} if config.is_of_records_alone else {}
    designs = fold_designs(store, rows, config, seed=seed) if config.evaluate.references else []
    for reference in config.evaluate.references:
        if reference in SAMPLED_REFERENCE_MODELS:
            found, its_ranked = _rank_sampled(designs, reference, truth, facts, model, seed=seed)
            sampled += found
            ranked |= its_ranked if ranked else {}
        else:
            its_probs, its_lists = held_out_reference(store, rows, designs, reference, config.decide, seed=seed)
            entries.append(score_model(reference, its_probs, its_lists, truth, blocks, seed, facts, listed))
            ranked |= {reference: its_probs} if ranked else {}
    gains = auc_gains(ranked, truth, facts.fold_of_row, blocks, seed)
    lists, truth, blocks = lists.take(listed), truth.take(listed), blocks[listed]
    surveys = tables.survey_table(store, rows[listed], model, facts.take(listed))
    species = tables.species_table(store, model, facts)
    assert model.cells is not None
    reliability, calibration = tables.cell_tables(model.cells)
    by_group = tables.survey_groups(surveys, blocks, seed)
    everything = {
        "scores": score_table(entries, sampled, blocks, seed, gains),
        "surveys": surveys,
        "species": species,
        "frequency_classes": tables.frequency_table(species, model, lists, truth, blocks, seed),
        **by_group,
        "reliability": reliability,
        "calibration": calibration,
        "folds": facts.table,
        "examples": tables.example_table(surveys, store, probs, lists, truth),
    }
    if promised is not None:
        groupings = {"country": _named(surveys["country"]), "distance": tables.distance_classes(surveys)}
        everything["coverage"] = coverage_table(promised.take(listed), truth, groupings, blocks=blocks, seed=seed)
    return Evaluation(entries, surveys, species, model.cells.reliability(), everything)


def _named(values: pl.Series) -> NDArray:
    return values.cast(pl.String).fill_null("unknown").to_numpy()


def auc_gains(
    ranked: Mapping[str, torch.Tensor | NDArray],
    truth: Lists,
    fold_of_row: NDArray[np.int64],
    blocks: NDArray[np.int64],
    seed: int,
) -> dict[str, Difference]:
    """Return the first model's gain in AUC over each of the others, on the species that both rank."""
    found = {}
    (ours, *others) = ranked or [""]
    for name in others:
        columns = np.flatnonzero(np.isfinite(np.asarray(ranked[name])).all(axis=0))
        at = np.full(max(ranked[name].shape[1], int(truth.indices.max(initial=0)) + 1), -1)
        at[columns] = np.arange(len(columns))
        kept = at[truth.indices] >= 0
        part = Lists.from_pairs(truth.surveys()[kept], at[truth.indices[kept]], truth.num_surveys)
        first, second = (np.asarray(ranked[each])[:, columns] for each in (ours, name))
        found[name] = auc_difference(first, second, part, fold_of_row, blocks, np.random.default_rng(seed))
    return found


def score_table(
    entries: list[Entry],
    sampled: list[dict[str, float | str]],
    blocks: NDArray[np.int64],
    seed: int,
    auc_gains: Mapping[str, Difference] | None = None,
) -> pl.DataFrame:
    """Return one row a model, the best first, those that score a sample of species last.

    ``gain`` is the run's sF1 minus that of the row's model on the same surveys, with the interval over the same
    resampled blocks, so that what makes a survey hard for every model cancels out. ``auc_of_run`` is the run's AUC on
    the species that the row's model has an AUC for. Where models were ranked, ``auc_gain`` is the run's AUC minus that
    of the row's model with an interval over the same blocks, and the best is the one with the highest AUC: of records
    and random places, lists say little.
    """
    model = entries[0]
    rows = []
    for entry in entries:
        row = entry.row() | {"is_model": entry is model, "auc_of_run": _auc_on_same(model, entry.ranks.auc_S)}
        if entry is not model:
            gain = model.sets.per_survey_f1 - entry.sets.per_survey_f1
            low, high = bootstrap_interval(gain, blocks, np.random.default_rng(seed))
            row |= {"gain": float(gain.mean()), "gain_low": low, "gain_high": high}
        rows.append(row)
    by = "auc_macro" if auc_gains else "sample_f1"
    rows = sorted(rows, key=lambda row: -float(row[by])) + sampled
    for row in rows if auc_gains else []:
        name = str(row["model"]).partition(" (")[0]
        told = auc_gains[name] if auc_gains and name in auc_gains else Difference(np.nan, np.nan, np.nan)
        row |= {"auc_gain": told.gain, "auc_gain_low": told.low, "auc_gain_high": told.high}
    first = ["model", "is_model", *(f"sample_f1{end}" for end in ("", "_low", "_high"))]
    table = pl.DataFrame(rows, infer_schema_length=None)
    missing = [name for name in ("gain", "gain_low", "gain_high") if name not in table.columns]
    table = table.with_columns(pl.lit(None, pl.Float64).alias(name) for name in missing)
    return tables.without_nan(table.select(*first, pl.exclude(first)))


def _auc_on_same(model: Entry, auc_S: NDArray[np.float64]) -> float:
    return mean_defined(np.where(np.isfinite(auc_S), model.ranks.auc_S, np.nan))


def _rank_sampled(
    designs: list[tuple[NDArray[np.int64], Design]],
    name: str,
    truth: Lists,
    facts: FoldFacts,
    model: Entry,
    *,
    seed: int,
) -> tuple[list[dict[str, float | str]], dict[str, torch.Tensor | NDArray]]:
    """Return the row of a model that is fitted to a sample of species, and its scores; none where it cannot run."""
    try:
        probs = predict_reference(designs, name, seed=seed)
    except ImportError as error:
        say(f"the reference model {name} is left out: {error}")
        return [], {}
    columns = np.flatnonzero(np.isfinite(probs).all(axis=0))
    if not len(columns):
        say(f"the reference model {name} is left out: no species has enough training plots in every fold")
        return [], {}
    at = np.full(max(probs.shape[1], int(truth.indices.max(initial=0)) + 1), -1)
    at[columns] = np.arange(len(columns))
    kept = at[truth.indices] >= 0
    part = Lists.from_pairs(truth.surveys()[kept], at[truth.indices[kept]], truth.num_surveys)
    ranks = rank_within_folds(probs[:, columns], part, facts.fold_of_row)
    auc_S = np.full(probs.shape[1], np.nan)
    auc_S[columns] = ranks.auc_S
    label: dict[str, float | str] = {"model": f"{name} ({len(columns)} species)", "is_model": False}
    return [label | rank_row(ranks) | {"auc_of_run": _auc_on_same(model, auc_S)}], {name: probs}
