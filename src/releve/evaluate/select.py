"""Choose settings by spatial cross-validation; presence-only models are scored on held-out target-group sites."""

# N held-out rows, S species

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import torch

from releve.config import Config, apply_override, make_config
from releve.data.gather import Gatherer
from releve.decide.calibration import Calibration
from releve.decide.expected_f1 import expected_f1_sets
from releve.errors import ConfigError
from releve.metrics.ranks import rank_scores
from releve.metrics.sets import score_sets
from releve.prepare.split import assign_folds
from releve.progress import progress_bar
from releve.store.read import Store
from releve.train.checkpoint import load_member
from releve.train.device import choose_device
from releve.train.loop import train_member
from releve.train.members import Member
from releve.train.rows import fold_rows
from releve.train.validate import predict_logits

CHOSEN = ("model", "records", "train")
BETWEEN_VALUES = re.compile(r",(?![^\[]*\])")
"""A comma that is not inside brackets."""
MEMBERS = ("train.regime", "train.num_folds", "train.kinds")
"""Fields that say what is trained; a candidate is one network a fold."""


def select_settings(
    config: Config, store: Store, trials: list[str], *, num_folds: int = 3, seed: int = 0, random_cv: bool = True
) -> pl.DataFrame:
    """Return one row a candidate, the best first.

    A candidate is trained once a fold. Regime ``po`` sees no plot: its held-out rows are presence-only ones, so that a
    species' presences are ranked against sites where other plants were recorded (the target group). Other regimes are
    scored on held-out plots.

    Parameters
    ----------
    config
        The recipe that the candidates vary.
    store
        Its store.
    trials
        ``section.field=value,value`` texts, lists in brackets; the candidates are all combinations.
    num_folds
        Spatial folds that are held out in turn.
    seed
        Of training and of the random folds.
    random_cv
        Also cross-validate over folds drawn at random, which flatters a model that remembers places: a column to warn
        with, never to choose by.

    Returns
    -------
    polars.DataFrame
        One column a varied field, then ``auc`` and ``ap`` (macro means over species and folds), ``auc_std`` over
        folds, ``sample_f1``, and ``random_auc`` where asked for. Null stands for what is not defined, in the last rows.

    Raises
    ------
    ConfigError
        If a trial is no ``section.field=value,value``, its field cannot be chosen here, or a value is impossible.
    """
    candidates = list(plan_candidates(config, trials))
    num_folds = min(num_folds, store.manifest.num_folds)
    if config.train.regime == "po":
        store = store.take(np.flatnonzero(~store.is_plot))
        squares = config.split.model_copy(update={"method": "blocks"})  # records name no country
        rng = np.random.default_rng(seed)
        dealt = assign_folds(store.lon, store.lat, squares, rng=rng, labels=store.labels)
        store = _with_folds(store, dealt)
    shuffled = np.random.default_rng(seed).permutation(store.folds)
    stores = {"": store} | ({"random_": _with_folds(store, shuffled)} if random_cv else {})
    rows = []
    with progress_bar() as bar:
        task = bar.add_task("select", total=len(candidates) * len(stores) * num_folds)
        for values, candidate in candidates:
            row: dict[str, Any] = dict(values)
            for prefix, folds in stores.items():
                scores = []
                for fold in range(num_folds):
                    scores.append(score_fold(candidate, folds, fold, seed, buffered=not prefix))
                    bar.advance(task)
                mean = {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
                if prefix:
                    row["random_auc"] = mean["auc"]
                else:
                    row |= mean | {"auc_std": float(np.std([score["auc"] for score in scores]))}
            rows.append(row)
    return (
        pl.DataFrame(rows, infer_schema_length=None)
        .with_columns(pl.col(pl.Float64).fill_nan(None))
        .sort("auc", descending=True, nulls_last=True)
    )


def plan_candidates(config: Config, trials: list[str]) -> Iterator[tuple[dict[str, str], Config]]:
    """Yield the varied fields and the configuration of every combination of values."""
    if not trials:
        raise ConfigError("nothing to try", expected="such as records.background=random,mixed")
    choices = []
    for text in trials:
        field, equals, values = text.partition("=")
        if not equals or not values or field.partition(".")[0] not in CHOSEN or field.strip() in MEMBERS:
            raise ConfigError(
                f"--try {text!r}",
                expected=f"section.field=value,value of the sections {', '.join(CHOSEN)}, but none of {list(MEMBERS)}",
            )
        choices.append([(field.strip(), value.strip()) for value in BETWEEN_VALUES.split(values)])
    for combination in product(*choices):
        content = config.model_dump(mode="json")
        for field, value in combination:
            apply_override(content, f"{field}={value}")
        yield dict(combination), make_config(content, origin="--try")


def score_fold(config: Config, store: Store, fold: int, seed: int, *, buffered: bool = True) -> dict[str, float]:
    """Return AUC, average precision (macro means over species) and sF1 of one candidate on one held-out fold.

    Epoch and calibration are those of the rows that the training holds back for selection.
    """
    split = config.split if buffered else config.split.model_copy(update={"buffer_km": 0.0})
    device = choose_device(config.train.device)
    member = Member(0, fold, 1000 * seed + fold)
    with TemporaryDirectory() as name:
        folder = Path(name)
        train_member(store, member, config.model, config.train, split, folder, records=config.records)
        model = load_member(folder, config.model, device)
        best = json.loads((folder / "member.json").read_text(encoding="utf-8"))
    val = fold_rows(store, fold, split, config.train.regime).held_out
    gatherer = Gatherer(store, model.modalities, model.statistics.categories)
    logits, truth = torch.cat(list(predict_logits(model, gatherer, val, device))), store.labels.take(val)
    lists = expected_f1_sets(Calibration(**best["calibration"]).apply(logits))
    ranks, sets = rank_scores(logits, truth), score_sets(lists, truth, len(store.species_ids))
    return {"auc": ranks.auc_macro, "ap": ranks.ap_macro, "sample_f1": sets.sample_f1}


def _with_folds(store: Store, folds: np.ndarray) -> Store:
    return replace(store, surveys=store.surveys.with_columns(fold=pl.Series(folds)))
