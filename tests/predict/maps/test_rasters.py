"""Maps from other rasters than those of training: the same places, or a sentence that says what is amiss."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import rasterio
from affine import Affine
from rasterio.warp import Resampling, reproject
from tests.commands import Commands

from predict.maps.worlds import CELL, NORTH, NUM_NOWHERE, WEST
from rasters.fakes import write_raster
from releve.errors import RasterError, RunError, TableError
from releve.predict.maps.draw import Request, draw_maps
from releve.predict.maps.grid import Bounds, Tile, cell_centres
from releve.predict.maps.read import Maps
from releve.runs.folder import Run

PLACE = {"west": WEST, "north": NORTH, "cell": CELL, "nodata": -9999.0}


@pytest.fixture
def rasters(world_run: Run, tmp_path: Path) -> Path:
    """A copy of the run's rasters."""
    folder = tmp_path / "rasters"
    folder.mkdir()
    for name in ("warmth", "wetness", "soil"):
        shutil.copy(world_run.store.path.parent / f"{name}.tif", folder)
    return folder


def values_of(file: Path) -> np.ndarray:
    with rasterio.open(file) as dataset:
        return dataset.read()


def drawn(run: Run, rasters: Path, **options: object) -> Maps:
    return draw_maps(run.path, rasters.with_name("maps"), Request(rasters=rasters, **options), num_workers=1)  # type: ignore[arg-type]


def notes(maps: Maps) -> str:
    return "; ".join(maps.manifest.notes)


def assert_same(maps: Maps, others: Maps) -> None:
    for name in ("richness", "entropy", "mess", "dissimilarity"):
        np.testing.assert_allclose(maps.image(name), others.image(name), rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_stack_in_another_order_gives_the_same_maps(world_run: Run, world_maps: Maps, rasters: Path) -> None:
    stack = np.concatenate([values_of(rasters / f"{name}.tif") for name in ("wetness", "warmth")])
    write_raster(rasters / "a_stack.tif", stack, names=("Wetness", "Warmth"), **PLACE)
    for name in ("warmth", "wetness"):
        (rasters / f"{name}.tif").unlink()
    maps = drawn(world_run, rasters)
    assert_same(maps, world_maps)
    assert notes(maps) == notes(world_maps)


def test_rasters_from_south_to_north_give_the_same_values_at_the_same_places(
    world_run: Run, world_maps: Maps, rasters: Path
) -> None:
    for name in ("warmth", "wetness"):
        values = values_of(rasters / f"{name}.tif")[:, ::-1]
        south = NORTH - CELL * values.shape[1]
        turned = Affine(CELL, 0.0, WEST, 0.0, CELL, south)
        write_raster(rasters / f"{name}.tif", values.copy(), **(PLACE | {"transform": turned}))
    maps = drawn(world_run, rasters)
    np.testing.assert_allclose(maps.image("richness")[::-1], world_maps.image("richness"), rtol=1e-5)


def test_rasters_of_another_crs_and_size_are_mapped_on_their_own_grid(
    world_run: Run, world_maps: Maps, rasters: Path
) -> None:
    """Every cell of the new map has, within a cell, the value of the old one's at its centre."""
    for name in ("warmth", "wetness"):
        with rasterio.open(rasters / f"{name}.tif") as dataset:
            values, nodata = dataset.read(1), dataset.nodata
            moved = np.full((70, 70), nodata, np.float32)
            transform = Affine(1500.0, 0.0, 3_935_000.0, 0.0, -1500.0, 2_790_000.0)
            source = {"src_transform": dataset.transform, "src_crs": dataset.crs, "src_nodata": nodata}
            target = {"dst_transform": transform, "dst_crs": "EPSG:3035", "dst_nodata": nodata}
            reproject(values, moved, **source, **target, resampling=Resampling.nearest)
        write_raster(rasters / f"{name}.tif", moved, west=3_935_000.0, north=2_790_000.0, cell=1500.0,
                     crs="EPSG:3035", nodata=nodata)  # fmt: skip
    maps = drawn(world_run, rasters)
    assert maps.grid.crs == "EPSG:3035" and maps.grid.transform[0] == 1500
    lon, lat = cell_centres(maps.grid, Tile(0, 0, maps.grid.height, maps.grid.width))
    found, whole = maps.image("richness").ravel(), world_maps.image("richness")
    some = range(0, len(lon), 11)
    at = {index: world_maps.cell_at(float(lon[index]), float(lat[index])) for index in some}
    pairs = [(found[index], whole[cell]) for index, cell in at.items() if cell]
    ours, theirs = np.array(pairs).T
    both = np.isfinite(ours) & np.isfinite(theirs)
    assert both.sum() > 60 and (np.isfinite(ours) == np.isfinite(theirs)).mean() > 0.9
    # The model sees where a place lies, and a place half a cell away: the values are near, not equal.
    assert np.corrcoef(ours[both], theirs[both])[0, 1] > 0.97


def test_a_coarser_map_has_the_values_at_its_cells_centres(world_run: Run, world_maps: Maps, tmp_path: Path) -> None:
    maps = draw_maps(world_run.path, tmp_path / "maps", Request(resolution_m=5 * CELL * 111_319.49079327357))
    lon, lat = cell_centres(maps.grid, Tile(0, 0, maps.grid.height, maps.grid.width))
    whole = world_maps.image("richness")
    assert maps.grid.transform[0] == pytest.approx(5 * CELL) and (maps.grid.height, maps.grid.width) == (8, 10)
    at = [world_maps.cell_at(float(x), float(y)) for x, y in zip(lon, lat, strict=True)]
    expected = np.array([whole[cell] if cell else np.nan for cell in at])
    np.testing.assert_allclose(maps.image("richness").ravel(), expected, rtol=0.02)


def test_a_layer_that_is_lacking_is_missing_everywhere_and_said(
    world_run: Run, world_maps: Maps, rasters: Path
) -> None:
    (rasters / "soil.tif").unlink()
    maps = drawn(world_run, rasters)
    assert "The rasters lack 1 of 3 covariates (soil): taken as missing" in notes(maps)
    differs = np.abs(maps.image("richness") - world_maps.image("richness")) > 1e-4
    assert differs[np.isfinite(maps.image("richness"))].mean() > 0.5


def test_layers_of_which_none_is_known_are_refused(world_run: Run, rasters: Path) -> None:
    for name in ("warmth", "wetness", "soil"):
        (rasters / f"{name}.tif").rename(rasters / f"layer_{name[:2]}9.tif")
    with pytest.raises(
        RasterError, match=r"none of the layers .*is a covariate of the run.*layers called as \['warmth'"
    ):
        drawn(world_run, rasters)


def test_a_layer_in_another_unit_is_said(world_run: Run, rasters: Path) -> None:
    values = values_of(rasters / "warmth.tif")
    write_raster(rasters / "warmth.tif", np.where(values > -9999, values * 10, values), **PLACE)
    maps = drawn(world_run, rasters)
    assert "warmth lies outside what the run was trained on" in notes(maps)
    assert "divided by 10 it would not" in notes(maps)
    assert (maps.image("outside")[np.isfinite(maps.image("richness"))] == 1).mean() > 0.9


def test_a_scale_in_the_file_mends_the_unit(world_run: Run, world_maps: Maps, rasters: Path) -> None:
    values = values_of(rasters / "warmth.tif").astype(np.float64)
    codes = np.where(values > -9999, np.round(values * 1e7), -9999).astype(np.int32)
    write_raster(rasters / "warmth.tif", codes, scales=(1e-7,), **PLACE)
    maps = drawn(world_run, rasters)
    np.testing.assert_allclose(maps.image("richness"), world_maps.image("richness"), rtol=1e-4)
    assert "outside what the run" not in notes(maps)


def test_a_class_that_training_did_not_see_is_said_and_taken_as_unknown(world_run: Run, rasters: Path) -> None:
    soil = values_of(rasters / "soil.tif")
    with rasterio.open(rasters / "soil.tif", "r+") as file:
        file.write(np.where(soil == 2, 77, soil).astype(np.uint8))
    first = drawn(world_run, rasters)
    assert "soil has 1 classes that training did not see, in " in notes(first)
    unknown = rasters.with_name("other")
    shutil.copytree(rasters, unknown)
    with rasterio.open(unknown / "soil.tif", "r+") as file:
        file.write(np.where(soil == 2, 78, soil).astype(np.uint8))
    second = draw_maps(world_run.path, rasters.with_name("second"), Request(rasters=unknown), num_workers=1)
    assert np.array_equal(first.image("richness"), second.image("richness"), equal_nan=True)


def test_rasters_without_any_data_leave_nothing_to_map(world_run: Run, rasters: Path) -> None:
    for name in ("warmth", "wetness"):
        write_raster(rasters / f"{name}.tif", np.full_like(values_of(rasters / f"{name}.tif"), -9999), **PLACE)
    with pytest.raises(RunError, match="can be mapped: the rasters have no data there"):
        drawn(world_run, rasters)


def test_rasters_that_do_not_overlap_the_region_are_refused_before_anything_is_written(
    world_run: Run, rasters: Path
) -> None:
    with pytest.raises(RasterError, match=r"does not overlap the rasters.*expected a region within"):
        drawn(world_run, rasters, bounds=Bounds(20, 40, 21, 41))
    assert not rasters.with_name("maps").exists()


def test_a_raster_that_is_cut_short_is_told(world_run: Run, rasters: Path) -> None:
    content = (rasters / "warmth.tif").read_bytes()
    (rasters / "warmth.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(RasterError, match="warmth.tif"):
        drawn(world_run, rasters)


def test_lost_rasters_are_told_and_nothing_is_written(world_run: Run, rasters: Path) -> None:
    with pytest.raises(RasterError, match="holds no raster"):
        (rasters.with_name("empty")).mkdir()
        draw_maps(world_run.path, rasters.with_name("maps"), Request(rasters=rasters.with_name("empty")))
    assert not rasters.with_name("maps").exists()


class TestFacts:
    def test_the_year_and_area_that_are_asked_for_change_the_map_and_are_said(
        self, world_run: Run, world_maps: Maps, tmp_path: Path
    ) -> None:
        request = Request(year=1990, area_m2=400.0)
        maps = draw_maps(world_run.path, tmp_path / "maps", request, num_workers=1)
        assert (maps.manifest.facts.year, maps.manifest.facts.area_m2) == (1990, 400.0)
        assert "a plot of 400 m²" in notes(maps) and "the year 1990" in notes(maps)
        known = np.isfinite(maps.image("richness"))
        assert (maps.image("richness")[known] != world_maps.image("richness")[known]).mean() > 0.9

    def test_what_nobody_gives_is_typical_of_training(self, world_run: Run, world_maps: Maps) -> None:
        plots = pl.read_csv(world_run.store.path.parent / "plots.csv")
        facts = world_maps.manifest.facts
        assert facts.year == pytest.approx(plots["year"].median(), abs=2)
        assert facts.area_m2 in (25.0, 50.0, 100.0) and facts.uncertainty_m == pytest.approx(5, abs=6)

    @pytest.mark.parametrize(("facts", "what"), [({"year": 99999}, "--year 99999"), ({"area_m2": 0.0}, "--area-m2 0")])
    def test_what_cannot_be_is_refused(
        self, facts: dict[str, float], what: str, world_run: Run, tmp_path: Path
    ) -> None:
        with pytest.raises(RunError, match=what):
            draw_maps(world_run.path, tmp_path / "maps", Request(**facts))  # type: ignore[arg-type]


class TestIndicators:
    def test_an_indicator_is_the_sum_and_the_chance_of_any_of_its_species(
        self, world_run: Run, world_maps: Maps, tmp_path: Path
    ) -> None:
        (tmp_path / "groups.csv").write_text("group,species\nSpecies of note,Poa a\nSpecies of note,POA D\nred,Poa c\n")
        maps = draw_maps(world_run.path, tmp_path / "maps", Request(groups=tmp_path / "groups.csv"), num_workers=1)
        assert maps.manifest.groups == {"species_of_note": (0, 3), "red": (2,)}
        expected, any_of = (maps.image("indicator_species_of_note", band) for band in (1, 2))
        for row, column in ((25, 3), (33, 44), (39, 49)):
            species, probs = maps.species_in(row, column)
            p, q = (float(probs[species == index][0]) for index in (0, 3))
            assert expected[row, column] == pytest.approx(p + q, rel=0.04)  # codes are 6 % apart
            assert any_of[row, column] == pytest.approx(1 - (1 - p) * (1 - q), rel=0.04)
        alone = maps.image("indicator_red", 1)
        np.testing.assert_allclose(alone, maps.image("indicator_red", 2), rtol=1e-5)
        assert np.isnan(alone).sum() == NUM_NOWHERE
        np.testing.assert_allclose(maps.image("richness"), world_maps.image("richness"), rtol=1e-6)

    def test_species_that_nobody_knows_are_told_with_the_nearest(self, world_run: Run, tmp_path: Path) -> None:
        (tmp_path / "groups.csv").write_text("group,species\nred,Poa bb\n")
        with pytest.raises(
            TableError, match=r"knows none of the 1 species of group 'red'.*'Poa bb'.*did you mean 'Poa b'"
        ):
            draw_maps(world_run.path, tmp_path / "maps", Request(groups=tmp_path / "groups.csv"))
        (tmp_path / "groups.csv").write_text("gruppe,art\nred,Poa b\n")
        with pytest.raises(TableError, match=r"lacks columns \['group', 'species'\]; it has \['gruppe', 'art'\]"):
            draw_maps(world_run.path, tmp_path / "maps", Request(groups=tmp_path / "groups.csv"))

    def test_a_name_that_maps_do_not_know_is_told_with_the_nearest(self, world_maps: Maps) -> None:
        assert world_maps.find_species(" poa C ") == 2
        with pytest.raises(TableError, match="no species 'Poa cc'.*did you mean 'Poa c'"):
            world_maps.find_species("Poa cc")


def test_the_command_says_what_is_wrong_and_exits_with_2(commands: Commands, world_run: Run, tmp_path: Path) -> None:
    out, run = tmp_path / "maps", world_run.path
    for arguments, said in (
        (("--bounds", 20, 40, 21, 41), "does not overlap the rasters"),
        (("--bounds", 6, 48, 5, 47), "south below north"),
        (("--crs", "laea"), "is no coordinate system"),
        (("--precision", "half"), "--precision half"),
    ):
        done = commands.run("map", run, "--out", out, *arguments)
        assert done.code == 2 and said in " ".join(done.stderr.split()), done.stderr
        assert "Traceback" not in done.stderr
    done = commands.run("map", run, "--out", out, "--dry-run")
    assert done.code == 0 and "2000" in done.stdout and not out.exists(), done.stdout
