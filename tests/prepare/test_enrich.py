"""Derived columns worked out by hand, and the documentation that lists them."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pyproj import Transformer

from releve.errors import TableError
from releve.ingest.rows import OCCURRENCE_SCHEMA, SURVEY_SCHEMA
from releve.prepare.enrich import DERIVED, EnrichConfig, enrich_records, find_regions

CONFIG = EnrichConfig()
DOCS = Path(__file__).parents[2] / "docs/metadata.md"
PARIS = {"lon": 2.35222, "lat": 48.85661}


def enriched(*rows: dict[str, object], **options: object) -> pl.DataFrame:
    return enrich_records(pl.DataFrame(list(rows), schema=OCCURRENCE_SCHEMA), CONFIG, **options)


def test_every_column_made_is_documented_and_every_documented_one_is_made() -> None:
    assert enriched(PARIS).columns == [*OCCURRENCE_SCHEMA, *DERIVED]
    table = DOCS.read_text(encoding="utf-8").split("## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(DERIVED)


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


def test_day_of_year_is_that_of_the_calendar() -> None:
    days = pl.date_range(date(2019, 1, 1), date(2020, 12, 31), eager=True)
    table = pl.DataFrame({"lon": [2.0] * len(days), "lat": [48.0] * len(days), "date": days})
    assert enrich_records(table, CONFIG)["day_of_year"].to_list() == days.dt.ordinal_day().to_list()


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


def test_effort_counts_the_records_of_the_cell() -> None:
    near, far = {"lon": 2.35223, "lat": 48.85662}, {"lon": 9.0, "lat": 48.0}
    table = enriched(PARIS, near, near, far, {"lon": None, "lat": 3.0})
    assert np.expm1(table["log1p_cell_records"].to_numpy()[:4]).round(4).tolist() == [3, 3, 3, 1]
    assert table["log1p_cell_records"][4] is None


def test_effort_may_be_that_of_other_records() -> None:
    po = pl.DataFrame([PARIS | {"publisher": p, "year": 2020} for p in "ABA"], schema=OCCURRENCE_SCHEMA)
    plots = pl.DataFrame(
        [PARIS | {"year": 2020}, PARIS | {"year": 2019}, {"lon": 9.0, "lat": 48.0}], schema=SURVEY_SCHEMA
    )
    table = enrich_records(plots, CONFIG, effort_from=po)
    assert np.expm1(table["log1p_cell_records"].to_numpy()).round(4).tolist() == [3, 3, 0]
    bare = enrich_records(plots, CONFIG, effort_from=po.select("lon", "lat"))
    assert np.expm1(bare["log1p_cell_records"].to_numpy()).round(4).tolist() == [3, 3, 0]


def test_cells_are_of_equal_area() -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"lon": rng.uniform(0, 2, 20_000), "lat": rng.uniform(50, 51, 20_000)})
    # 2 x 1 degrees at 50.5 N are 2 * 70.8 * 111.2 = 15,750 square kilometres: 157 cells of 100, 127 records in each.
    effort = np.expm1(enrich_records(table, CONFIG)["log1p_cell_records"].to_numpy())
    assert np.median(effort) == pytest.approx(127, rel=0.05)


def test_rows_keep_their_order_and_columns_and_may_be_none() -> None:
    table = pl.DataFrame([PARIS | {"survey_id": i} for i in ("3", "1", "2")], schema=OCCURRENCE_SCHEMA)
    again = enrich_records(enrich_records(table, CONFIG), CONFIG)
    assert again["survey_id"].to_list() == ["3", "1", "2"]
    assert again.columns == [*OCCURRENCE_SCHEMA, *DERIVED]
    assert len(enrich_records(table.clear(), CONFIG)) == 0
    with pytest.raises(TableError, match=r"lack columns \['lon'\]"):
        enrich_records(table.drop("lon"), CONFIG)
