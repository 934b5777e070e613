"""File, folder and column names as the releases mean them, not as they happen to be spelt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_PO = re.compile(r"(?<![a-z0-9])p0(?![a-z0-9])")


def normalise(name: str) -> str:
    """Return a name or path in lower case with one spelling for each of the releases' variants.

    ``_`` and blanks become ``-``; P0 (P-zero) becomes ``po``; *Satelite* becomes ``satellite``.

    Examples
    --------
    >>> normalise("SatelitePatches/GLC25_P0_metadata train.CSV")
    'satellitepatches/glc25-po-metadata-train.csv'
    """
    name = re.sub(r"[_\s-]+", "-", name.lower()).replace("\\", "/")
    return _PO.sub("po", name).replace("satelite", "satellite")


def fold(name: str) -> str:
    """Return the letters and digits of a name, in lower case and without accents or a unit in brackets.

    Examples
    --------
    >>> fold("Année"), fold("bio_1"), fold("Elevation (m)"), fold("ÖSTERREICH ")
    ('annee', 'bio1', 'elevation', 'osterreich')
    """
    bare = re.sub(r"[(\[].*[)\]]\s*$", "", name) or name
    letters = unicodedata.normalize("NFKD", bare.casefold())
    return "".join(letter for letter in letters if letter.isalnum())


def find_column(columns: Iterable[str], wanted: Sequence[str]) -> str | None:
    """Return the first column that is one of the wanted names up to spelling, or None.

    Examples
    --------
    >>> find_column(["lon", "SurveyID"], ["surveyId", "glcID"])
    'SurveyID'
    """
    known = {normalise(column): column for column in reversed(list(columns))}
    return next((known[normalise(name)] for name in wanted if normalise(name) in known), None)
