"""What a store is made of, as a reader returns it: the one form behind releases, own tables and records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from releve.errors import ReleaseError
from releve.files import file_sha256
from releve.ingest.covariates import Covariates, read_covariates
from releve.ingest.cubes import SeriesSource, series_source
from releve.ingest.patches import PatchSource, patch_source
from releve.ingest.places import is_inside
from releve.ingest.refused import reasons
from releve.ingest.release import Release
from releve.ingest.surveys import Surveys, read_surveys
from releve.prepare.config import CleanConfig, PseudoplotConfig
from releve.prepare.records import prepare_records
from releve.progress import say
from releve.store.config import DataConfig, recipe_of

Source = SeriesSource | PatchSource
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
    sources: dict[str, dict[str, Source]] = field(default_factory=dict)
    """By modality and split; a split that has none of a modality is left out."""
    records: str | None = None
    """The split whose rows are presence-only."""
    dropped_by_publisher: list[dict[str, Any]] = field(default_factory=list)
    """Presence-only records that cleaning dropped: reason, publisher, count."""


def read_release(
    release: Release,
    data: DataConfig,
    *,
    clean: CleanConfig | None = None,
    pseudoplots: PseudoplotConfig | None = None,
) -> Contents:
    """Return what a store of some splits of a release is made of.

    Parameters
    ----------
    release
        An open release.
    data
        Splits and modalities.
    clean, pseudoplots
        How ``data.records`` is cleaned and grouped.

    Raises
    ------
    ReleaseError
        If the release lacks a split, no survey is left, or a modality differs between splits.
    """
    clean, pseudoplots = clean or CleanConfig(), pseudoplots or PseudoplotConfig()
    for name in _splits_read(data):
        release.split_rules(name)
    surveys = {name: read_surveys(release, name) for name in data.splits}
    for name, found in surveys.items():
        _say_outside(release, name, found)
    by_publisher: list[dict[str, Any]] = []
    if data.records is not None:
        records = prepare_records(release, data.records, clean, pseudoplots)
        surveys[data.records] = records.surveys
        by_publisher = records.cleaned.dropped.to_dicts()
    if not any(len(found.table) for found in surveys.values()):
        why = "; ".join(f"{name}: {reasons(found.dropped, found.examples)}" for name, found in surveys.items())
        raise ReleaseError(
            f"splits {list(surveys)} of {release.root} hold no usable survey ({why})",
            expected="a survey id, and lon and lat in degrees, in each row",
        )
    wanted: list[str] = [name for name in data.modalities if name != "covariates"]
    sources = {name: _sources_of(release, surveys, name) for name in wanted}
    for name, found_in in sources.items():
        for split in surveys:
            if split not in found_in:
                say(f"split {split!r} has no {name}: its surveys go without")
    covariates: dict[str, Covariates] = {}
    if "covariates" in data.modalities:
        for name, found in surveys.items():
            covariates[name] = read_covariates(release, name, found.table["survey_id"])
            if covariates[name].missing and covariates[name].groups:
                say(f"split {name!r} has no covariates of {list(covariates[name].missing)}")
            elif covariates[name].missing:
                say(f"split {name!r} has no covariates: its surveys go without")
    return Contents(
        surveys,
        kind=release.layout,
        origin=release.rules.title,
        recipe=recipe_of(data, None, clean, pseudoplots),
        fingerprint=_fingerprint(release, data, [source for found in sources.values() for source in found.values()]),
        covariates=covariates,
        sources=sources,
        records=data.records,
        dropped_by_publisher=by_publisher,
    )


def _say_outside(release: Release, split: str, found: Surveys) -> None:
    """Say how many plots lie outside the release's extent: a study of another region, or wrong places."""
    lon, lat = (found.table[axis].to_numpy() for axis in ("lon", "lat"))
    num_outside = int((~is_inside(lon, lat, release.rules.extent)).sum())
    if num_outside:
        extent = "lon {west:g} to {east:g}, lat {south:g} to {north:g}".format(**release.rules.extent)
        where = f"outside the extent of {release.rules.title} ({extent})"
        say(f"{split}: {num_outside:,} of {len(lon):,} plots lie {where}")


def _splits_read(data: DataConfig) -> tuple[str, ...]:
    return (*data.splits, *([data.records] if data.records else []))


def _sources_of(release: Release, surveys: dict[str, Surveys], modality: str) -> dict[str, Source]:
    """Return where each split's patches or series are read from, without the splits that have none."""
    found: dict[str, Source] = {}
    for name, s in surveys.items():
        source: Source | None
        if modality == "patch":
            source = patch_source(release, name, s.table)
        else:
            source = series_source(release, name, modality, s.table)
        if source is not None and len(source.rows):
            found[name] = source
    forms = {name: (s.channel_names, s.shape, str(s.dtype)) for name, s in found.items()}
    if len(set(forms.values())) > 1:
        raise ReleaseError(
            f"{modality} differs between splits: {forms}",
            expected="the same channels, shape and type",
            action="Prepare a store for each of these splits",
        )
    return found


def _fingerprint(release: Release, data: DataConfig, sources: list[Source]) -> str:
    """Return one hash of what is read: contents of tables, names and sizes of single files."""
    digest = hashlib.sha256()
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
