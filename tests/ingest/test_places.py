"""Degrees as text, and places that cannot be where they say. Expected places are worked out by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from releve.ingest.places import WORLD, extent_of_study, is_inside, is_swapped, is_zero, read_degrees
from releve.ingest.reference import country_code_of

EUROPE = {"west": -32.26, "south": 26.63, "east": 35.59, "north": 72.18}


@pytest.mark.parametrize(
    ("text", "lon"),
    [
        ("2.35", 2.35),
        ("-2.35", -2.35),
        ("2°21'4\"E", 2 + 21 / 60 + 4 / 3600),
        ("2º 21′ 4″ W", -(2 + 21 / 60 + 4 / 3600)),
        ("2°21’4’’E", 2 + 21 / 60 + 4 / 3600),
        ("E 2 21.5", 2 + 21.5 / 60),
        ("-3°30'", -3.5),
        ("W3,5", -3.5),
        ("48.5°", 48.5),
        ("2°61'E", None),  # no such minute
        ("2°21'60\"E", None),
        ("48°N", None),  # a latitude
        ("2°21' O", None),  # west or east, as the language has it
        ("2 21 4", None),  # nothing says that these are minutes
        ("ca. 2.35", None),
        ("2,35", None),
        ("", None),
        (None, None),
    ],
)
def test_degrees_are_read_as_they_are_written(text: str | None, lon: float | None) -> None:
    assert read_degrees(pl.Series([text], dtype=pl.String), "lon").to_list() == [pytest.approx(lon)]


def test_latitudes_have_letters_of_their_own_and_decimal_commas_are_asked_for() -> None:
    assert read_degrees(pl.Series(["44°30'N", "44°30'S", "44°30'E"]), "lat").to_list() == [44.5, -44.5, None]
    assert read_degrees(pl.Series(["44,5", "1,234,5"]), "lat", decimal_comma=True).to_list() == [44.5, None]
    assert read_degrees(pl.Series([44.5, None, float("nan")]), "lat").to_list() == [44.5, None, None]


def test_extents_may_cross_the_antimeridian_and_nan_is_nowhere() -> None:
    fiji = {"west": 170.0, "south": -30.0, "east": -170.0, "north": 0.0}
    assert is_inside([175, -175, 0, np.nan], [-17, -17, -17, -17], fiji).tolist() == [True, True, False, False]
    assert is_inside([175, 0], [-17, np.nan], WORLD).tolist() == [True, False]
    assert is_zero([0.0, 0.4, 0.6, np.nan], [0.0, -0.5, 0.0, 0.0]).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("lon", "lat", "country", "swapped"),
    [
        # France and its mirror, in Somalia and the Indian Ocean: the country tells, and so does the sea.
        ([44.91, 2.85, 3.1], [2.35, 45.31, 45.51], ["France"] * 3, [True, False, False]),
        ([48.85, 2.85, 3.1], [-2.35, 45.31, 45.51], None, [True, False, False]),
        # All exchanged: two of three mirrors are on land, in Somalia and Kenya, the one at sea tells.
        ([57.0, 47.0, 40.0], [10.0, 8.0, -3.0], None, [True, True, True]),
        # Iraq, whose mirror is the Black Sea and the Ukraine: a study of another region.
        ([43.1, 44.1, 46.0], [31.1, 32.1, 33.0], ["Iraq"] * 3, [False, False, False]),
        ([43.1, 44.1, 46.0], [31.1, 32.1, 33.0], None, [False, False, False]),
        ([43.1, 44.1, 46.0], [31.1, 32.1, 33.0], ["IQ"] * 3, [False, False, False]),
        # Arabia and its mirror on the Balkans: nothing tells, so nothing is called exchanged ...
        ([45.0, 46.0, 47.0], [22.0, 23.0, 24.0], None, [False, False, False]),
        # ... but for one among many, or if the country tells.
        ([45.0, 23.0, 24.0], [22.0, 46.0, 47.0], None, [True, False, False]),
        ([45.0, 46.0, 47.0], [22.0, 23.0, 24.0], ["RO", "romania", "Saudi Arabia"], [True, True, False]),
        # Elsewhere either way, and no place at all.
        ([-60.0, np.nan, 120.0], [-3.0, 50.0, -30.0], None, [False, False, False]),
    ],
)
def test_places_are_exchanged_if_country_land_or_the_others_say_so(
    lon: list[float], lat: list[float], country: list[str] | None, swapped: list[bool]
) -> None:
    named = None if country is None else pl.Series(country)
    assert is_swapped(np.array(lon), np.array(lat), EUROPE, named).tolist() == swapped


def test_a_place_in_doubt_is_called_what_is_asked() -> None:
    arabia = np.array([45.0]), np.array([22.0])
    assert is_swapped(*arabia, EUROPE, in_doubt=True).tolist() == [True]
    assert is_swapped(*arabia, EUROPE, pl.Series(["Saudi Arabia"]), in_doubt=True).tolist() == [False]


def test_countries_are_known_by_name_alias_code_and_without_accents() -> None:
    names = [
        "Germany",
        "germany",
        "DE",
        "deu",
        "UK",
        "GB",
        "Great Britain",
        "Turkiye",
        "TÜRKIYE",
        "Aland",
        "Mordor",
        "",
        None,
    ]
    codes = country_code_of(pl.Series(names)).tolist()
    assert len(set(codes[:4])) == 1 and len(set(codes[4:7])) == 1 and codes[7] == codes[8] > 0 and codes[9] > 0
    assert codes[10:] == [-1, -1, -1]
    australia = country_code_of(pl.Series(["Australia", "AU", "AUS"])).tolist()
    assert len(set(australia)) == 1  # its outer islands share the code


@pytest.mark.parametrize(
    ("lon", "lat", "is_other"),
    [
        ([-60.0, -61.0, 2.35], [-3.0, -4.0, 48.85], True),  # Amazonia, and one plot in Paris
        ([-60.0, 2.35, 3.0], [-3.0, 48.85, 47.0], False),
        ([48.85, 47.0, 2.35], [2.35, 3.0, 48.85], False),  # two exchanged, at sea as they are, belong to it
        ([0.0, 0.0, 2.35], [0.0, 0.0, 48.85], False),  # zero says nothing
        ([np.nan, 2.35], [0.0, 48.85], False),
        ([], [], False),
    ],
)
def test_a_study_of_another_region_has_the_world_as_extent(lon: list[float], lat: list[float], is_other: bool) -> None:
    extent = extent_of_study(np.array(lon), np.array(lat), EUROPE)
    assert extent == (WORLD if is_other else EUROPE)
