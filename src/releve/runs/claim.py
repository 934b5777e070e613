"""Whether a run may be written to a folder, gone on with, or replaced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from releve.config import Config
from releve.errors import RunError, StoreError
from releve.runs.folder import COMPANIONS_FILE, FILES, NOVELTY_FILE, PLACES_SUFFIX
from releve.store.config import recipe_differences, recipe_of
from releve.store.read import Store
from releve.train.members import Member


def identity_of(config: Config) -> dict[str, Any]:
    """Return the part of a recipe that decides what is trained; the rest may differ when a run is resumed."""
    free = {"title": True, "evaluate": True, "train": {"device"}, "data": {"num_workers"}}
    return config.model_dump(mode="json", exclude=free)  # type: ignore[arg-type]


def check_store_matches(config: Config, store: Store) -> None:
    """Refuse a store that was prepared by another recipe.

    Raises
    ------
    StoreError
        Naming the settings that differ.
    """
    differs = recipe_differences(
        store.manifest.recipe, recipe_of(config.data, config.split, config.clean, config.pseudoplots)
    )
    if differs:
        raise StoreError(
            f"store {store.path} was made by another recipe: {'; '.join(differs)}",
            action="Prepare a store with this recipe, or train with the recipe of the store",
        )


def refuse_folder(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that may not be written to; changes nothing.

    Raises
    ------
    RunError
        If it holds a run and neither ``resume`` nor ``overwrite`` is given, or both are, or it holds something else.
    """
    if resume and overwrite:
        raise RunError("--resume and --overwrite were both given", expected="one of them: go on, or start over")
    if (out / "run.json").is_file():
        if not (resume or overwrite):
            raise RunError(f"{out} holds a run", action="Use --resume to go on with it or --overwrite to start over")
    elif out.is_dir():
        foreign = sorted(path.name for path in out.iterdir() if path.name not in ("store", "store.part"))
        if foreign:
            raise RunError(f"{out} holds no run but {foreign[:3]}", action="Give another --out")


def claim_folder(out: Path, identity: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Make the run's folder, or make sure that what is there may be resumed or replaced."""
    refuse_folder(out, resume=resume, overwrite=overwrite)
    file = out / "run.json"
    if file.is_file() and overwrite:
        remove_run(out)
    elif file.is_file():
        content = json.loads(file.read_text(encoding="utf-8"))
        differs = [key for key, value in identity.items() if content.get(key) != json.loads(json.dumps(value))]
        if differs:
            raise RunError(
                f"run {out} was made with another {' and '.join(differs)}",
                action="Resume with the same recipe, seed and store, or give another --out",
            )
    out.mkdir(parents=True, exist_ok=True)


def remove_run(out: Path) -> None:
    """Delete what a run wrote, and nothing else; a store inside is kept."""
    provenance = json.loads((out / "run.json").read_text(encoding="utf-8"))
    members = [Member(**member).name for member in provenance.get("members", [])]
    for name in [*members, "evaluation", "explain", "stores"]:
        shutil.rmtree(out / name, ignore_errors=True)
    predicted = [step["file"] for step in provenance.get("steps", {}).values() if "file" in step]
    places = [Path(name).with_suffix(PLACES_SUFFIX).name for name in predicted]
    for name in ["decision.json", COMPANIONS_FILE, NOVELTY_FILE, *FILES, *predicted, *places, "run.json"]:
        (out / name).unlink(missing_ok=True)


def store_path_from(out: Path, store: Path) -> str:
    """Return the store's path as seen from the run, relative if it lies inside, so that a run can be moved."""
    inside = store.resolve().is_relative_to(out.resolve())
    return str(store.resolve().relative_to(out.resolve())) if inside else str(store.resolve())
