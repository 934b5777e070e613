"""What is made of the maps of a real run, from drawing to the last table."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio

from drawn import write_maps
from releve.errors import TableError
from releve.predict.maps.change import compare_maps
from releve.predict.maps.draw import Request, citations_of, draw_maps
from releve.predict.maps.export import SPECIES_FOLDER, export_species
from releve.predict.maps.grid import Bounds
from releve.predict.maps.read import Maps
from releve.predict.maps.sparse import PROBS_OF_CODES
from releve.rasters.grid import Grid
from releve.report.map_page import write_maps_page
from releve.runs.folder import Run

CORNER = Bounds(5.6, 47.3, 5.9, 47.5)


def probs_of(maps: Maps) -> np.ndarray:
    """Return (H, W, S) the probabilities as they are kept."""
    return np.stack([PROBS_OF_CODES[maps.codes_of(index)] for index in range(maps.manifest.num_species)], axis=-1)


def test_rarity_weighs_species_by_the_training_rows_that_hold_them(world_maps: Maps) -> None:
    weights = 1 / np.maximum(world_maps.species["num_positives"].to_numpy(), 1)
    rarity = world_maps.image("rarity")
    mapped = np.isfinite(rarity)
    # Codes are off by .032 p (1 - p), and .01 of each species may not be kept.
    expected = (probs_of(world_maps) @ weights)[mapped]
    np.testing.assert_allclose(rarity[mapped], expected, rtol=0.04, atol=0.01 * weights.sum())
    assert np.corrcoef(rarity[mapped], expected)[0, 1] > 0.99


def test_species_and_groups_that_are_asked_for_are_written_with_the_maps(
    world_run: Run, tmp_path: Path, world_maps: Maps
) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("group,species\nRare ones,Poa k\nRare ones,Poa l\n")
    request = Request(bounds=CORNER, groups=table, species=("poa A",), shown_groups=("rare_ones",))
    maps = draw_maps(world_run.path, tmp_path / "maps", request, num_workers=1)
    files = sorted(path.name for path in (maps.path / SPECIES_FOLDER).iterdir())
    assert files == ["Poa_a.tif", "Poa_k.tif", "Poa_l.tif"]
    with rasterio.open(maps.path / SPECIES_FOLDER / "Poa_a.tif") as dataset:
        probs, listed = dataset.read()
    index = maps.find_species("Poa a")
    np.testing.assert_array_equal(probs, PROBS_OF_CODES[maps.codes_of(index)])
    lengths = maps.image("list_length")
    for row, column in np.ndindex(probs.shape):
        in_list = index in maps.species_in(row, column)[0][: lengths[row, column]]
        assert listed[row, column] == in_list
    assert 0 < listed.mean() < 1
    # A later call draws nothing, and writes other species.
    again = Request(bounds=CORNER, groups=table, species=("Poa b",))
    draw_maps(world_run.path, tmp_path / "maps", again, num_workers=1)
    assert (maps.path / SPECIES_FOLDER / "Poa_b.tif").is_file()
    text = write_maps_page(maps).read_text(encoding="utf-8")
    assert "Species of rare_ones" in text and "indicator_rare_ones.tif" in text


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(species=("Poa a", "Pao b")), "the run knows no species 'Pao b'.*'Poa b'"),
        (Request(shown_groups=("rare",)), "no group 'rare'.*--groups FILE"),
    ],
)
def test_an_unknown_name_is_told_before_anything_is_drawn(
    request_: Request, said: str, world_run: Run, tmp_path: Path
) -> None:
    with pytest.raises(TableError, match=said):
        draw_maps(world_run.path, tmp_path / "maps", request_, num_workers=1)
    assert not (tmp_path / "maps").exists()


def test_two_years_of_a_run_are_compared(world_run: Run, tmp_path: Path) -> None:
    first, second = (
        draw_maps(world_run.path, tmp_path / str(year), Request(bounds=CORNER, year=year), num_workers=1)
        for year in (2001, 2019)
    )
    change = compare_maps(first, second, tmp_path / "change")
    assert "The year differs: 2001 in the first map, 2019 in the second" in change.notes
    assert "outside" in change.products
    with (
        rasterio.open(tmp_path / "change" / "gain.tif") as gain,
        rasterio.open(tmp_path / "change" / "loss.tif") as loss,
    ):
        difference = gain.read(1) - loss.read(1)
    before, after = probs_of(first), probs_of(second)
    np.testing.assert_allclose(difference, (after - before).sum(axis=-1), atol=0.01 * len(before[0, 0]))
    assert np.abs(difference).max() > 0.001


def test_large_images_have_overviews_that_are_means(tmp_path: Path) -> None:
    grid = Grid("EPSG:32632", (10.0, 0.0, 0.0, 0.0, -10.0, 5e6), 600, 700, 256, 256)
    probs = np.where(np.indices((600, 700))[1] % 2 == 0, 0.2, 0.8).astype(np.float32)[..., None]
    maps = write_maps(tmp_path / "maps", probs, grid=grid)
    export_species(maps, [0], tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "Species_a.tif") as dataset:
        assert dataset.overviews(1) == [2] and dataset.block_shapes[0] == (512, 512)
        small = dataset.read(1, out_shape=(300, 350))
    np.testing.assert_allclose(small[10:-10, 10:-10], 0.5, atol=0.01)


def test_citations_are_those_of_the_studies(tmp_path: Path) -> None:
    stores = []
    for name, content in {"a": {"citation": "A"}, "b": {"citation": "B"}, "c": {"citation": "A"}, "d": {}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(content))
        stores.append(SimpleNamespace(store=SimpleNamespace(path=tmp_path / name), parts=()))
    gone = SimpleNamespace(store=SimpleNamespace(path=tmp_path / "gone"))
    assert citations_of(SimpleNamespace(parts=(*stores, gone))) == ("A", "B")  # type: ignore[arg-type]
    assert citations_of(stores[3]) == ()  # type: ignore[arg-type]
