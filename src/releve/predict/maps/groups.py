"""Indicators: lists of species that an office watches, such as protected, invasive or endemic ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from numpy.typing import NDArray

from releve.errors import TableError, nearest
from releve.ingest.formats import read_any_table
from releve.progress import say

COLUMNS = ("group", "species")


def find_species(name: str, species: Sequence[str], *, where: str) -> int:
    """Return the index of a species in a list of names; capitals and blanks around it do not matter.

    Parameters
    ----------
    name
        What is looked for.
    species
        The names.
    where
        What knows them, in words.

    Raises
    ------
    TableError
        Naming the nearest ones, if there is none of this name.

    Examples
    --------
    >>> find_species(" poa annua", ["Abies alba", "Poa annua"], where="the run")
    1
    """
    folded = [each.casefold() for each in species]
    wanted = name.strip().casefold()
    if wanted in folded:
        return folded.index(wanted)
    close = [species[folded.index(each)] for each in difflib.get_close_matches(wanted, folded, n=3)]
    tip = f"did you mean {' or '.join(map(repr, close))}?" if close else f"They are called like {species[0]!r}"
    raise TableError(f"{where} knows no species {name!r}", action=tip)


def read_groups(file: Path, species: NDArray) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return the groups of a table and the ``species_index`` of their species, in the order of the table.

    Parameters
    ----------
    file
        A table with columns ``group`` and ``species`` (names, or ids where species have no names), a row each.
    species
        (S,) what the run calls its columns. Species that it does not know are left out, and said.

    Raises
    ------
    TableError
        If a column is lacking, or the run knows no species of a group.
    """
    table = read_any_table(file)[0].cells
    table = table.rename({name: name.strip().lower() for name in table.columns})
    if lacking := [name for name in COLUMNS if name not in table.columns]:
        raise TableError(f"{file} lacks columns {lacking}; it has {table.columns}", expected="group and species")
    index = {str(name).strip().casefold(): at for at, name in enumerate(species.tolist())}
    groups: dict[str, dict[int, None]] = {}
    unknown: dict[str, list[str]] = {}
    for group, name in table.select(pl.col(COLUMNS).cast(pl.String).str.strip_chars()).drop_nulls().rows():
        key = re.sub(r"[^\w-]+", "_", group).strip("_").lower()
        found = index.get(name.casefold())
        if found is None:
            unknown.setdefault(key, []).append(name)
        else:
            groups.setdefault(key, {})[found] = None
    for key, names in unknown.items():
        if key not in groups:
            raise TableError(
                f"the run knows none of the {len(names)} species of group {key!r} in {file}, such as {names[0]!r}",
                action=nearest(names[0], list(map(str, species.tolist()))),
            )
        say(f"{len(names)} species of {key} are unknown to the run and left out, such as {names[0]}")
    return tuple((key, tuple(found)) for key, found in groups.items())
