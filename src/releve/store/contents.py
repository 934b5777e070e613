"""What a store is made of, as a reader returns it: the one form behind releases, own tables and records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from releve.errors import ReleaseError
from releve.files import file_sha256
from releve.ingest.config import RastersConfig
from releve.ingest.covariates import Covariates, read_covariates
from releve.ingest.cubes import SeriesSource, series_source
from releve.ingest.patches import PatchSource, patch_source
from releve.ingest.places import is_inside
from releve.ingest.refused import reasons
from releve.ingest.study import Source, Study
from releve.ingest.surveys import Surveys, read_surveys
from releve.prepare.config import CleanConfig, PseudoplotConfig
from releve.prepare.records import prepare_records
from releve.progress import say
from releve.rasters.files import local_path
from releve.rasters.layer import Layer
from releve.rasters.patches import RasterPatches, raster_patches
from releve.rasters.series import RasterSeries, raster_series
from releve.store.config import DataConfig, recipe_of
from releve.store.layers import add_layers, layers_of
from releve.store.random_places import (
    TABLES,
    has_tables,
    join_covariates,
    join_tables,
    num_random_places,
    with_random_places,
    without_tables,
)

RowSource = SeriesSource | PatchSource | RasterPatches | RasterSeries
"""Where single patches or series of a split's surveys are read from, chunk by chunk."""


@dataclass(frozen=True)
class Contents:
    """Surveys, labels, covariates, series and patches of some splits, and where they come from."""

    surveys: dict[str, Surveys]
    """By split: its surveys and what grows there."""
    kind: str
    """The kind of what was read, such as ``glc24``."""
    origin: str
    """Its title."""
    recipe: dict[str, Any]
    """The settings that it was read by; with the split section they decide a store's bytes."""
    fingerprint: str
    """SHA-256 of what was read."""
    covariates: dict[str, Covariates] = field(default_factory=dict)
    """By split, a row a survey; empty where none are wanted."""
    sources: dict[str, dict[str, RowSource]] = field(default_factory=dict)
    """By modality and split; a split that has none of a modality is left out."""
    records: str | None = None
    """The split whose rows are presence-only."""
    dropped_by_publisher: list[dict[str, Any]] = field(default_factory=list)
    """Presence-only records that cleaning dropped: reason, publisher, count."""
    species: pl.DataFrame | None = None
    """``species_id`` and ``name``, where species have names; there may be more than grow anywhere."""


def read_contents(
    source: Source,
    data: DataConfig,
    *,
    clean: CleanConfig | None = None,
    pseudoplots: PseudoplotConfig | None = None,
    work: Path | None = None,
    scheduler: str | None = None,
) -> Contents:
    """Return what a store of some splits of a release or study is made of.

    Parameters
    ----------
    source
        An open release or study.
    data
        Splits and modalities.
    clean, pseudoplots
        How ``data.records`` is cleaned and grouped.
    work
        Folder that keeps what was read of rasters, so that a killed call goes on; remove it when the store is built.
    scheduler
        Address of a Dask scheduler that reads rasters, or ``local``.

    Raises
    ------
    ReleaseError
        If it lacks a split, no survey or no species is left, or a modality differs between splits.
    """
    clean, pseudoplots = clean or CleanConfig(), pseudoplots or PseudoplotConfig()
    for name in _splits_read(data):
        source.split_rules(name)
    layers = layers_of(source) if isinstance(source, Study) and "covariates" in data.modalities else ()
    surveys = {name: read_surveys(source, name) for name in data.splits}
    for name, found in surveys.items():
        _say_outside(source, name, found)
    by_publisher: list[dict[str, Any]] = []
    num_random = 0
    if data.records is not None:
        records = prepare_records(source, data.records, clean, pseudoplots)
        surveys[data.records] = records.surveys
        by_publisher = records.cleaned.dropped.to_dicts()
        num_species, has_plots = records.surveys.labels["species_id"].n_unique(), "train" in data.splits
        num_random = num_random_places(source, layers, num_species, has_plots=has_plots)
        if num_random and not has_tables(source):
            surveys[data.records] = with_random_places(records.surveys, layers, num_random)
    if not any(len(found.table) for found in surveys.values()):
        why = "; ".join(f"{name}: {reasons(found.dropped, found.examples)}" for name, found in surveys.items())
        raise ReleaseError(
            f"splits {list(surveys)} of {source.root} hold no usable survey ({why})",
            expected="a survey id, and lon and lat in degrees, in each row",
        )
    if "train" in surveys and not any(len(found.labels) for found in surveys.values()):
        found = surveys["train"]
        raise ReleaseError(
            f"no row of {source.root} says that a species is present: {reasons(found.dropped, found.examples)}",
            expected="presences, with or without absences",
        )
    wanted: list[str] = [name for name in data.modalities if name != "covariates"]
    sources = {name: _sources_of(source, surveys, name) for name in wanted}
    for name, found_in in sources.items():
        for split in surveys:
            if split not in found_in:
                say(f"split {split!r} has no {name}: its surveys go without")
    if num_random and has_tables(source):
        surveys[TABLES] = read_surveys(source, TABLES)
    covariates = _covariates_of(source, surveys, layers) if "covariates" in data.modalities else {}
    if num_random and data.records and not has_tables(source):
        covariates[data.records] = without_tables(covariates[data.records])
    covariates = add_layers(layers, surveys, covariates, work=work, num_workers=data.num_workers, scheduler=scheduler)
    _join_random(surveys, covariates, data.records)
    return Contents(
        surveys,
        kind=source.rules.name,
        origin=source.rules.title,
        recipe=recipe_of(data, None, clean, pseudoplots),
        fingerprint=_fingerprint(source, data, [each for found in sources.values() for each in found.values()], layers),
        covariates=covariates,
        sources=sources,
        records=data.records,
        dropped_by_publisher=by_publisher,
        species=source.species,
    )


def _join_random(surveys: dict[str, Surveys], covariates: dict[str, Covariates], records: str | None) -> None:
    """Put a study's own random places below the records'."""
    if TABLES not in surveys or records is None:
        return
    surveys[records] = join_tables(surveys[records], surveys.pop(TABLES))
    if TABLES in covariates:
        covariates[records] = join_covariates(covariates[records], covariates.pop(TABLES))


def _say_outside(source: Source, split: str, found: Surveys) -> None:
    """Say how many plots lie outside the release's extent: a study of another region, or wrong places."""
    if source.rules.extent is None:
        return
    lon, lat = (found.table[axis].to_numpy() for axis in ("lon", "lat"))
    num_outside = int((~is_inside(lon, lat, source.rules.extent)).sum())
    if num_outside:
        extent = "lon {west:g} to {east:g}, lat {south:g} to {north:g}".format(**source.rules.extent)
        where = f"outside the extent of {source.rules.title} ({extent})"
        say(f"{split}: {num_outside:,} of {len(lon):,} plots lie {where}")


def _splits_read(data: DataConfig) -> tuple[str, ...]:
    return (*data.splits, *([data.records] if data.records else []))


def _covariates_of(source: Source, surveys: dict[str, Surveys], layers: Sequence[Layer]) -> dict[str, Covariates]:
    """Return each split's covariates in tables, and say which it has none of."""
    covariates = {name: read_covariates(source, name, found.table["survey_id"]) for name, found in surveys.items()}
    for name, found in covariates.items():
        if found.missing and found.groups:
            say(f"split {name!r} has no covariates of {list(found.missing)}")
        elif found.missing:
            say(f"split {name!r} has no covariates" + (" in tables" if layers else ": its surveys go without"))
    return covariates


def _sources_of(source: Source, surveys: dict[str, Surveys], modality: str) -> dict[str, RowSource]:
    """Return where each split's patches or series are read from, without the splits that have none."""
    found: dict[str, RowSource] = {}
    for name, s in surveys.items():
        rows: RowSource | None
        if isinstance(source, Study):
            rows = rasters_around(source.config, source.root, name, s.table, modality)
        elif modality == "patch":
            rows = patch_source(source, name, s.table)
        else:
            rows = series_source(source, name, modality, s.table)
        if rows is not None and len(rows.rows):
            found[name] = rows
    forms = {name: (s.channel_names, s.shape, str(s.dtype)) for name, s in found.items()}
    if len(set(forms.values())) > 1:
        raise ReleaseError(
            f"{modality} differs between splits: {forms}",
            expected="the same channels, shape and type",
            action="Prepare a store for each of these splits",
        )
    return found


def _fingerprint(source: Source, data: DataConfig, rows: list[RowSource], layers: Sequence[Layer]) -> str:
    """Return one hash of what is read: contents of tables, names and sizes of single files and rasters."""
    digest = hashlib.sha256(source.description.encode())
    tables = source.tables_read(_splits_read(data), covariates="covariates" in data.modalities)
    for each in rows:
        if isinstance(each, SeriesSource):
            tables.update(lines.path.relative_to(source.root).as_posix() for _, lines in each.tables)
    try:
        for path in sorted(tables):
            digest.update(f"{path} {file_sha256(source.root / path)}\n".encode())
        for each in rows:
            for path in _single_files(each):
                digest.update(f"{path} {(source.root / path).stat().st_size}\n".encode())
        read = [*layers, *(layer for each in rows for layer in _layers_read(each))]
        for raster in dict.fromkeys(layer.source for layer in read):
            file = local_path(raster)
            digest.update(f"{file.name if file else raster} {file.stat().st_size if file else ''}\n".encode())
    except OSError as error:
        raise ReleaseError(f"cannot read {error.filename}: {error.strerror}") from error
    return digest.hexdigest()


def rasters_around(
    config: RastersConfig, root: Path, split: str, table: pl.DataFrame, modality: str
) -> RasterPatches | RasterSeries | None:
    """Return where patches or series of some places are read from; None if there are no such rasters."""
    if modality == "patch":
        return None if config.patches is None else raster_patches(config.patches, root, split, table, crs=config.crs)
    series = next((each for each in config.series if each.modality == modality), None)
    return None if series is None else raster_series(series, root, split, table, crs=config.crs)


def _layers_read(source: RowSource) -> Sequence[Layer]:
    if isinstance(source, RasterPatches):
        return [layer for layers, _ in source.parts for layer in layers]
    return source.layers if isinstance(source, RasterSeries) else []


def _single_files(source: RowSource) -> Iterator[str]:
    """Yield the paths of a source's one-survey files."""
    if isinstance(source, RasterPatches | RasterSeries):
        return
    for row in source.rows.tolist():
        if isinstance(source, PatchSource):
            yield from source.paths(row)
        elif source.files is not None and source.positions is not None:
            yield source.files.path(int(source.positions[row]))
