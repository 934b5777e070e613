"""Columns by what they mean, however a table of one's own calls them."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import polars as pl

from releve.errors import TableError, nearest
from releve.ingest.names import fold
from releve.ingest.text import TextTable

PLACE_COLUMNS: dict[str, tuple[str, ...]] = {
    "survey_id": (
        *("surveyId", "survey", "plotId", "plot", "plotNr", "plotName", "plotCode", "plotObservationId", "releveId"),
        *("releve", "releveNr", "siteId", "site", "siteName", "siteCode", "placeId", "glcId", "eventId", "id", "name"),
    ),
    "lon": ("lon", "longitude", "decimalLongitude", "long", "lng", "longDd", "lonDd", "lonWgs84", "x"),
    "lat": ("lat", "latitude", "decimalLatitude", "latDd", "latWgs84", "y"),
    "year": ("year", "surveyYear", "annee", "jahr", "ano", "anno", "jaar"),
    "month": ("month", "mois", "monat", "mes", "mese", "maand"),
    "day": ("day", "jour", "tag", "dia", "giorno", "dag"),
    "date": (
        "date",
        "eventDate",
        "surveyDate",
        "recordingDate",
        "dateOfRecording",
        "observationDate",
        "datum",
        "fecha",
    ),
    "country": ("country", "countryName", "countryCode", "pays", "pais"),
    "region": ("region", "biogeographicalRegion", "bioregion", "biogeoRegion"),
    "area_m2": ("areaInM2", "areaM2", "plotAreaM2", "plotSizeM2", "releveAreaM2"),
    "uncertainty_m": ("geoUncertaintyInM", "coordinateUncertaintyInMeters", "uncertaintyM", "locationUncertaintyM"),
}
"""What a column of a table of places means -> its names, the best first; compared as :func:`fold` leaves them."""

STUDY_COLUMNS: dict[str, tuple[str, ...]] = {
    "survey_id": (
        *PLACE_COLUMNS["survey_id"][:-2],
        *("relevenumber", "surveyPoint", "quadrat", "quadratId", "quadratNr", "plotNo", "plotNumber", "sitePlot"),
        *("aufnahme", "aufnahmeNr", "aufnahmenummer", "placette", "idPlacette", "parcelle", "parcela", "inventario"),
        *("opname", "opnameNr", "rilievo", "vlak", "station", "stationId", "eventId", "parentEventId", "locationId"),
        *("sampleId", "sample", "transect", "transectId", "stand", "standId"),
    ),
    "lon": (
        *PLACE_COLUMNS["lon"][:-1],
        *("longitud", "longitudine", "laengengrad", "laenge", "längengrad", "länge", "gpsLon", "longDec"),
    ),
    "lat": (*PLACE_COLUMNS["lat"][:-1], "latitud", "latitudine", "breitengrad", "breite", "gpsLat", "latDec"),
    "x": (
        *("x", "xM", "xCoord", "xCoordinate", "coordX", "pointX", "easting", "eastings", "east", "utmX", "utmE"),
        *("utmEasting", "xUtm", "xL93", "l93X", "xLambert", "xLambert93", "rechtswert", "xEtrs", "xLaea"),
        *("coordenadaX", "este", "xKm", "xkoord", "ostwert"),
    ),
    "y": (
        *("y", "yM", "yCoord", "yCoordinate", "coordY", "pointY", "northing", "northings", "north", "utmY", "utmN"),
        *("utmNorthing", "yUtm", "yL93", "l93Y", "yLambert", "yLambert93", "hochwert", "yEtrs", "yLaea"),
        *("coordenadaY", "norte", "yKm", "ykoord", "nordwert"),
    ),
    "species": (
        *("acceptedName", "acceptedScientificName", "acceptedSpecies", "species", "speciesName", "scientificName"),
        *("taxon", "taxonName", "latinName", "binomial", "speciesId", "speciesCode", "speciesKey", "taxonKey", "spid"),
        *("nomScientifique", "nomComplet", "espece", "especie", "nombreCientifico", "nomeCientifico", "specie", "art"),
        *("artname", "wissName", "wissenschaftlicherName", "soort", "soortnaam", "wetenschappelijkeNaam", "sp", "spp"),
    ),
    "abundance": (
        *("abundance", "cover", "coverPercent", "percentCover", "coverPct", "coverPerc", "coverClass", "coverCode"),
        *("coverAbundance", "relativeCover", "originalAbundance", "braunBlanquet", "bb", "bbCover", "dominance"),
        *("organismQuantity", "deckung", "deckungsgrad", "artmaechtigkeit", "recouvrement", "abondance"),
        *("abondanceDominance", "cobertura", "abundancia", "copertura", "abbondanza", "bedekking", "density"),
        *("basalArea", "biomass"),
    ),
    "occurrence_status": (
        *("occurrenceStatus", "presenceAbsence", "presence", "present", "pres", "pa", "occurrence", "occ", "presabs"),
        *("presAb", "prAb", "detected", "detection", "observed", "presencia", "vorkommen", "aanwezig"),
    ),
    "count": ("individualCount", "count", "numIndividuals", "nInd", "individuals", "anzahl", "effectif", "aantal"),
    "basis": ("basisOfRecord",),
    "year": (*PLACE_COLUMNS["year"], "yearCollected", "collectionYear", "eventYear", "yearStart", "yr"),
    "month": (*PLACE_COLUMNS["month"], "monthCollected", "collectionMonth"),
    "day": (*PLACE_COLUMNS["day"], "dayCollected", "collectionDay"),
    "date": (
        *PLACE_COLUMNS["date"],
        *("dateCollected", "collectionDate", "earliestDateCollected", "dateStart", "startDate", "dateObs"),
        *("observedOn", "dateObserved", "samplingDate", "visitDate", "dateVisit"),
    ),
    "country": PLACE_COLUMNS["country"],
    "region": PLACE_COLUMNS["region"],
    "publisher": ("publishingOrgKey", "publisher", "datasetKey", "datasetName", "institutionCode", "institution"),
    "taxon_rank": ("taxonRank",),
    "area_m2": (
        *PLACE_COLUMNS["area_m2"],
        *("plotArea", "plotSize", "releveArea", "surfaceM2", "flaeche", "sampleSizeValue"),
    ),
    "uncertainty_m": (
        *PLACE_COLUMNS["uncertainty_m"],
        *("coordUncertaintyM", "positionalUncertainty", "accuracyM", "gpsAccuracyM", "uncertaintyInMeters"),
        *("positionalAccuracy", "coordinateAccuracy", "locationUncertainty", "publicPositionalAccuracy"),
    ),
    "establishment": ("establishmentMeans",),
    "degree": ("degreeOfEstablishment",),
    "split": ("split",),
}
"""The same of a table of a study: of plots or records, in degrees or in a projection."""

OTHER_NAMES = {
    "elevation": ("elev", "altitude", "alt", "dem", "elevationm", "heightabovesealevel"),
}
"""Folded covariate -> what else it is called, folded."""
_BIOCLIM = re.compile(r"(?:^|[^a-z])bio[\W_]*0*([1-9]|1\d)$", re.IGNORECASE)


def find_columns(header: Sequence[str], wanted: Mapping[str, Sequence[str]], *, origin: str) -> dict[str, str]:
    """Return what a column means -> its name in the header, for all that are there.

    Parameters
    ----------
    header
        Names of the columns.
    wanted
        As ``PLACE_COLUMNS``.
    origin
        Where the header is from, for the message.

    Raises
    ------
    TableError
        If two columns have the same name but for case, accents and separators.

    Examples
    --------
    >>> find_columns(["Plot_ID", "Longitude", "LATITUDE", "Bio1"], PLACE_COLUMNS, origin="places.csv")
    {'survey_id': 'Plot_ID', 'lon': 'Longitude', 'lat': 'LATITUDE'}
    """
    named: dict[str, list[str]] = {}
    for column in header:
        named.setdefault(fold(column), []).append(column)
    found = {}
    for role, names in wanted.items():
        columns = next((named[fold(name)] for name in names if fold(name) in named), [])
        if len(columns) > 1:
            raise TableError(f"{origin} has several columns for {names[0]}: {columns}", expected="one")
        if columns:
            found[role] = columns[0]
    return found


def exact_name(name: str, header: Sequence[str], where: str) -> str:
    """Return the column that is called so, but for case, accents and separators.

    Raises
    ------
    TableError
        If there is none, or several.
    """
    if name in header:
        return name
    alike = [column for column in header if fold(column) == fold(name)]
    if len(alike) == 1:
        return alike[0]
    raise TableError(f"{where}: there is no column {name!r}; it has {list(header[:15])}", action=nearest(name, header))


def match_patterns(
    text: TextTable, patterns: Iterable[str], where: str, *, taken: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the columns of text that are named, or that a pattern such as ``soil_*`` matches.

    By a pattern none is found that means something else (``taken``), nor one that only numbers the rows.

    Raises
    ------
    TableError
        If a name or pattern is that of no column.
    """
    found: dict[str, None] = {}
    cells = text.cells
    for pattern in patterns:
        if pattern in cells.columns or not any(sign in pattern for sign in "*?["):
            found[exact_name(pattern, text.header, where)] = None
            continue
        matched = [name for name in cells.columns if fnmatchcase(name, pattern) and name not in taken]
        matched = [name for name in matched if not numbers_rows(cells[name])]
        if not matched:
            raise TableError(f"{where}: no column is like {pattern!r}; it has {list(text.header[:15])}")
        found |= dict.fromkeys(matched)
    return tuple(found)


def numbers_rows(column: pl.Series) -> bool:
    """Return whether a column of text says nothing but 1, 2, 3, ... or 0, 1, 2, ..., as R and pandas number rows.

    Examples
    --------
    >>> numbers_rows(pl.Series(["1", "2", "3"])), numbers_rows(pl.Series(["2", "1", "3"]))
    (True, False)
    """
    if len(column) < 3 or column[0] not in ("0", "1"):
        return False
    rows = pl.int_range(len(column), eager=True) + int(column[0])
    return bool((column == rows.cast(pl.String)).fill_null(False).all())


@dataclass(frozen=True)
class Matched:
    """Which columns hold the covariates of a model."""

    columns: dict[str, str]
    """The model's name -> the table's."""
    lacking: dict[str, str | None]
    """Covariates without a column -> the column that is called most alike, if any is."""


def match_covariates(header: Sequence[str], covariates: Iterable[str], *, origin: str) -> Matched:
    """Return the columns of a model's covariates, by name or by another name that cannot be mistaken.

    ``bio_1``, ``BIO01``, ``wc2.1_30s_bio_1`` and ``Bio1`` are one; so are ``elev``, ``altitude`` and ``Elevation``.

    Parameters
    ----------
    header
        Columns of the table that mean nothing else.
    covariates
        The model's names.
    origin
        Where the header is from, for the message.

    Raises
    ------
    TableError
        If several columns could be one covariate.

    Examples
    --------
    >>> match_covariates(["bio_1", "elev", "tempSeason"], ["Bio1", "Elevation", "TempSeasons", "Rain"], origin="a.csv")
    Matched(columns={'Bio1': 'bio_1', 'Elevation': 'elev'}, lacking={'TempSeasons': 'tempSeason', 'Rain': None})
    """
    named: dict[str, list[str]] = {}
    meant: dict[str, list[str]] = {}
    covariates = list(covariates)
    columns = {name: name for name in covariates if name in header}
    for column in header:
        if column not in columns:
            named.setdefault(fold(column), []).append(column)
            meant.setdefault(_meaning(column), []).append(column)
    # What stands for two covariates of the model stands for neither.
    num_folded, num_meant = Counter(map(fold, covariates)), Counter(map(_meaning, covariates))
    missing: list[str] = []
    for name in covariates:
        if name in columns:
            continue
        # A name of its own comes before one that is only understood: "bio12" before "wc2.1_bio_12".
        candidates = named.get(fold(name), []) if num_folded[fold(name)] == 1 else []
        candidates = candidates or (meant.get(_meaning(name), []) if num_meant[_meaning(name)] == 1 else [])
        if len(candidates) > 1:
            raise TableError(
                f"{origin} has several columns for covariate {name}: {candidates}",
                expected="one",
                action="Leave out or rename the others",
            )
        if candidates:
            columns[name] = candidates[0]
        else:
            missing.append(name)
    left = {fold(column): column for column in header if column not in columns.values()}
    close = {name: difflib.get_close_matches(fold(name), left, n=1, cutoff=0.7) for name in missing}
    return Matched(columns, {name: left[keys[0]] if keys else None for name, keys in close.items()})


def _meaning(name: str) -> str:
    """Return the folded name of the covariate that a name stands for."""
    bioclim = _BIOCLIM.search(name)
    if bioclim:
        return f"bio{int(bioclim[1])}"
    folded = fold(name)
    return next((official for official, others in OTHER_NAMES.items() if folded in others), folded)


def match_names(values: Iterable[str], known: Sequence[str]) -> dict[str, str]:
    """Return, for values that are spelt otherwise than the known ones, the known one: case, accents, separators.

    Examples
    --------
    >>> match_names(["spain", "Alpine", "Österreich", "Spain"], ["Spain", "ALPINE", "Osterreich"])
    {'spain': 'Spain', 'Alpine': 'ALPINE', 'Österreich': 'Osterreich'}
    """
    spelt = {fold(name): name for name in reversed(known)}
    return {value: spelt[fold(value)] for value in values if value not in known and fold(value) in spelt}
