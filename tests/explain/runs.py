"""Runs to explain: of members whose answer is known by heart, and trained ones, all on stores in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from releve import pipeline
from releve.config import Config, make_config
from releve.data.gather import Batch
from releve.data.statistics import Statistics, measure_statistics
from releve.decide.calibration import Calibration
from releve.decide.decision import Decision, KindDecision
from releve.runs.folder import Run
from releve.store.read import Store
from releve.train.loop import train_member
from releve.train.members import Member, fit_member, plan_members

TABLES = ("covariates", "survey", "location")


class Known:
    """A member that looks at warmth and cover alone: logits 2 x warmth, -warmth², -1 and, where cover is 2, +3 of -1.

    A missing warmth is 0. All other species have logit -4.
    """

    def __init__(self, statistics: Statistics, *, shift: float = 0.0) -> None:
        self.statistics, self.modalities, self.shift = statistics, tuple(statistics.tables), shift

    def __call__(self, batch: Batch) -> torch.Tensor:
        columns = self.statistics.tables["covariates"].columns
        values = torch.zeros(len(batch), len(columns))
        values[batch.places["covariates"]] = batch.values["covariates"].nan_to_num()
        warmth, cover = values[:, columns.index("warmth")], values[:, columns.index("cover")]
        logits = torch.full((len(batch), len(self.statistics.species_ids)), -4.0)
        logits[:, 0], logits[:, 1], logits[:, 2] = 2 * warmth, -warmth.square(), -1.0
        logits[:, 3] = -1.0 + 3.0 * (cover == 2)
        return logits + self.shift

    def state_dict(self) -> dict[str, Any]:
        return {}


def known_run(store: Store, folder: Path, *, shifts: tuple[float, ...] = (), records: bool = False) -> Run:
    """Return a run of one :class:`Known` a fold; ``shifts`` are added to the logits of each fold's."""
    content = {"data": {"records": "po", "splits": []}, "train": {"regime": "po"}} if records else {}
    config = make_config(
        {"model": {"modalities": list(TABLES)}, "split": {"block_size_km": 50}} | content, origin="test"
    )
    folds = range(store.manifest.num_folds)
    members = tuple(Member(fold, fold, 7 + fold, "known") for fold in folds)
    run = Run(folder, config, 0, members)
    models = []
    for fold in folds:
        rows = np.flatnonzero(store.folds != fold)
        statistics = measure_statistics(store, rows, TABLES, rng=np.random.default_rng(0))
        models.append(Known(statistics, shift=shifts[fold] if shifts else 0.0))
    known = KindDecision(calibration=Calibration())
    decision = Decision(rule="expected_f1", setting=None, kinds={"known": known})
    run.__dict__.update(store=store, models=tuple(models), decision=decision, device=torch.device("cpu"))
    return run


def train_run(store: Store, folder: Path, content: dict[str, Any]) -> Run:
    """Return a run that is trained as ``releve train`` does, on a store in memory."""
    config: Config = make_config(content, origin="test")
    members = plan_members(config, store, 0)
    for member in members:
        if member.kind == "network":
            train_member(store, member, config.model, config.train, config.split, folder / member.name)
        else:
            fit_member(store, member, config, folder / member.name)
    run = Run(folder, config, 0, tuple(members))
    run.__dict__["store"] = store
    pipeline.decide(run)
    return run
