"""A user's own table of places, judged by what a model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from releve.errors import TableError, nearest
from releve.ingest.columns import PLACE_COLUMNS, find_columns, match_covariates, match_names
from releve.ingest.covariates import mask_values
from releve.ingest.dates import AMBIGUOUS, DISAGREE, FAULTS, SEVERAL_YEARS, as_text, date_parts
from releve.ingest.ids import clean_ids
from releve.ingest.places import BAD_SIZES, can_be, is_swapped, read_degrees
from releve.ingest.reference import country_code_of
from releve.ingest.text import number, read_text_table
from releve.ingest.units import notes_on_units

REQUIRED = {"lon": "lon", "lat": "lat"}
DATES = ("year", "month", "day", "date")
NAMES = ("country", "region")
DOUBTS = (AMBIGUOUS, SEVERAL_YEARS, DISAGREE)
"""What may be right with a date although not all of it is known; any other fault is one of the table."""
NUM_EXAMPLES = 3


@dataclass(frozen=True)
class Training:
    """What a model knows of its training rows, by which other places are judged."""

    bounds: Mapping[str, float] | None = None
    """west, south, east, north of the places, in degrees; None if nobody knows."""
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Countries and regions, as they are spelt."""
    quantiles: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Of each covariate that is a number, values at equally spaced ranks."""
    codes: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Of each covariate that is a class, the codes that are known."""
    classes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """Of those whose classes have names, the name of each code."""


@dataclass(frozen=True)
class OwnTable:
    """Places of a table, in its order, and what there is to say about them."""

    surveys: pl.DataFrame
    """survey_id as it is given, lon, lat, year, month, day, country, region, area_m2, uncertainty_m."""
    covariates: pl.DataFrame
    """Float32, one column for each covariate of the model; NaN where it is missing or impossible."""
    notes: tuple[str, ...]
    """What was mended, is missing or looks wrong, a sentence each."""


Sampler = Callable[[pl.DataFrame, Sequence[str]], Mapping[str, np.ndarray]]
"""``sample(places, names)``: the values of covariates at places (lon, lat), of those that can be told of any place."""


def read_own_table(
    file: Path,
    covariates: Sequence[str],
    training: Training | None = None,
    *,
    crs: str | None = None,
    sample: Sampler | None = None,
) -> OwnTable:
    """Return the places of a table of text, or of a ``.parquet``, with the covariates of a model.

    Columns are found by their common names, whatever case, accents and separators (``PLACE_COLUMNS``); covariates by
    the model's names or others that cannot be mistaken. No value is changed but for these: impossible ones, such as
    65535 or -9999, are masked as in a release; countries and regions are spelt as in training.

    Parameters
    ----------
    file
        Table with longitude and latitude for each place, and any of an id, date or year and month, country, region,
        area and uncertainty in metres, and covariates. Without ids, places are called by the numbers of their rows.
    covariates
        The model's covariates; those that neither the table nor ``sample`` has are missing, and noted.
    training
        What the model was trained on.
    crs
        Of the coordinates, such as EPSG:25832, where they are no degrees.
    sample
        Tells covariates of any place, such as those of rasters.

    Raises
    ------
    TableError
        If a needed column is missing or there twice, an id is missing or repeated, a place or date cannot be, a column
        of numbers holds words, or longitude and latitude are exchanged.
    """
    file, training = Path(file), training or Training()
    raw, decimal_comma, notes = _read(file)
    found = find_columns([name for name in raw.columns if name not in covariates], PLACE_COLUMNS, origin=str(file))
    _check_columns(raw, found, file)
    table = raw.select(pl.col(column).alias(role) for role, column in found.items())
    if crs is not None:
        table = _from_projection(table, crs, decimal_comma, file)
    if "survey_id" not in table.columns:
        table = table.with_columns(survey_id=pl.int_range(1, pl.len() + 1).cast(pl.String))
        notes.append("no column of ids: places are called by the numbers of their rows")
    columns = [_ids(table["survey_id"], file), *(_degrees(table, axis, decimal_comma, file) for axis in ("lon", "lat"))]
    columns += _dates(table, columns[0], file, notes)
    for name in NAMES:
        columns.append(_names(table, name, training.categories.get(name, ()), notes))
    for name in BAD_SIZES:
        known = name in found
        size = _numbers(table[name], found[name], decimal_comma, file).alias(name) if known else _nothing(table, name)
        columns.append(_possible(size, columns[0], notes))
    surveys = pl.DataFrame(columns)
    if training.bounds is not None:
        _refuse_swapped(surveys, file, training.bounds)
    others = [name for name in raw.columns if name not in found.values()]
    matched = match_covariates(others, covariates, origin=str(file))
    values = {
        name: _codes(raw[column], training.classes[name], column, len(raw), notes)
        if name in training.classes
        else _numbers(raw[column], column, decimal_comma, file)
        for name, column in matched.columns.items()
    }
    if sample is not None and matched.lacking:
        sampled = sample(surveys, list(matched.lacking))
        values |= {name: pl.Series(name, found, pl.Float64).fill_nan(None) for name, found in sampled.items()}
    lacking = {name: other for name, other in matched.lacking.items() if name not in values}
    if lacking:
        near = {name: f"{name} (or is it {other!r}?)" if other else name for name, other in lacking.items()}
        notes.append(
            f"{len(near)} of {len(covariates)} covariates are not there, taken as missing: {_some(near.values())}"
        )
    notes += notes_on_units(
        {name: column.fill_null(np.nan).to_numpy() for name, column in values.items()}, training.quantiles
    )
    trained = {**training.quantiles, **training.codes}
    masked = {
        name: mask_values(name, column.fill_null(np.nan).to_numpy(), trained.get(name, ()))
        for name, column in values.items()
    }
    impossible = [f"{name} {int(bad.sum())}" for name, (_, bad) in masked.items() if bad.any()]
    if impossible:
        notes.append(f"impossible values in {len(impossible)} covariates, taken as missing: {_some(impossible)}")
    missing = np.full(len(raw), np.nan, np.float32)
    filled = pl.DataFrame({name: masked[name][0] if name in masked else missing for name in covariates})
    return OwnTable(surveys, filled, tuple(f"{file}: {note}" for note in notes))


def read_column(file: Path, column: str) -> pl.Series:
    """Return a column of a table of places as text, null where it is empty, in the order of ``read_own_table``.

    Raises
    ------
    TableError
        If the table has no such column.
    """
    raw, _, _ = _read(Path(file))
    if column not in raw.columns:
        raise TableError(
            f"{file} has no column {column!r}; it has {raw.columns[:12]}", action=nearest(column, raw.columns)
        )
    return as_text(raw[column])


def _read(file: Path) -> tuple[pl.DataFrame, bool, list[str]]:
    """Return a table, whether its commas are decimal ones, and what was mended."""
    if file.suffix.lower() != ".parquet":
        text = read_text_table(file)
        said = [f"{n} {reason}, left out" for reason, n in text.dropped.items()]
        said += [f"{n} {reason}" for reason, n in text.noted.items()]
        examples = [text.examples.get(reason, ()) for reason in (*text.dropped, *text.noted)]
        notes = [f"{note} ({', '.join(some)})" if some else note for note, some in zip(said, examples, strict=True)]
        if not len(text.cells):
            raise TableError(f"{file} has no row that can be used: {'; '.join(notes)}", expected="one row a place")
        return text.cells, text.separator != ",", notes
    try:
        raw = pl.read_parquet(file, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(
            f"{file} cannot be read: {str(error).splitlines()[0]}", expected="a table of text or a parquet table"
        ) from error
    if not len(raw):
        raise TableError(f"{file} has columns and no row", expected="one row a place")
    return raw, False, []


def _check_columns(raw: pl.DataFrame, found: Mapping[str, str], file: Path) -> None:
    lacking = [name for role, name in REQUIRED.items() if role not in found]
    if lacking:
        hints = (nearest(name, raw.columns) for name in lacking)
        raise TableError(
            f"{file} lacks columns {lacking}; it has {raw.columns[:12]}",
            expected="lon and lat, or other common names for them such as longitude and latitude",
            action=" ".join(dict.fromkeys(hint for hint in hints if hint.startswith("did you mean"))),
        )


def _ids(column: pl.Series, file: Path) -> pl.Series:
    ids = clean_ids(as_text(column)).alias("survey_id")
    again = ids.filter(ids.is_duplicated() & ids.is_not_null()).unique(maintain_order=True)
    if ids.has_nulls() or len(again):
        raise TableError(
            f"{file}: {ids.null_count()} of {len(ids)} rows have no id, and {len(again)} ids are repeated"
            + (f", such as {again.head(NUM_EXAMPLES).to_list()}" if len(again) else ""),
            expected="one row a place with an id of its own",
        )
    return ids


def _from_projection(table: pl.DataFrame, crs: str, decimal_comma: bool, file: Path) -> pl.DataFrame:
    """Return a table with degrees in place of coordinates of a projection."""
    try:
        transformer = Transformer.from_crs(CRS.from_user_input(crs), "EPSG:4326", always_xy=True)
    except ProjError as error:
        raise TableError(f"{file}: unknown coordinate system {crs!r}", expected="such as EPSG:25832") from error
    x, y = (_numbers(table[axis], axis, decimal_comma, file).fill_null(np.nan).to_numpy() for axis in ("lon", "lat"))
    lon, lat = transformer.transform(x, y)
    return table.with_columns(lon=pl.Series(lon), lat=pl.Series(lat))


def _degrees(table: pl.DataFrame, axis: str, decimal_comma: bool, file: Path) -> pl.Series:
    degrees = read_degrees(table[axis], axis, decimal_comma=decimal_comma).alias(axis)
    _refuse_words(table[axis], degrees, axis, file, "degrees, such as 2.351 or 2°21'4\"E")
    limit = 180 if axis == "lon" else 90
    bad = ~degrees.is_between(-limit, limit).fill_null(False)
    if bad.any():
        some = table["survey_id"].filter(bad).head(NUM_EXAMPLES).to_list()
        raise TableError(
            f"{file}: {int(bad.sum())} places have no usable coordinates, such as {some}, whose {axis} is "
            f"{degrees.filter(bad).head(NUM_EXAMPLES).to_list()}",
            expected=f"{axis} in {-limit} to {limit}, in degrees",
        )
    return degrees


def _dates(table: pl.DataFrame, ids: pl.Series, file: Path, notes: list[str]) -> list[pl.Series]:
    """Return year, month and day; what may be right although it is not known is noted, what cannot be is refused."""
    parts = date_parts(table.select("survey_id", *(name for name in DATES if name in table.columns)))
    for fault in FAULTS:
        at = (parts["fault"] == fault).fill_null(False)
        if at.any():
            cells = table.filter(at).row(0, named=True)
            example = ", ".join(f"{name} {cells[name]}" for name in DATES if cells.get(name) is not None)
            said = f"{int(at.sum())} of {len(table)} places, such as {ids.filter(at)[0]!r} ({example}): {fault}"
            if fault not in DOUBTS:
                raise TableError(
                    f"{file}: {said}", expected="years, or dates as 2019-05-03", action="Mend it, or leave it empty"
                )
            notes.append(said)
    return [parts[name] for name in ("year", "month", "day")]


def _names(table: pl.DataFrame, name: str, known: Sequence[str], notes: list[str]) -> pl.Series:
    """Return countries or regions as they are spelt in training."""
    if name not in table.columns:
        return _nothing(table, name, pl.String)
    names = as_text(table[name]).alias(name)
    if not known:
        return names
    different = names.drop_nulls().unique(maintain_order=True)
    spelt = match_names(different, known)
    if name == "country":
        codes = zip(known, country_code_of(pl.Series(known)).tolist(), strict=True)
        by_code = {code: each for each, code in codes if code > 0}
        others = [each for each in different if each not in known and each not in spelt]
        codes = zip(others, country_code_of(pl.Series(others, dtype=pl.String)).tolist(), strict=True)
        spelt |= {each: by_code[code] for each, code in codes if code in by_code}
    strange = names.filter(~names.is_in([*known, *spelt]).fill_null(True))
    if len(strange):
        some = strange.unique(maintain_order=True).head(NUM_EXAMPLES).to_list()
        notes.append(
            f"{name} of {len(strange)} of {len(table)} places is none that the run was trained on, taken as unknown: "
            f"{some}; known are {_some(known)}"
        )
    return names.replace(spelt)


def _codes(column: pl.Series, classes: Mapping[int, str], name: str, num_places: int, notes: list[str]) -> pl.Series:
    """Return the codes of classes by their names; one that is none of the run's is missing, and noted."""
    words = as_text(column)
    spelt = match_names(words.drop_nulls().unique(), list(classes.values()))
    codes = {word: float(code) for code, word in classes.items()}
    codes |= {word: codes[known] for word, known in spelt.items()}
    found = words.replace_strict(codes, default=None, return_dtype=pl.Float64)
    strange = words.filter(found.is_null()).drop_nulls()
    if len(strange):
        some = strange.unique(maintain_order=True).head(NUM_EXAMPLES).to_list()
        notes.append(
            f"{name} of {len(strange)} of {num_places} places is no class that the run was trained on, taken as "
            f"unknown: {some}; known are {_some(classes.values())}"
        )
    return found


def _numbers(column: pl.Series, name: str, decimal_comma: bool, file: Path) -> pl.Series:
    """Return a column as Float64, null where a value is missing; words in it are an error, not a missing value."""
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return column.cast(pl.Float64).fill_nan(None)
    text = as_text(column).alias("x")
    numbers = text.to_frame().select(number("x", decimal_comma=decimal_comma)).to_series()
    _refuse_words(column, numbers, name, file, "numbers, or nothing where a value is missing")
    return numbers


def _possible(size: pl.Series, ids: pl.Series, notes: list[str]) -> pl.Series:
    """Return areas or uncertainties without those that cannot be."""
    bad = ~size.to_frame().select(can_be(size.name)).to_series().fill_null(True)
    if bad.any():
        example = f"such as {ids.filter(bad)[0]!r} ({size.filter(bad)[0]})"
        notes.append(f"{int(bad.sum())} {BAD_SIZES[size.name]}, taken as missing, {example}")
    return size.set(bad, None)


def _refuse_words(column: pl.Series, numbers: pl.Series, name: str, file: Path, expected: str) -> None:
    words = as_text(column).filter(numbers.is_null()).drop_nulls() if not column.dtype.is_numeric() else column.head(0)
    if len(words):
        raise TableError(
            f"{file}: {len(words)} values of {name} are no numbers, such as {words.head(NUM_EXAMPLES).to_list()}",
            expected=expected,
        )


def _nothing(table: pl.DataFrame, name: str, kind: type[pl.DataType] = pl.Float64) -> pl.Series:
    return pl.Series(name, [None] * len(table), dtype=kind)


def _refuse_swapped(surveys: pl.DataFrame, file: Path, bounds: Mapping[str, float]) -> None:
    """Raise if most places lie outside the bounds but inside them with lon and lat exchanged."""
    swapped = is_swapped(surveys["lon"].to_numpy(), surveys["lat"].to_numpy(), bounds, surveys["country"])
    if swapped.sum() > len(surveys) / 2:
        raise TableError(
            f"{file}: {swapped.sum()} of {len(surveys)} places lie outside the region that the run was trained on, but "
            "inside when lon and lat are exchanged",
            expected="lon {west:.1f} to {east:.1f} and lat {south:.1f} to {north:.1f}".format(**bounds),
            action="Exchange the names of the two columns; if they are right, add the column country",
        )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")
