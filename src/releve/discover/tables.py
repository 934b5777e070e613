"""The tables of a folder: each looked into, files of the same columns as one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from releve.discover.kinds import Table, judge_table
from releve.discover.samples import read_samples
from releve.errors import ReleveError
from releve.ingest.text import read_form
from releve.progress import track

MAX_ALIKE = 3
"""Of so many files with the same columns each is looked into, of more only these."""
GENERIC = frozenset(
    {
        *("occurrence", "occurrences", "occ", "po", "pa", "presence", "absence", "presences", "absences", "records"),
        *("data", "plots", "plot", "points", "train", "test", "training", "testing", "species", "table", "sites"),
        *("eval", "my", "validation", "independent", "dataset", "sdm", "csv", "clean", "final", "all", "folder"),
        *("gbif", "ebird", "inat", "inaturalist", "download", "observations", "finds", "xy", "coords", "coordinates"),
    }
)
"""Words of file and folder names that are no name of a species."""

LeftOut = list[tuple[Path, str]]
"""Files and why they are left out."""


def has_species(table: Table) -> bool:
    """Return whether a table names its species: in a column, or as columns."""
    return "species" in table.roles or bool(table.species_columns)


def judge_files(files: Sequence[Path], left_out: LeftOut) -> list[tuple[Table, tuple[Path, ...]]]:
    """Return every table that can be read and what it is; files of the same columns are one, if they are alike."""
    alike: dict[object, list[Path]] = {}
    for path in files:
        alike.setdefault(_columns_key(path), []).append(path)
    found = []
    for paths in track(list(alike.values()), "tables"):
        tables = _judge(paths[:MAX_ALIKE], left_out)
        if len(paths) > MAX_ALIKE and len(tables) == MAX_ALIKE and all(map(has_species, tables)):
            found.append((tables[0], tuple(paths)))
            continue
        tables += _judge(paths[MAX_ALIKE:], left_out)
        found += _join_alike(tables, left_out)
    return found


def _judge(paths: Sequence[Path], left_out: LeftOut) -> list[Table]:
    """Return the tables of files, of which one may have several; those that cannot be read are left out."""
    tables = []
    for path in paths:
        try:
            tables += [judge_table(sample) for sample in read_samples(path)]
        except ReleveError as error:
            left_out.append((path, error.found.replace(f"{path} ", "").removeprefix("is ")))
    return tables


def _columns_key(path: Path) -> object:
    """Return what is the same for files of the same columns in one folder; other kinds of files are alone."""
    if path.suffix.casefold() not in (".csv", ".tsv", ".txt", ".tab"):
        return path
    try:
        return path.parent, tuple(read_form(path).header)
    except ReleveError:
        return path


def _join_alike(tables: list[Table], left_out: LeftOut) -> list[tuple[Table, tuple[Path, ...]]]:
    """Return tables of the same columns as one, if they are of one kind and not of a species each.

    Those that give the same plots other places are other versions of the first, and left out.
    """
    groups: dict[object, list[Table]] = {}
    for table in tables:
        named = () if has_species(table) else tuple(telling_words(table.sample.path.stem))
        groups.setdefault((table.sample.layer, table.kind, table.form, named), []).append(table)
    joined = []
    for first, *others in groups.values():
        kept = [first.sample.path]
        for table in others:
            if _contradict(first, table):
                why = f"it has the plots of {first.sample.path.name} at other places: another version"
                left_out.append((table.sample.path, why))
            else:
                kept.append(table.sample.path)
        joined.append((first, tuple(kept)))
    return joined


def _contradict(first: Table, second: Table) -> bool:
    """Return whether two tables share plot ids and most of these lie elsewhere in the second one."""
    if first.place is None or second.place is None or first.kind != "plots" or "survey_id" not in first.roles:
        return False
    places = []
    for table in (first, second):
        assert table.place is not None and table.place.points is not None
        points = {"id": ids_of(table), "x": table.place.points[:, 0], "y": table.place.points[:, 1]}
        places.append(pl.DataFrame(points).unique("id", keep="first"))
    both = places[0].join(places[1], on="id")
    is_same = (both["x"] == both["x_right"]) & (both["y"] == both["y_right"])
    return len(both) > 0 and float(np.mean(is_same.to_numpy())) < 0.5


def ids_of(table: Table) -> pl.Series:
    """Return the ids of a table that has them."""
    return table.sample.cells[str(table.roles["survey_id"].column)]


def words_in(name: str) -> list[str]:
    """Return the words of the name of a file or folder."""
    return re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))


def telling_words(stem: str) -> list[str]:
    """Return the words of the name of a file that may be those of a species."""
    return [word for word in words_in(stem) if word.casefold() not in GENERIC]
