from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyogrio
import pytest
import shapely
from pyproj import Geod, Transformer

from drawn import box_km, write_maps, write_zones
from releve.errors import RasterError, RunError, TableError
from releve.predict.maps.read import Maps
from releve.predict.maps.sparse import PROBS_OF_CODES, to_codes
from releve.predict.maps.summary import summarise_zones, write_summary
from releve.rasters.grid import Grid


@pytest.fixture
def maps(tmp_path: Path) -> Maps:
    """Species a grows with the column, b in the first row alone; cell (0, 0) is sea; columns from 2 on are outside."""
    probs = np.zeros((20, 36, 2), np.float32)
    probs[..., 0] = np.arange(1, 37) / 40
    probs[0, :, 1] = 0.5
    probs[0, 0] = np.nan
    outside = np.broadcast_to(np.arange(36) >= 2, (20, 36)).astype(np.uint8)
    arrays = {"outside": outside, "watched:expected": probs[..., 1], "watched:any": probs[..., 1]}
    arrays |= {f"top_{rank}": np.zeros((20, 36)) for rank in range(1, 11)}
    return write_maps(tmp_path / "maps", probs, arrays=arrays, groups={"watched": (1,)})


def test_a_zone_over_two_and_a_half_cells(maps: Maps, tmp_path: Path) -> None:
    """Columns 1, 2 and half of 3, in the second row: areas 1, 1 and .5 km2."""
    file = write_zones(tmp_path / "z.gpkg", box_km(1, 1, 3.5, 2), name=["a park"], richness=[7.5])
    summary = summarise_zones(maps, file)
    row = summary.zones.to_dicts()[0]
    mean = (1 * 2 + 1 * 3 + 0.5 * 4) / 40 / 2.5
    assert row["richness"] == pytest.approx(mean) and row["richness_of_file"] == 7.5 and row["name"] == "a park"
    assert row["mapped_km2"] == pytest.approx(2.5) and row["zone_km2"] == pytest.approx(2.5, rel=2e-3)
    assert row["outside_share"] == pytest.approx(1.5 / 2.5) and row["watched_expected"] == 0
    assert not any(name.startswith("top_") for name in row)
    kept = PROBS_OF_CODES[to_codes(np.array([2, 3, 4], np.float32) / 40)]
    (species,) = summary.species.to_dicts()
    assert species["species"] == "Species a" and species["zone"] == 1
    assert species["expected_km2"] == pytest.approx(float(kept @ [1, 1, 0.5]))
    assert species["mean_probability"] == pytest.approx(float(kept @ [1, 1, 0.5]) / 2.5)


def test_what_is_not_mapped_does_not_count(maps: Maps, tmp_path: Path) -> None:
    """Half of the first row of two cells is sea; two thirds of the second zone lie west of the map."""
    file = write_zones(tmp_path / "z.gpkg", box_km(0, 0, 2, 1), box_km(-2, 1, 1, 2), box_km(50, 50, 51, 51), None)
    summary = summarise_zones(maps, file)
    first, second, third, fourth = summary.zones.to_dicts()
    assert first["mapped_km2"] == pytest.approx(1) and first["mapped_share"] == pytest.approx(0.5, rel=2e-3)
    assert first["richness"] == pytest.approx(2 / 40 + 0.5) and first["watched_any"] == pytest.approx(0.5)
    assert second["mapped_share"] == pytest.approx(1 / 3, rel=2e-3) and second["richness"] == pytest.approx(1 / 40)
    assert third["mapped_km2"] == 0 and third["richness"] is None and third["mapped_share"] == 0
    assert fourth["zone_km2"] == 0 and fourth["mapped_share"] is None
    assert summary.notes == ("1 rows of the zones have no polygon", "1 of 4 zones lie on no mapped cell")
    assert summary.species.group_by("zone", maintain_order=True).len().rows() == [(1, 2), (2, 1)]
    assert summary.species["species"].to_list()[:2] == ["Species b", "Species a"]


def test_zones_in_degrees_lie_where_the_map_says(maps: Maps, tmp_path: Path) -> None:
    to_degrees = Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True)
    square = shapely.segmentize(box_km(4, 4, 9.25, 8.5), 100)
    moved = shapely.transform(square, lambda xy: np.column_stack(to_degrees.transform(xy[:, 0], xy[:, 1])))
    here = summarise_zones(maps, write_zones(tmp_path / "a.gpkg", square)).zones.row(0)
    there = summarise_zones(maps, write_zones(tmp_path / "b.geojson", moved, crs="EPSG:4326")).zones.row(0)
    np.testing.assert_allclose(there, here, rtol=1e-4)


def test_cells_of_degrees_weigh_by_their_area(tmp_path: Path) -> None:
    """From 40 to 60 degrees north, southern cells are larger: the ellipsoid says by how much."""
    grid = Grid("EPSG:4326", (1.0, 0.0, 0.0, 0.0, -1.0, 60.0), 20, 36, 16, 16)
    probs = np.zeros((20, 36, 1), np.float32)
    probs[10:] = 0.9
    maps = write_maps(tmp_path / "maps", probs, grid=grid)
    file = write_zones(tmp_path / "z.gpkg", shapely.box(2, 40, 5, 60), crs="EPSG:4326")
    row = summarise_zones(maps, file).zones.to_dicts()[0]
    geod = Geod(ellps="WGS84")

    def area(south: float, north: float) -> float:
        parallels = shapely.segmentize(shapely.box(2, south, 5, north), 0.01)
        return geod.geometry_area_perimeter(parallels)[0] / 1e6

    assert row["mapped_km2"] == pytest.approx(abs(area(40, 60)), rel=1e-3)
    assert row["richness"] == pytest.approx(0.9 * area(40, 50) / area(40, 60), rel=1e-3) and row["richness"] > 0.46


def test_zones_that_cross_themselves_are_mended_and_overlapping_ones_count_each(maps: Maps, tmp_path: Path) -> None:
    left, top = box_km(4, 4, 5, 5).bounds[0], box_km(4, 4, 5, 5).bounds[3]
    bow_tie = shapely.Polygon([(left, top), (left + 4000, top - 4000), (left + 4000, top), (left, top - 4000)])
    whole = box_km(4, 4, 8, 8)
    summary = summarise_zones(maps, write_zones(tmp_path / "z.gpkg", bow_tie, whole, whole))
    assert summary.zones["mapped_km2"].to_list() == pytest.approx([8, 16, 16])
    assert summary.notes == ("1 zones cross themselves and were mended",)


def test_a_zone_of_all_cells_has_the_means_of_the_map(maps: Maps, tmp_path: Path) -> None:
    summary = summarise_zones(maps, write_zones(tmp_path / "z.gpkg", box_km(-5, -5, 60, 60)))
    row = summary.zones.to_dicts()[0]
    assert row["richness"] == pytest.approx(np.nanmean(maps.image("richness"))) and row["mapped_km2"] == pytest.approx(
        719
    )
    assert row["list_length"] == pytest.approx(np.mean(maps.image("list_length")[maps.image("list_length") < 65_535]))
    total = PROBS_OF_CODES[maps.codes_of(0)].sum()
    assert summary.species.filter(pl.col("species") == "Species a")["expected_km2"][0] == pytest.approx(total)


def test_summaries_are_written_as_csv_and_as_a_geopackage(maps: Maps, tmp_path: Path) -> None:
    file = write_zones(tmp_path / "z.gpkg", box_km(1, 1, 3, 2), box_km(90, 90, 91, 91), name=["a", "b"])
    summary = summarise_zones(maps, file)
    files = write_summary(summary, file, tmp_path / "out" / "table.csv")
    assert [path.name for path in files] == ["table.csv", "table_species.csv"]
    assert pl.read_csv(files[0], glob=False).to_dicts() == summary.zones.to_dicts()
    assert pl.read_csv(files[1], glob=False).height == summary.species.height == 1
    (out,) = write_summary(summary, file, tmp_path / "out" / "table.gpkg")
    meta, _, shapes, columns = pyogrio.raw.read(out, layer="zones")
    assert meta["crs"] == "EPSG:32632" and shapely.from_wkb(shapes[0]).equals(box_km(1, 1, 3, 2))
    found = dict(zip(meta["fields"], columns, strict=True))
    assert found["name"].tolist() == ["a", "b"] and np.isnan(found["richness"][1])
    assert found["richness"][0] == summary.zones["richness"][0]
    meta, _, shapes, columns = pyogrio.raw.read(out, layer="species")
    assert columns[list(meta["fields"]).index("species")].tolist() == ["Species a"] and shapes is None
    with pytest.raises(RunError, match=r"table\.csv exists.*--overwrite"):
        write_summary(summary, file, tmp_path / "out" / "table.csv")
    write_summary(summary, file, tmp_path / "out" / "table.gpkg", overwrite=True)
    with pytest.raises(TableError, match=r"ends in \.csv or \.gpkg"):
        write_summary(summary, file, tmp_path / "out" / "table.shp")


def test_zones_that_cannot_be_used_are_refused(maps: Maps, tmp_path: Path) -> None:
    (tmp_path / "no.gpkg").write_text("nothing")
    with pytest.raises(RasterError, match="zones .* cannot be read"):
        summarise_zones(maps, tmp_path / "no.gpkg")
    with pytest.raises(RasterError, match="holds 1 shapes and no polygon"):
        summarise_zones(maps, write_zones(tmp_path / "points.gpkg", shapely.Point(0, 0)))
    with pytest.raises(RunError, match="none of the 1 zones .* lies on a mapped cell"):
        summarise_zones(maps, write_zones(tmp_path / "far.gpkg", box_km(90, 90, 91, 91)))
    with pytest.raises(RasterError, match="reach where EPSG:32632 has no place"):
        summarise_zones(maps, write_zones(tmp_path / "wrong.gpkg", shapely.box(5e6, 5e6, 6e6, 6e6), crs="EPSG:4326"))
