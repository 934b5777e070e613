"""A folder looked through: plots, records, covariates and rasters that belong together, and what is left out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from pyproj.exceptions import CRSError

from releve.discover.columns import Found
from releve.discover.kinds import Table, judge_table
from releve.discover.listing import Listing, list_folder
from releve.discover.projections import (
    DEGREES,
    INSIDE,
    Hint,
    crs_of_column,
    crs_of_rasters,
    hints_of_numbers,
    hints_of_texts,
    share_inside,
    transform,
)
from releve.discover.rasters import RasterGroup, RasterLayer, look_at_rasters, names_seen, value_at
from releve.discover.samples import read_samples
from releve.errors import ReleveError, TableError
from releve.ingest.columns import match_covariates
from releve.ingest.names import fold
from releve.ingest.text import read_form
from releve.ingest.units import PAIRED, compare_units
from releve.progress import track

FEW_TEST_PLOTS = 300
"""Plots of one species, fewer than this and than its records, are kept for the test."""
MAX_ALIKE = 3
"""Of so many files with the same columns the first are looked into, of more only the first."""
GENERIC = frozenset(
    {
        *(
            "occurrence",
            "occurrences",
            "occ",
            "po",
            "pa",
            "presence",
            "absence",
            "presences",
            "absences",
            "records",
            "data",
        ),
        *("plots", "plot", "points", "train", "test", "training", "testing", "species", "table", "sites", "eval", "my"),
        *("validation", "independent", "dataset", "sdm", "csv", "clean", "final", "all"),
    }
)
"""Words of file and folder names that are no name of a species."""


@dataclass(frozen=True)
class Part:
    """A table as it becomes a part of the study."""

    table: Table
    files: tuple[Path, ...]
    crs: str | None = None
    why_crs: str = ""
    species_name: str = ""
    why_name: str = ""
    split: str = "train"
    why_split: str = ""
    species_table: Table | None = None
    covariates: tuple[str, ...] = ()
    offered: tuple[tuple[str, str], ...] = ()
    """Columns that could be covariates -> why they are not taken."""


@dataclass(frozen=True)
class UnitNote:
    """A layer whose values at the places are a table's in another unit."""

    layer: RasterLayer
    column: str
    table: str
    conversion: str
    """What turns the layer's values into the table's."""

    @property
    def scale_and_offset(self) -> tuple[float, float]:
        """Return what the layer's own scale and offset would have to be for it to agree with the table."""
        factor, offset = PAIRED[self.conversion]
        return self.layer.scale * factor, self.layer.offset * factor + offset


@dataclass(frozen=True)
class Discovery:
    """What a folder holds."""

    listing: Listing
    title: str
    plots: tuple[Part, ...] = ()
    records: tuple[Part, ...] = ()
    covariates: tuple[Table, ...] = ()
    rasters: tuple[RasterGroup, ...] = ()
    crs_hints: tuple[Hint, ...] = ()
    """What ``crs`` may be, where coordinates or rasters lack one."""
    lacks_crs: tuple[str, ...] = ()
    """Names of what lacks one."""
    raster_crs: dict[str, Hint] = field(default_factory=dict)
    """A raster without projection -> the one that its numbers are taken to be in."""
    units: tuple[UnitNote, ...] = ()
    left_out: tuple[tuple[Path, str], ...] = ()
    remarks: tuple[str, ...] = ()


def look_through(folder: Path) -> Discovery:
    """Return what a folder holds: plots, records, covariates, rasters, how they belong together, and what is left out.

    Nothing is written. Of large tables some thousand rows are looked at, of rasters the headers and every n-th cell.

    Raises
    ------
    TableError
        If there is no such folder, or neither plots nor records in it; the message tells what was there.
    """
    folder = Path(folder)
    listing = list_folder(folder)
    left_out = list(listing.left_out)
    tables = _judge_all(listing.tables, left_out)
    groups, unread = look_at_rasters(list(listing.rasters))
    left_out += [*unread, *((path, _archive_note(path)) for path in listing.archives)]
    remarks: list[str] = []
    parts = _parts(tables, left_out, remarks)
    covariate_tables = _covariate_tables(tables, parts, left_out)
    parts = _name_single_species(parts, folder, remarks)
    parts = _keep_for_test(parts, remarks)
    if not parts:
        raise TableError(
            f"{folder} holds neither plots nor records: {_told(left_out, groups)}",
            expected="a table with species and coordinates, or with presence or absence of one species",
            action="Look at releve init --help, or write study.toml by hand",
        )
    groups = _without_response(groups, parts, left_out)
    texts = [*listing.documents, *(path for path, _ in left_out if path.suffix == ".txt")]
    parts, raster_crs, lacking, hints = _projections(parts, groups, texts)
    parts, units = _share_with_rasters(parts, groups, remarks)
    plots = tuple(part for part in parts if part.table.kind == "plots")
    records = tuple(part for part in parts if part.table.kind == "records")
    title = folder.resolve().name
    return Discovery(
        listing=listing,
        title=title,
        plots=plots,
        records=records,
        covariates=tuple(covariate_tables),
        rasters=tuple(groups),
        crs_hints=tuple(hints),
        lacks_crs=tuple(lacking),
        raster_crs=raster_crs,
        units=tuple(units),
        left_out=tuple(left_out),
        remarks=tuple(remarks),
    )


def _told(left_out: Sequence[tuple[Path, str]], groups: Sequence[RasterGroup]) -> str:
    """Return what was there instead of plots and records."""
    said = [f"{path.name}: {why}" for path, why in left_out[:5]]
    num_rasters = sum(len(group.files) for group in groups)
    said += [f"{num_rasters} rasters"] if num_rasters else []
    return "; ".join(said) + ("; ..." if len(left_out) > 5 else "") if said else "it is empty"


# ---- tables ------------------------------------------------------------------------------------------------


def _judge_all(paths: Sequence[Path], left_out: list[tuple[Path, str]]) -> list[tuple[Table, tuple[Path, ...]]]:
    """Return every table that can be read and what it is; files of the same columns are looked at together."""
    alike: dict[object, list[Path]] = {}
    for path in paths:
        alike.setdefault(_columns_key(path), []).append(path)
    found = []
    for files in track(list(alike.values()), "tables"):
        tables = _judge_files(files[:MAX_ALIKE], left_out)
        if len(files) > MAX_ALIKE and len(tables) == MAX_ALIKE and all(map(_has_species, tables)):
            found.append((tables[0], tuple(files)))
            continue
        tables += _judge_files(files[MAX_ALIKE:], left_out)
        found += _join_alike(tables, left_out)
    return found


def _judge_files(files: Sequence[Path], left_out: list[tuple[Path, str]]) -> list[Table]:
    """Return the tables of files, of which one may have several; those that cannot be read are left out."""
    tables = []
    for path in files:
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


def _join_alike(tables: list[Table], left_out: list[tuple[Path, str]]) -> list[tuple[Table, tuple[Path, ...]]]:
    """Return tables of the same columns as one, if they are of one kind and not of a species each.

    Those that give the same plots other places are other versions of the first, and left out.
    """
    groups: dict[object, list[Table]] = {}
    for table in tables:
        named = () if _has_species(table) else tuple(_telling_words(table.sample.path.stem))
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
    key = first.roles.get("survey_id")
    if key is None or first.place is None or second.place is None or first.kind != "plots":
        return False
    places = []
    for table in (first, second):
        assert table.place is not None and table.place.points is not None
        ids = table.sample.cells[str(key.column)]
        points = pl.DataFrame({"id": ids, "x": table.place.points[:, 0], "y": table.place.points[:, 1]})
        places.append(points.unique("id", keep="first"))
    both = places[0].join(places[1], on="id")
    same = both.select(((pl.col("x") == pl.col("x_right")) & (pl.col("y") == pl.col("y_right"))).mean()).item()
    return len(both) > 0 and same < 0.5


def _parts(
    tables: list[tuple[Table, tuple[Path, ...]]], left_out: list[tuple[Path, str]], remarks: list[str]
) -> list[Part]:
    """Return the tables of plots and records, species joined to their plots; others are left out or kept for later."""
    parts = [Part(table, files) for table, files in tables if table.kind in ("plots", "records")]
    homeless = [t for t, _ in tables if t.place is None and ("species" in t.roles or t.species_columns)]
    headers = [
        t for t, _ in tables if t.place is not None and t.kind in ("header", "other") and "species" not in t.roles
    ]
    joined: set[Path] = set()
    for species in homeless:
        joins = [join for header in headers if (join := _join(header, species)) is not None]
        if joins:
            header, species, share = max(joins, key=lambda join: join[2])
            parts.append(
                Part(replace(header, kind="plots", why=header.why), (header.sample.path,), species_table=species)
            )
            joined |= {header.sample.path, species.sample.path}
    for table, _ in tables:
        is_used = table.kind in ("plots", "records", "covariates", "header") or table.sample.path in joined
        if not is_used:
            left_out.append((table.sample.path, table.why))
    for part in parts:
        remarks += part.table.place.remarks if part.table.place else ()
        remarks += [f"{part.table.sample.name}: {note}" for note in part.table.sample.notes]
    return parts


def _join(header: Table, species: Table) -> tuple[Table, Table, float] | None:
    """Return plots and their species with the columns that join them, and the share of the species that find a plot."""
    best: tuple[float, str, str] = (0.5, "", "")
    for left in header.profiles:
        for right in species.profiles:
            both_ids = all(
                table.roles.get("survey_id") is not None and table.roles["survey_id"].column == name
                for table, name in ((header, left), (species, right))
            )
            if fold(left) != fold(right) and not both_ids:
                continue
            if header.profiles[left].num_distinct < 0.9 * header.profiles[left].num_values:
                continue
            ids = species.sample.cells[right].drop_nulls()
            share = (
                float(np.mean(ids.is_in(header.sample.cells[left].drop_nulls().implode()).to_numpy()))
                if len(ids)
                else 0
            )
            best = max(best, (share, left, right))
    share, left, right = best
    if not left:
        return None
    why = f"the same values as in {species.sample.path.name}, by which the two are joined"
    header = replace(header, roles={**header.roles, "survey_id": Found(left, why)}, num_plots=len(header.sample.cells))
    kept = {role: f for role, f in species.roles.items() if role not in ("survey_id", "year", "month", "day", "date")}
    species = replace(species, roles={"survey_id": Found(right, "as in the table of plots"), **kept})
    return header, species, share


def _share_in(ids: pl.Series, known: pl.Series) -> float:
    """Return the share of ids that are known."""
    return float(np.mean(ids.is_in(known.drop_nulls().implode()).to_numpy())) if len(ids) else 0.0


def _covariate_tables(
    tables: list[tuple[Table, tuple[Path, ...]]], parts: list[Part], left_out: list[tuple[Path, str]]
) -> list[Table]:
    """Return the tables that have numbers for the ids of plots."""
    used = {part.table.sample.path for part in parts}
    ids = [
        part.table.sample.cells[str(part.table.roles["survey_id"].column)].drop_nulls()
        for part in parts
        if "survey_id" in part.table.roles
    ]
    found = []
    for table, _ in tables:
        if table.kind not in ("covariates", "header") or table.sample.path in used:
            continue
        own = table.sample.cells[str(table.roles["survey_id"].column)].drop_nulls()
        if table.covariates and max((_share_in(known.unique(), own) for known in ids), default=0.0) >= 0.5:
            found.append(table)
        else:
            left_out.append((table.sample.path, f"{table.why}; its ids are not those of the plots"))
    return found


# ---- one species -------------------------------------------------------------------------------------------


def _name_single_species(parts: list[Part], folder: Path, remarks: list[str]) -> list[Part]:
    """Return the parts with a name for the species of tables that name none: of the file, else of the folder."""
    nameless = [part for part in parts if part.species_table is None and not _has_species(part.table)]
    named = {part.files[0]: _telling_words(part.files[0].stem) for part in nameless}
    made = []
    for part in parts:
        if part not in nameless:
            made.append(part)
            continue
        words = named[part.files[0]]
        name = " ".join(words) if words else " ".join(_words(folder.resolve().name)) or "species"
        origin = "the file" if words else "the folder"
        why = f"no column names the species; this is the name of {origin}, put the right one here"
        made.append(replace(part, species_name=name, why_name=why))
        remarks.append(f"{part.files[0].name} names no species: it is called {name!r}, after {origin}")
    return made


def _has_species(table: Table) -> bool:
    return "species" in table.roles or bool(table.species_columns)


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))


def _telling_words(stem: str) -> list[str]:
    return [word for word in _words(stem) if word.casefold() not in GENERIC]


def _keep_for_test(parts: list[Part], remarks: list[str]) -> list[Part]:
    """Return the parts with few plots of one species kept for the test where there are more records of it."""
    num_records = sum(part.table.sample.num_rows for part in parts if part.table.kind == "records")
    made = []
    for part in parts:
        num_plots = part.table.num_plots
        if part.table.kind == "plots" and part.species_name and num_plots < min(FEW_TEST_PLOTS, num_records):
            why = f"{num_plots} plots are too few to learn from beside {num_records:,} records, but good to score by"
            made.append(replace(part, split="test", why_split=why))
            remarks.append(f"{part.files[0].name}: {why}; they are kept for the test")
        else:
            made.append(part)
    return made


# ---- rasters beside tables ---------------------------------------------------------------------------------


def _points(part: Part) -> np.ndarray:
    place = part.table.place
    if place is None or place.points is None:
        return np.zeros((0, 2))
    return place.points[np.isfinite(place.points).all(axis=1)]


def _without_response(
    groups: list[RasterGroup], parts: list[Part], left_out: list[tuple[Path, str]]
) -> list[RasterGroup]:
    """Return the groups without layers that are the records themselves, drawn on a grid."""
    made = []
    for group in groups:
        kept = []
        for layer in group.layers:
            why = _why_response(layer, group, parts) if layer.binary else ""
            if why:
                left_out.append((layer.file, why))
            else:
                kept.append(layer)
        if kept:
            made.append(group if len(kept) == len(group.layers) else replace(group, layers=tuple(kept), pattern=None))
    return made


def _why_response(layer: RasterLayer, group: RasterGroup, parts: list[Part]) -> str:
    for part in parts:
        points = _points(part)
        if part.table.kind != "records" or len(points) < 5 or share_inside(points, group) < INSIDE:
            continue
        a, _, west, _, e, north = layer.transform
        cells = np.unique(np.floor((points - [west, north]) / [a, e]).astype(int), axis=0)
        values = value_at(layer, cells * [a, e] + np.array([west + a / 2, north + e / 2]))
        import rasterio

        with rasterio.open(layer.path) as source:
            num_ones = int((source.read(layer.band, masked=True).filled(0) == 1).sum())
        if np.mean(values == 1) >= INSIDE and num_ones <= 1.5 * len(cells):
            return f"it is 1 where {part.files[0].name} has records: these drawn on a grid, not a covariate"
    return ""


def _projections(
    parts: list[Part], groups: list[RasterGroup], texts: Sequence[Path]
) -> tuple[list[Part], dict[str, Hint], list[str], list[Hint]]:
    """Return the parts with their projection, those found for rasters, what lacks one, and what it could be."""
    made, lacking, per_km = [], [], False
    unknown = np.zeros((0, 2))
    for part in parts:
        place = part.table.place
        hint: Hint | None = None
        if place is not None and place.kind == "lon":
            hint = Hint(DEGREES, "the numbers are degrees; WGS 84 unless you know better")
        elif place is not None and place.kind == "geometry" and part.table.sample.crs:
            made.append(replace(part, crs=part.table.sample.crs, why_crs=""))
            continue
        if place is not None and place.kind != "lon":
            hint = crs_of_column(part.table) or (None if place.per_km else crs_of_rasters(_points(part), groups))
        elif place is not None:
            hint = crs_of_column(part.table) or hint
        if hint is None:
            lacking.append(part.files[0].name)
            unknown = np.concatenate([unknown, _points(part)])
            per_km |= place is not None and place.per_km
            made.append(part)
        else:
            made.append(replace(part, crs=hint.crs, why_crs=hint.why))
    raster_crs = {}
    for group in groups:
        if group.crs is None:
            west, south, east, north = group.bounds
            in_degrees = [p for p in made if p.crs == DEGREES and share_inside(_points(p), group) >= INSIDE]
            same = [p for p in made if p.crs not in (None, DEGREES) and share_inside(_points(p), group) >= INSIDE]
            if west >= -180 and east <= 360 and south >= -90 and north <= 90 and in_degrees:
                name = in_degrees[0].files[0].name
                why = f"the file names none; its numbers are degrees, and the places of {name} lie in it"
                raster_crs[str(group.files[0])] = Hint(DEGREES, why)
            elif same:
                why = f"the file names none; the places of {same[0].files[0].name} lie in it, so it is theirs"
                raster_crs[str(group.files[0])] = Hint(str(same[0].crs), why)
            else:
                more = f" and {len(group.files) - 1} more rasters" if len(group.files) > 1 else ""
                lacking.append(group.files[0].name + more)
    hints = [*hints_of_texts(texts), *hints_of_numbers(unknown, per_km=per_km)] if lacking else []
    first = {hint.crs: hint for hint in reversed(hints)}  # of several on one projection, what was said first
    return made, raster_crs, lacking, [hint for hint in hints if first[hint.crs] is hint]


def _share_with_rasters(
    parts: list[Part], groups: list[RasterGroup], remarks: list[str]
) -> tuple[list[Part], list[UnitNote]]:
    """Return the parts with their covariates: not those that a raster has under the same name, of which units are told.

    Covariates of records are only offered where there are rasters: random places, which records are compared with,
    have values of rasters alone.
    """
    layers = {name: found[0] for name, found in names_seen(groups).items()}
    made, units = [], []
    for part in parts:
        columns = part.table.covariates
        try:
            same = match_covariates(list(columns), list(layers), origin=part.files[0].name).columns
        except TableError as error:
            remarks.append(str(error))
            same = {}
        offered = [(column, "a raster of this name has it for every place") for column in same.values()]
        kept = [column for column in columns if column not in same.values()]
        if part.table.kind == "records":
            why = "random places have values of rasters only" if layers else "not all tables of records have it"
            shared = set(kept) if not layers else set()
            for other in parts:
                shared &= set(other.table.covariates)
            offered += [(column, why) for column in kept if column not in shared]
            kept = [column for column in kept if column in shared]
        made.append(replace(part, covariates=tuple(kept), offered=tuple(offered)))
        if part.crs is not None:
            units += compare_with_rasters(part, {column: layers[name] for name, column in same.items()})
    return made, units


def compare_with_rasters(part: Part, layers: dict[str, RasterLayer], *, num_places: int = 500) -> list[UnitNote]:
    """Return the layers whose values at the places of a table are those of its column in another unit.

    Parameters
    ----------
    part
        A table with a projection.
    layers
        Column -> the layer of the same name.
    num_places
        Look at most at so many places, evenly spread over the table.
    """
    place = part.table.place
    if place is None or place.points is None or part.crs is None or not layers:
        return []
    known = np.flatnonzero(np.isfinite(place.points).all(axis=1))
    _, first = np.unique(place.points[known], axis=0, return_index=True)
    rows = known[np.sort(first)]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, num_places).astype(int))] if len(rows) > num_places else rows
    found = []
    for column, layer in layers.items():
        try:
            points = transform(place.points[rows], part.crs, layer.crs or part.crs)
        except CRSError:
            continue
        conversion = compare_units(value_at(layer, points), part.table.profiles[column].numbers[rows])
        if conversion:
            found.append(UnitNote(layer, column, part.files[0].name, conversion))
    return found


def _archive_note(path: Path) -> str:
    """Return what an archive holds, and what to do."""
    import tarfile
    import zipfile

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                names = [member.name for member in archive.getmembers() if member.isfile()]
        else:
            return "an archive: unpack it"
    except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        return f"an archive that cannot be read: {error}"
    return f"an archive of {_some(names)}: unpack it and start again"


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")
