"""Values at a survey's place: one column for each official variable, impossible values masked and counted."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl

from releve.errors import ReleaseError
from releve.ingest.ids import clean_ids
from releve.ingest.layouts import COVARIATES, CovariateLayout, ValueRange
from releve.ingest.names import normalise
from releve.ingest.release import Release
from releve.ingest.text import key_column, read_header, read_text_table

LARGEST = 1e38
"""Rasters of floats have their least number, -3.4e38, where they have no data."""
USUAL_FILLS = (-9999.0, -99999.0, -999999.0, -32768.0, -2147483648.0)
"""What rasters and spreadsheets hold where there is no data."""


@dataclass(frozen=True)
class TableFacts:
    """What a table of values holds beside what is asked for."""

    group: str
    path: str
    num_rows: int
    num_found: int
    """Surveys asked for that have a row."""
    num_extra: int
    """Rows of surveys that were not asked for."""
    num_duplicates: int
    """Rows whose survey has an earlier row, which is the one used."""
    num_without_id: int
    not_numbers: dict[str, int]
    """Column -> number of cells that hold something else, such as ``5km``."""


@dataclass(frozen=True)
class Covariates:
    """Covariates of the surveys asked for, row by row in the order asked."""

    table: pl.DataFrame
    """survey_id and one Float32 column for each variable; NaN where a value is missing or impossible."""
    groups: dict[str, str]
    units: dict[str, str]
    categorical: tuple[str, ...]
    masked: dict[str, int]
    """Column -> number of values outside the valid range; columns without any are left out."""
    masked_rows: dict[str, int]
    """Group -> number of surveys with at least one masked value."""
    missing: tuple[str, ...]
    """Groups without a table."""
    facts: tuple[TableFacts, ...]

    @property
    def not_numbers(self) -> dict[str, int]:
        """What cells were, in words, -> how many, where they were no numbers."""
        counts = {name: number for fact in self.facts for name, number in fact.not_numbers.items()}
        return {f"{name} is no number": count for name, count in counts.items()}


def read_covariates(release: Release, split: str, survey_ids: pl.Series) -> Covariates:
    """Return the covariates of some surveys of a split.

    Parameters
    ----------
    release, split
        Where to read.
    survey_ids
        Text; the rows of the result follow their order. Surveys of one place on several dates have one id.

    Raises
    ------
    ReleaseError
        If a table has no column of survey ids.
    """
    wanted = pl.DataFrame({"survey_id": survey_ids})
    columns: dict[str, pl.Series] = {"survey_id": wanted["survey_id"]}
    groups, masked, masked_rows, used = {}, {}, {}, {}
    missing, facts = [], []
    for group in release.rules.covariates:
        table, group_facts = _read_group(release, split, group, wanted)
        facts += group_facts
        if not group_facts:
            missing.append(group.group)
        bad_rows = np.zeros(len(wanted), dtype=bool)
        for name in table.columns:
            rule = _range_of(name, group)
            values, bad = _mask(table[name].to_numpy(), rule)
            columns[name], groups[name], used[name] = pl.Series(name, values), group.group, rule
            bad_rows |= bad
            if bad.any():
                masked[name] = int(bad.sum())
        if bad_rows.any():
            masked_rows[group.group] = int(bad_rows.sum())
    return Covariates(
        table=pl.DataFrame(columns),
        groups=groups,
        units={name: rule.units for name, rule in used.items()},
        categorical=tuple(name for name, rule in used.items() if rule.categorical),
        masked=masked,
        masked_rows=masked_rows,
        missing=tuple(missing),
        facts=tuple(facts),
    )


def mask_values(name: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a covariate's values as float32 with NaN for the impossible ones, and which those were.

    The name is official, as ``Bio1``; of a variable that no release has, infinite values and ``USUAL_FILLS`` are.

    Examples
    --------
    >>> mask_values("Elevation", np.array([120.0, -9999.0, np.nan]))
    (array([120.,  nan,  nan], dtype=float32), array([False,  True, False]))
    """
    rules = (rule for group in COVARIATES for rule in group.ranges if _matches(name, rule))
    return _mask(values, next(rules, ValueRange("", -LARGEST, LARGEST, "", fills=USUAL_FILLS)))


def _read_group(
    release: Release, split: str, group: CovariateLayout, wanted: pl.DataFrame
) -> tuple[pl.DataFrame, list[TableFacts]]:
    """Return a group's columns aligned to ``wanted``, and the facts of each table used.

    Tables with the same columns in the same folder are parts of one; of those in other folders (older
    versions) the preferred one is used. Tables with other columns add theirs.
    """
    parts: dict[tuple[str, ...], list[pl.DataFrame]] = {}
    folders: dict[tuple[str, ...], str] = {}
    facts = []
    for path in release.tables(split, group.table):
        names = _value_columns(release, path, group)
        folder = path.rpartition("/")[0]
        if not names or folders.setdefault(names, folder) != folder:
            continue
        table, table_facts = _read_values(release, path, names, group, wanted)
        parts.setdefault(names, []).append(table)
        facts.append(table_facts)
    result = pl.DataFrame({"survey_id": wanted["survey_id"]})
    for tables in parts.values():
        whole = pl.concat(tables).unique("survey_id", keep="first", maintain_order=True)
        new = [name for name in whole.columns if name not in result.columns]
        result = result.join(whole.select("survey_id", *new), on="survey_id", how="left", maintain_order="left")
    return result.drop("survey_id"), facts


def _value_columns(release: Release, path: str, group: CovariateLayout) -> tuple[str, ...]:
    """Return the columns of a table that are variables of its group; an unnamed index column is none."""
    header = read_header(release.root / path, error=ReleaseError)
    return tuple(name for name in header if any(_matches(name, rule) for rule in group.ranges))


def _read_values(
    release: Release, path: str, names: tuple[str, ...], group: CovariateLayout, wanted: pl.DataFrame
) -> tuple[pl.DataFrame, TableFacts]:
    full = release.root / path
    key = key_column(full, release.rules.columns["survey_id"])
    text = read_text_table(full, (key, *names), error=ReleaseError)
    values = text.cells.select(clean_ids(text.cells[key]).alias("survey_id"), *(text.number(name) for name in names))
    not_numbers = {name: len(text.not_numbers(name)) for name in names}
    valid = values.drop_nulls("survey_id")
    first = valid.unique("survey_id", keep="first", maintain_order=True)
    found = first.join(wanted, on="survey_id", how="semi")
    facts = TableFacts(
        group=group.group,
        path=path,
        num_rows=len(values),
        num_found=len(found),
        num_extra=len(first) - len(found),
        num_duplicates=len(valid) - len(first),
        num_without_id=len(values) - len(valid),
        not_numbers={name: count for name, count in not_numbers.items() if count},
    )
    return found, facts


def _range_of(name: str, group: CovariateLayout) -> ValueRange:
    return next(rule for rule in group.ranges if _matches(name, rule))


def _matches(name: str, rule: ValueRange) -> bool:
    return re.fullmatch(rule.columns, normalise(name)) is not None


def _mask(values: np.ndarray, rule: ValueRange) -> tuple[np.ndarray, np.ndarray]:
    """Return the values as float32 with NaN for the impossible ones, and which those were."""
    values = values.astype(np.float64)
    bad = ~np.isnan(values) & ~((values >= rule.low) & (values <= rule.high))
    bad |= np.isin(values, rule.fills)
    return np.where(bad, np.nan, values).astype(np.float32), bad
