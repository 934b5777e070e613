"""The tables of a folder as parts of a study: which belong together, and which are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from releve.discover.columns import Found
from releve.discover.kinds import Table
from releve.discover.tables import LeftOut, has_species, ids_of, judge_files, telling_words, words_in
from releve.ingest.names import fold

FEW_TEST_PLOTS = 300
"""Plots of one species, fewer than this and than its records, are kept for the test."""
SAME = 0.9
"""Least share of the ids of one table that another one has if both are of the same things."""
BACKGROUND = frozenset(
    {"background", "bg", "pseudo", "pseudoabsence", "pseudoabsences", "absence", "absences", "random"}
)
"""Words of file names of places where nothing was found."""
TEST_WORDS = frozenset({"test", "testing", "validation", "eval", "evaluation", "independent", "holdout"})
RECORD_IDS = ("gbifid", "occurrenceid")


@dataclass(frozen=True)
class Part:
    """A table as it becomes a part of the study."""

    table: Table
    files: tuple[Path, ...]
    crs: str | None = None
    why_crs: str = ""
    species_name: str = ""
    """Of the one species of a table that names none."""
    why_name: str = ""
    split: str = "train"
    why_split: str = ""
    species_table: Table | None = None
    """Where the species of the plots are in another table."""
    covariates: tuple[str, ...] = ()
    offered: tuple[tuple[str, str], ...] = ()
    """Columns that could be covariates -> why they are not taken."""

    @property
    def name(self) -> str:
        """Return the name of its first file."""
        return self.files[0].name

    @property
    def points(self) -> np.ndarray:
        """Return the known ``x, y`` of its rows."""
        place = self.table.place
        if place is None or place.points is None:
            return np.zeros((0, 2))
        return place.points[np.isfinite(place.points).all(axis=1)]


@dataclass(frozen=True)
class CovariateFiles:
    """Tables of the same columns that have numbers for the ids of plots."""

    table: Table
    files: tuple[Path, ...]


def find_tables(
    files: Sequence[Path], folder: Path, left_out: LeftOut, remarks: list[str]
) -> tuple[list[Part], list[CovariateFiles]]:
    """Return the tables that are plots or records, species joined to their plots, and those of covariates by plot.

    Parameters
    ----------
    files
        Tables.
    folder
        Its name is that of a species which no table names.
    left_out, remarks
        What is left out and what is to be said is added to them.
    """
    tables = judge_files(files, left_out)
    parts = [Part(table, paths) for table, paths in tables if table.kind in ("plots", "records")]
    parts = _without_copies(_without_background(parts, left_out), left_out)
    others = [(table, paths) for table, paths in tables if table.kind not in ("plots", "records")]
    parts, others = _join_species(parts, others, left_out)
    covariates, others = _covariates_of(parts, others)
    if not parts:
        parts, others = _bare_places(others)
    for table, paths in others:
        left_out += [(path, table.why) for path in paths]
    for part in parts:
        remarks += [*part.table.remarks, *(part.table.place.remarks if part.table.place else ())]
        remarks += [f"{part.table.sample.name}: {note}" for note in part.table.sample.notes]
    parts = _name_single_species(parts, folder, remarks)
    return _keep_for_test(parts, remarks), covariates


# ---- what is no part of its own ----------------------------------------------------------------------------


def _without_background(parts: list[Part], left_out: LeftOut) -> list[Part]:
    """Return the parts but for those in which every row is an absence: random places, which Relevé draws itself."""
    kept = []
    for part in parts:
        status = part.table.roles.get("occurrence_status")
        if status is not None and part.table.profiles[str(status.column)].is_absence:
            why = f"{status.column} says absent in every row: random places to compare with, which are drawn anew"
            left_out += [(path, why) for path in part.files]
        else:
            kept.append(part)
    return kept


def _without_copies(parts: list[Part], left_out: LeftOut) -> list[Part]:
    """Return the parts but for those that another table has too, as verbatim.txt has those of occurrence.txt."""
    kept: list[Part] = []
    for part in parts:
        first = next((other for other in kept if _is_copy(part, other)), None)
        if first is None:
            kept.append(part)
        else:
            left_out += [(path, f"it has the {part.table.kind} of {first.name} once more") for path in part.files]
    return kept


def _is_copy(part: Part, other: Part) -> bool:
    """Return whether a table has what another has: records with its ids, or its plots and species in another form."""
    if part.table.kind != other.table.kind:
        return False
    if part.table.kind == "plots":
        ids = [ids_of(each.table).drop_nulls() for each in (part, other) if "survey_id" in each.table.roles]
        is_form = part.table.form != other.table.form and len(ids) == 2
        names = _species_names(part.table) if is_form else set()
        known = _species_names(other.table) if is_form else set()
        return bool(names) and _share_in(*ids) >= SAME and len(names & known) >= SAME * len(names)
    for name in part.table.profiles:
        twin = next((twin for twin in other.table.profiles if fold(twin) == fold(name)), None)
        if fold(name) in RECORD_IDS and twin is not None:
            records = part.table.sample.cells[name].drop_nulls()
            if len(records) and _share_in(records, other.table.sample.cells[twin]) >= SAME:
                return True
    return False


def _species_names(table: Table) -> set[str]:
    """Return the names of species that a table has, as far as rows were looked at, without signs and blanks."""
    if table.species_columns:
        return set(map(fold, table.species_columns))
    column = table.roles["species"].column if "species" in table.roles else ()
    return set(map(fold, table.sample.cells[column].drop_nulls().unique())) if isinstance(column, str) else set()


def _share_in(ids: pl.Series, known: pl.Series) -> float:
    """Return the share of ids that are known."""
    return float(np.mean(ids.is_in(known.drop_nulls().implode()).to_numpy())) if len(ids) else 0.0


# ---- plots and their species -------------------------------------------------------------------------------


Tables = list[tuple[Table, tuple[Path, ...]]]


def _join_species(parts: list[Part], others: Tables, left_out: LeftOut) -> tuple[list[Part], Tables]:
    """Return the parts with those plots whose species are in another table, and the tables that are left.

    A table of plots without covariates is joined to one that has covariates and places for the same ids.
    """
    headers = [(t, p) for t, p in others if t.place is not None and not has_species(t)]
    species = [(t, p) for t, p in others if t.place is None and has_species(t)]
    bare = [
        part for part in parts if part.table.kind == "plots" and has_species(part.table) and not part.table.covariates
    ]
    species += [(replace(part.table, place=None), part.files) for part in bare if "survey_id" in part.table.roles]
    joins: list[tuple[float, int, Table, Table, tuple[Path, ...]]] = []
    for table, paths in species:
        for at, (header, _) in enumerate(headers):
            join = _join(header, table)
            is_bare = any(part.files == paths for part in bare)
            if join is not None and not (is_bare and (join[2] < SAME or not header.covariates)):
                joins.append((join[2], at, *join[:2], paths))
    used: set[Path] = set()
    made = []
    for _, at, header, table, paths in sorted(
        joins, key=lambda join: (join[0], len(join[3].sample.cells)), reverse=True
    ):
        if used.isdisjoint(paths) and used.isdisjoint(headers[at][1]):
            made.append(Part(replace(header, kind="plots"), headers[at][1], species_table=table))
            used |= {*paths, *headers[at][1]}
        elif used.isdisjoint(paths) and not any(part.files == paths for part in bare):
            left_out += [(path, f"more species of the plots of {headers[at][1][0].name}") for path in paths]
            used |= set(paths)
    kept = [part for part in parts if used.isdisjoint(part.files)]
    return [*made, *kept], [(table, paths) for table, paths in others if used.isdisjoint(paths)]


def _join(header: Table, species: Table) -> tuple[Table, Table, float] | None:
    """Return plots and their species with the columns that join them, and the share of the species that find a plot."""
    best: tuple[int, float, str, str] = (0, 0.0, "", "")
    meant = {found.column for found in header.place.columns.values()} if header.place else set()
    called: dict[str, list[str]] = {}
    for right in species.profiles:
        called.setdefault(fold(right), []).append(right)
    words = [right for right, profile in species.profiles.items() if not profile.is_number and profile.num_distinct > 1]
    for left, profile in header.profiles.items():
        if left in meant or profile.num_distinct < SAME * profile.num_values or profile.share < SAME:
            continue
        rights = [*called.get(fold(left), []), *([] if profile.is_number else words)]
        rights += [right for right in species.profiles if _is_id(header, left) and _is_id(species, right)]
        for right in dict.fromkeys(rights):
            both_ids = _is_id(header, left) and _is_id(species, right)
            is_called = both_ids or fold(left) == fold(right)
            share = _share_in(species.sample.cells[right].drop_nulls(), header.sample.cells[left])
            if share > (0.5 if is_called else SAME):
                best = max(best, (is_called + both_ids, share, left, right))
    _, share, left, right = best
    if not left:
        return None
    why = f"the same values as in {species.sample.path.name}, by which the two are joined"
    told = f"a row is a plot, and its species are in {species.sample.path.name}"
    roles = {**header.roles, "survey_id": Found(left, why)}
    header = replace(header, why=told, roles=roles, num_plots=len(header.sample.cells))
    kept = {
        role: found
        for role, found in species.roles.items()
        if role not in ("survey_id", "year", "month", "day", "date")
    }
    species = replace(species, roles={"survey_id": Found(right, "as in the table of plots"), **kept})
    return replace(header, covariates=tuple(name for name in header.covariates if name != left)), species, share


def _is_id(table: Table, name: str) -> bool:
    return "survey_id" in table.roles and table.roles["survey_id"].column == name


def _covariates_of(parts: list[Part], others: Tables) -> tuple[list[CovariateFiles], Tables]:
    """Return the tables that have numbers for the ids of plots, those of the same columns as one, and the rest."""
    known = [ids_of(part.table).drop_nulls().unique() for part in parts if "survey_id" in part.table.roles]
    found: dict[object, CovariateFiles] = {}
    rest = []
    for table, paths in others:
        is_by_plot = "survey_id" in table.roles and not has_species(table) and table.covariates
        if is_by_plot and max((_share_in(ids, ids_of(table)) for ids in known), default=0.0) >= 0.5:
            columns = (table.roles["survey_id"].column, table.covariates)
            first = found.get(columns)
            found[columns] = (
                CovariateFiles(first.table, (*first.files, *paths)) if first else CovariateFiles(table, paths)
            )
        elif "survey_id" in table.roles and table.kind in ("header", "covariates"):
            rest.append((replace(table, why=f"{table.why}; its ids are not those of the plots"), paths))
        else:
            rest.append((table, paths))
    return list(found.values()), rest


def _bare_places(others: Tables) -> tuple[list[Part], Tables]:
    """Return tables of nothing but places as records of a species each, in a folder that has no other plots or records.

    A table with a column of covariates, or one that is called a background, is none.
    """
    found, rest = [], []
    for table, paths in others:
        words = {word.casefold() for word in words_in(paths[0].stem)}
        if table.place is None or has_species(table) or words & BACKGROUND:
            rest.append((table, paths))
            continue
        why = "there are places, and no other table that names a species: taken as finds of one"
        roles = {role: found for role, found in table.roles.items() if role != "survey_id"}
        found.append(Part(replace(table, kind="records", why=why, roles=roles, num_species=1), paths))
    return found, rest


# ---- one species -------------------------------------------------------------------------------------------


def _name_single_species(parts: list[Part], folder: Path, remarks: list[str]) -> list[Part]:
    """Return the parts with a name for the species of tables that name none: of the file, else of the folder."""
    made = []
    for part in parts:
        if part.species_table is not None or has_species(part.table):
            made.append(part)
            continue
        words = telling_words(part.files[0].stem)
        name = " ".join(words or words_in(folder.resolve().name)) or "species"
        origin = "the file" if words else "the folder"
        why = f"no column names the species; this is the name of {origin}, put the right one here"
        made.append(replace(part, species_name=name, why_name=why))
        remarks.append(f"{part.name} names no species: it is called {name!r}, after {origin}")
    return made


def _keep_for_test(parts: list[Part], remarks: list[str]) -> list[Part]:
    """Return the parts with plots kept for the test: files called so, and few plots of one species beside its records.

    Something must be left to learn from.
    """
    num_records = sum(part.table.sample.num_rows for part in parts if part.table.kind == "records")
    called = [part for part in parts if part.table.kind == "plots" and _is_called_test(part, parts)]
    if len(called) == len(parts):
        called = []
    made = []
    for part in parts:
        num_plots, why = part.table.num_plots, ""
        if part in called:
            why = "the name of the file says so"
        elif part.table.kind == "plots" and part.species_name and num_plots < min(FEW_TEST_PLOTS, num_records):
            why = f"{num_plots} plots are too few to learn from beside {num_records:,} records, but good to score by"
        if why:
            remarks.append(f"{part.name} is kept for the test: {why}")
        made.append(replace(part, split="test", why_split=why) if why else part)
    return made


def _is_called_test(part: Part, parts: list[Part]) -> bool:
    """Return whether a file is called a test: by a word, or by a beginning such as ``AWTtest`` beside ``AWTtrain``."""
    words = {word.casefold() for word in words_in(part.files[0].stem)}
    others = {word.casefold() for other in parts for word in words_in(other.files[0].stem)}
    return bool(words & TEST_WORDS) or any(
        word.endswith("test") and word.removesuffix("test") + "train" in others for word in words
    )
