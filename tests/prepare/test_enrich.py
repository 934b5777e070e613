"""Derived columns worked out by hand, and the documentation that lists them."""

from __future__ import annotations

import json
import math
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pyproj import Transformer

from releve.errors import TableError
from releve.ingest.surveys import OCCURRENCE_SCHEMA, SURVEY_SCHEMA
from releve.prepare.derived import DERIVED, OF_RECORDS, OF_SERIES, metadata_table
from releve.prepare.enrich import EnrichConfig, enrich_records, find_regions, publisher_taste
from releve.prepare.vegetation import seasonal_indices

CONFIG = EnrichConfig()
DOCS = Path(__file__).parents[2] / "docs/metadata.md"
PARIS = {"lon": 2.35222, "lat": 48.85661}


def enriched(*rows: dict[str, object], **options: object) -> pl.DataFrame:
    return enrich_records(pl.DataFrame(list(rows), schema=OCCURRENCE_SCHEMA), CONFIG, **options)


def test_the_table_of_the_documentation_is_that_of_the_code() -> None:
    assert metadata_table() in DOCS.read_text(encoding="utf-8")


def test_every_column_made_is_documented_and_every_documented_one_is_made() -> None:
    table = enriched(PARIS)
    assert table.columns == [*OCCURRENCE_SCHEMA, *OF_RECORDS]
    assert seasonal_indices(np.zeros((2, 6, 3, 4), np.int16), 2000).columns == list(OF_SERIES)
    assert list(DERIVED) == [*OF_RECORDS, *OF_SERIES]
    for name in OF_RECORDS:  # a unit in a column's name is that of its documentation
        assert not name.startswith("log10") or "log10" in DERIVED[name].unit


def test_season_is_that_of_the_date_or_of_month_and_day() -> None:
    table = enriched(
        PARIS | {"date": date(2020, 12, 31)},
        PARIS | {"year": 2020, "month": 3, "day": 1},
        PARIS | {"year": 2021, "month": 3, "day": 1},
        PARIS | {"month": 1, "day": 1},
        PARIS | {"year": 2021, "month": 10},
        PARIS | {"year": 2021},
        PARIS | {"month": 13, "day": 1},
    )
    assert table["day_of_year"].to_list() == [366, 61, 60, 1, None, None, None]
    assert table["quarter"].to_list() == [4, 1, 1, 1, 4, None, None]
    assert table["day_sin"][1] == pytest.approx(math.sin(2 * math.pi * 61 / 365.25), abs=1e-6)
    assert table["day_cos"][0] == pytest.approx(math.cos(2 * math.pi * 366 / 365.25), abs=1e-6)
    assert table["day_sin"][5] is None


def test_day_of_year_is_that_of_the_calendar() -> None:
    days = pl.date_range(date(2019, 1, 1), date(2020, 12, 31), eager=True)
    table = pl.DataFrame({"lon": [2.0] * len(days), "lat": [48.0] * len(days), "date": days})
    assert enrich_records(table, CONFIG)["day_of_year"].to_list() == days.dt.ordinal_day().to_list()


def test_area_and_uncertainty_are_logarithms_and_nonsense_is_null() -> None:
    rows = [(100.0, 9.0), (0.0, 0.0), (-math.inf, -1.0), (None, math.nan)]
    table = enriched(*(PARIS | {"area_m2": area, "uncertainty_m": far} for area, far in rows))
    assert table["log10_area_m2"].to_list() == [2.0, None, None, None]
    assert table["log10_uncertainty_m"].to_list() == [1.0, 0.0, None, None]


def test_a_missing_country_is_filled_and_a_given_one_is_kept() -> None:
    table = enriched(
        PARIS, PARIS | {"country": "Gaul"}, {"lon": -30.0, "lat": 45.0}, {"lon": 12.5683, "lat": 55.6761}, {"lon": None}
    )
    assert table["country"].to_list() == ["France", "Gaul", None, "Denmark", None]
    assert table["country_filled"].to_list() == [True, False, False, True, False]


def square(west: float, south: float, side: float) -> list[list[list[float]]]:
    east, north = west + side, south + side
    return [[[west, south], [east, south], [east, north], [west, north], [west, south]]]


def write_regions(path: Path, named: dict[str, list[list[list[float]]]], key: str, crs: str | None = None) -> Path:
    features = [
        {
            "type": "Feature",
            "properties": {"PK_UID": i, key: name},
            "geometry": {"type": "Polygon", "coordinates": rings},
        }
        for i, (name, rings) in enumerate(named.items())
    ]
    content: dict[str, object] = {"type": "FeatureCollection", "features": features}
    if crs:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("key", "alpine", "sea"),
    [
        ("short_name", "alpine", "blackSea"),
        ("name", "Alpine Bio-geographical Region", "Black Sea Bio-geographical Region"),
    ],
)
def test_regions_are_those_of_the_polygons(tmp_path: Path, key: str, alpine: str, sea: str) -> None:
    folder = tmp_path / "EnvironmentalRasters/BiogeographicalRegions"
    named = {alpine: square(2, 48, 1), sea: square(3, 48, 1)}
    path = write_regions(folder / "Bioregions-Europe-2016-v1.geojson", named, key)
    assert find_regions(tmp_path) == path
    rows = [PARIS, {"lon": 3.5, "lat": 48.5}, {"lon": 9.0, "lat": 48.5}, PARIS | {"region": "ATLANTIC"}, {"lat": 91.0}]
    table = enriched(*rows, regions=path)
    assert table["region"].to_list() == ["ALPINE", "BLACKSEA", None, "ATLANTIC", None]
    assert table["region_filled"].to_list() == [True, True, False, False, False]
    assert find_regions(tmp_path / "nowhere") is None


def test_regions_in_projected_metres_are_brought_to_degrees(tmp_path: Path) -> None:
    x_m, y_m = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform(2.35222, 48.85661)
    named = {"Boreal": square(x_m - 5000, y_m - 5000, 10_000)}
    path = write_regions(tmp_path / "regions.geojson", named, "code", "urn:ogc:def:crs:EPSG::3035")
    assert enriched(PARIS, {"lon": 2.6, "lat": 48.85}, regions=path)["region"].to_list() == ["BOREAL", None]


def test_regions_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = write_regions(tmp_path / "regions.geojson", {"Atlantis": square(2, 48, 1)}, "name")
    with pytest.raises(
        TableError, match=r"no property of .* names biogeographical regions; it has \['PK_UID', 'name'\]"
    ):
        enriched(PARIS, regions=path)
    path.write_text("nonsense", encoding="utf-8")
    with pytest.raises(TableError, match="cannot read the regions"):
        enriched(PARIS, regions=path)
    with pytest.raises(TableError, match="cannot read the regions"):
        enriched(PARIS, regions=tmp_path / "absent.geojson")


def test_effort_counts_records_and_publishers_of_the_cell() -> None:
    near = {"lon": 2.35223, "lat": 48.85662}
    far = {"lon": 9.0, "lat": 48.0}
    table = enriched(
        PARIS | {"publisher": "A", "year": 2020},
        near | {"publisher": "B", "year": 2020},
        near | {"publisher": "A", "year": 2021},
        far | {"publisher": None, "year": None},
        {"lon": None, "lat": 3.0, "publisher": "A", "year": 2020},
    )
    counts = {
        name: np.expm1(table[f"log1p_{name}"].to_numpy()).round(4).tolist()
        for name in ("cell_records", "cell_publishers")
    }
    assert counts["cell_records"][:4] == [3, 3, 3, 1]
    assert counts["cell_publishers"][:4] == [2, 2, 2, 0]
    assert table["log1p_cell_records"][4] is None
    by_year = table["log1p_cell_year_records"]
    assert np.expm1(by_year.to_numpy()[:3]).round(4).tolist() == [2, 2, 1]
    assert by_year[3] is None
    assert table["publisher_share"].round(6).to_list() == [0.6, 0.2, 0.6, None, 0.6]


def test_effort_may_be_that_of_other_records() -> None:
    po = pl.DataFrame([PARIS | {"publisher": p, "year": 2020} for p in "ABA"], schema=OCCURRENCE_SCHEMA)
    plots = pl.DataFrame(
        [PARIS | {"year": 2020}, PARIS | {"year": 2019}, {"lon": 9.0, "lat": 48.0}], schema=SURVEY_SCHEMA
    )
    table = enrich_records(plots, CONFIG, effort_from=po)
    assert np.expm1(table["log1p_cell_records"].to_numpy()).round(4).tolist() == [3, 3, 0]
    assert np.expm1(table["log1p_cell_publishers"].to_numpy()).round(4).tolist() == [2, 2, 0]
    assert np.expm1(table["log1p_cell_year_records"].to_numpy()[:2]).round(4).tolist() == [3, 0]
    bare = enrich_records(plots, CONFIG, effort_from=po.select("lon", "lat"))
    assert np.expm1(bare["log1p_cell_records"].to_numpy()).round(4).tolist() == [3, 3, 0]


def test_cells_are_of_equal_area() -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"lon": rng.uniform(0, 2, 20_000), "lat": rng.uniform(50, 51, 20_000)})
    # 2 x 1 degrees at 50.5 N are 2 * 70.8 * 111.2 = 15,750 square kilometres: 157 cells of 100, 127 records in each.
    effort = np.expm1(enrich_records(table, CONFIG)["log1p_cell_records"].to_numpy())
    assert np.median(effort) == pytest.approx(127, rel=0.05)


def test_rows_keep_their_order_and_columns_and_may_be_none() -> None:
    table = pl.DataFrame([PARIS | {"survey_id": i} for i in (3, 1, 2)], schema=OCCURRENCE_SCHEMA)
    again = enrich_records(enrich_records(table, CONFIG), CONFIG)
    assert again["survey_id"].to_list() == [3, 1, 2]
    assert again.columns == [*OCCURRENCE_SCHEMA, *OF_RECORDS]
    assert len(enrich_records(table.clear(), CONFIG)) == 0
    with pytest.raises(TableError, match=r"lack columns \['lon'\]"):
        enrich_records(table.drop("lon"), CONFIG)


def cube(num_years: int = 3) -> np.ndarray:
    """Return one series: red 50, nir 50, 150, 50, 50 by quarter, swir1 50, the same in every year."""
    values = np.full((1, 6, num_years, 4), 50, np.int16)
    values[0, 3, :, 1] = 150
    return values


def test_indices_are_means_of_the_valid_steps() -> None:
    values = cube()
    values[0, 0, 0, 1] = -1  # missing red
    values[0, 3, 1, 1] = 300  # impossible nir
    values[0, 3, 2, 0] = values[0, 0, 2, 0] = 0  # 0 / 0
    row = seasonal_indices(values, 2000).row(0, named=True)
    assert (row["ndvi_q1"], row["ndvi_q2"], row["ndvi_amplitude"]) == (0.0, 0.5, 0.5)
    assert (row["num_ndvi_steps"], row["num_ndwi_steps"]) == (9, 11)
    assert row["ndwi_q1"] == pytest.approx((0 + 0 - 1) / 3)  # nir 0, swir1 50 in the last year


def test_the_trend_does_not_take_a_gap_for_a_change() -> None:
    values = cube(4)
    values[0, :, 2:, 1] = -1  # the green quarter is missing in the last two years
    assert seasonal_indices(values, 2000)["ndvi_trend_per_year"][0] == 0.0
    nir = np.array([50, 60, 70, 80])
    values = np.full((1, 6, 4, 4), 50, np.int16)
    values[0, 3] = nir[:, None]
    expected = np.polyfit(np.arange(4), (nir - 50) / (nir + 50), 1)[0]
    assert seasonal_indices(values, 2000)["ndvi_trend_per_year"][0] == pytest.approx(expected, abs=1e-6)


def test_steps_after_the_survey_are_not_looked_at() -> None:
    values = cube()
    values[0, 3, 2] = 250  # the last year is another world
    before = seasonal_indices(values, 2000, year=np.array([2002]), month=np.array([3]))
    assert before.equals(seasonal_indices(values[:, :, :2], 2000))
    april = seasonal_indices(values, 2000, year=np.array([2002]), month=np.array([4])).row(0, named=True)
    assert april["num_ndvi_steps"] == 9
    assert seasonal_indices(values, 2000, year=np.array([2002]))["num_ndvi_steps"][0] == 8
    assert seasonal_indices(values, 2000, year=np.array([1999]))["ndvi_q1"][0] is None


def test_chunks_make_no_difference_and_a_wrong_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(-1, 256, (10, 6, 5, 4)).astype(np.int16)
    whole = seasonal_indices(values, 2000)
    monkeypatch.setattr("releve.prepare.vegetation.CHUNK_ROWS", 3)
    assert seasonal_indices(values, 2000).equals(whole)
    assert len(seasonal_indices(values[:0], 2000)) == 0
    with pytest.raises(ValueError, match=r"shape \(10, 5, 5, 4\)"):
        seasonal_indices(values[:, :5], 2000)


def test_taste_is_the_log_odds_against_all_records() -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({
        "publisher": rng.choice(["A", "B", "C", None], 3000, p=[0.6, 0.25, 0.1, 0.05]),
        "species_id": rng.choice([5, 7, 9], 3000),
    })  # fmt: skip
    taste = publisher_taste(table, smoothing=10)
    known = table.drop_nulls()
    for i, publisher in enumerate(taste.publishers):
        of = known.filter(publisher=publisher)
        assert taste.share[i] == pytest.approx(len(of) / len(known))
        for j, species in enumerate(taste.species_ids):
            q = (len(known.filter(species_id=species)) + 0.5) / (len(known) + 1)
            p = (len(of.filter(species_id=species)) + 10 * q) / (len(of) + 10)
            assert taste.log_odds[i, j] == pytest.approx(math.log(p / (1 - p)) - math.log(q / (1 - q)), abs=1e-5)
    assert publisher_taste(table, min_records=1000).publishers == ("A",)
    assert publisher_taste(table.clear()).log_odds.shape == (0, 0)
    with pytest.raises(ValueError, match="smoothing is 0"):
        publisher_taste(table, smoothing=0)


def test_more_smoothing_brings_a_small_publisher_to_the_common_taste() -> None:
    table = pl.DataFrame({"publisher": ["A"] * 99 + ["B"], "species_id": [1, 2, 3] * 33 + [1]})
    small = [abs(publisher_taste(table, smoothing=k).log_odds[1]).max() for k in (1, 10, 1000)]
    assert small[0] > small[1] > small[2]
    assert small[2] < 0.01
