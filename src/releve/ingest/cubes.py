"""Time series of a split's surveys, from tables (a row each) or from ``.pt`` cubes (a file each)."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from releve.errors import ReleaseError, pick
from releve.ingest.chunks import Chunk, ChunkSource
from releve.ingest.files import FileIndex, index_files
from releve.ingest.ids import file_numbers
from releve.ingest.layouts import SeriesLayout
from releve.ingest.lines import LineIndex, index_lines
from releve.ingest.names import normalise
from releve.ingest.problems import Problem
from releve.ingest.release import Release
from releve.ingest.text import key_column, read_header

ROUNDED = "values rounded to integers"
OUT_OF_RANGE = "values out of range"
NOT_NUMBERS = "cells that are not numbers"


class SeriesChunk(Chunk):
    """Series of a few surveys: values are (rows, channels, years, seasons)."""


@dataclass(frozen=True)
class SeriesSource(ChunkSource[SeriesChunk]):
    """The series of one modality and split. Small enough to be sent to another process."""

    root: Path
    split: str
    modality: str
    kind: str
    """``tables`` or ``files``."""
    has: np.ndarray
    """bool, aligned to the survey table: this survey has data."""
    rules: SeriesLayout
    survey_ids: pl.Series
    tables: tuple[tuple[tuple[str, ...], LineIndex], ...] = ()
    """(channels, rows of the table that holds them)."""
    files: FileIndex | None = None
    positions: np.ndarray | None = None
    """Where each survey's file is in ``files``."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, years, seasons."""
        return self.rules.shape

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Bands or variables."""
        return self.rules.channel_names

    @property
    def first_year(self) -> int:
        """Year of the first step."""
        return self.rules.first_year

    @property
    def seasons_per_year(self) -> int:
        """4 quarters or 12 months."""
        return self.rules.seasons_per_year

    @property
    def dtype(self) -> np.dtype:
        """Integer type that holds every valid value and the fill."""
        return np.dtype(self.rules.dtype)

    @property
    def fill(self) -> int:
        """What stands for a missing value; never a valid one."""
        return self.rules.fill

    @property
    def units(self) -> str:
        """What the numbers mean."""
        return self.rules.units

    @cached_property
    def rows(self) -> np.ndarray:
        """Positions, in the survey table, of the surveys that have data; found once, not at every chunk."""
        return np.flatnonzero(self.has)

    def read_chunk(self, index: int, chunk_size: int = 256) -> SeriesChunk:
        """Return one chunk; a survey whose file is broken or empty is left out, with a problem."""
        return read_series_chunk(self, index, chunk_size)


def series_source(
    release: Release, split: str, modality: str, survey_table: pl.DataFrame, *, kind: str | None = None
) -> SeriesSource | None:
    """Return where a modality's series of a split are read from, or None if the release has none.

    Tables are preferred to cubes, as they are read faster and hold the same values.

    Parameters
    ----------
    release, split
        Where to read.
    modality
        ``landsat`` or ``climate``.
    survey_table
        ``Surveys.table``; rows of chunks are positions in it.
    kind
        Read from ``tables`` or ``files`` only.

    Raises
    ------
    ConfigError
        If the modality or the kind is unknown.
    ReleaseError
        If a table has no column of ids.
    """
    known = {rules.modality: rules for rules in release.rules.series}
    if modality not in known and modality in ("landsat", "climate"):
        return None
    rules = pick(known, modality, what="modality")
    kinds = {"tables": _table_source, "files": _file_source}
    wanted = kinds.values() if kind is None else [pick(kinds, kind, what="kind of series")]
    sources = (make(release, split, rules, survey_table) for make in wanted)
    return next((source for source in sources if source is not None), None)


def _table_source(release: Release, split: str, rules: SeriesLayout, survey_table: pl.DataFrame) -> SeriesSource | None:
    """Return a source over the tables of a split, if there are any."""
    ids = survey_table["series_id"]
    channels: dict[str, list[str]] = {}
    for channel in rules.channel_names:
        for path in release.tables(split, rules.table, channel=channel)[:1]:
            channels.setdefault(path, []).append(channel)
    tables = []
    for path, names in channels.items():
        full = release.root / path
        key = key_column(full, SERIES_KEYS)
        header = {normalise(column): column for column in read_header(full, error=ReleaseError)}
        wanted = [column for name in names for column in rules.column_names(name)]
        columns = [header.get(normalise(column), column) for column in wanted]
        tables.append((tuple(names), index_lines(full, key, columns, ids)))
    if not tables:
        return None
    has = np.any([lines.begins >= 0 for _, lines in tables], axis=0)
    survey_ids = survey_table["survey_id"]
    return SeriesSource(release.root, split, rules.modality, "tables", has, rules, survey_ids, tables=tuple(tables))


SERIES_KEYS = ("surveyId", "timeSerieID")


def _file_source(release: Release, split: str, rules: SeriesLayout, survey_table: pl.DataFrame) -> SeriesSource | None:
    """Return a source over the cubes of a split, if there are any."""
    files = index_files(release.root, release.tree, release.pattern(split, rules.files))
    if not len(files.ids):
        return None
    positions = files.positions(file_numbers(survey_table["series_id"]))
    survey_ids = survey_table["survey_id"]
    return SeriesSource(
        release.root,
        split,
        rules.modality,
        "files",
        positions >= 0,
        rules,
        survey_ids,
        files=files,
        positions=positions,
    )


def read_series_chunk(source: SeriesSource, index: int, chunk_size: int = 256) -> SeriesChunk:
    """Return one chunk of a source; a survey whose file is broken or empty is left out, with a problem."""
    rows = source.chunk_rows(index, chunk_size)
    reader = {"tables": _read_tables, "files": _read_files}[source.kind]
    raw, problems, counts = reader(source, rows)
    bad = {problem.survey_id for problem in problems}
    empty = np.isnan(raw).all(axis=(1, 2, 3))
    for at in np.flatnonzero(empty):
        if source.survey_ids[int(rows[at])] not in bad:
            problems.append(_problem(source, int(rows[at]), "no value at all. expected a series"))
    values, encoded = encode_series(raw[~empty], source.rules)
    return SeriesChunk(rows[~empty], values, problems, {k: v for k, v in (counts | encoded).items() if v})


def encode_series(raw: np.ndarray, rules: SeriesLayout) -> tuple[np.ndarray, dict[str, int]]:
    """Return (n, C, Y, Q) floats as integers with the fill for what is missing or impossible, and counts.

    Examples
    --------
    >>> import numpy as np
    >>> from releve.ingest.layouts import LANDSAT
    >>> raw = np.full((1, *LANDSAT.shape), np.nan)
    >>> raw[0, 0, 0, :3] = [17.0, 12.4, 300.0]
    >>> values, counts = encode_series(raw, LANDSAT)
    >>> values[0, 0, 0].tolist(), counts
    ([17, 12, -1, -1], {'values rounded to integers': 1, 'values out of range': 1})
    """
    low, high = np.array(rules.valid, dtype=np.float64).T.reshape(2, -1, 1, 1)
    missing = np.isnan(raw)
    whole = np.rint(raw)
    valid = (whole >= low) & (whole <= high)
    counts = {ROUNDED: int((valid & (whole != raw)).sum()), OUT_OF_RANGE: int((~valid & ~missing).sum())}
    return np.where(valid, whole, rules.fill).astype(rules.dtype), counts


def _read_tables(source: SeriesSource, rows: np.ndarray) -> tuple[np.ndarray, list[Problem], dict[str, int]]:
    _, num_years, num_seasons = source.shape
    raw = np.full((len(rows), *source.shape), np.nan)
    num_bad = 0
    for channels, lines in source.tables:
        values, bad = lines.read(rows)
        at = [source.channel_names.index(channel) for channel in channels]
        raw[:, at] = values.reshape(len(rows), len(channels), num_years, num_seasons)
        num_bad += bad
    return raw, [], {NOT_NUMBERS: num_bad}


def _read_files(source: SeriesSource, rows: np.ndarray) -> tuple[np.ndarray, list[Problem], dict[str, int]]:
    raw = np.full((len(rows), *source.shape), np.nan)
    problems = []
    for at, row in enumerate(rows):
        try:
            cube = load_cube(source.root / _path(source, int(row)), source.rules.file_shape)
        except ReleaseError as error:
            problems.append(_problem(source, int(row), str(error)))
        else:
            raw[at] = cube.transpose(source.rules.axes)
    return raw, problems, {}


def load_cube(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return the float64 array of a ``.pt`` file. Code inside the file is refused, never run.

    Raises
    ------
    ReleaseError
        If the file is not one floating-point tensor of this shape.
    """
    import torch  # takes two seconds: only those who read cubes wait for it

    expected = f"a float32 tensor of shape {shape}"
    try:
        content = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch documents no closed set of errors for foreign bytes
        raise ReleaseError(f"cannot be loaded safely ({_first_line(error)})", expected=expected) from error
    if not isinstance(content, torch.Tensor):
        raise ReleaseError(f"holds a {type(content).__name__}", expected=expected)
    if tuple(content.shape) != shape or not content.dtype.is_floating_point or content.layout != torch.strided:
        raise ReleaseError(f"holds a {content.dtype} tensor of shape {tuple(content.shape)}", expected=expected)
    return content.detach().to(torch.float64).numpy()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _path(source: SeriesSource, row: int) -> str:
    """Return the path, from the release's root, of the file or table that a survey's series comes from."""
    if source.files is not None and source.positions is not None:
        return source.files.path(int(source.positions[row]))
    lines = next(lines for _, lines in source.tables if lines.begins[row] >= 0)
    return os.path.relpath(lines.path, source.root)


def _problem(source: SeriesSource, row: int, what: str) -> Problem:
    return Problem(source.split, source.modality, source.survey_ids[row], _path(source, row), what)
