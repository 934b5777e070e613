"""A table of plots or records of one's own: what its columns mean, and a row for each species of a place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import polars as pl
from pyproj import CRS
from pyproj.exceptions import CRSError

from releve.errors import TableError
from releve.ingest.abundance import IN_WORDS, judge_abundances
from releve.ingest.columns import STUDY_COLUMNS, exact_name, find_columns, match_patterns
from releve.ingest.config import SpeciesTable, TableConfig
from releve.ingest.dates import date_parts
from releve.ingest.formats import GEOMETRY, Wanted, read_any_table
from releve.ingest.ids import clean_ids
from releve.ingest.names import fold
from releve.ingest.places import is_inside, look_like_degrees, read_degrees, to_degrees
from releve.ingest.presence import WORDS
from releve.ingest.refused import Refused
from releve.ingest.sheets import with_cells, with_origin
from releve.ingest.spellings import clean_names
from releve.ingest.text import TextTable
from releve.ingest.wide import species_columns, species_rows
from releve.progress import say

OF_SPECIES = ("species", "abundance", "occurrence_status", "count")
"""Roles that say what grows at a place: a wide table has none of them."""
BETWEEN_NAMES = ";"
"""Stands between the species of a cell that lists several, and so in no name."""
BLANKS = "name of a species with blanks that are not needed, mended"
FAR_DEG = 10.0
"""A zone of a projection is used for neighbouring ones as well."""
_GENUS = ("genus", "gattung", "genre", "genero")
_EPITHETS = ("specificEpithet", "epithet", "speciesEpithet", "artepitheton", "especieEpiteto")


_USUAL = {fold(name) for names in (*STUDY_COLUMNS.values(), _GENUS, _EPITHETS) for name in names}


@dataclass(frozen=True)
class Community:
    """A table as text, its columns called by what they mean."""

    origin: str
    text: TextTable
    """A row for each species of a plot or record, one without where nothing grew. Beside the roles it may have
    ``abundance_why_not``."""
    called: Mapping[str, str]
    """Role -> what the column is called in the file."""
    crs: str | None
    """Of ``lon, lat``; None for degrees."""
    values: TextTable
    """survey_id and the covariates, a row for each of the file."""
    covariates: tuple[str, ...]
    mended: Refused


def read_community(
    path: Path,
    origin: str,
    table: TableConfig,
    *,
    is_plots: bool,
    crs: str | None,
    is_one_of_several: bool = False,
    species: Listed | None = None,
    has_species: bool = True,
) -> Community:
    """Return a table of plots, of records, or of places without species.

    Parameters
    ----------
    path, origin
        The file, and what it is called in messages.
    table
        What is known of it.
    is_plots
        Whether rows of one plot belong together, or each is a record of its own.
    crs
        Of coordinates that name none.
    is_one_of_several
        Whether its rows are to be told from those of other files.
    species
        As of ``read_species``, where the species are in a table of their own.
    has_species
        Whether it says what grows anywhere; columns of a table of random places that would say so are not looked at.

    Raises
    ------
    TableError
        If the file cannot be read, lacks a column, or holds coordinates that cannot be of its CRS.
    """
    text, own_crs = read_any_table(path, table.layer, _wanted(table))
    text = with_origin(text, origin) if is_one_of_several else text
    is_listed = has_species and table.form == "long" and table.species is None and species is None
    roles = _find_roles(text, table, origin, is_listed=is_listed)
    if not has_species:
        roles = {role: names for role, names in roles.items() if role not in OF_SPECIES}
    if not is_plots and "survey_id" not in table.columns:
        roles.pop("survey_id", None)  # each record is one by itself
    place = _find_place(roles, table, text, own_crs, crs, origin)
    taken = {*place.names, *(name for names in roles.values() for name in names)}
    for axis in ("lon", "lat", "x", "y"):
        roles.pop(axis, None)
    covariates = match_patterns(text, table.covariates, f"{origin}, covariates", taken=taken | set(GEOMETRY))
    cells = text.cells.select(
        *(_joined(names).alias(role) for role, names in roles.items()),
        *(_coordinate(text, name, place).alias(axis) for axis, name in zip(("lon", "lat"), place.names, strict=True)),
    )
    if is_listed and is_plots and "survey_id" not in table.columns and _ids_are_of_rows(cells):
        (name,) = roles["survey_id"]
        say(
            f"{origin}: column {name!r} has an id of its own for each row, and places have several: plots are told "
            f'apart by place and date instead. Should it be their id: columns = {{ survey_id = "{name}" }}'
        )
        cells = cells.drop("survey_id")
    cells = cells.with_columns(_survey_ids(cells, text, origin, is_plots=is_plots, must_be_given=species is not None))
    values = with_cells(text, pl.concat([cells.select("survey_id"), text.cells.select(covariates)], how="horizontal"))
    rows, mended = text.rows, Refused()
    if species is not None:
        joined = cells.with_row_index("at").join(species.table, on="survey_id", how="left", maintain_order="left")
        cells, rows = joined.drop("at"), rows[joined["at"]]
    elif table.form == "wide":
        free = [name for name in text.cells.columns if name not in taken | {*covariates, *GEOMETRY}]
        columns = species_columns(text, free, table.species_columns, origin)
        cells, rows = species_rows(text, cells, columns, table.least_abundance, origin, mended)
    elif table.species is not None or not has_species:
        cells = cells.with_columns(species=pl.lit(table.species if has_species else None, pl.String))
    cells = _judged(cells, rows, table.least_abundance, roles, origin, mended)
    cells, rows = _with_mended_names(cells, rows, mended)
    called = {role: " + ".join(names) for role, names in roles.items()}
    called |= dict(zip(("lon", "lat"), place.names, strict=True))
    return Community(origin, with_cells(text, cells, rows), called, place.crs, values, covariates, mended)


@dataclass(frozen=True)
class Listed:
    """The species of plots, from a table of their own."""

    table: pl.DataFrame
    """survey_id, species, and what speaks against a presence."""
    mended: Refused


def read_species(files: Sequence[tuple[Path, str]], table: SpeciesTable, least: float | str | None) -> Listed:
    """Return the species of tables that name plots by their ids.

    Parameters
    ----------
    files
        Each with what it is called in messages.
    table
        What is known of them.
    least
        As of ``judge_abundances``.

    Raises
    ------
    TableError
        If a file cannot be read, or lacks a column.
    """
    parts, mended = [], Refused()
    for path, origin in files:
        text, _ = read_any_table(path, table.layer, _wanted(table))
        text = with_origin(text, origin)
        roles = _find_roles(text, table, origin, is_listed=table.form == "long")
        if "survey_id" not in roles:
            raise _no_ids(text, origin, "species_table.columns")
        cells = text.cells.select(_joined(names).alias(role) for role, names in roles.items())
        cells = cells.with_columns(clean_ids(cells["survey_id"]))
        rows = text.rows
        if table.form == "wide":
            taken = {*GEOMETRY, *(name for names in roles.values() for name in names)}
            free = [name for name in text.cells.columns if name not in taken]
            columns = species_columns(text, free, table.species_columns, origin)
            cells, rows = species_rows(text, cells, columns, least, origin, mended)
        cells = _judged(cells, rows, least, roles, origin, mended)
        parts.append(_with_mended_names(cells, rows, mended)[0])
    return Listed(pl.concat(parts, how="diagonal_relaxed"), mended)


def _no_ids(text: TextTable, origin: str, where: str) -> TableError:
    return TableError(
        f"{origin} has no column of plot ids, by which plots and species are joined; it has {list(text.header[:15])}",
        action=f'Give it as {where} = {{ survey_id = "..." }}',
    )


# ---- what the columns mean -------------------------------------------------------------------------------


def _wanted(table: TableConfig | SpeciesTable) -> Wanted | None:
    """Return which columns of a table can mean anything; None if all may be species."""
    if table.form == "wide":
        return None
    given = {name for names in table.columns.values() for name in ((names,) if isinstance(names, str) else names)}
    patterns = table.covariates if isinstance(table, TableConfig) else ()
    meant = {fold(name) for name in (*given, *patterns)} | _USUAL

    def columns(header: Sequence[str]) -> list[str]:
        found = [name for name in header if fold(name) in meant or any(fnmatchcase(name, each) for each in patterns)]
        return found or list(header[:1])

    return columns


def _find_roles(
    text: TextTable, table: TableConfig | SpeciesTable, origin: str, *, is_listed: bool
) -> dict[str, tuple[str, ...]]:
    """Return what columns mean -> their names: those given, and others by their usual names.

    ``is_listed``: the table has a column of species.
    """
    header = text.header
    given = {role: (names,) if isinstance(names, str) else names for role, names in table.columns.items()}
    given.pop("geometry", None)
    for role, names in given.items():
        given[role] = tuple(exact_name(name, header, f"{role} of {origin}") for name in names)
    told = {*(name for names in given.values() for name in names), *table.species_columns}
    told |= set(table.covariates) if isinstance(table, TableConfig) else set()
    free = [name for name in text.cells.columns if name not in told]
    left_out = {*given, *(() if is_listed else ("species",)), *(OF_SPECIES if table.form == "wide" else ())}
    usual = {role: names for role, names in STUDY_COLUMNS.items() if role not in left_out}
    if isinstance(table, SpeciesTable):
        usual = {role: names for role, names in usual.items() if role in ("survey_id", *OF_SPECIES, *WORDS)}
    found: dict[str, tuple[str, ...]] = {
        role: (name,) for role, name in find_columns(free, usual, origin=origin).items()
    }
    if is_listed and "species" not in given:
        found |= _binomial(free, found, text.cells)
        if "species" not in found:
            raise TableError(
                f"{origin} has no column of species; it has {list(header[:15])}",
                expected="one of the usual names, such as species or scientificName",
                action='Give it as columns = { species = "..." }, the one species of the table as species = "...", '
                'or form = "wide" for a table with a column for each species',
            )
    return found | given


def _binomial(
    free: Sequence[str], found: Mapping[str, tuple[str, ...]], cells: pl.DataFrame
) -> dict[str, tuple[str, ...]]:
    """Return the columns of genus and epithet where the latter has a column of its own, or is the column of species."""
    parts = find_columns(free, {"genus": _GENUS, "epithet": _EPITHETS}, origin="")
    if "genus" not in parts:
        return {}
    if "species" not in found:
        return {"species": (parts["genus"], parts["epithet"])} if "epithet" in parts else {}
    species = cells[found["species"][0]].drop_nulls()
    is_epithet = species.str.contains(r"^[a-z-]+$").sum() > len(species) / 2
    return {"species": (parts["genus"], found["species"][0])} if is_epithet else {}


@dataclass(frozen=True)
class _Place:
    names: tuple[str, ...]
    """Of ``lon`` and ``lat``, or what stands for them."""
    crs: str | None
    in_km: bool = False
    """Whether the columns are named as kilometres, and the unit of the CRS is a metre."""


def _find_place(
    roles: Mapping[str, tuple[str, ...]],
    table: TableConfig,
    text: TextTable,
    own: str | None,
    usual: str | None,
    origin: str,
) -> _Place:
    """Return the columns of coordinates and their CRS, None for degrees."""
    given = table.crs or usual
    pairs = {
        pair: tuple(roles[axis][0] for axis in pair)
        for pair in (("lon", "lat"), ("x", "y"))
        if set(pair) <= roles.keys()
    }
    told = [pair for pair in pairs if set(pair) & table.columns.keys()]
    known = None if given is None else read_crs(given, origin)
    is_projected, in_m = (
        known is not None and not known.is_geographic,
        bool(known and known.axis_info[0].unit_name == "metre"),
    )
    if not told and GEOMETRY[0] in text.cells.columns:
        return _Place(GEOMETRY, table.crs or own or usual)
    order = [*told, *((("x", "y"), ("lon", "lat")) if is_projected else (("lon", "lat"), ("x", "y")))]
    pair = next((pair for pair in order if pair in pairs), None)
    if pair is None:
        raise TableError(
            f"{origin} has no coordinates that are known by their names; it has {list(text.header[:15])}",
            expected="two columns such as lon and lat, longitude and latitude, x and y, easting and northing",
            action='Give them as columns = { lon = "...", lat = "..." } or { x = "...", y = "..." }',
        )
    names = pairs[pair]
    degrees = look_like_degrees(*(_numbers(text, name, axis) for name, axis in zip(names, ("lon", "lat"), strict=True)))
    if degrees and pair == ("lon", "lat") and table.crs is None:
        return _Place(names, None)  # what a study says of tables that name no CRS is not meant for these
    in_km = in_m and all(fold(name).endswith("km") for name in names)
    is_local = is_projected and (in_km or not in_m)  # some 100 km from the origin of a projection are no degrees
    if degrees is not None and degrees == is_projected and not is_local:
        some = text.cells.select(names).drop_nulls().head(2).rows()
        raise TableError(
            f"{origin}: columns {list(names)} hold {some}, which are {'degrees' if degrees else 'no degrees'}, and the "
            f"CRS is {given or 'not given, so EPSG:4326, degrees'}",
            expected="coordinates in the CRS of the table",
            action='Give crs = "EPSG:4326" for this table'
            if degrees
            else 'Give the CRS of the table, such as crs = "EPSG:25832" (UTM, zone 32 north)',
        )
    place = _Place(names, None if known == CRS("EPSG:4326") else given, in_km)
    if is_projected and given is not None:
        _refuse_exchanged(text, place, given, origin)
    return place


def _refuse_exchanged(text: TextTable, place: _Place, crs: str, origin: str) -> None:
    """Raise if most places lie far from where the CRS is of use, and near it when the columns are exchanged."""
    area = CRS.from_user_input(crs).area_of_use
    if area is None:
        return
    near = {"west": area.west - FAR_DEG, "south": area.south - FAR_DEG}
    near |= {"east": area.east + FAR_DEG, "north": area.north + FAR_DEG}
    scale = 1000 if place.in_km else 1
    x, y = (_numbers(text, name, axis) * scale for name, axis in zip(place.names, ("lon", "lat"), strict=True))
    x, y = (axis[np.isfinite(x) & np.isfinite(y)] for axis in (x, y))
    here, there = (is_inside(*to_degrees(*axes, crs), near).sum() for axes in ((x, y), (y, x)))
    if here < len(x) / 2 < there:
        raise TableError(
            f"{origin}: {len(x) - here} of {len(x)} places lie far from {area.name.rstrip('.')}, where {crs} is used, "
            f"and {there} lie there when columns {place.names[0]!r} and {place.names[1]!r} are exchanged",
            expected=f"what points east in {place.names[0]!r}, what points north in {place.names[1]!r}",
            action="Exchange the two names in columns",
        )


def _coordinate(text: TextTable, name: str, place: _Place) -> pl.Expr:
    return text.number(name) * 1000 if place.in_km else pl.col(name)


def _numbers(text: TextTable, name: str, axis: str) -> np.ndarray:
    return read_degrees(text.cells[name], axis, decimal_comma=text.separator != ",").fill_null(np.nan).to_numpy()


def read_crs(name: str, origin: str) -> CRS:
    """Return a coordinate reference system by its name.

    Raises
    ------
    TableError
        If nobody knows it.
    """
    try:
        return CRS.from_user_input(name)
    except CRSError as error:
        raise TableError(
            f"crs {name!r} of {origin} is not known", expected='a code such as "EPSG:25832", or a description as WKT'
        ) from error


# ---- what stands in them ---------------------------------------------------------------------------------


def _joined(names: tuple[str, ...]) -> pl.Expr:
    return pl.col(names[0]) if len(names) == 1 else pl.concat_str(names, separator=" ")


def _ids_are_of_rows(cells: pl.DataFrame) -> bool:
    """Return whether ids are all different although places have several rows: they number rows, not plots."""
    if "survey_id" not in cells.columns or cells["survey_id"].n_unique() < len(cells):
        return False
    return len(cells) > 2 * cells.select("lon", "lat").n_unique()


def _survey_ids(cells: pl.DataFrame, text: TextTable, origin: str, *, is_plots: bool, must_be_given: bool) -> pl.Series:
    """Return ids as given; else of plots the place and date, of records the row."""
    if "survey_id" in cells.columns:
        return clean_ids(cells["survey_id"])
    if must_be_given:
        raise _no_ids(text, origin, "columns")
    if not is_plots:
        return text.rows.cast(pl.String).alias("survey_id")
    parts = date_parts(cells)
    month, day = (pl.format("-{}", pl.col(name).cast(pl.String).str.zfill(2)) for name in ("month", "day"))
    date = parts.select(
        date=pl.concat_str("year", month, pl.when(pl.col("month").is_not_null()).then(day), ignore_nulls=True)
    )
    place = pl.concat_str(pl.col("lon", "lat").cast(pl.String), separator=" ")
    ids = pl.when(place.is_not_null()).then(
        pl.concat_str(place, pl.col("date").replace("", None), separator=" ", ignore_nulls=True)
    )
    return cells.select("lon", "lat").hstack(date).select(ids.alias("survey_id")).to_series()


def _judged(
    cells: pl.DataFrame,
    rows: pl.Series,
    least: float | str | None,
    roles: Mapping[str, tuple[str, ...]],
    origin: str,
    mended: Refused,
) -> pl.DataFrame:
    """Return the table with what its abundances say against a presence in place of them."""
    if "abundance" not in cells.columns:
        return cells
    where = f"{origin}, column {' + '.join(roles['abundance'])!r},"
    judged = judge_abundances(cells["abundance"], least, where=where)
    mended.note(IN_WORDS, pl.DataFrame({"row": rows, "cell": cells["abundance"]}).filter(judged["in_words"]))
    return cells.drop("abundance").with_columns(judged["why_not"].alias("abundance_why_not"))


def _with_mended_names(cells: pl.DataFrame, rows: pl.Series, mended: Refused) -> tuple[pl.DataFrame, pl.Series]:
    """Return the table, and its rows, with names of species without needless blanks, one of a list in each row."""
    if cells["species"].str.contains(BETWEEN_NAMES, literal=True).any():
        listed = cells.with_columns(pl.col("species").str.split(BETWEEN_NAMES), at=pl.int_range(pl.len()))
        cells = listed.explode("species").with_columns(pl.col("species").str.strip_chars())
        cells = cells.filter((pl.col("species") != "").fill_null(True))
        cells, rows = cells.drop("at"), rows[cells["at"]]
    names = clean_names(cells["species"])
    changed = (names != cells["species"]).fill_null(False)
    mended.note(BLANKS, pl.DataFrame({"row": rows, "cell": cells["species"]}).filter(changed))
    return cells.with_columns(names.alias("species")), rows
