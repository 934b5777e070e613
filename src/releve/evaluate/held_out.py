"""Decide held-out rows by what was fitted on others, and predict them by reference models."""

# N surveys, S species

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from releve.config import Config
from releve.decide.calibration import to_logits
from releve.decide.config import DecideConfig
from releve.decide.decision import fit_decision
from releve.errors import pick
from releve.evaluate.facts import bootstrap_blocks
from releve.evaluate.references import REFERENCE_MODELS, SAMPLED_REFERENCE_MODELS
from releve.evaluate.references.design import Design, make_design
from releve.lists import Lists
from releve.store.read import Store
from releve.train.rows import fold_rows


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


def fold_designs(
    store: Store, rows: NDArray[np.int64], config: Config, *, seed: int
) -> list[tuple[NDArray[np.int64], Design]]:
    """Return what reference models are given: for each fold, positions in ``rows`` and their design.

    They get what the run gets: its tables, and the rows that its members of that fold are fitted on, less its buffer.
    """
    designs = []
    for fold in np.unique(store.folds[rows]).tolist():
        inside = np.flatnonzero(store.folds[rows] == fold)
        train = reference_rows(store, fold, config)
        designs.append((inside, make_design(store, train, store, rows[inside], config.model.modalities, seed)))
    return designs


def reference_rows(store: Store, fold: int | None, config: Config) -> NDArray[np.int64]:
    """Return the rows that reference models of a fold are fitted on: those that the run's members are, or draw on."""
    fitted = fold_rows(store, fold, config.split, config.train.regime)
    return fitted.plots if len(fitted.plots) else fitted.records


def predict_reference(designs: list[tuple[NDArray[np.int64], Design]], name: str, *, seed: int) -> NDArray[np.float32]:
    """Return a reference model's (N, S) probabilities of held-out rows; NaN for species that it did not model."""
    predict = pick(REFERENCE_MODELS | SAMPLED_REFERENCE_MODELS, name, what="reference model")
    num_rows = sum(len(inside) for inside, _ in designs)
    probs = np.zeros((num_rows, len(designs[0][1].store.species_ids)), np.float32)
    for inside, design in designs:
        probs[inside] = predict(design, seed)
    return probs


def held_out_reference(
    store: Store,
    rows: NDArray[np.int64],
    designs: list[tuple[NDArray[np.int64], Design]],
    name: str,
    config: DecideConfig,
    *,
    seed: int,
) -> tuple[NDArray[np.float32], Lists]:
    """Return a reference model's probabilities of held-out rows and its lists, calibrated and decided as the run's."""
    logits = logits_of(predict_reference(designs, name, seed=seed))
    decided, lists = decide_held_out({name: logits}, store.labels.take(rows), assessment_groups(store, rows), config)
    return decided.numpy(), lists


def logits_of(probs: NDArray[np.float32]) -> torch.Tensor:
    """Return a reference model's logits, none of them infinite, to be calibrated as the run's are."""
    return torch.from_numpy(np.asarray(to_logits(np.clip(probs, 1e-6, 1 - 1e-6))))


def _rows_of_each(folds: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
