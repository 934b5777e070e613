"""Build a store from what a reader returned: in parallel, resumable after a kill, whole or absent."""

from __future__ import annotations

from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import releve
from releve.errors import RunError, StoreError
from releve.files import disk_error, file_sha256, write_json
from releve.ingest.covariates import Covariates
from releve.ingest.patches import PatchSource
from releve.ingest.surveys import Surveys
from releve.lists import Lists
from releve.prepare.config import SplitConfig
from releve.prepare.split import assign_folds, has_group, measure_leakage
from releve.store import journal, write
from releve.store.config import recipe_differences
from releve.store.contents import Contents, RowSource
from releve.store.journal import Journal
from releve.store.read import Store, open_store
from releve.store.replace import is_store, refuse_to_replace, remove_store
from releve.store.schema import STORE_FORMAT, FileCheck, Manifest
from releve.store.write import Job, Writer


def build_store(
    contents: Contents,
    split: SplitConfig | None,
    out: Path,
    *,
    seed: int = 0,
    num_workers: int = 0,
    overwrite: bool = False,
) -> Store:
    """Build a store folder and return it opened.

    The work goes on in ``OUT.part`` and becomes ``OUT`` in one rename at the end. If a build was killed, the same
    call goes on where it stopped and ends with the same bytes; another recipe or other data start over.

    Parameters
    ----------
    contents
        What a reader returned.
    split
        Spatial folds; None for rows that are only predicted.
    out
        Folder to make. A store that is already there is kept if it is whole and of the same data and recipe.
    seed
        Seed of the folds.
    num_workers
        Workers that read files; 0 means one a core.
    overwrite
        Replace a store that is damaged, or was built from other data or by another recipe.

    Raises
    ------
    RunError
        If ``out`` exists and was built otherwise, and ``overwrite`` is false; if it holds anything but a store; if
        another process builds it.
    StoreError
        If ``out`` holds a damaged store, and ``overwrite`` is false.
    ReleveError
        If the disk is full, or there are fewer spatial blocks than folds.
    """
    key: dict[str, Any] = {
        "format": STORE_FORMAT,
        "recipe": contents.recipe | {"split": split.model_dump(mode="json") if split else None},
        "fingerprint": contents.fingerprint,
        "seed": seed,
    }
    place = Path(out).resolve()
    if store := _reuse(Path(out), key, overwrite=overwrite):
        return store
    surveys, covariates = contents.surveys, list(contents.covariates.values())
    table, labels = _join(surveys)
    first_survey = dict(zip(surveys, accumulate((len(s.table) for s in surveys.values()), initial=0), strict=False))
    folds, leakage = _fold(table, labels, covariates, split, contents.records, seed)
    part = place.with_name(place.name + ".part")
    try:
        notes = Journal(part, key | {"releve": releve.__version__, "chunk_size": write.CHUNK_SIZE})
        writer = Writer(part, notes, table, num_workers)
        dropped = {name: s.dropped for name, s in surveys.items()}
        dropped |= {f"{name}, mended": s.noted for name, s in surveys.items() if s.noted}
        if covariates:
            writer.write_covariates(covariates)
            dropped |= {
                f"{name} covariates": c.masked | c.not_numbers | c.disagreeing | _not_covered(c)
                for name, c in contents.covariates.items()
                if c.groups
            }
        for name, sources in contents.sources.items():
            encoded = contents.recipe["data"]["patch_storage"] == "encoded" and _has_files(sources)
            writer.write_sources(name, [Job(s, first_survey[at]) for at, s in sources.items()], encoded=encoded)
        dropped |= writer.counts
        writer.write_tables(labels, folds, contents.species)
        manifest = Manifest(
            **key,
            releve=releve.__version__,
            release=contents.kind,
            origin=contents.origin,
            num_surveys=len(table),
            num_species=labels["species_id"].n_unique(),
            num_folds=split.num_folds if split else 0,
            arrays=writer.specs,
            dropped=dropped,
            dropped_by_publisher=contents.dropped_by_publisher,
            problems=writer.problems,
            leakage=leakage,
            files=_check_files(part, writer.files),
        )
        write_json(part / "manifest.json", manifest.model_dump(mode="json"))
        notes.close()
        _put_in_place(part, place)
    except OSError as error:
        raise disk_error(error, part) from error
    return open_store(out)


def _reuse(out: Path, key: dict[str, Any], *, overwrite: bool) -> Store | None:
    """Return the store that is already there if it is the one wanted; refuse another unless told to replace it."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not is_store(out):
        refuse_to_replace(out)
    try:
        store = open_store(out, verify=overwrite)
    except StoreError:
        if not overwrite:
            raise
        refuse_to_replace(out)
        return None
    differs = [name for name, value in key.items() if getattr(store.manifest, name) != value]
    if not differs:
        (out / journal.NAME).unlink(missing_ok=True)
        return store
    if overwrite:
        refuse_to_replace(out)
        return None
    words = {"fingerprint": "the release has changed since", "seed": f"its seed is {store.manifest.seed}"}
    reasons = recipe_differences(store.manifest.recipe, key["recipe"])
    reasons += [words[name] for name in differs if name in words]
    raise RunError(
        f"{out} is a store made otherwise: {'; '.join(reasons)}",
        action="Give another --out, or --overwrite to replace it",
    )


def _has_files(sources: dict[str, RowSource]) -> bool:
    """Return whether rows are files of their own, which can be kept as they are."""
    return all(isinstance(source, PatchSource) for source in sources.values())


def _not_covered(covariates: Covariates) -> dict[str, int]:
    return {f"{name}: no data in the raster": count for name, count in covariates.not_covered.items() if count}


def _join(surveys: dict[str, Surveys]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the surveys of all splits in one table with a ``split`` column, and all labels with their ``row``."""
    table = pl.concat([s.table.with_columns(split=pl.lit(name)) for name, s in surveys.items()], how="diagonal")
    parts, first_row = [], 0
    for s in surveys.values():
        parts.append(s.labels.select(pl.col("row").cast(pl.Int64) + first_row, "species_id"))
        first_row += len(s.table)
    return table, pl.concat(parts).sort("row", "species_id")


def _fold(
    table: pl.DataFrame,
    labels: pl.DataFrame,
    covariates: list[Covariates],
    split: SplitConfig | None,
    records: str | None,
    seed: int,
) -> tuple[NDArray[np.int8], list[dict[str, float]]]:
    """Return the fold of each row, balanced over the plots where there are any, and how far the folds are apart."""
    if split is None:
        return np.full(len(table), -1, np.int8), []
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    is_plot = (table["split"] != records).to_numpy() if records else np.ones(len(table), bool)
    counted = is_plot if is_plot.any() else ~is_plot
    species = labels["species_id"].rank("dense").to_numpy().astype(np.int64) - 1
    sets = Lists.from_pairs(labels["row"].to_numpy(), species, len(table))
    names = table[split.method].to_list() if split.method in table.columns else None
    folds = assign_folds(lon, lat, split, rng=np.random.default_rng(seed), counted=counted, labels=sets, names=names)
    has = has_group(split, names, len(table))
    reach_km = table["reach_m"].fill_null(0.0).to_numpy() / 1000 if "reach_m" in table.columns else None
    leakage = measure_leakage(folds, lon, lat, split, counted, labels=sets, has_group=has, reach_km=reach_km)
    return folds, [asdict(row) for row in leakage]


def _check_files(part: Path, names: list[str]) -> dict[str, FileCheck]:
    return {
        name: FileCheck(num_bytes=(part / name).stat().st_size, sha256=file_sha256(part / name))
        for name in sorted(names)
    }


def _put_in_place(part: Path, out: Path) -> None:
    """Make the finished folder the store; an older one is moved aside first, so that a kill never leaves half of it."""
    old = out.with_name(f".{out.name}.old")
    remove_store(old)
    if out.exists():
        if any(out.iterdir()):
            refuse_to_replace(out)  # again, as the build may have taken hours
        out.rename(old)
    part.rename(out)
    (out / journal.NAME).unlink()
    remove_store(old)
