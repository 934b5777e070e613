"""A table in any format gives the cells that it would give as text."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pyogrio.raw import write as write_layer
from pyproj import CRS

from discover.folders import write_workbook
from releve.errors import TableError
from releve.ingest.formats import read_any_table
from releve.ingest.study import load_study
from releve.ingest.surveys import read_surveys

PLOTS = [("A", "Poa annua", 12.5), ("A", "Carex nigra", None), ("B-2", "Poa annua", 3.0)]
POINTS = [(4321000.0, 3210000.0), (4321000.0, 3210000.0), (4421000.0, 3210000.0)]


def wkb(x: float, y: float) -> bytes:
    return struct.pack("<BIdd", 1, 1, x, y)


def write_vector(path: Path, geometry: list[bytes], kind: str = "Point", crs: str = "EPSG:3035") -> None:
    write_layer(
        path,
        np.array(geometry, object),
        [
            np.array(column, object if name != "cover" else float)
            for name, column in zip(("plot", "species", "cover"), zip(*PLOTS, strict=True), strict=True)
        ],
        fields=["plot", "species", "cover"],
        geometry_type=kind,
        crs=crs,
        layer=path.stem,
        driver={".gpkg": "GPKG", ".shp": "ESRI Shapefile"}[path.suffix],
    )


def write_any(path: Path) -> Path:
    """Write the three rows above; what has no geometry has degrees."""
    table = pl.DataFrame(PLOTS, schema=["plot", "species", "cover"], orient="row")
    places = pl.DataFrame({"Longitude": [10.0, 10.0, 11.5], "Latitude": [52.0, 52.0, 52.0]})
    if path.suffix in (".gpkg", ".shp"):
        write_vector(path, [wkb(*point) for point in POINTS])
    elif path.suffix == ".geoparquet":
        geo = {
            "version": "1.1.0",
            "primary_column": "where",
            "columns": {
                "where": {"encoding": "WKB", "geometry_types": ["Point"], "crs": json.loads(CRS("EPSG:3035").to_json())}
            },
        }
        table.with_columns(where=pl.Series([wkb(*point) for point in POINTS], dtype=pl.Binary)).write_parquet(
            path, metadata={"geo": json.dumps(geo)}
        )
    elif path.suffix == ".parquet":
        table.hstack(places).write_parquet(path)
    elif path.suffix == ".xlsx":
        rows = [[cell for cell in row if cell is not None] for row in places.hstack(table).rows()]
        write_workbook(path, notes=[["about"]], plots=[["Longitude", "Latitude", "plot", "species", "cover"], *rows])
    else:
        table.hstack(places).write_csv(path, separator="\t")
    return path


@pytest.mark.parametrize("name", ["t.tsv", "t.parquet", "t.xlsx", "t.geoparquet", "t.gpkg", "t.shp"])
def test_plots_of_every_format_are_the_same(name: str, tmp_path: Path) -> None:
    write_any(tmp_path / name)
    layer = 'layer = "plots"\n' if name.endswith("xlsx") else ""
    (tmp_path / "study.toml").write_text(f'[study]\n[[study.plots]]\nfile = "{name}"\ncovariates = ["cover"]\n{layer}')
    study = load_study(tmp_path / "study.toml")
    found = read_surveys(study, "train")
    assert found.table["survey_id"].to_list() == ["A", "B-2"] and study.species is not None
    assert study.species["name"].to_list() == ["Carex nigra", "Poa annua"] and found.labels.rows() == [
        (0, 1),
        (0, 2),
        (1, 2),
    ]
    # 10 E, 52 N is the origin of EPSG:3035; 100 km further east lies at 11.455 E on nearly the same latitude.
    assert found.table.select("lon", "lat").row(0) == pytest.approx((10.0, 52.0), abs=1e-9)
    assert found.table["lon"][1] == pytest.approx(11.5, abs=0.05)
    text, _ = read_any_table(tmp_path / name, "plots" if layer else None)
    assert text.cells["cover"].to_list() == ["12.5", None, "3"] if name != "t.tsv" else ["12.5", None, "3.0"]
    assert text.rows.to_list() == [1, 2, 3]


def test_dates_and_whole_numbers_of_typed_columns_are_text_as_people_write_it(tmp_path: Path) -> None:
    table = pl.DataFrame({"id": [1.0, 2.0], "d": ["2019-05-03", "2019-12-24"], "flag": [True, False], "n": [3, None]})
    table.with_columns(pl.col("d").str.to_datetime("%Y-%m-%d")).write_parquet(tmp_path / "t.parquet")
    cells = read_any_table(tmp_path / "t.parquet")[0].cells
    assert cells.rows() == [("1", "2019-05-03", "true", "3"), ("2", "2019-12-24", "false", None)]


def test_lines_and_areas_are_refused(tmp_path: Path) -> None:
    line = struct.pack("<BIIdddd", 1, 2, 2, 0, 0, 1, 1)
    write_vector(tmp_path / "t.gpkg", [line] * 3, "LineString")
    with pytest.raises(TableError, match=r"t\.gpkg holds lines, areas or groups of points, such as in row 1"):
        read_any_table(tmp_path / "t.gpkg")


@pytest.mark.parametrize("name", ["t.xlsx", "t.parquet", "t.gpkg", "t.shp"])
def test_a_file_that_is_none_of_its_kind_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("plot,lon,lat\nA,10,47\n")
    with pytest.raises(TableError, match=f"{name} cannot be read"):
        read_any_table(tmp_path / name)
    with pytest.raises(TableError, match="no such file"):
        read_any_table(tmp_path / f"other{name}")


@pytest.mark.parametrize("name", ["t.tsv", "t.parquet", "t.gpkg"])
def test_columns_that_mean_nothing_are_not_kept_but_named_in_messages(name: str, tmp_path: Path) -> None:
    write_any(tmp_path / name)
    text, _ = read_any_table(tmp_path / name, None, lambda header: [each for each in header if each == "species"])
    assert [each for each in text.cells.columns if not each.startswith("geometry")] == ["species"]
    assert {"plot", "species", "cover"} <= set(text.header)
    (tmp_path / "study.toml").write_text(
        f'[study]\n[[study.plots]]\nfile = "{name}"\ncolumns = {{ date = "weather" }}\n'
    )
    with pytest.raises(TableError, match=r"there is no column 'weather'; it has .*'cover'"):
        _ = load_study(tmp_path / "study.toml").splits
