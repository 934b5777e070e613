"""What the columns of a table mean, by their names and their values."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from releve.discover.profiles import MOSTLY, Profile, is_braun_blanquet
from releve.discover.samples import Sample
from releve.ingest.columns import STUDY_COLUMNS
from releve.ingest.dates import FIRST_YEAR, LAST_YEAR, read_dates
from releve.ingest.names import fold
from releve.ingest.places import read_degrees

AXES = {
    "lon": {
        *(
            "lon",
            "long",
            "longitude",
            "lng",
            "longitud",
            "longitudine",
            "laenge",
            "lange",
            "laengengrad",
            "langengrad",
            "geolon",
            "gpslon",
        ),
    },
    "lat": {
        *("lat", "latitude", "latitud", "latitudine", "breite", "breitengrad", "geolat", "gpslat"),
    },
    "x": {
        *(
            "x",
            "easting",
            "eastings",
            "east",
            "e",
            "este",
            "rechtswert",
            "rw",
            "utmx",
            "utme",
            "xcoord",
            "coordx",
            "xl",
        ),
        *("xkoord",),
    },
    "y": {
        *(
            "y",
            "northing",
            "northings",
            "north",
            "n",
            "norte",
            "hochwert",
            "hw",
            "utmy",
            "utmn",
            "ycoord",
            "coordy",
            "yl",
        ),
        *("ykoord",),
    },
}
"""Words in a column's name that tell its axis."""
_OTHER = {"lon": "lat", "x": "y"}
HARMLESS = frozenset(
    {
        *(
            "decimal",
            "dec",
            "dd",
            "deg",
            "degrees",
            "degree",
            "wgs",
            "wgs84",
            "gps",
            "point",
            "coord",
            "coords",
            "plot",
        ),
        *(
            "coordinate",
            "coordinates",
            "utm",
            "etrs",
            "laea",
            "lambert",
            "lambert93",
            "93",
            "84",
            "m",
            "km",
            "epsg",
            "site",
        ),
        *("x", "y", "proj", "projected", "geo", "89"),
    }
)
"""Words beside the axis that do not make it the coordinate of something else."""
FOREIGN = frozenset(
    {
        *("mun", "municipality", "county", "centroid", "centre", "center", "min", "max", "verbatim", "dms", "bbox"),
        *("country", "start", "end", "old", "original", "orig", "raw", "upper", "lower", "capital", "to"),
    }
)
"""Words that make it the coordinate of something else than the place itself."""
_BINOMIAL = r"^\p{Lu}[\p{Ll}-]+ (?:[x×] )?\p{Ll}[\p{Ll}-]+"
_EPITHET = r"^[\p{Ll}][\p{Ll}-]+$"
SPECIES_WORDS = {"species", "taxon", "scientificname", "especie", "espece", "specie", "taxa"}


@dataclass(frozen=True)
class Found:
    """What a column was found to mean."""

    column: str | tuple[str, ...]
    why: str
    others: tuple[str, ...] = ()
    """Columns that could mean the same."""


@dataclass(frozen=True)
class Place:
    """Where a table says its places are."""

    kind: str
    """``lon`` (degrees), ``x`` (a projection), ``geometry``."""
    columns: dict[str, Found] = field(default_factory=dict)
    points: np.ndarray | None = None
    """``x, y`` of each row as the file has them."""
    per_km: bool = False
    """Whether the coordinates are in kilometres."""
    remarks: tuple[str, ...] = ()


def words_of(name: str) -> list[str]:
    """Return the words of a column's name in small letters without accents.

    Examples
    --------
    >>> words_of("decimalLongitude"), words_of("POINT_X"), words_of("longitude_mun"), words_of("XL93")
    (['decimal', 'longitude'], ['point', 'x'], ['longitude', 'mun'], ['xl', '93'])
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    letters = "".join(letter for letter in unicodedata.normalize("NFKD", spaced) if not unicodedata.combining(letter))
    return re.findall(r"[^\W\d_]+|\d+", letters.casefold())


def find_place(sample: Sample, profiles: Mapping[str, Profile]) -> Place | None:
    """Return the coordinates of a table: of its geometry, else the best pair of columns by name and values."""
    if sample.points is not None and np.isfinite(sample.points).any():
        return Place("geometry", points=sample.points)
    profiles = {name: _with_degrees(sample, profile) for name, profile in profiles.items()}
    ranked = sorted(_pairs(profiles), key=lambda pair: pair[0], reverse=True)
    for _, kind, easting, northing in ranked:
        place = _place(kind, profiles[easting], profiles[northing])
        if place is not None:
            others = tuple(f"{x} and {y}" for _, _, x, y in ranked if x != easting)
            found = {axis: Found(f.column, f.why, others) for axis, f in place.columns.items()}
            return Place(place.kind, found, place.points, place.per_km, place.remarks)
    return None


def _with_degrees(sample: Sample, profile: Profile) -> Profile:
    """Return a column that is called like degrees and holds degrees and minutes as numbers; others as they are."""
    axis = next((axis for axis in ("lon", "lat") if AXES[axis] & set(words_of(profile.name))), None)
    if axis is None or profile.is_number or not profile.num_values:
        return profile
    degrees = read_degrees(sample.cells[profile.name], axis, decimal_comma=sample.decimal_comma)
    numbers = degrees.fill_null(float("nan")).to_numpy()
    is_number = float(np.mean(np.isfinite(numbers))) > 0.5 * profile.share
    return replace(profile, is_number=is_number, is_whole=False, numbers=numbers)


def _pairs(profiles: Mapping[str, Profile]) -> list[tuple[tuple[float, float], str, str, str]]:
    """Return the pairs of columns whose names are those of two axes and otherwise alike, with what speaks for each."""
    found = []
    for name, profile in profiles.items():
        words = words_of(name)
        for kind in ("lon", "x"):
            axis = [word for word in words if word in AXES[kind]]
            if not axis or not profile.is_number:
                continue
            rest = [word for word in words if word not in AXES[kind] and word not in ("x", "y")]
            for other, other_profile in profiles.items():
                others = words_of(other)
                is_pair = any(word in AXES[_OTHER[kind]] for word in others) and other_profile.is_number
                if is_pair and rest == [w for w in others if w not in AXES[_OTHER[kind]] and w not in ("x", "y")]:
                    share = float(np.mean(np.isfinite(profile.numbers) & np.isfinite(other_profile.numbers)))
                    score = 2.0 * (kind == "lon") - sum(1 if word in HARMLESS else 2 for word in rest)
                    score -= 4 * sum(word in FOREIGN for word in rest)
                    found.append(((score + 4 * (share > 0.05), share), kind, name, other))
    return found


def _place(kind: str, easting: Profile, northing: Profile) -> Place | None:
    """Return what two columns of coordinates are by their values, or None if they can be none."""
    known = np.isfinite(easting.numbers) & np.isfinite(northing.numbers)
    if not known.any():
        return None
    x, y = easting.numbers[known], northing.numbers[known]
    points = np.column_stack([easting.numbers, northing.numbers])
    names = f"{easting.name} and {northing.name}"
    fit = np.mean((np.abs(x) <= 180) & (np.abs(y) <= 90))
    exchanged = np.mean((np.abs(y) <= 180) & (np.abs(x) <= 90))
    is_km = "km" in words_of(easting.name)
    fine = np.mean(np.round(x, 3) != x) > 0.5 and np.mean(np.round(y, 3) != y) > 0.5
    if fit >= 0.9 and (kind == "lon" or (not (easting.is_whole and northing.is_whole) and (fine or not is_km))):
        said = f"by name, and all within {_range(x)} and {_range(y)}, as degrees are"
        is_called = kind == "lon" or {"wgs", "wgs84", "dd", "deg", "degrees"} & set(words_of(easting.name))
        remark = () if is_called else (f"{names} hold degrees, whatever they are called",)
        return Place(
            "lon", {"lon": Found(easting.name, said), "lat": Found(northing.name, said)}, points, False, remark
        )
    if kind == "lon" and exchanged >= 0.9:
        remarks = (f"{names} are exchanged: {northing.name} goes beyond 90, so it is taken as the longitude",)
        found = {"lon": Found(northing.name, remarks[0]), "lat": Found(easting.name, remarks[0])}
        return Place("lon", found, points[:, ::-1], False, remarks)
    unit = "kilometres" if is_km else "metres"
    said = f"by name, from {_range(x)} and {_range(y)}: {unit} of a projection, not degrees"
    remark = () if kind == "x" else (f"{names} hold no degrees but {unit} of a projection, whatever they are called",)
    return Place("x", {"x": Found(easting.name, said), "y": Found(northing.name, said)}, points, is_km, remark)


def _range(values: np.ndarray) -> str:
    digits = 0 if np.abs(values).max() > 1000 else 4
    return f"{values.min():,.{digits}f} to {values.max():,.{digits}f}"


def find_species(cells: pl.DataFrame, profiles: Mapping[str, Profile], taken: set[str]) -> Found | None:
    """Return the column of species: of those so called the first that holds names of two words, or that and the genus.

    A species column of single lower-case words beside one of genera is an epithet: both are taken together.
    """
    candidates = _named(profiles, STUDY_COLUMNS["species"], taken)
    candidates += [
        name
        for name in profiles
        if name not in (*candidates, *taken) and words_of(name)[-1:] and words_of(name)[-1] in SPECIES_WORDS
    ]
    candidates = [name for name in candidates if profiles[name].num_values and not _is_foreign_species(name)]
    if not candidates:
        return None
    texts = {name: cells[name].drop_nulls() for name in candidates}
    two_words = {name: _share(text, _BINOMIAL) for name, text in texts.items()}
    bare = {name: _share(text, _BINOMIAL + "$") for name, text in texts.items()}
    full = [name for name in candidates if two_words[name] > 0.8]
    if full:
        # Without authors is better: one species then has one name.
        best = max(full, key=lambda name: (round(bare[name], 1) > 0.5, texts[name].len() > 0.5 * len(cells)))
        return Found(best, "by name, and its values are names of two words", tuple(n for n in full if n != best))
    best = candidates[0]
    genera = [name for name in profiles if fold(name) in ("genus", "genre", "gattung", "genero", "geslacht")]
    epithet = next((name for name in profiles if fold(name) in ("epithet", "specificepithet")), None)
    epithets = [name for name in candidates if _share(texts[name], _EPITHET) > 0.8]
    second = epithets[0] if epithets else epithet
    if genera and second:
        return Found((genera[0], second), f"{second} holds single words, the second part of a name")
    return Found(best, "by name", tuple(candidates[1:]))


def _share(texts: pl.Series, pattern: str) -> float:
    return float(np.mean(texts.str.contains(pattern).to_numpy())) if len(texts) else 0.0


def _is_foreign_species(name: str) -> bool:
    return fold(name) in ("subspecies", "speciesgroup", "numspecies", "nspecies", "speciesrichness", "verbatimtaxon")


def find_roles(cells: pl.DataFrame, profiles: Mapping[str, Profile], taken: set[str]) -> dict[str, Found]:
    """Return the other roles: those columns that are called so and whose values can be such."""
    found: dict[str, Found] = {}
    taken = set(taken)
    for role, test in _TESTS.items():
        named = [name for name in _named(profiles, STUDY_COLUMNS[role], taken) if profiles[name].num_values]
        good = [name for name in named if test(cells[name], profiles[name])]
        if good:
            found[role] = Found(good[0], "by name", tuple(good[1:]))
            taken.add(good[0])
    return found


def _named(profiles: Mapping[str, Profile], names: Sequence[str], taken: set[str]) -> list[str]:
    """Return the columns with one of the names, the best name first."""
    folded = {fold(name): name for name in reversed(list(profiles)) if name not in taken}
    return list(dict.fromkeys(folded[fold(name)] for name in names if fold(name) in folded))


# ---- values that a role can have -------------------------------------------------------------------------


def _within(profile: Profile, low: float, high: float) -> float:
    """Return the share of the values that lie between two numbers."""
    known = profile.numbers[~np.isnan(profile.numbers)]
    return float(np.mean((known >= low) & (known <= high))) if len(known) else 0.0


def _is_year(_: pl.Series, profile: Profile) -> bool:
    return profile.is_whole and _within(profile, FIRST_YEAR, LAST_YEAR) > MOSTLY


def _is_month(_: pl.Series, profile: Profile) -> bool:
    return not profile.is_number or _within(profile, 0, 12) > MOSTLY


def _is_day(_: pl.Series, profile: Profile) -> bool:
    return profile.is_whole and _within(profile, 0, 31) > MOSTLY


def _is_date(cells: pl.Series, _: Profile) -> bool:
    some = cells.drop_nulls().head(200)
    return float(np.mean(read_dates(some)["year"].is_not_null().to_numpy())) > 0.5 if len(some) else False


def _is_size(_: pl.Series, profile: Profile) -> bool:
    return profile.is_number and profile.high > 0  # impossible ones among them are counted by whoever reads it


def _is_abundance(_: pl.Series, profile: Profile) -> bool:
    return (profile.is_number and profile.low >= 0) or is_braun_blanquet(profile.distinct)


def _is_status(_: pl.Series, profile: Profile) -> bool:
    return profile.is_zero_one or profile.is_presence or profile.is_absence or (profile.is_number and profile.low == 0)


def _is_text(_: pl.Series, profile: Profile) -> bool:
    return not profile.is_number


def _is_id(_: pl.Series, profile: Profile) -> bool:
    return profile.share > 0.9 and not (profile.is_number and not profile.is_whole)


def _is_split(_: pl.Series, profile: Profile) -> bool:
    return profile.words == {"train", "test"}


_TESTS = {
    "survey_id": _is_id,
    "occurrence_status": _is_status,
    "abundance": _is_abundance,
    "count": _is_size,
    "basis": _is_text,
    "year": _is_year,
    "month": _is_month,
    "day": _is_day,
    "date": _is_date,
    "country": _is_text,
    "region": _is_text,
    "publisher": _is_text,
    "taxon_rank": _is_text,
    "area_m2": _is_size,
    "uncertainty_m": _is_size,
    "establishment": _is_text,
    "degree": _is_text,
    "split": _is_split,
}
