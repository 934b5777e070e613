"""Covariates that a study has in tables: columns of its plots and records, and tables by plot id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase, translate
from typing import TYPE_CHECKING

import polars as pl

from releve.errors import TableError
from releve.ingest.columns import PLACE_COLUMNS, STUDY_COLUMNS, exact_name, find_columns, match_patterns
from releve.ingest.config import CovariateTable
from releve.ingest.dates import as_text
from releve.ingest.formats import GEOMETRY, read_any_table
from releve.ingest.ids import clean_ids
from releve.ingest.layouts import ANY_VALUE, CovariateLayout, ValueRange
from releve.ingest.names import normalise
from releve.ingest.sheets import ValueTable, with_cells
from releve.progress import say

if TYPE_CHECKING:
    from releve.ingest.study import Study

TABLE_GROUP = "table"
"""Group of the covariates that are columns of plots or records."""
MAX_CLASSES = 50
"""Text with more different words is no class, unless it is said to be."""


@dataclass(frozen=True)
class Values:
    """The tables of covariates of a study."""

    tables: tuple[tuple[str | None, str, ValueTable], ...]
    """Split (None: of all whose ids are given), group and table, classes as codes."""
    groups: tuple[CovariateLayout, ...]
    classes: dict[str, dict[int, str]]
    """Covariate -> name of each code, where classes have names."""
    splits_with_ids: frozenset[str]
    """Those whose ids are not the numbers of rows, as they are of records that have none: these are no plots'."""

    def tables_of(self, split: str, group: str) -> Iterator[ValueTable]:
        """Yield the tables of a group that are of a split."""
        wanted = {split, None} if split in self.splits_with_ids else {split}
        yield from (table for of, name, table in self.tables if name == group and of in wanted)


def read_values(study: Study) -> Values:
    """Return the covariates of a study, text of classes as codes, numbered in the order of their names.

    Raises
    ------
    TableError
        If a table cannot be read, lacks a column, holds none of the plots, or two groups have a covariate of one name.
    """
    without = {
        split
        for split, community in study.communities
        if split in ("po", "random") and "survey_id" not in community.called
    }
    with_ids = frozenset(study.splits) - without
    tables: list[tuple[str | None, str, ValueTable]] = []
    categorical: dict[str, list[str]] = {}
    for described in (*study.config.plots, *study.config.records, *study.config.random_places):
        categorical.setdefault(TABLE_GROUP, []).extend(described.categorical)
    for split, community in study.communities:
        if community.covariates:
            values = ValueTable(community.origin, "survey_id", community.covariates, community.values)
            tables.append((split, TABLE_GROUP, values))
    for section in study.config.covariates:
        categorical.setdefault(section.group, []).extend(section.categorical)
        tables += [(None, section.group, table) for table in _read_tables(study, section, with_ids)]
    groups: list[CovariateLayout] = []
    classes: dict[str, dict[int, str]] = {}
    for group in dict.fromkeys(name for _, name, _ in tables):
        coded, kinds = _with_codes([t for _, name, t in tables if name == group], categorical[group])
        parts = iter(coded)
        tables = [(of, name, next(parts) if name == group else table) for of, name, table in tables]
        classes |= {name: codes for name, codes in kinds.items() if codes}
        ranges = [
            ValueRange(_regex(pattern), **limits.model_dump())
            for section in study.config.covariates
            if section.group == group
            for pattern, limits in section.ranges.items()
        ]
        named = [replace(ANY_VALUE, columns=_regex(name), units="class", categorical=True) for name in kinds]
        groups.append(CovariateLayout(group, "", (*ranges, *named, ANY_VALUE)))
    _refuse_twice(tables)
    return Values(tuple(tables), tuple(groups), classes, with_ids)


def _read_tables(study: Study, section: CovariateTable, splits: frozenset[str]) -> Iterator[ValueTable]:
    given = [community.text.cells["survey_id"] for split, community in study.communities if split in splits]
    ids = pl.concat([pl.Series("survey_id", [], pl.String), *given])
    for file in study.files_of(section.file):
        text, _ = read_any_table(file, section.layer)
        origin, header = study.origin(file), [name for name in text.cells.columns if name not in GEOMETRY]
        usual = find_columns(header, STUDY_COLUMNS | {"survey_id": _KEYS}, origin=origin)
        key = exact_name(section.key, header, f"{origin}, key") if section.key else usual.get("survey_id")
        if key is None:
            raise TableError(
                f"{origin} has no column of plot ids; it has {header[:15]}", action='Give it as key = "..."'
            )
        names = match_patterns(text, section.columns, f"{origin}, columns", taken={key, *usual.values(), *GEOMETRY})
        keys = clean_ids(text.cells[key])
        if not keys.is_in(ids.implode()).any():
            raise TableError(
                f"{origin}: none of its ids, such as {keys.drop_nulls().head(3).to_list()} in column {key!r}, is that "
                f"of a plot, such as {ids.drop_nulls().head(3).to_list()}",
                expected="the ids of the plots",
                action='Name the right column as key = "..."',
            )
        cells = text.cells.select(keys.alias(key), *names)
        yield ValueTable(origin, key, tuple(names), with_cells(text, cells))


_KEYS = (*STUDY_COLUMNS["survey_id"], *PLACE_COLUMNS["survey_id"])


def _with_codes(
    tables: list[ValueTable], categorical: Iterable[str]
) -> tuple[list[ValueTable], dict[str, dict[int, str]]]:
    """Return the tables of a group with codes for classes that are text, and its classes -> the names of their codes.

    A column without any number is one of classes.
    """
    classes: dict[str, dict[int, str]] = {}
    left_out = []
    for name in dict.fromkeys(name for table in tables for name in table.names):
        having = [table for table in tables if name in table.names]
        num_words = sum(len(table.text.not_numbers(name)) for table in having)
        words = pl.concat([as_text(table.text.cells[name]) for table in having]).drop_nulls()
        is_declared = any(fnmatchcase(name, pattern) for pattern in categorical)
        is_text = num_words > 0 and (is_declared or num_words == len(words))
        names = words.unique().sort() if is_text else words.head(0)
        if is_declared:
            classes[name] = dict(enumerate(names))
        elif is_text and len(names) <= min(MAX_CLASSES, len(words) // 2):
            say(f"{having[0].origin}: covariate {name!r} is text, taken as {len(names)} classes")
            classes[name] = dict(enumerate(names))
        elif is_text:
            say(f"{having[0].origin}: covariate {name!r} is text with {len(names)} different words, left out")
            left_out.append(name)
    coded = []
    for table in tables:
        codes = {
            name: {word: str(code) for code, word in classes[name].items()} for name in table.names if classes.get(name)
        }
        cells = table.text.cells.with_columns(
            as_text(table.text.cells[name]).replace_strict(of, default=None, return_dtype=pl.String).alias(name)
            for name, of in codes.items()
        )
        kept = tuple(name for name in table.names if name not in left_out)
        coded.append(replace(table, names=kept, text=with_cells(table.text, cells)))
    return coded, classes


def _refuse_twice(tables: Iterable[tuple[str | None, str, ValueTable]]) -> None:
    group_of: dict[str, str] = {}
    for _, group, table in tables:
        for name in table.names:
            if group_of.setdefault(name, group) != group:
                raise TableError(
                    f"covariate {name!r} of {table.origin} is in the groups {group_of[name]!r} and {group!r}",
                    expected="a name of its own for each covariate",
                    action="Leave it out of columns or covariates in one of them, or rename it",
                )


def _regex(pattern: str) -> str:
    return translate(normalise(pattern))
