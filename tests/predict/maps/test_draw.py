"""A folder of maps: drawn to its end whatever happens on the way, and refused to whom it does not belong."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely

from predict.maps.test_region import write_region
from predict.maps.worlds import CELL, HEIGHT, NORTH, NUM_NOWHERE, WEST, WIDTH
from releve.errors import ReleveError, RunError
from releve.files import held_alone
from releve.predict.maps import draw, geotiff
from releve.predict.maps.draw import LOCK_FILE, Request, draw_maps, estimate_maps
from releve.predict.maps.engine import TileWork
from releve.predict.maps.grid import Bounds, Tile, cell_centres
from releve.predict.maps.read import Maps, open_maps
from releve.runs.folder import Run

SOME = Bounds(WEST + 20 * CELL, NORTH - 32 * CELL, WEST + 40 * CELL, NORTH - 14 * CELL)
"""18 rows of 20 columns, in four tiles of 16; the first ones have nothing in a part."""


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("releve.predict.maps.grid.TILE_SIZES", {2**20: 16})


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files but the provenance, which holds the time."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.name != "run.json"}


@pytest.fixture(scope="session")
def some_maps(world_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Maps:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("releve.predict.maps.grid.TILE_SIZES", {2**20: 16})
        return draw_maps(world_run.path, tmp_path_factory.mktemp("some") / "maps", Request(bounds=SOME), num_workers=1)


def stop_after(num: int, error: Callable[[], BaseException]) -> Callable[[TileWork], Any]:
    """Return what reads so many tiles, then raises."""
    read, done = TileWork.read, []

    def reads(work: TileWork) -> Any:
        if len(done) == num:
            raise error()
        done.append(work.key())
        return read(work)

    return reads


@pytest.mark.parametrize("num_drawn", [0, 1, 3])
def test_a_call_that_was_stopped_goes_on_with_the_same_bytes(
    num_drawn: int, world_run: Run, some_maps: Maps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, request = tmp_path / "maps", Request(bounds=SOME)
    with monkeypatch.context() as patch:
        patch.setattr(TileWork, "read", stop_after(num_drawn, KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            draw_maps(world_run.path, out, request, num_workers=1)
    drawn = {file: file.stat().st_mtime_ns for file in (out / "tiles").iterdir()}
    assert len(drawn) <= num_drawn and not list(out.glob("*.tif"))
    assert not open_maps(out, unfinished=True).manifest.is_whole
    draw_maps(world_run.path, out, request, num_workers=2)
    assert contents(out) == contents(some_maps.path)
    assert {file: file.stat().st_mtime_ns for file in drawn} == drawn


def test_whole_maps_are_left_as_they_are(world_run: Run, some_maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(some_maps.path)
    monkeypatch.setattr(TileWork, "read", stop_after(0, lambda: AssertionError("drawn again")))
    assert draw_maps(world_run.path, some_maps.path, Request(bounds=SOME)).manifest == some_maps.manifest
    assert contents(some_maps.path) == before


def test_a_call_that_was_killed_before_the_first_tile_is_begun_again(
    world_run: Run, some_maps: Maps, tmp_path: Path
) -> None:
    out = tmp_path / "maps"
    (out / "tiles").mkdir(parents=True)
    (out / "species.csv").write_text("species")
    (out / ".manifest.json.99999999.part").write_text("{")
    draw_maps(world_run.path, out, Request(bounds=SOME), num_workers=1)
    assert contents(out) == contents(some_maps.path)


def test_maps_with_the_bounds_of_a_part_are_that_part(world_maps: Maps, some_maps: Maps) -> None:
    rows, columns = slice(14, 32), slice(20, 40)
    assert (some_maps.grid.height, some_maps.grid.width) == (18, 20)
    for name in ("richness", "entropy", "spread"):
        np.testing.assert_allclose(some_maps.image(name), world_maps.image(name)[rows, columns], rtol=1e-5)
    assert (some_maps.image("list_length") == world_maps.image("list_length")[rows, columns]).all()
    for species in range(world_maps.manifest.num_species):
        found, whole = some_maps.codes_of(species), world_maps.codes_of(species)[rows, columns]
        both = (found > 0) & (whole > 0)  # the cut is a tile's own
        assert (np.abs(found[both].astype(int) - whole[both]) <= 1).all() and (found[both] == whole[both]).mean() > 0.99


def test_maps_that_are_not_whole_are_not_opened_unless_asked(some_maps: Maps, tmp_path: Path) -> None:
    shutil.copytree(some_maps.path, tmp_path / "maps")
    file = tmp_path / "maps" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"is_whole": False}))
    with pytest.raises(ReleveError, match="are not whole.*goes on"):
        open_maps(tmp_path / "maps")
    file.write_text(file.read_text()[:200])
    with pytest.raises(ReleveError, match="manifest.json cannot be read"):
        open_maps(tmp_path / "maps")
    file.write_text(json.dumps({"format": 99}))
    with pytest.raises(ReleveError, match="have format 99"):
        open_maps(tmp_path / "maps")


class TestWhoseFolder:
    def test_two_processes_never_draw_in_one_folder(self, world_run: Run, tmp_path: Path) -> None:
        (tmp_path / "maps").mkdir()
        with (
            held_alone(tmp_path / "maps" / LOCK_FILE, "draws maps"),
            pytest.raises(RunError, match=r"another process draws maps in .*maps.*give another folder"),
        ):
            draw_maps(world_run.path, tmp_path / "maps", Request(bounds=SOME))
        assert [file.name for file in (tmp_path / "maps").iterdir()] == [LOCK_FILE]

    def test_what_holds_no_maps_is_not_touched(self, world_run: Run, tmp_path: Path) -> None:
        (tmp_path / "thesis.docx").write_text("years")
        for overwrite in (False, True):
            with pytest.raises(RunError, match=r"holds no maps but \['thesis.docx'\].*another --out"):
                draw_maps(world_run.path, tmp_path, Request(bounds=SOME), overwrite=overwrite)
        assert (tmp_path / "thesis.docx").read_text() == "years"

    @pytest.mark.parametrize(
        ("request_", "what"),
        [
            (Request(), "grid"),
            (Request(bounds=SOME, year=1950), "facts"),
            (Request(bounds=SOME, precision="bf16"), "precision"),
        ],
    )
    def test_maps_of_another_request_are_refused(
        self, request_: Request, what: str, world_run: Run, some_maps: Maps
    ) -> None:
        before = contents(some_maps.path)
        with pytest.raises(RunError, match=f"holds maps of another {what}.*--overwrite to replace them"):
            draw_maps(world_run.path, some_maps.path, request_)
        assert contents(some_maps.path) == before

    def test_a_run_that_was_trained_anew_or_changed_rasters_are_another(
        self, world_run: Run, some_maps: Maps, tmp_path: Path
    ) -> None:
        run = shutil.copytree(world_run.path, tmp_path / "run", symlinks=True)
        provenance = json.loads((run / "run.json").read_text())
        provenance["store"] = str(world_run.store.path)
        (run / "run.json").write_text(json.dumps(provenance))
        out = shutil.copytree(some_maps.path, tmp_path / "maps")
        assert draw_maps(run, out, Request(bounds=SOME)).manifest == some_maps.manifest  # a copy is the same run
        weights = next(run.glob("member-00/weights.safetensors"))
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        with pytest.raises(RunError, match="holds maps of another run"):
            draw_maps(run, out, Request(bounds=SOME))

    def test_a_raster_that_changed_makes_other_maps(self, world_run: Run, tmp_path: Path) -> None:
        rasters = tmp_path / "rasters"
        rasters.mkdir()
        for name in ("warmth", "wetness", "soil"):
            shutil.copy(world_run.store.path.parent / f"{name}.tif", rasters)
        bounds = Bounds(SOME.west, SOME.south, SOME.west + 4 * CELL, SOME.south + 4 * CELL)
        request = Request(rasters=rasters, bounds=bounds)
        first = draw_maps(world_run.path, tmp_path / "maps", request, num_workers=1).image("richness")
        with rasterio.open(rasters / "warmth.tif", "r+") as file:
            file.write(file.read(1) + 0.5, 1)
        with pytest.raises(RunError, match="holds maps of another rasters"):
            draw_maps(world_run.path, tmp_path / "maps", request)
        later = draw_maps(world_run.path, tmp_path / "maps", request, overwrite=True, num_workers=1).image("richness")
        assert (first != later).all()

    def test_another_region_in_the_same_folder_is_not_the_earlier_one(self, world_run: Run, tmp_path: Path) -> None:
        """The file that workers read the region from has the same name."""
        west, north = WEST + 30 * CELL, NORTH - 24 * CELL
        for width in (4, 8):
            box = shapely.box(west, north - 4 * CELL, west + width * CELL, north).buffer(1e-6)
            around = shapely.union(box, shapely.box(west, north, west + 10 * CELL, north + 1e-4))
            request = Request(region=write_region(tmp_path / f"{width}.gpkg", around))
            maps = draw_maps(world_run.path, tmp_path / "maps", request, overwrite=True, num_workers=1)
            assert maps.manifest.num_cells == 4 * width

    def test_foreign_files_beside_maps_are_not_overwritten(
        self, world_run: Run, some_maps: Maps, tmp_path: Path
    ) -> None:
        out = shutil.copytree(some_maps.path, tmp_path / "maps")
        (out / "notes.txt").write_text("mine")
        with pytest.raises(RunError, match=r"holds \['notes.txt'\], which no map wrote"):
            draw_maps(world_run.path, out, Request(bounds=SOME, year=1950), overwrite=True)
        assert (out / "notes.txt").is_file() and (out / "richness.tif").is_file()


class TestFullDisk:
    def test_a_tile_that_cannot_be_written_is_told_and_the_next_call_goes_on(
        self, world_run: Run, some_maps: Maps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out, write, done = tmp_path / "maps", Path.write_bytes, []

        def fills(path: Path, content: bytes) -> int:
            if len(done) == 2:
                write(path, content[: len(content) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            done.append(path)
            return write(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", fills)
            with pytest.raises(ReleveError, match=r"cannot write .*tile: No space left.*GB free there.*is kept"):
                draw_maps(world_run.path, out, Request(bounds=SOME), num_workers=1)
        assert len(list((out / "tiles").iterdir())) == 2
        draw_maps(world_run.path, out, Request(bounds=SOME), num_workers=1)
        assert contents(out) == contents(some_maps.path)

    def test_an_image_that_cannot_be_copied_is_told_and_leaves_nothing(
        self, world_run: Run, some_maps: Maps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "maps"

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(geotiff, "_copy", full)
            with pytest.raises(ReleveError, match=r"cannot write .*\.tif: No space left.*GB free there"):
                draw_maps(world_run.path, out, Request(bounds=SOME), num_workers=1)
        assert not list(out.glob("*.tif")) and not list(out.glob(".*.tif"))
        draw_maps(world_run.path, out, Request(bounds=SOME), num_workers=1)
        assert contents(out) == contents(some_maps.path)

    @pytest.mark.skipif(os.name == "nt", reason="files have no limit there")
    @pytest.mark.parametrize("limit", [1_000, 3_000, 9_000])
    def test_an_image_that_gdal_cannot_write_to_its_end_is_told(
        self, limit: int, world_run: Run, some_maps: Maps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The system writes no file beyond the limit: what GDAL holds back until it closes an image, too."""
        import resource

        out, finish, before = tmp_path / "maps", draw._finish, resource.getrlimit(resource.RLIMIT_FSIZE)

        def limited(maps: Maps) -> Maps:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            return finish(maps)

        try:
            with monkeypatch.context() as patch, pytest.raises(ReleveError, match=r"\.tif.*disk|\.tif.*space"):
                patch.setattr(draw, "_finish", limited)
                draw_maps(world_run.path, out, Request(bounds=SOME), num_workers=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not open_maps(out, unfinished=True).manifest.is_whole
        draw_maps(world_run.path, out, Request(bounds=SOME), num_workers=1)
        assert contents(out) == contents(some_maps.path)


def test_a_trial_run_tells_cells_tiles_and_sizes_and_writes_nothing(world_run: Run, world_maps: Maps) -> None:
    before = sorted(world_run.path.rglob("*"))
    estimate = estimate_maps(world_run.path, Request(), num_workers=1)
    assert (estimate.num_cells, estimate.num_tiles) == (HEIGHT * WIDTH, 12)
    assert estimate.num_mapped == pytest.approx(HEIGHT * WIDTH - NUM_NOWHERE, rel=0.15)
    tiles = sum(file.stat().st_size for file in (world_maps.path / "tiles").iterdir())
    assert estimate.num_bytes["tiles"] == pytest.approx(tiles, rel=0.5)
    assert estimate.minutes > 0 and sorted(world_run.path.rglob("*")) == before


def test_only_cells_with_their_centre_in_the_region_are_mapped(
    world_run: Run, world_maps: Maps, tmp_path: Path
) -> None:
    shape = shapely.Point(WEST + 35 * CELL, NORTH - 25 * CELL).buffer(7.3 * CELL)
    maps = draw_maps(
        world_run.path, tmp_path / "maps", Request(region=write_region(tmp_path / "r.gpkg", shape)), num_workers=1
    )
    grid = maps.grid
    lon, lat = cell_centres(grid, Tile(0, 0, grid.height, grid.width))
    inside = shapely.contains_xy(shape, lon, lat).reshape(grid.height, grid.width)
    assert (np.isfinite(maps.image("richness")) == inside).all() and maps.manifest.num_cells == inside.sum() > 100


def test_a_region_that_holds_no_centre_and_both_bounds_and_a_region_are_told(world_run: Run, tmp_path: Path) -> None:
    tiny = shapely.box(WEST + 30.1 * CELL, NORTH - 30.3 * CELL, WEST + 30.3 * CELL, NORTH - 30.1 * CELL)
    file = write_region(tmp_path / "tiny.gpkg", tiny)
    with pytest.raises(RunError, match=r"no cell of .* can be mapped.*--region and --resolution"):
        draw_maps(world_run.path, tmp_path / "maps", Request(region=file), num_workers=1)
    with pytest.raises(RunError, match=r"--bounds and --region were both given"):
        draw_maps(world_run.path, tmp_path / "maps", Request(region=file, bounds=SOME))


def test_the_manifest_says_what_every_image_is_and_its_checksum(some_maps: Maps) -> None:
    assert {file.name for file in some_maps.path.glob("*.tif")} == {
        product.file for product in some_maps.manifest.products.values()
    }
    for product in some_maps.manifest.products.values():
        file = some_maps.path / product.file
        assert (product.num_bytes, product.sha256) == (file.stat().st_size, draw.file_sha256(file))
        with rasterio.open(file) as dataset:
            assert dataset.tags()["reading"] == product.reading and dataset.descriptions == product.bands
            assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


@pytest.mark.parametrize(("asked", "used"), [(None, "auto"), ("bf16", "bf16"), ("fp32", "fp32")])
def test_a_trial_has_the_precision_of_the_map(world_run: Run, asked: str | None, used: str) -> None:
    engine = draw._prepare(world_run.path, Request(bounds=SOME, precision=asked)).engine
    assert engine.run.config.train.precision == used
    assert world_run.config.train.precision == "auto"
