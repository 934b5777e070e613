"""Every flag on records worked out by hand, and properties that hold for any records."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from releve.errors import TableError
from releve.ingest.dates import AMBIGUOUS, NO_SUCH_DAY, NO_SUCH_YEAR
from releve.ingest.reference import UNKNOWN, Cells, country_names, near_places, read_places
from releve.ingest.rows import OCCURRENCE_SCHEMA
from releve.prepare.clean import clean_records
from releve.prepare.config import FLAGS as NAMES
from releve.prepare.config import CleanConfig
from releve.prepare.flags import FLAGS, flag_records

EUROPE = {"west": -32.3, "south": 26.6, "east": 45.0, "north": 72.2}
GOOD = {
    "survey_id": "1", "lon": 5.12345, "lat": 48.54321, "year": 2020, "month": 6, "day": 15, "publisher": "A",
    "uncertainty_m": 10.0, "species_id": 7, "taxon_rank": "SPECIES", "date": date(2020, 6, 15),
}  # fmt: skip
SHARED = Path(__file__).parents[2].parent / "shared/data"


def records(*changes: dict[str, object]) -> pl.DataFrame:
    """Return good records, unlike one another, each with its change."""
    rows = [GOOD | {"survey_id": str(i), "species_id": 100 + i} | change for i, change in enumerate(changes)]
    return pl.DataFrame(rows, schema=OCCURRENCE_SCHEMA)


def flags_of(change: dict[str, object], extent: dict[str, float] | None = None, **config: object) -> set[str]:
    flags = flag_records(records(change), CleanConfig(**config), extent)
    assert flags.columns == list(FLAGS) == list(NAMES)
    return {name for name in flags.columns if flags[name][0]}


def test_the_flags_of_the_documentation_are_those_of_the_code() -> None:
    drops = CleanConfig().drop
    rows = [f"| `{name}` | {flag.description} | {'yes' if name in drops else 'no'} |" for name, flag in FLAGS.items()]
    page = (Path(__file__).parents[2] / "docs/metadata.md").read_text(encoding="utf-8")
    assert "\n".join(["| flag | a record has it if | drops by default |", "|---|---|---|", *rows, ""]) in page


def test_a_good_record_has_no_flag() -> None:
    assert flags_of({}, EUROPE) == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"lon": None}, {"impossible_coordinates"}),
        ({"lat": float("nan")}, {"impossible_coordinates"}),
        ({"lon": float("inf")}, {"impossible_coordinates"}),
        ({"lat": 90.01}, {"impossible_coordinates", "swapped_coordinates"}),
        ({"lon": 0.31234, "lat": -0.41234}, {"zero_coordinates", "sea"}),
        ({"lon": 0.0, "lat": 0.0}, {"zero_coordinates", "equal_coordinates", "sea", "imprecise"}),
        ({"lon": 35.12345, "lat": 35.12345}, {"equal_coordinates", "sea"}),
        ({"lon": -15.43211, "lat": 15.43211}, {"equal_coordinates"}),
        ({"lon": -30.12345, "lat": 45.54321}, {"sea"}),
        ({"lon": 5.0, "lat": 48.0}, {"imprecise"}),
        ({"lon": 5.1, "lat": 48.5}, {"imprecise"}),
        ({"lon": 5.25, "lat": 48.75}, {"imprecise"}),
        ({"lon": 5.0, "lat": 48.12345}, set()),
        ({"uncertainty_m": 1000.0}, set()),
        ({"uncertainty_m": 1000.5}, {"uncertain"}),
        ({"uncertainty_m": None}, {"no_uncertainty"}),
        ({"date_fault": NO_SUCH_DAY}, {"bad_date"}),
        ({"date_fault": NO_SUCH_YEAR, "year": None, "date": None}, {"bad_date", "no_date"}),
        ({"date_fault": AMBIGUOUS}, set()),
        ({"year": 1899}, {"bad_date"}),
        ({"year": None, "date": date(1899, 1, 1)}, {"bad_date"}),
        ({"year": None, "month": None, "day": None, "date": None}, {"no_date"}),
        ({"year": None}, set()),
        ({"taxon_rank": "GENUS"}, {"not_species"}),
        ({"taxon_rank": "subspecies"}, set()),
        ({"taxon_rank": None}, set()),
        ({"country": "France"}, set()),
        ({"country": "france "}, set()),
        ({"country": "Poland"}, {"country_mismatch"}),
        ({"country": "Atlantis"}, set()),
        ({"lon": 2.35222, "lat": 48.85661}, {"capital"}),
        ({"lon": 2.35222, "lat": 48.86661}, set()),  # 1.1 km further north
    ],
)
def test_each_flag_on_one_record(change: dict[str, object], expected: set[str]) -> None:
    assert flags_of(change) == expected


def test_extent_and_exchange() -> None:
    assert flags_of({"lon": 45.54321, "lat": 5.12345}, EUROPE) == {"swapped_coordinates", "outside_extent"}
    assert flags_of({"lon": -60.12345, "lat": -3.12345}, EUROPE) == {"outside_extent"}
    pacific = {"west": 170.0, "south": -30.0, "east": -170.0, "north": 0.0}
    assert flags_of({"lon": 178.01234, "lat": -17.81234}, pacific) == set()  # Viti Levu
    assert "outside_extent" in flags_of({"lon": 5.12345, "lat": -5.12345}, pacific)


def test_a_record_of_another_continent_is_outside_and_not_exchanged() -> None:
    """Baghdad, whose mirror is in the Black Sea; the middle of Arabia, whose mirror is in Romania, as it is named."""
    baghdad = {"lon": 44.36123, "lat": 33.31234}
    assert flags_of(baghdad | {"country": None}, EUROPE) - {"capital"} == set()  # this extent reaches to 45 E
    europe = EUROPE | {"east": 40.0}
    for country in (None, "Iraq", "IRQ"):
        assert flags_of(baghdad | {"country": country}, europe) - {"capital"} == {"outside_extent"}
    arabia = {"lon": 45.12345, "lat": 23.12345}
    assert flags_of(arabia | {"country": "Saudi Arabia"}, europe) == {"outside_extent"}
    assert "swapped_coordinates" in flags_of(arabia | {"country": "Romania"}, europe)
    assert "swapped_coordinates" in flags_of(arabia | {"country": None}, europe)  # nothing tells


def test_a_year_after_the_last_is_flagged_whatever_the_day_of_reading() -> None:
    assert flags_of({"year": 2020}, last_year=2020) == set()
    assert flags_of({"year": 2021}, last_year=2020) == {"bad_date"}
    assert flags_of({"year": None, "month": None, "day": None, "date": date(2021, 1, 1)}, last_year=2020) == {
        "bad_date"
    }
    later = datetime.now().date() + timedelta(days=400)
    parts = {"year": later.year, "month": later.month, "day": later.day, "date": later}
    assert flags_of(parts) == set()  # the clock decides nothing


def test_limits_are_those_of_the_configuration() -> None:
    assert flags_of({"uncertainty_m": 60.0}, max_uncertainty_m=50) == {"uncertain"}
    assert flags_of({"lon": 5.12, "lat": 48.54}, min_decimals=3) == {"imprecise"}
    assert flags_of({"lon": 5.0, "lat": 48.0}, min_decimals=0, grid_deg=0) == set()
    assert flags_of({"taxon_rank": "GENUS"}, taxon_ranks=("genus",)) == set()


def test_centroid_of_a_country_is_flagged_within_the_radius() -> None:
    place = read_places("centroid").filter(pl.col("name") == "Poland, centroid").row(0, named=True)
    one_km_deg = 1 / 111.195
    for km, expected in ((0.9, {"country_centroid"}), (1.1, set())):
        assert flags_of({"lon": place["lon"], "lat": place["lat"] + km * one_km_deg}) == expected
    assert flags_of({"lon": place["lon"], "lat": place["lat"] + 2 * one_km_deg}, centroid_radius_m=3000) == {
        "country_centroid"
    }


def test_institutions_are_those_of_the_users_table(tmp_path: Path) -> None:
    path = tmp_path / "institutions.csv"
    path.write_text("name,lon,lat\nGarden,5.12345,48.54321\nNowhere,,\n", encoding="utf-8")
    assert flags_of({}, institutions=path) == {"institution"}
    assert flags_of({"lat": 48.54621}, institutions=path) == set()  # 334 m
    assert flags_of({"lat": 48.54621}, institutions=path, institution_radius_m=400) == {"institution"}
    path.write_text("name,x\nGarden,5.1\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"lacks columns \['lon', 'lat'\]"):
        flags_of({}, institutions=path)
    with pytest.raises(TableError, match="cannot read the institutions"):
        flags_of({}, institutions=tmp_path / "absent.csv")


def test_duplicates_are_all_but_the_first_of_species_place_and_date() -> None:
    same = {"species_id": 7}
    table = records(
        same | {"publisher": "B"},
        same | {"publisher": "A", "survey_id": "9"},
        same | {"publisher": "A", "survey_id": "8"},  # the first by publisher and survey
        same | {"lon": 5.123451},  # the same place to 5 decimals
        same | {"lon": 5.12347},  # another place
        same | {"date": date(2020, 6, 16), "day": 16},  # another day
        {"species_id": 8},  # another species
        same | {"date": None},  # the same day from year, month and day
        same | {"publisher": None},
    )
    duplicate = flag_records(table, CleanConfig())["duplicate"].to_list()
    assert duplicate == [True, True, True, False, False, False, False, True, True]  # row 3 is of survey 3, publisher A
    table = table.with_columns(survey_id=pl.Series(["0", "9", "2", "3", "4", "5", "6", "7", "8"]))
    assert flag_records(table, CleanConfig())["duplicate"].to_list()[:4] == [True, True, False, True]


def test_a_good_record_is_not_lost_to_its_bad_copy() -> None:
    same = {"species_id": 7}
    table = records(
        same | {"publisher": "A", "uncertainty_m": 5000.0}, same | {"publisher": "B"}, same | {"publisher": "C"}
    )
    cleaned = clean_records(table, CleanConfig())
    assert cleaned.table["publisher"].to_list() == ["B"]
    assert cleaned.dropped.rows() == [("uncertain", "A", 1), ("duplicate", "C", 1)]
    kept = clean_records(table, CleanConfig(drop=("duplicate",)))
    assert kept.table["publisher"].to_list() == ["A"]


def test_each_dropped_record_counts_once_and_each_flag_counts() -> None:
    table = records(
        {"lon": -30.12345, "lat": 45.54321, "publisher": "A"},
        {"lon": -30.12345, "lat": 45.54321, "publisher": "B", "uncertainty_m": 9e4},
        {"publisher": "B", "uncertainty_m": 9e4, "taxon_rank": "GENUS"},
        {"publisher": None, "uncertainty_m": None},
        {"publisher": "B", "lon": None},
    )
    cleaned = clean_records(table, CleanConfig())
    assert cleaned.table["survey_id"].to_list() == ["3"]
    assert cleaned.table.schema == table.schema
    assert cleaned.dropped.rows() == [
        ("impossible_coordinates", "B", 1),
        ("sea", "A", 1),
        ("sea", "B", 1),
        ("uncertain", "B", 1),
    ]
    assert cleaned.dropped_by_reason == {"impossible_coordinates": 1, "sea": 2, "uncertain": 1}
    flagged = {(flag, publisher): count for flag, publisher, count in cleaned.flagged.rows()}
    assert flagged["uncertain", "B"] == 2
    assert flagged["not_species", "B"] == 1
    assert flagged["no_uncertainty", None] == 1
    assert cleaned.flagged.columns == ["flag", "publisher", "count"]


@pytest.mark.parametrize("config", [CleanConfig(), CleanConfig(drop=())])
def test_an_empty_table_and_one_of_nulls_are_cleaned(config: CleanConfig) -> None:
    empty = clean_records(pl.DataFrame(schema=OCCURRENCE_SCHEMA), config)
    assert len(empty.table) == len(empty.dropped) == len(empty.flagged) == 0
    assert empty.dropped.columns == ["reason", "publisher", "count"]
    nulls = clean_records(
        pl.DataFrame({name: [None] * 3 for name in OCCURRENCE_SCHEMA}, schema=OCCURRENCE_SCHEMA), config
    )
    assert nulls.dropped_by_reason == ({"impossible_coordinates": 3} if config.drop else {})
    assert nulls.flagged.filter(pl.col("flag") == "no_uncertainty")["count"].to_list() == [3]


def test_a_table_without_optional_columns_is_cleaned_and_one_without_places_is_refused() -> None:
    bare = records({}, {"lon": -30.12345, "lat": 45.54321}).select("lon", "lat", "species_id")
    cleaned = clean_records(bare, CleanConfig())
    assert cleaned.table.columns == bare.columns
    assert cleaned.dropped.rows() == [("sea", None, 1)]
    with pytest.raises(TableError, match=r"lack columns \['lat'\]"):
        clean_records(bare.drop("lat"), CleanConfig())


def test_an_unknown_flag_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(
        ValidationError, match=r"unknown flag 'seas': did you mean 'sea'\?; the flags are \['impossible"
    ):
        CleanConfig(drop=("seas",))
    with pytest.raises(ValidationError):
        CleanConfig(max_uncertainty_m=0)


def test_known_places_have_their_country_and_the_sea_has_none() -> None:
    places = {
        "France": (2.3522, 48.8566),
        "Malta": (14.5146, 35.8989),
        "Denmark": (12.5683, 55.6761),
        "Fiji": (178.0, -17.8),
        "Czech Republic": (14.4378, 50.0755),
        "Bosnia and Herzegovina": (18.4131, 43.8563),
        "North Macedonia": (21.4316, 41.9981),
        "Antarctica": (180.0, -90.0),
        "Russia": (-180.0, 68.5),  # the Chukchi coast lies on the antimeridian
        None: (-30.0, 45.0),
    }
    lon, lat = np.array(list(places.values())).T
    codes = Cells(lon, lat).country_codes()
    assert [country_names()[code] for code in codes] == list(places)


def test_an_island_that_natural_earth_lacks_is_land_of_no_known_country() -> None:
    assert Cells(np.array([6.4512]), np.array([43.0291])).country_codes().tolist() == [UNKNOWN]  # Île du Levant
    for country in ("France", "Poland"):
        assert flags_of({"lon": 6.45123, "lat": 43.02912, "country": country}) == set()
    assert flags_of({"lon": 6.39421, "lat": 42.98819}) == set()  # Port-Cros


def test_a_point_near_the_coast_is_tolerated_and_one_far_off_is_not() -> None:
    # West of Ouessant and Brest, at 48.35 N: the coast is near 4.77 W; a degree is 74 km there.
    lon = np.array([-4.79, -5.5, -6.5])
    cells = Cells(lon, np.full(3, 48.35))
    at_sea = cells.country_codes() == 0
    assert cells.far_from(None, at_sea, 5.0).tolist() == [False, True, True]
    assert cells.far_from(None, at_sea, 50.0).tolist() == [False, False, True]
    assert flags_of({"lon": 0.01234, "lat": 89.98765}) == {"sea"}
    assert flags_of({"lon": 179.99123, "lat": -16.51234}) == set()  # Taveuni is cut by the antimeridian
    assert flags_of({"lon": -179.99123, "lat": -16.51234}) == set()


def test_distance_to_places_equals_that_to_each_of_them() -> None:
    rng = np.random.default_rng(0)
    places = pl.DataFrame({"lon": [179.95, -10.0, 0.0, 30.0], "lat": [0.0, 88.9, -89.95, 60.0]})
    lon = np.concatenate([rng.uniform(-180, 180, 3000), rng.normal(179.95, 0.3, 500), rng.normal(30, 0.4, 500)])
    lat = np.concatenate(
        [rng.uniform(-90, -88, 1500), rng.uniform(88, 90, 1500), rng.normal(0, 0.3, 500), rng.normal(60, 0.3, 500)]
    )
    lon = (lon + 180) % 360 - 180
    a, b = np.radians(lat)[:, None], np.radians(places["lat"].to_numpy())[None]
    cosine = np.sin(a) * np.sin(b) + np.cos(a) * np.cos(b) * np.cos(np.radians(lon[:, None] - places["lon"].to_numpy()))
    distance_km = 6371.0088 * np.arccos(np.clip(cosine, -1, 1)).min(axis=1)
    for radius_km in (1.0, 20.0, 50.0):
        assert near_places(lon, lat, places, radius_km).tolist() == (distance_km <= radius_km).tolist()


def value(*ordinary: object) -> st.SearchStrategy:
    return st.sampled_from([*ordinary, None])


rows = st.fixed_dictionaries({
    "survey_id": st.sampled_from(["1", "2", "3"]),
    "lon": value(5.12345, 5.123451, 2.35222, -30.12345, 48.54321, 0.0, 200.0, float("nan")),
    "lat": value(48.54321, 48.85661, 45.54321, 5.12345, 0.0, 90.0),
    "year": value(2020, 1800, 2021),
    "month": value(6, 2, 13),
    "day": value(15, 30),
    "publisher": value("A", "B"),
    "uncertainty_m": value(10.0, 1e5),
    "species_id": value(1, 2),
    "taxon_rank": value("SPECIES", "GENUS"),
    "country": value("France", "Poland"),
    "date": value(date(2020, 6, 15)),
    "date_fault": value(NO_SUCH_DAY, AMBIGUOUS),
})  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(rows, max_size=25), st.randoms(use_true_random=False))
def test_every_record_is_accounted_for_whatever_the_order(content: list[dict[str, object]], random: object) -> None:
    table = pl.DataFrame(content, schema=OCCURRENCE_SCHEMA)
    cleaned = clean_records(table, CleanConfig(), EUROPE)
    assert len(cleaned.table) + cleaned.dropped["count"].sum() == len(table)
    assert not (cleaned.dropped["count"] <= 0).any()
    order = list(range(len(table)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = clean_records(table[order], CleanConfig(), EUROPE)
    assert shuffled.dropped.equals(cleaned.dropped)
    assert shuffled.flagged.equals(cleaned.flagged)
    assert sorted(map(str, shuffled.table.rows())) == sorted(map(str, cleaned.table.rows()))


@settings(max_examples=10, deadline=None)
@given(st.lists(rows, min_size=1, max_size=8))
def test_a_flag_depends_on_its_own_row_except_that_of_duplicates(content: list[dict[str, object]]) -> None:
    table = pl.DataFrame(content, schema=OCCURRENCE_SCHEMA)
    together = flag_records(table, CleanConfig(), EUROPE).drop("duplicate")
    apart = [flag_records(table[i], CleanConfig(), EUROPE).drop("duplicate") for i in range(len(table))]
    assert together.equals(pl.concat(apart))


@pytest.mark.skipif(not SHARED.exists(), reason="no real samples here")
def test_real_plots_lie_on_land_and_in_the_country_that_they_name() -> None:
    from releve.ingest.release import open_release
    from releve.ingest.surveys import read_surveys

    release = open_release(SHARED / "geoplant-mini")
    table = read_surveys(release, "train").table.with_columns(species_id=1)
    flags = flag_records(table, CleanConfig(), release.rules.extent)
    assert len(table) > 1000
    assert flags["sea"].mean() < 0.002
    assert flags["country_mismatch"].mean() < 0.005
    assert not flags["swapped_coordinates"].any()
