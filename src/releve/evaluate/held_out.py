"""Decide held-out rows by what was fitted on others, and predict them by reference models."""

# N surveys, S species

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from releve.decide.calibration import to_logits
from releve.decide.config import DecideConfig
from releve.decide.decision import fit_decision
from releve.errors import pick
from releve.evaluate.facts import bootstrap_blocks
from releve.evaluate.references import REFERENCE_MODELS, SAMPLED_REFERENCE_MODELS
from releve.lists import Lists
from releve.prepare.split import split_rows
from releve.store.read import Store


def assessment_groups(store: Store, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return groups of positions in ``rows`` that are decided by what was fitted on the other groups.

    They are the folds; within a single fold, two halves of its spatial blocks.
    """
    groups = _rows_of_each(store.folds[rows])
    if len(groups) == 1:
        blocks = bootstrap_blocks(store.lon[rows], store.lat[rows])
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


def predict_reference(
    store: Store, rows: NDArray[np.int64], name: str, *, buffer_km: float, seed: int
) -> NDArray[np.float32]:
    """Return a reference model's (N, S) probabilities of held-out rows, fitted on the training plots of their folds.

    Columns of species that it did not model are NaN.
    """
    predict = pick(REFERENCE_MODELS | SAMPLED_REFERENCE_MODELS, name, what="reference model")
    probs = np.zeros((len(rows), len(store.species_ids)), np.float32)
    for fold in np.unique(store.folds[rows]).tolist():
        train, _, _ = split_rows(store.folds, store.lon, store.lat, fold, buffer_km, store.reach_km)
        train = train[store.is_scored[train]]
        inside = np.flatnonzero(store.folds[rows] == fold)
        probs[inside] = predict(store, train, store, rows[inside], seed)
    return probs


def held_out_reference(
    store: Store, rows: NDArray[np.int64], name: str, *, buffer_km: float, seed: int
) -> tuple[NDArray[np.float32], Lists]:
    """Return a reference model's calibrated probabilities of held-out rows, and its expected-F1 lists."""
    probs = predict_reference(store, rows, name, buffer_km=buffer_km, seed=seed)
    logits = torch.from_numpy(np.asarray(to_logits(np.clip(probs, 1e-6, 1 - 1e-6))))
    truth = store.labels.take(rows)
    decided, lists = decide_held_out({"reference": logits}, truth, assessment_groups(store, rows), DecideConfig())
    return decided.numpy(), lists


def _rows_of_each(folds: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
