"""A run folder: its recipe, its members and its decision."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from releve.config import Config, make_config
from releve.decide.companions import Companions, read_companions
from releve.decide.decision import Decision
from releve.errors import RunError, StoreError
from releve.files import file_sha256
from releve.models.kinds import MemberModel
from releve.store.read import Store, open_store
from releve.train.checkpoint import load_member
from releve.train.device import choose_device
from releve.train.members import Member


@dataclass(frozen=True)
class Run:
    """A trained run, or an ensemble of runs."""

    path: Path
    config: Config
    seed: int
    members: tuple[Member, ...]
    """The run's own; an ensemble has none."""
    parts: tuple[Run, ...] = ()
    """The runs of an ensemble, told apart by the names of their folders."""

    @cached_property
    def decision(self) -> Decision:
        """Calibration and rule."""
        return Decision.model_validate_json((self.path / "decision.json").read_text(encoding="utf-8"))

    @cached_property
    def companions(self) -> Companions:
        """What seen species say of the others.

        Raises
        ------
        RunError
            If the run has not learned it.
        """
        if not (self.path / COMPANIONS_FILE).is_file():
            raise RunError(
                f"run {self.path} has not learned which species grow together: it has no {COMPANIONS_FILE}",
                expected="a run with two species or more on some held-out survey, made since that is learned",
                action="Train it again, or predict without what was seen",
            )
        return read_companions(self.path / COMPANIONS_FILE)

    @cached_property
    def store(self) -> Store:
        """The store the run was trained on."""
        if self.parts:
            return self.parts[0].store
        provenance = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        store = open_store((self.path / provenance["store"]).resolve())
        if file_sha256(store.path / "manifest.json") != provenance["inputs"]["store"]:
            raise StoreError(
                f"store {store.path} is not the one that run {self.path} was trained on: it was prepared again",
                action="Train again, or prepare the store as it was (same release, recipe and seed)",
            )
        return store

    @cached_property
    def device(self) -> torch.device:
        """Where it predicts."""
        return choose_device(self.config.train.device)

    @cached_property
    def models(self) -> tuple[MemberModel, ...]:
        """The trained models, in the order of the members; of an ensemble, those of all its runs."""
        if self.parts:
            return tuple(model for part in self.placed_parts for model in part.models)
        return tuple(load_member(self.path / m.name, self.config.model, self.device) for m in self.members)

    @cached_property
    def placed_parts(self) -> tuple[Run, ...]:
        """The runs of an ensemble, on its device."""
        return tuple(replace(part, config=place_on(part.config, self.config.train.device)) for part in self.parts)

    @cached_property
    def species_ids(self) -> NDArray[np.int64]:
        """(species,) ids of the columns."""
        return np.array(self.models[0].statistics.species_ids, np.int64)

    @cached_property
    def species(self) -> NDArray:
        """(species,) what the columns are called in outputs: names, else official ids."""
        return np.array(self.models[0].statistics.species_names or self.species_ids)


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
    provenance = json.loads((path / "run.json").read_text(encoding="utf-8"))
    if not (path / "decision.json").is_file():
        raise RunError(f"run {path} is not trained to its end", action="Run releve train again with --resume")
    config = make_config(provenance["config"], origin=str(path / "run.json"))
    parts = tuple(open_run((path / place).resolve()) for place in provenance.get("runs", []))
    for part in parts:
        if file_sha256(part.path / "decision.json") != provenance["inputs"]["runs"].get(part.path.name):
            raise RunError(f"run {part.path} was trained anew since ensemble {path} was made", action="Make it again")
    return Run(path, config, provenance["seed"], tuple(Member(**member) for member in provenance["members"]), parts)


def place_on(config: Config, device: str) -> Config:
    """Return a recipe that predicts on another device."""
    return config.model_copy(update={"train": config.train.model_copy(update={"device": device})})


COMPANIONS_FILE = "companions.safetensors"
"""Of a run that knows what seen species say of the others; see ``releve.decide.companions``."""
NOVELTY_FILE = "novelty.safetensors"
"""What tells how new a place is to a run; see ``releve.predict.novelty``."""
PLACES_SUFFIX = ".places.csv"
"""Of the table of places that lies beside a file of predictions, instead of its own."""
FILES = ("report.html", "odmap.html", "odmap.csv", "model_card.md", "methods.md", "citations.bib")
"""What a report writes into the run's folder."""
