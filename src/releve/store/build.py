"""Build a store from a release: in parallel, resumable after a kill, whole or absent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import releve
from releve.errors import ReleaseError, RunError, StoreError
from releve.files import disk_error, file_sha256, write_json
from releve.ingest.covariates import Covariates, read_covariates
from releve.ingest.cubes import SeriesSource, series_source
from releve.ingest.patches import PatchSource, patch_source
from releve.ingest.release import Release
from releve.ingest.surveys import Surveys, read_surveys
from releve.lists import Lists
from releve.prepare.config import CleanConfig, PseudoplotConfig, SplitConfig
from releve.prepare.records import prepare_records
from releve.prepare.split import Groups, assign_folds, has_group, measure_leakage
from releve.store import journal, write
from releve.store.chunks import Source
from releve.store.config import DataConfig, StoredModality
from releve.store.journal import Journal
from releve.store.read import Store, open_store
from releve.store.replace import is_store, refuse_to_replace, remove_store
from releve.store.schema import STORE_FORMAT, FileCheck, Manifest
from releve.store.write import Job, Writer


def build_store(
    release: Release,
    data: DataConfig,
    split: SplitConfig | None,
    out: Path,
    *,
    clean: CleanConfig | None = None,
    pseudoplots: PseudoplotConfig | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Store:
    """Build a store folder and return it opened.

    The work goes on in ``OUT.part`` and becomes ``OUT`` in one rename at the end. If a build was killed, the same
    call goes on where it stopped and ends with the same bytes; a different recipe or release starts over.

    Parameters
    ----------
    release
        An open release.
    data
        Splits and modalities to store.
    split
        Spatial folds; None for rows that are only predicted.
    clean, pseudoplots
        How ``data.records`` is cleaned and grouped.
    out
        Folder to make. A store that is already there is kept if it is whole and of the same release and recipe.
    seed
        Seed of the folds.
    overwrite
        Replace a store that is damaged, or was built from another release or recipe.

    Raises
    ------
    RunError
        If ``out`` exists and was built otherwise, and ``overwrite`` is false; if it holds anything but a store; if
        another process builds it.
    StoreError
        If ``out`` holds a damaged store, and ``overwrite`` is false.
    ReleaseError
        If the release lacks a split, or no survey is left after cleaning.
    ReleveError
        If the disk is full, or there are fewer spatial blocks than folds.
    """
    clean, pseudoplots = clean or CleanConfig(), pseudoplots or PseudoplotConfig()
    for name in _splits_read(data):
        release.split_rules(name)
    surveys = {name: read_surveys(release, name) for name in data.splits}
    by_publisher: list[dict[str, Any]] = []
    if data.records is not None:
        records = prepare_records(release, data.records, clean, pseudoplots, seed=seed)
        surveys[data.records] = records.surveys
        by_publisher = records.cleaned.dropped.to_dicts()
    table, labels = _join(surveys)
    if len(table) == 0:
        raise ReleaseError(f"splits {list(surveys)} of {release.root} hold no usable survey")
    jobs = {str(name): _plan_jobs(release, surveys, name) for name in data.modalities if name != "covariates"}
    key: dict[str, Any] = {
        "format": STORE_FORMAT,
        "recipe": recipe_of(data, split, clean, pseudoplots),
        "fingerprint": _fingerprint(release, data, jobs),
        "seed": seed,
    }
    place = Path(out).resolve()
    if store := _reuse(Path(out), key, overwrite=overwrite):
        return store
    covariates: dict[str, Covariates] = {}
    if "covariates" in data.modalities:
        for name, s in surveys.items():
            covariates[name] = read_covariates(release, name, s.table["survey_id"].to_numpy())
    folds, leakage = _fold(table, labels, list(covariates.values()), split, data.records, seed)
    part = place.with_name(place.name + ".part")
    try:
        notes = Journal(part, key | {"releve": releve.__version__, "chunk_size": write.CHUNK_SIZE})
        writer = Writer(part, notes, table, data.num_workers)
        dropped = {name: s.dropped for name, s in surveys.items()}
        if covariates:
            writer.write_covariates(list(covariates.values()))
            dropped |= {f"{name} covariates": c.masked for name, c in covariates.items() if c.groups}
        for name, name_jobs in jobs.items():
            writer.write_sources(name, name_jobs, encoded=name == "patch" and data.patch_storage == "encoded")
        writer.write_tables(labels, folds)
        manifest = Manifest(
            **key,
            releve=releve.__version__,
            release=release.layout,
            origin=release.rules.title,
            num_surveys=len(table),
            num_species=labels["species_id"].n_unique(),
            num_folds=split.num_folds if split else 0,
            arrays=writer.specs,
            dropped=dropped,
            dropped_by_publisher=by_publisher,
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


def recipe_differences(made: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return, in words, each setting in which a store's recipe is not the one wanted.

    Examples
    --------
    >>> made = {"data": {"patch_storage": "raw"}, "split": None}
    >>> recipe_differences(made, {"data": {"patch_storage": "encoded"}, "split": None})
    ["data.patch_storage is 'raw' in the store and 'encoded' in the recipe"]
    """
    differences = []
    for section, values in wanted.items():
        theirs, ours = made.get(section) or {}, values or {}
        for name in dict.fromkeys([*ours, *theirs]):
            if theirs.get(name) != ours.get(name):
                have = f"{theirs.get(name)!r} in the store and {ours.get(name)!r} in the recipe"
                differences.append(f"{section}.{name} is {have}")
    return differences


def recipe_of(
    data: DataConfig, split: SplitConfig | None, clean: CleanConfig, pseudoplots: PseudoplotConfig
) -> dict[str, Any]:
    """Return the part of the configuration that decides the bytes (not how many workers made them)."""
    return {
        "data": data.model_dump(mode="json", exclude={"num_workers"}),
        "split": split.model_dump(mode="json") if split else None,
        "clean": clean.model_dump(mode="json") if data.records else None,
        "pseudoplots": pseudoplots.model_dump(mode="json") if data.records else None,
    }


def _splits_read(data: DataConfig) -> tuple[str, ...]:
    return (*data.splits, *([data.records] if data.records else []))


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


def _join(surveys: dict[str, Surveys]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the surveys of all splits in one table with a ``split`` column, and all labels with their ``row``."""
    table = pl.concat([s.table.with_columns(split=pl.lit(name)) for name, s in surveys.items()], how="diagonal")
    parts, first_row = [], 0
    for s in surveys.values():
        labels = s.labels
        if "row" not in labels.columns:
            labels = labels.join(s.table.select("survey_id").with_row_index("row"), on="survey_id", how="inner")
        parts.append(labels.select(pl.col("row").cast(pl.Int64) + first_row, "species_id"))
        first_row += len(s.table)
    return table, pl.concat(parts).sort("row", "species_id")


def _plan_jobs(release: Release, surveys: dict[str, Surveys], modality: StoredModality) -> list[Job]:
    """Return where each split's part of an array is read from, without the splits that have none."""
    jobs: list[Job] = []
    first_survey = 0
    for name, s in surveys.items():
        source: Source | None
        if modality == "patch":
            source = patch_source(release, name, s.table)
        else:
            source = series_source(release, name, modality, s.table)
        if source is not None and len(source.rows):
            jobs.append(Job(source, first_survey))
        first_survey += len(s.table)
    forms = {job.source.split: (job.source.channel_names, job.source.shape, str(job.source.dtype)) for job in jobs}
    if len(set(forms.values())) > 1:
        raise ReleaseError(
            f"{modality} differs between splits: {forms}",
            expected="the same channels, shape and type",
            action="Prepare a store for each of these splits",
        )
    return jobs


def _fingerprint(release: Release, data: DataConfig, jobs: dict[str, list[Job]]) -> str:
    """Return one hash of what is read: contents of tables, names and sizes of single files."""
    digest = hashlib.sha256()
    sources = [job.source for name_jobs in jobs.values() for job in name_jobs]
    try:
        for path in sorted(_tables_read(release, data, sources)):
            digest.update(f"{path} {file_sha256(release.root / path)}\n".encode())
        for source in sources:
            for path in _single_files(source):
                digest.update(f"{path} {(release.root / path).stat().st_size}\n".encode())
    except OSError as error:
        raise ReleaseError(f"cannot read {error.filename}: {error.strerror}") from error
    return digest.hexdigest()


def _tables_read(release: Release, data: DataConfig, sources: list[Source]) -> set[str]:
    """Return the paths of the tables that the splits' surveys, covariates and series are read from."""
    found: set[str] = set()
    for name in _splits_read(data):
        rules = release.split_rules(name)
        templates = [rules.metadata, rules.labels]
        if "covariates" in data.modalities:
            templates += [group.table for group in release.rules.covariates]
        for template in filter(None, templates):
            found.update(release.tables(name, template))
    for source in sources:
        if isinstance(source, SeriesSource):
            found.update(lines.path.relative_to(release.root).as_posix() for _, lines in source.tables)
    return found


def _single_files(source: Source) -> Iterator[str]:
    """Yield the paths of a source's one-survey files."""
    for row in source.rows.tolist():
        if isinstance(source, PatchSource):
            yield from source.paths(row)
        elif source.files is not None and source.positions is not None:
            yield source.files.path(int(source.positions[row]))


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
    groups = _groups(table, covariates, split)
    folds = assign_folds(lon, lat, split, rng=np.random.default_rng(seed), counted=counted, labels=sets, groups=groups)
    has = has_group(split, groups, len(table))
    reach_km = table["reach_m"].fill_null(0.0).to_numpy() / 1000 if "reach_m" in table.columns else None
    leakage = measure_leakage(folds, lon, lat, split, counted, labels=sets, has_group=has, reach_km=reach_km)
    return folds, [asdict(row) for row in leakage]


def _groups(table: pl.DataFrame, covariates: list[Covariates], split: SplitConfig) -> Groups:
    """Return what the rows are folded by, where that is not squares on the ground."""
    if split.method in ("country", "region") and split.method in table.columns:
        return Groups(names=table[split.method].to_list())
    if split.method == "environment" and covariates:
        categorical = {name for part in covariates for name in part.categorical}
        values = pl.concat([part.table for part in covariates], how="diagonal").drop("survey_id", *categorical)
        return Groups(covariates=values.fill_null(float("nan")).to_numpy())
    return Groups()


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
