"""A run folder: its recipe, its members and its decision; the record of how it came about."""

# B batch, S species

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import releve
from releve.config import Config, make_config
from releve.data import Gatherer
from releve.decide.decision import Decision
from releve.errors import RunError
from releve.files import write_json
from releve.models import SpeciesModel
from releve.models.forest import ForestModel
from releve.store import Store, open_store
from releve.train import Member, choose_device, load_member, predict_logits

PACKAGES = ("torch", "timm", "numpy", "polars", "scikit-learn", "rasterio", "pydantic")


@dataclass(frozen=True)
class Run:
    """A trained run."""

    path: Path
    config: Config
    seed: int
    members: tuple[Member, ...]

    @cached_property
    def decision(self) -> Decision:
        """Calibration and rule."""
        return Decision.model_validate_json((self.path / "decision.json").read_text(encoding="utf-8"))

    @cached_property
    def store(self) -> Store:
        """The store the run was trained on."""
        record = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        return open_store((self.path / record["store"]).resolve())

    @cached_property
    def device(self) -> torch.device:
        """Where it predicts."""
        return choose_device(self.config.train.device)

    @cached_property
    def models(self) -> tuple[SpeciesModel | ForestModel, ...]:
        """The trained models, in the order of the members."""
        return tuple(load_member(self.path / m.name, self.config.model, self.device) for m in self.members)

    @cached_property
    def species_ids(self) -> NDArray[np.int64]:
        """(species,) official ids of the columns."""
        return np.array(self.models[0].statistics.species_ids, np.int64)


def open_run(path: Path) -> Run:
    """Return a finished run.

    Raises
    ------
    RunError
        If the folder is no run, or its training did not end.
    """
    path = Path(path)
    if not (path / "run.json").is_file():
        raise RunError(f"{path} is not a run: it has no run.json", expected="a folder made by releve train")
    record = json.loads((path / "run.json").read_text(encoding="utf-8"))
    if not (path / "decision.json").is_file():
        raise RunError(f"run {path} is not trained to its end", action="Run releve train again with --resume")
    config = make_config(record["config"], origin=str(path / "run.json"))
    return Run(path, config, record["seed"], tuple(Member(**member) for member in record["members"]))


def predict_held_out(run: Run) -> tuple[NDArray[np.int64], dict[str, torch.Tensor]]:
    """Return the validation rows of all trained folds and, by kind of member, their (N, S) logits.

    Each row is predicted by the members that had its fold held out; the logits of one kind are averaged.
    """
    rows: list[NDArray[np.int64]] = []
    logits: dict[str, list[torch.Tensor]] = {}
    for fold in sorted({member.fold for member in run.members}):
        in_fold = np.flatnonzero(run.store.folds == fold)
        rows.append(in_fold)
        members = [(member, run.models[i]) for i, member in enumerate(run.members) if member.fold == fold]
        for kind in dict.fromkeys(member.kind for member, _ in members):
            models = [model for member, model in members if member.kind == kind]
            total = torch.zeros(len(in_fold), len(run.species_ids))
            for model in models:
                gatherer = gatherer_for(model, run.store)
                total += torch.cat(list(predict_logits(model, gatherer, in_fold, run.device)))
            logits.setdefault(kind, []).append(total / len(models))
    return np.concatenate(rows), {kind: torch.cat(parts) for kind, parts in logits.items()}


def gatherer_for(model: SpeciesModel | ForestModel, store: Store) -> Gatherer:
    """Return what gathers a store's batches as the model wants them, covariates in its own order.

    Raises
    ------
    RunError
        If the store's patches or series are of another shape or type than those the model was trained on.
    """
    for name, statistics in model.statistics.arrays.items():
        found = store.arrays.get(name)
        if found is None or name not in model.modalities:
            continue
        theirs, ours = (found.spec.shape, found.spec.fill), (statistics.shape, statistics.fill)
        if theirs != ours:
            raise RunError(
                f"{name} of {store.path} has shape {theirs[0]} and fill {theirs[1]}",
                expected=f"shape {ours[0]} and fill {ours[1]}, as the model was trained on",
                action="Predict on a release of the same kind",
            )
    table = model.statistics.tables.get("covariates")
    return Gatherer(store, model.modalities, model.statistics.categories, table.columns if table else None)


def predict_probs(run: Run, store: Store, batch_size: int = 512) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
    """Yield positions in a store and their (B, S) calibrated probabilities.

    They are the mean over the members of each kind, and by share over the kinds.

    Parameters
    ----------
    run
        A trained run.
    store
        Any store, of the same release or another; a modality it lacks is treated as missing.
    batch_size
        Surveys at a time.
    """
    gatherers = [gatherer_for(model, store) for model in run.models]
    num_members = Counter(member.kind for member in run.members)
    for start in range(0, len(store), batch_size):
        rows = np.arange(start, min(start + batch_size, len(store)))
        total = torch.zeros(len(rows), len(run.species_ids))
        for member, model, gatherer in zip(run.members, run.models, gatherers, strict=True):
            (logits_BS,) = predict_logits(model, gatherer, rows, run.device, batch_size)
            share = run.decision.kinds[member.kind].share / num_members[member.kind]
            total += share * run.decision.calibrated(member.kind, logits_BS)
        yield rows, total.clamp(max=1.0)


def write_record(folder: Path, command: str, started: float, **facts: Any) -> None:
    """Write ``run.json``: what was run, with which versions, and how long it took.

    Parameters
    ----------
    folder
        The output folder.
    command
        Name of the command.
    started
        ``time.monotonic()`` at its start.
    facts
        What else must be known to repeat it: resolved configuration, seed, inputs and their checksums.
    """
    record = {
        "command": command,
        "releve": releve.__version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.monotonic() - started, 1),
    } | facts
    write_json(folder / "run.json", record)


def git_commit() -> str | None:
    """Return the commit of the checkout this package is used from, if it is one."""
    folder = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
