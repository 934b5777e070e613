"""Values at a survey's place: one column for each official variable, impossible values masked and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from releve.ingest.layouts import ANY_VALUE, COVARIATES, CovariateLayout, ValueRange
from releve.ingest.sheets import ValueTable
from releve.ingest.study import Source


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
    num_disagreeing: int
    """Surveys whose rows say different things."""
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
    classes: dict[str, dict[int, str]] = field(default_factory=dict)
    """Column -> name of each code, where classes have names."""
    not_covered: dict[str, int] = field(default_factory=dict)
    """Column of a raster -> number of surveys outside it, or where it has no data."""

    @property
    def not_numbers(self) -> dict[str, int]:
        """What cells were, in words, -> how many, where they were no numbers."""
        counts = {name: number for fact in self.facts for name, number in fact.not_numbers.items()}
        return {f"{name} is no number": count for name, count in counts.items()}

    @property
    def disagreeing(self) -> dict[str, int]:
        """Surveys whose rows say different things of their covariates, the first of which is taken."""
        counts = {fact.path: fact.num_disagreeing for fact in self.facts if fact.num_disagreeing}
        return {f"survey whose rows in {path} disagree, first kept": count for path, count in counts.items()}


def read_covariates(source: Source, split: str, survey_ids: pl.Series) -> Covariates:
    """Return the covariates of some surveys of a split.

    Parameters
    ----------
    source, split
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
    for group in source.rules.covariates:
        table, group_facts = _read_group(source, split, group, wanted)
        facts += group_facts
        if not group_facts:
            missing.append(group.group)
        bad_rows = np.zeros(len(wanted), dtype=bool)
        for name in table.columns:
            rule = group.range_of(name) or ANY_VALUE
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
        classes={name: codes for name, codes in source.classes.items() if name in used},
    )


def mask_values(name: str, values: np.ndarray, trained: Sequence[float] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Return a covariate's values as float32 with NaN for the impossible ones, and which those were.

    Of a variable that no release has, infinite values and ``USUAL_FILLS`` are; so too of one that has the name of an
    official one, such as ``Bio1``, but lay outside its possible values in training: it is in another unit.

    Examples
    --------
    >>> mask_values("Elevation", np.array([120.0, -9999.0, np.nan]))
    (array([120.,  nan,  nan], dtype=float32), array([False,  True, False]))
    >>> mask_values("bio1", np.array([9.5, -9999.0]), trained=[-2.0, 21.5])  # in °C, not in K x 10
    (array([9.5, nan], dtype=float32), array([False,  True]))
    """
    rules = (rule for group in COVARIATES if (rule := group.range_of(name)) is not None)
    rule = next(rules, ANY_VALUE)
    fits = not len(trained) or (rule.low <= min(trained) and max(trained) <= rule.high)
    return _mask(values, rule if fits else ANY_VALUE)


def _read_group(
    source: Source, split: str, group: CovariateLayout, wanted: pl.DataFrame
) -> tuple[pl.DataFrame, list[TableFacts]]:
    """Return a group's columns aligned to ``wanted``, and the facts of each table used.

    Tables with the same columns are parts of one; those with others add theirs.
    """
    parts: dict[tuple[str, ...], list[pl.DataFrame]] = {}
    facts = []
    for table in source.value_tables(split, group):
        found, table_facts = _read_values(table, group.group, wanted)
        parts.setdefault(table.names, []).append(found)
        facts.append(table_facts)
    result = pl.DataFrame({"survey_id": wanted["survey_id"]})
    for tables in parts.values():
        whole = pl.concat(tables).unique("survey_id", keep="first", maintain_order=True)
        new = [name for name in whole.columns if name not in result.columns]
        result = result.join(whole.select("survey_id", *new), on="survey_id", how="left", maintain_order="left")
    return result.drop("survey_id"), facts


def _read_values(table: ValueTable, group: str, wanted: pl.DataFrame) -> tuple[pl.DataFrame, TableFacts]:
    text = table.text
    values = text.cells.select(pl.col(table.key).alias("survey_id"), *(text.number(name) for name in table.names))
    not_numbers = {name: len(text.not_numbers(name)) for name in table.names}
    valid = values.drop_nulls("survey_id")
    first = valid.unique("survey_id", keep="first", maintain_order=True)
    found = first.join(wanted, on="survey_id", how="semi")
    facts = TableFacts(
        group=group,
        path=table.origin,
        num_rows=len(values),
        num_found=len(found),
        num_extra=len(first) - len(found),
        num_duplicates=len(valid) - len(first),
        num_disagreeing=_num_disagreeing(valid) if len(valid) > len(first) else 0,
        num_without_id=len(values) - len(valid),
        not_numbers={name: count for name, count in not_numbers.items() if count},
    )
    return found, facts


def _num_disagreeing(values: pl.DataFrame) -> int:
    different = values.unique()["survey_id"]
    return different.filter(different.is_duplicated()).n_unique()


def _mask(values: np.ndarray, rule: ValueRange) -> tuple[np.ndarray, np.ndarray]:
    """Return the values as float32 with NaN for the impossible ones, and which those were."""
    values = values.astype(np.float64)
    bad = ~np.isnan(values) & ~((values >= rule.low) & (values <= rule.high))
    bad |= np.isin(values, rule.fills)
    return np.where(bad, np.nan, values).astype(np.float32), bad
