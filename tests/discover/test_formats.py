"""Tables that are no text: what init finds in them is what the reader of studies reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyogrio.raw
import pytest

from releve.discover.document import study_text
from releve.discover.study import look_through
from releve.ingest.study import open_source
from releve.ingest.surveys import read_occurrences, read_surveys

from .folders import long_plots, places, study_of, write, write_workbook

SPECIES = ("Poa annua", "Abies alba", "Carex nigra")


def read_back(folder: Path) -> dict[str, int]:
    """Write the study of a folder and read it; return the number of rows of each split."""
    (folder / "study.toml").write_text(study_text(look_through(folder), folder), encoding="utf-8")
    source = open_source(folder / "study.toml")
    return {
        split: len((read_occurrences if split == "po" else read_surveys)(source, split).table)
        for split in source.splits
    }


def points(lonlat: list[tuple[float, float]]) -> np.ndarray:
    shapes = np.empty(len(lonlat), object)
    for at, (lon, lat) in enumerate(lonlat):
        shapes[at] = (
            np.array([1], "u1").tobytes() + np.array([1], "<u4").tobytes() + np.array([lon, lat], "<f8").tobytes()
        )
    return shapes


def write_layer(
    path: Path, crs: str, lonlat: list[tuple[float, float]], layer: str | None = None, **columns: list
) -> None:
    fields = [np.array(values, dtype=object if isinstance(values[0], str) else None) for values in columns.values()]
    pyogrio.raw.write(path, points(lonlat), fields, list(columns), geometry_type="Point", crs=crs, layer=layer)


def test_a_workbook_with_a_sheet_of_plots_and_one_of_species_is_joined(tmp_path: Path) -> None:
    header: list[list[str | float]] = [["plot", "longitude", "latitude", "slope"]]
    species: list[list[str | float]] = [["plot", "taxon", "cover"]]
    for at, (lon, lat) in enumerate(places(10)):
        header.append([f"P{at}", lon, lat, at / 3])
        species += [[f"P{at}", name, row + 1] for row, name in enumerate(SPECIES)]
    notes: list[list[str | float]] = [["who", "what"], ["A. B.", "fieldwork"]]
    write_workbook(tmp_path / "survey.xlsx", header=header, species=species, notes=notes)
    (plots,) = study_of(tmp_path)["plots"]
    assert (plots["file"], plots["layer"], plots["covariates"]) == ("survey.xlsx", "header", ["slope"])
    assert (plots["species_table"]["file"], plots["species_table"]["layer"]) == ("survey.xlsx", "species")
    assert read_back(tmp_path) == {"train": 10}


def test_points_of_a_geopackage_and_of_a_shapefile_have_the_projection_of_the_file(tmp_path: Path) -> None:
    metres = [(600000.0 + 100 * at, 5500000.0) for at in range(8)]
    for name in ("finds.gpkg", "finds.shp"):
        folder = tmp_path / name.partition(".")[2]
        folder.mkdir()
        write_layer(folder / name, "EPSG:25832", metres, species=[SPECIES[at % 3] for at in range(8)])
        (records,) = study_of(folder)["records"]
        assert records == {"file": name, "columns": {"species": "species"}}
        assert "The file says that it is in EPSG:25832" in study_text(look_through(folder), folder)
        assert read_back(folder) == {"po": 8}


def test_a_shapefile_of_0_and_1_is_plots_of_the_species_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "Inula helenium"
    folder.mkdir()
    write_layer(folder / "points.shp", "EPSG:4326", places(30), Occurrence=[at % 2 for at in range(30)])
    (plots,) = study_of(folder)["plots"]
    assert (plots["species"], plots["columns"]) == ("Inula helenium", {"occurrence_status": "Occurrence"})
    assert read_back(folder) == {"train": 30}


@pytest.mark.parametrize("limit", [1 << 30, 100], ids=["small", "large"])
def test_a_parquet_file_is_read_like_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr("releve.discover.samples.WHOLE_PARQUET_BYTES", limit)
    text = write(tmp_path / "text", plots=long_plots(extra="ph")) / "plots.csv"
    (tmp_path / "parquet").mkdir()
    pl.read_csv(text, glob=False).write_parquet(tmp_path / "parquet" / "plots.parquet")
    study = study_of(tmp_path / "parquet")
    assert study["plots"][0] | {"file": "plots.csv"} == study_of(tmp_path / "text")["plots"][0]
    assert read_back(tmp_path / "parquet") == read_back(tmp_path / "text") == {"train": 12}


def test_semicolons_decimal_commas_and_windows_letters_are_read(tmp_path: Path) -> None:
    rows = [
        "Aufnahmenr;Länge (°);Breitengrad;Artname;Deckung",
        "1;10,5;49,25;Röhricht sp.;2a",
        "1;10,5;49,25;Poa annua;+",
    ]
    rows += ["2;10,75;49,5;Poa annua;r", "2;10,75;49,5;Abies alba;3"]
    (tmp_path / "Aufnahmen.csv").write_bytes("\r\n".join(rows).encode("cp1252"))
    (plots,) = study_of(tmp_path)["plots"]
    assert plots["columns"] == {
        **{"lon": "Länge (°)", "lat": "Breitengrad", "species": "Artname"},
        **{"survey_id": "Aufnahmenr", "abundance": "Deckung"},
    }
    assert read_back(tmp_path) == {"train": 2}


def test_degrees_and_minutes_are_coordinates(tmp_path: Path) -> None:
    rows = ["species,lon,lat", *(f"Poa annua,10°{minute}'E,49°{minute}'N" for minute in range(10, 20))]
    (records,) = study_of(write(tmp_path, finds="\n".join(rows)))["records"]
    assert records["columns"] == {"lon": "lon", "lat": "lat", "species": "species"}
    assert read_back(tmp_path) == {"po": 10}
