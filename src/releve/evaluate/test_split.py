"""Scores of plots that were kept apart from the first: the run and the reference models, decided alike."""

# N test plots, S species

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from releve.decide.decision import fit_decision
from releve.evaluate.entry import Entry, score_model
from releve.evaluate.evaluation import auc_gains, score_table
from releve.evaluate.facts import bootstrap_blocks
from releve.evaluate.held_out import fold_designs, logits_of, predict_reference, reference_rows
from releve.evaluate.references import REFERENCE_MODELS
from releve.evaluate.references.design import make_design
from releve.geo import nearest_km
from releve.lists import Lists
from releve.runs.folder import Run
from releve.runs.predict import predict_probs
from releve.store.read import Store

MOST_ROWS = 20_000
"""Of more test plots, reference models are not fitted again: it would take as long as the evaluation."""


def score_test_split(run: Run, target: Store) -> pl.DataFrame:
    """Return one row a model: its scores on the plots of a store that it was neither trained nor calibrated on.

    Reference models are fitted to all rows that the run learns from, and their lists are made by calibrations and
    rules that are fitted on held-out rows, as the run's are.

    Parameters
    ----------
    run
        A trained run.
    target
        Labelled plots; species that the run does not know count as missed. ``num_near`` says how many of them lie at
        or beside places that it learned from.
    """
    config, seed = run.config, run.seed
    truth = truth_of(run, target)
    blocks = bootstrap_blocks(target.lon, target.lat, config.split.block_size_km)
    probs = torch.cat([part.cpu() for _, part in predict_probs(run, target)])
    model = score_model(config.title or "model", probs, run.decision.lists(probs), truth, blocks, seed)
    entries: list[Entry] = [model]
    ranked: dict[str, torch.Tensor | NDArray] = {model.name: probs}
    names = [name for name in config.evaluate.references if name in REFERENCE_MODELS]
    if names and len(target) <= MOST_ROWS:
        folds = [member.fold for member in run.members if member.fold is not None]
        rows = np.flatnonzero(run.store.is_scored & np.isin(run.store.folds, folds))
        held_out = run.store.labels.take(rows)
        designs = fold_designs(run.store, rows, config, seed=seed)
        train = reference_rows(run.store, None, config)
        whole = make_design(run.store, train, target, np.arange(len(target)), config.model.modalities, seed)
        for name in names:
            logits = logits_of(predict_reference(designs, name, seed=seed))
            decision = fit_decision({name: logits}, held_out, config.decide)
            its_probs = decision.probs({name: logits_of(REFERENCE_MODELS[name](whole, seed))})
            entries.append(score_model(name, its_probs, decision.lists(its_probs), truth, blocks, seed))
            ranked[name] = its_probs
    gains = auc_gains(ranked, truth, np.zeros(len(target), np.int64), blocks, seed)
    table = score_table(entries, [], blocks, seed, gains if config.is_of_records_alone else None)
    return table.with_columns(num_near=pl.lit(num_near(run, target)), near_km=pl.lit(config.split.buffer_km))


def num_near(run: Run, target: Store) -> int:
    """Return how many places of a store are nearer to a plot that the run learned from than its folds' buffer.

    Of a run on records alone, to a place of theirs. Such places are hardly unknown to the run: the same plots, or their
    neighbours.
    """
    store = run.store
    learned = store.is_scored & (store.is_plot | (np.diff(store.labels.indptr) > 0))
    km = nearest_km(target.lon, target.lat, store.lon[learned], store.lat[learned])
    return int((km <= run.config.split.buffer_km).sum())


def truth_of(run: Run, target: Store) -> Lists:
    """Return the observed sets of a store as columns of the run; species that it does not know come after them."""
    known, theirs = run.species_ids, target.species_ids
    place = np.searchsorted(known, theirs)
    is_known = (place < len(known)) & (known[np.minimum(place, len(known) - 1)] == theirs)
    column = np.where(is_known, place, len(known) + np.cumsum(~is_known) - 1)
    return Lists.from_pairs(target.labels.surveys(), column[target.labels.indices], len(target))
