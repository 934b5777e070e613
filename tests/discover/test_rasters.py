"""Rasters of a folder: which belong together, which hold classes, which are series or pictures."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import rasterio

from releve.discover.document import study_text
from releve.discover.rasters import RasterGroup, look_at_rasters
from releve.discover.study import look_through
from releve.ingest.config import StudyConfig
from releve.rasters.layers import open_layers

from .folders import long_plots, study_of, write, write_raster

RNG = np.random.default_rng(2)
AMOUNT = RNG.uniform(5, 15, (10, 10)).astype("float32")
CODES = RNG.choice(np.array([11, 23, 40, 77], "uint8"), (40, 40))


def classes_of(*files: Path) -> dict[str, bool]:
    groups, left_out = look_at_rasters(files)
    assert not left_out
    return {layer.name: bool(layer.why_classes) for group in groups for layer in group.layers}


def test_few_whole_numbers_are_classes_by_their_order_name_folder_or_colours(tmp_path: Path) -> None:
    counted = np.clip(np.add.outer(np.arange(40), np.arange(40)) // 10, 0, 9).astype("uint8")
    palette = write_raster(tmp_path / "palette.tif", counted)
    with rasterio.open(palette, "r+") as target:
        target.write_colormap(1, {at: (at, at, at, 255) for at in range(10)})
    found = classes_of(
        write_raster(tmp_path / "codes.tif", CODES),
        write_raster(tmp_path / "months_of_frost.tif", counted),
        write_raster(tmp_path / "EV_categorical" / "any.tif", counted.astype("float64")),
        write_raster(tmp_path / "SUBSTRATE.tif", np.where(counted > 4, 2.0, 1.0), nodata=-1.7e308),
        write_raster(tmp_path / "dem.tif", CODES),
        write_raster(tmp_path / "rain.tif", np.round(AMOUNT * 100)),
        palette,
    )
    assert found == {
        **{"codes": True, "months_of_frost": False, "any": True, "SUBSTRATE": True},
        **{"dem": False, "rain": False, "palette": True},
    }


def test_layers_of_one_folder_and_grid_are_one_entry_with_a_pattern_if_it_holds_nothing_else(tmp_path: Path) -> None:
    data = write(tmp_path, plots=long_plots())
    for at in range(1, 6):
        write_raster(data / "climate" / f"bio{at}.tif", AMOUNT + at)
    for name in ("clay", "sand"):
        write_raster(data / "soil" / f"{name}.tif", AMOUNT)
    study = study_of(data)
    assert [entry["file"] for entry in study["rasters"]] == ["climate/*.tif", ["soil/clay.tif", "soil/sand.tif"]]
    write_raster(data / "climate" / "coarse.tif", AMOUNT[:5, :5], cell=0.2)
    files = [entry["file"] for entry in study_of(data)["rasters"]]
    assert files[:2] == [[f"climate/bio{at}.tif" for at in range(1, 6)], "climate/coarse.tif"]


def test_what_is_written_is_what_the_rasters_are_read_as(tmp_path: Path) -> None:
    """Names, classes, bands and variables as of the reader of rasters, which refuses two layers of one name."""
    data = write(tmp_path / "my study", plots=long_plots())
    write_raster(data / "bio.tif", np.stack([AMOUNT, AMOUNT + 1]), names=("bio1", "Band 2"))
    write_raster(data / "topo.tif", np.stack([AMOUNT, AMOUNT * 9]), names=("roughness", "elevation"), cell=0.11)
    write_raster(data / "landcover.tif", np.tile(np.arange(1, 6, dtype="uint8"), (10, 2)), cell=0.12)
    write_raster(data / "a" / "rain.tif", AMOUNT)
    write_raster(data / "b" / "rain.tif", AMOUNT)
    config = StudyConfig.model_validate(study_of(data, tmp_path))
    layers = open_layers(config.rasters, tmp_path)
    assert {layer.name: layer.categorical for layer in layers} == {
        **{"bio1": False, "bio_2": False, "roughness": False, "elevation": False, "landcover": True},
        **{"a_rain": False, "b_rain": False},
    }


def test_an_elevation_has_an_entry_of_its_own_that_offers_slopes(tmp_path: Path) -> None:
    data = write(tmp_path, plots=long_plots())
    for name in ("rain", "dem", "sun"):
        write_raster(data / f"{name}.tif", AMOUNT)
    study, text = study_of(data), study_text(look_through(data), data)
    assert [entry["file"] for entry in study["rasters"]] == [["rain.tif", "sun.tif"], "dem.tif"]
    assert '# derive = ["slope", "northness", "eastness", "roughness"]' in text


def test_dated_rasters_are_offered_as_a_series_and_not_read_as_layers(tmp_path: Path) -> None:
    data = write(tmp_path, plots=long_plots())
    for year in (2004, 2005):
        for month in (1, 12):
            write_raster(data / "monthly" / f"rain_{year}_{month:02d}.tif", AMOUNT)
    write_raster(data / "chelsa_bio1_1981-2010.tif", AMOUNT)
    text = study_text(look_through(data), data)
    assert [entry["file"] for entry in study_of(data)["rasters"]] == ["chelsa_bio1_1981-2010.tif"]
    offered = [line[2:] for line in text[text.index("# [[study.series]]") :].splitlines()[1:6]]
    assert offered == [
        *('modality = "climate"', 'file = "monthly/{channel}_{year}_{season:02d}.tif"', 'channels = ["rain"]'),
        *("first_year = 2004", "last_year = 2005"),
    ]


def test_a_picture_is_offered_as_patches(tmp_path: Path) -> None:
    data = write(tmp_path, plots=long_plots())
    bands = np.stack([AMOUNT.astype("uint8")] * 4)
    write_raster(data / "s2.tif", bands, names=("red", "green", "blue", "nir"))
    text = study_text(look_through(data), data)
    assert "rasters" not in study_of(data)
    assert '# [study.patches]\n# file = "s2.tif"\n# names = ["red", "green", "blue", "nir"]' in text


def test_a_raster_that_lies_nowhere_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    with rasterio.open(path, "w", driver="GTiff", count=1, height=4, width=4, dtype="uint8") as target:
        target.write(np.ones((1, 4, 4), "uint8"))
    groups, left_out = look_at_rasters([path])
    assert groups == [] and "no place on the Earth" in left_out[0][1]


@pytest.mark.parametrize("many", [4, 450])
def test_many_rasters_are_looked_at_up_to_a_number(tmp_path: Path, many: int) -> None:
    files = [write_raster(tmp_path / f"layer{at}.tif", AMOUNT[:2, :2]) for at in range(many)]
    (group,), _ = look_at_rasters(files)
    assert isinstance(group, RasterGroup) and group.pattern == "*.tif"
    assert {layer.why_classes for layer in group.layers} == ({""} if many == 4 else {"", None})


def test_other_times_other_grids_and_masks_are_no_covariates(tmp_path: Path) -> None:
    data = write(tmp_path, plots=long_plots(30))
    for name in ("bio1", "bio12"):
        write_raster(data / "current" / f"{name}.tif", AMOUNT)
        write_raster(data / "future_ssp585" / f"{name}.tif", AMOUNT)
        write_raster(data / "coarse" / f"{name}.tif", AMOUNT[:2, :2], cell=0.5)
        write_raster(data / "elsewhere" / f"{name}.tif", AMOUNT, west=20)
    write_raster(data / "bio1_2070.tif", AMOUNT)
    write_raster(data / "mask.tif", np.ones((10, 10), "uint8"))
    found = look_through(data)
    assert [[file.name for file in group.files] for group in found.rasters] == [["bio1.tif", "bio12.tif"]]
    assert {file.parent.name for group in found.rasters for file in group.files} == {"current"}
    why = {path.relative_to(data).as_posix(): reason for path, reason in found.left_out}
    assert "of another time" in why["future_ssp585/bio1.tif"] and "of another time" in why["bio1_2070.tif"]
    assert "in current, on another grid" in why["coarse/bio12.tif"]
    assert "in current, on another grid" in why["elsewhere/bio12.tif"]
    assert why["mask.tif"] == "it holds one number everywhere" and len(why) == 8


def test_rasters_that_are_all_of_another_time_are_kept(tmp_path: Path) -> None:
    data = write(tmp_path, plots=long_plots())
    write_raster(data / "lgm" / "bio1.tif", AMOUNT)
    assert [entry["file"] for entry in study_of(data)["rasters"]] == ["lgm/bio1.tif"]


def test_rasters_in_a_zip_file_are_offered_where_they_are(tmp_path: Path) -> None:
    data = write(tmp_path / "my data", plots=long_plots())
    write_raster(tmp_path / "climate" / "rain.tif", AMOUNT)
    shutil.make_archive(str(data / "climate 1"), "zip", tmp_path / "climate")
    text = study_text(look_through(data), tmp_path)
    offered = text[text.index("# [[study.rasters]]") :].splitlines()[:2]
    config = StudyConfig.model_validate(
        tomllib.loads("\n".join([text, *(line.removeprefix("# ") for line in offered)]))["study"]
    )
    (layer,) = open_layers(config.rasters, tmp_path)
    assert layer.name == "rain" and layer.grid.width == 10
