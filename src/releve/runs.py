"""A run folder: its recipe, its members and its decision; the record of how it came about."""

# B batch, S species

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
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
    def models(self) -> tuple[SpeciesModel, ...]:
        """The trained networks, in the order of the members."""
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


def predict_held_out(run: Run) -> tuple[NDArray[np.int64], torch.Tensor]:
    """Return the validation rows of all trained folds, and their (N, S) logits.

    Each row is predicted by the members that had its fold held out, whose logits are averaged.
    """
    rows, logits = [], []
    for fold in sorted({member.fold for member in run.members}):
        in_fold = np.flatnonzero(run.store.folds == fold)
        total: torch.Tensor | None = None
        members = [i for i, member in enumerate(run.members) if member.fold == fold]
        for i in members:
            gatherer = Gatherer(run.store, run.models[i].modalities, run.models[i].statistics.categories)
            part = torch.cat(list(predict_logits(run.models[i], gatherer, in_fold, run.device)))
            total = part if total is None else total + part
        assert total is not None
        rows.append(in_fold)
        logits.append(total / len(members))
    return np.concatenate(rows), torch.cat(logits)


def predict_probs(run: Run, store: Store, batch_size: int = 512) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
    """Yield positions in a store and their (B, S) calibrated probabilities, the mean over all members.

    Parameters
    ----------
    run
        A trained run.
    store
        Any store, of the same release or another; a modality it lacks is treated as missing.
    batch_size
        Surveys at a time.
    """
    gatherers = [Gatherer(store, m.modalities, m.statistics.categories) for m in run.models]
    for start in range(0, len(store), batch_size):
        rows = np.arange(start, min(start + batch_size, len(store)))
        total = torch.zeros(len(rows), len(run.species_ids))
        for model, gatherer in zip(run.models, gatherers, strict=True):
            (logits_BS,) = predict_logits(model, gatherer, rows, run.device, batch_size)
            total += run.decision.probs(logits_BS)
        yield rows, total / len(run.models)


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
