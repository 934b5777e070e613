"""What a release holds: present, missing, corrupt and suspicious, for each split and modality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from releve.errors import ReleaseError
from releve.ingest.chunks import Chunk
from releve.ingest.covariates import Covariates, TableFacts, read_covariates
from releve.ingest.cubes import SeriesSource, read_series_chunk, series_source
from releve.ingest.patches import PatchSource, patch_source, read_patch_chunk
from releve.ingest.places import WORLD
from releve.ingest.presence import ABSENT, NONE_COUNTED
from releve.ingest.problems import Problem
from releve.ingest.release import Release
from releve.ingest.study import Source, Study
from releve.ingest.surveys import DUPLICATE, Surveys, read_surveys
from releve.ingest.text import read_header
from releve.ingest.values import TABLE_GROUP
from releve.progress import track

CHUNK_SIZE = 64
NUM_EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """Something to know about one modality of one split."""

    severity: str
    """``error`` (a run would break), ``warning`` or ``note``."""
    code: str
    message: str
    count: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """How many surveys of a split have a modality."""

    split: str
    modality: str
    num_surveys: int
    num_present: int
    num_missing: int
    num_corrupt: int
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """The result of looking through a release."""

    root: str
    layout: str
    title: str
    rows: tuple[Row, ...]

    @property
    def breaks_run(self) -> bool:
        """Whether something found would break a run."""
        return any(finding.severity == "error" for row in self.rows for finding in row.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists, numbers and text, ready for JSON."""
        return {**asdict(self), "breaks_run": self.breaks_run}


def check_release(release: Release, *, max_files: int = 2000) -> Inventory:
    """Return what is present, missing, corrupt or suspicious in a release.

    Parameters
    ----------
    release
        An open release.
    max_files
        Decode at most this many surveys' files for each split and modality, evenly spread; a finding says so.
    """
    rows = [_release_row(release)]
    for split in release.splits:
        try:
            surveys = read_surveys(release, split)
        except ReleaseError as error:
            rows.append(_broken(split, "surveys", 0, error))
            continue
        rows += split_rows(release, split, surveys, max_files)
    layout = release.rules
    return Inventory(str(release.root), layout.name, layout.title, tuple(rows))


def split_rows(source: Source, split: str, surveys: Surveys, max_files: int = 2000) -> Iterator[Row]:
    """Yield a row for the surveys of a split, for each group of its covariates and each other modality.

    Parameters
    ----------
    source
        An open release or study.
    split, surveys
        The split, and what was read of it.
    max_files
        As of ``check_release``.
    """
    num_surveys = len(surveys.table)
    yield Row(split, "surveys", num_surveys, num_surveys, 0, 0, tuple(_survey_findings(source, split, surveys)))
    try:
        yield from _covariate_rows(source, split, surveys)
    except ReleaseError as error:
        yield _broken(split, "covariates", num_surveys, error)
    if isinstance(source, Study):
        return
    modalities = [rules.modality for rules in source.rules.series]
    for modality in [*modalities, *(["patch"] if source.rules.patches else [])]:
        try:
            yield _array_row(source, split, modality, surveys.table, max_files)
        except ReleaseError as error:
            yield _broken(split, modality, num_surveys, error)


def _broken(split: str, modality: str, num_surveys: int, error: ReleaseError) -> Row:
    finding = Finding("error", "unreadable", str(error), 1)
    return Row(split, modality, num_surveys, 0, num_surveys, 0, (finding,))


# ---- the release and its surveys -------------------------------------------------------------------------


def _release_row(release: Release) -> Row:
    """Return the row of what concerns no split: splits that are absent, tables that lie there twice."""
    findings = []
    if "train" not in release.splits:
        message = "no labelled plots: split 'train' is not here"
        findings.append(Finding("error", "no-training-split", message, 1))
    absent = [rules.name for rules in release.rules.splits if rules.name not in release.splits]
    if absent:
        findings.append(Finding("note", "split-absent", "splits that are not here", len(absent), tuple(absent)))
    for split in release.splits:
        paths = release.tables(split, release.split_rules(split).metadata)
        if len(paths) > 1:
            message = f"several tables of split {split!r}; the first is used"
            findings.append(Finding("warning", "several-tables", message, len(paths), tuple(paths)))
    return Row("all", "release", 0, 0, 0, 0, tuple(findings))


def _survey_findings(source: Source, split: str, surveys: Surveys) -> Iterator[Finding]:
    if not len(surveys.table):
        yield Finding("error", "no-surveys", "no valid survey is left", 1)
    for reason, count in surveys.dropped.items():
        severity = "note" if reason in (DUPLICATE, ABSENT, NONE_COUNTED) else "warning"
        yield Finding(severity, "dropped", reason, count, surveys.examples.get(reason, ()))
    for reason, count in surveys.noted.items():
        yield Finding("note", "mended", reason, count, surveys.examples.get(reason, ()))
    extent = source.rules.extent or WORLD
    inside = pl.col("lon").is_between(extent["west"], extent["east"])
    inside &= pl.col("lat").is_between(extent["south"], extent["north"])
    outside = surveys.table.filter(~inside)["survey_id"]
    yield from _if_any("warning", "outside-extent", "surveys outside the release's extent", outside)
    yield from _if_any("note", "no-year", "surveys without a year", _ids_without(surveys.table, "year"))
    highest = source.rules.max_species_id
    if highest is not None:
        beyond = surveys.labels.filter(pl.col("species_id") > highest)["species_id"].unique().sort()
        message = f"species ids beyond the official 0..{highest}"
        yield from _if_any("warning", "species-id", message, beyond, "species")


def _ids_without(table: pl.DataFrame, column: str) -> pl.Series:
    return table.filter(pl.col(column).is_null())["survey_id"]


def _if_any(severity: str, code: str, message: str, ids: pl.Series, what: str = "survey") -> Iterator[Finding]:
    if len(ids):
        yield Finding(severity, code, message, len(ids), tuple(f"{what} {i}" for i in ids[:NUM_EXAMPLES]))


# ---- covariates ------------------------------------------------------------------------------------------


def _covariate_rows(source: Source, split: str, surveys: Surveys) -> Iterator[Row]:
    if not source.rules.covariates:
        return
    covariates = read_covariates(source, split, surveys.table["survey_id"])
    num_surveys = len(surveys.table)
    for rules in source.rules.covariates:
        columns = [name for name, group in covariates.groups.items() if group == rules.group]
        facts = [fact for fact in covariates.facts if fact.group == rules.group]
        if not facts:
            missing = tuple(_missing_findings(source, split, rules.group, [rules.table]))
            yield Row(split, rules.group, num_surveys, 0, num_surveys, 0, missing)
            continue
        valid = covariates.table.select(pl.any_horizontal(pl.col(columns).is_not_nan() & pl.col(columns).is_not_null()))
        num_present = int(valid.to_series().sum())
        findings = [*_value_findings(covariates, rules.group, columns), *_table_findings(facts)]
        yield Row(split, rules.group, num_surveys, num_present, num_surveys - num_present, 0, tuple(findings))


def _value_findings(covariates: Covariates, group: str, columns: list[str]) -> Iterator[Finding]:
    masked = {name: covariates.masked[name] for name in columns if name in covariates.masked}
    if masked:
        total = sum(masked.values())
        message = f"surveys with impossible values ({total} values in {len(masked)} columns), masked"
        examples = tuple(f"{name}: {count}" for name, count in masked.items())
        yield Finding("warning", "masked", message, covariates.masked_rows[group], examples)
    mostly = [name for name, count in masked.items() if count > covariates.table[name].is_not_nan().sum()]
    if mostly:
        message = "columns where most values are impossible: other units than the official ones?"
        yield Finding("warning", "other-units", message, len(mostly), tuple(mostly))


def _table_findings(facts: Iterable[TableFacts]) -> Iterator[Finding]:
    for fact in facts:
        # Columns of the surveys' own table have a row for each species, and rows of all splits.
        again, extra = (0, 0) if fact.group == TABLE_GROUP else (fact.num_duplicates, fact.num_extra)
        for count, severity, code, what in (
            (extra, "note", "extra-rows", "rows of surveys that are not in the metadata, left out"),
            (fact.num_disagreeing, "warning", "disagree", "surveys whose rows disagree, the first kept"),
            (again, "warning", "duplicate-ids", "rows whose survey id came before, left out"),
            (fact.num_without_id, "warning", "no-ids", "rows without a survey id, left out"),
            (sum(fact.not_numbers.values()), "warning", "not-numbers", "cells that are no numbers, taken as missing"),
        ):
            if count:
                yield Finding(severity, code, what, count, (fact.path,))


def _missing_findings(release: Source, split: str, modality: str, templates: list[str]) -> Iterator[Finding]:
    """Yield that a modality is not there, and the zip file that may hold it."""
    yield Finding("warning", "missing", f"no {modality} for split {split!r}; a run goes on without it", 1)
    if isinstance(release, Study):
        return
    patterns = [release.pattern(split, template, channel=r"[a-z0-9]+") for template in templates]
    tables = sorted({path for pattern in patterns for path in release.tree.tables_like(pattern)})
    if tables:
        header = read_header(release.root / tables[0], error=ReleaseError)
        message = f"{tables[0]} is there, but none of its columns {header[:8]} is an official one"
        yield Finding("warning", "not-understood", message, len(tables), tuple(tables))
    zips = sorted({path for pattern in patterns for path in release.tree.zips_like(pattern)})
    if zips:
        yield Finding("warning", "zipped", f"found {zips[0]}: unpack it beside", len(zips), tuple(zips))


# ---- series and patches ----------------------------------------------------------------------------------


def _array_row(release: Release, split: str, modality: str, table: pl.DataFrame, max_files: int) -> Row:
    source: SeriesSource | PatchSource | None
    if modality == "patch":
        source = patch_source(release, split, table)
        templates = [part[0] for rules in release.rules.patches for part in rules.parts]
    else:
        source = series_source(release, split, modality, table)
        rules = next(rules for rules in release.rules.series if rules.modality == modality)
        templates = [rules.files, rules.table]
    if source is None or not source.has.any():
        missing = tuple(_missing_findings(release, split, modality, templates))
        return Row(split, modality, len(table), 0, len(table), 0, missing)
    num_present = int(source.has.sum())
    checked, problems, counts = _decode(source, max_files)
    findings = [*_source_findings(source), *_decode_findings(num_present, checked, problems, counts)]
    return Row(split, modality, len(table), num_present, len(table) - num_present, len(problems), tuple(findings))


def _decode(source: SeriesSource | PatchSource, max_files: int) -> tuple[int, list[Problem], dict[str, int]]:
    """Decode chunks that lie evenly over a source; return how many surveys, and what was found."""
    total = source.num_chunks(CHUNK_SIZE)
    wanted = min(total, max(max_files // CHUNK_SIZE, 1))
    indices = np.unique(np.linspace(0, total - 1, wanted).astype(int))
    checked = 0
    problems: list[Problem] = []
    counts: dict[str, int] = {}
    for index in track(indices.tolist(), f"{source.split} {source.modality}"):
        chunk: Chunk
        if isinstance(source, SeriesSource):
            chunk = read_series_chunk(source, index, CHUNK_SIZE)
        else:
            chunk = read_patch_chunk(source, index, CHUNK_SIZE)
        checked += len(chunk.rows) + len(chunk.problems)
        problems += chunk.problems
        for what, count in chunk.counts.items():
            counts[what] = counts.get(what, 0) + count
    return checked, problems, counts


def _decode_findings(
    num_present: int, checked: int, problems: list[Problem], counts: dict[str, int]
) -> Iterator[Finding]:
    if problems:
        examples = tuple(f"{problem.path}: {problem.what}" for problem in problems[:NUM_EXAMPLES])
        yield Finding("warning", "corrupt", "surveys whose file gives no data, left out", len(problems), examples)
    for what, count in counts.items():
        yield Finding("warning", "values", what, count)
    if checked < num_present:
        yield Finding("note", "sampled", f"only {checked} of {num_present} surveys were decoded", checked)


def _source_findings(source: SeriesSource | PatchSource) -> Iterator[Finding]:
    if isinstance(source, SeriesSource):
        yield from _series_findings(source)
        indices = [source.files] if source.files is not None else []
    else:
        yield from _patch_findings(source)
        indices = list(source.files)
    duplicates = sum(files.num_duplicates for files in indices)
    if duplicates:
        yield Finding("warning", "duplicate-files", "files whose id came before, left out", duplicates)


def _series_findings(source: SeriesSource) -> Iterator[Finding]:
    if source.kind != "tables":
        return
    there = {name for names, _ in source.tables for name in names}
    absent = tuple(name for name in source.channel_names if name not in there)
    if absent:
        yield Finding("warning", "missing-channels", "channels without a table, read as missing", len(absent), absent)


def _patch_findings(source: PatchSource) -> Iterator[Finding]:
    some = np.any([at >= 0 for at in source.positions], axis=0)
    partly = source.survey_ids.filter(pl.Series(some & ~source.has))
    yield from _if_any("warning", "incomplete", "surveys that lack one of the patch's files, left out", partly)
    if source.kind == "jpeg" and "nir" not in source.channel_names:
        yield Finding("warning", "missing-channels", "patches without near infrared", 1, ("nir",))


# ---- for people ------------------------------------------------------------------------------------------

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


def render_inventory(inventory: Inventory) -> RenderableType:
    """Return a table of counts and a table of findings for the terminal."""
    counts = Table()
    for name in ("split", "modality"):
        counts.add_column(name)
    for name in ("surveys", "present", "missing", "corrupt"):
        counts.add_column(name, justify="right")
    findings = Table(title="Findings", title_justify="left")
    for name in ("split", "modality", "", "count", "what", "for example"):
        findings.add_column(name, justify="right" if name == "count" else "left", overflow="fold")
    for row in inventory.rows:
        if row.split != "all":
            numbers = (row.num_surveys, row.num_present, row.num_missing, row.num_corrupt)
            counts.add_row(row.split, row.modality, *(f"{number:,}" for number in numbers))
        for finding in row.findings:
            colour = _COLOURS[finding.severity]
            examples = escape("\n".join(finding.examples[:NUM_EXAMPLES]))
            what = f"[{colour}]{finding.severity}[/]"
            findings.add_row(row.split, row.modality, what, f"{finding.count:,}", escape(finding.message), examples)
    verdict = "[bold red]A run would break: see the errors.[/]" if inventory.breaks_run else "A run can start."
    return Group(Text(f"{inventory.title}: {inventory.root}", style="italic"), counts, findings, verdict)
