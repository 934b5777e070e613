from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from drawn import write_maps
from releve.errors import RunError, TableError
from releve.predict.maps.export import export_species, species_of
from releve.predict.maps.read import Maps


@pytest.fixture
def maps(tmp_path: Path) -> Maps:
    """Three species: one everywhere likely, one in the first row, one hardly anywhere; the last cell is sea."""
    probs = np.zeros((20, 36, 3), np.float32)
    probs[..., 0] = np.linspace(0.5, 0.9, 720).reshape(20, 36)
    probs[0, :, 1] = 0.95
    probs[19, :, 2] = 0.03
    probs[19, 35] = np.nan
    lists = np.ones((20, 36), np.int64)
    lists[1, 2] = 0
    return write_maps(tmp_path / "maps", probs, lists=lists, groups={"watched": (2, 0)})


def read(path: Path) -> tuple[np.ndarray, rasterio.DatasetReader]:
    with rasterio.open(path) as dataset:
        return dataset.read(), dataset


def test_a_species_image_holds_its_probabilities_and_where_it_is_in_the_list(maps: Maps, tmp_path: Path) -> None:
    products = export_species(maps, [0, 1], tmp_path / "out")
    assert [product.file for product in products] == ["Species_a.tif", "Species_b.tif"]
    (probs, listed), dataset = read(tmp_path / "out" / "Species_a.tif")
    expected = np.linspace(0.5, 0.9, 720).reshape(20, 36)
    expected[19, 35] = np.nan
    # Codes lie .063 logits apart: a probability is off by .032 p (1 - p) at most.
    np.testing.assert_allclose(probs, expected, atol=0.032 * 0.25)
    assert np.isnan(listed[19, 35])
    # Each list has one species: in the first row the other one is likelier; one cell's list is empty.
    whole = np.ones((20, 36))
    whole[0], whole[1, 2], whole[19, 35] = 0, 0, np.nan
    np.testing.assert_array_equal(listed, whole)
    (probs, listed), _ = read(tmp_path / "out" / "Species_b.tif")
    np.testing.assert_array_equal(listed[:3], np.repeat([[1], [0], [0]], 36, axis=1))
    assert (probs[1:19] == 0).all() and dataset.crs.to_epsg() == 32632
    assert dataset.transform[:6] == maps.grid.transform


def test_images_are_cloud_optimised_and_say_what_they_are(maps: Maps, tmp_path: Path) -> None:
    (product,) = export_species(maps, [2], tmp_path)
    with rasterio.open(tmp_path / "Species_c.tif") as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and np.isnan(dataset.nodata)
        assert dataset.descriptions == ("probability", "in the cell's list")
        tags = dataset.tags()
    assert tags["species"] == "Species c" == product.title and tags["rule"] == "expected_f1"
    assert tags["area_m2"] == "100.0" and tags["year"] == "2020" and "finds Species c" in tags["reading"]
    assert product.num_bytes == (tmp_path / "Species_c.tif").stat().st_size and len(product.sha256) == 64


def test_rules_that_do_not_rank_species_have_no_second_band(tmp_path: Path) -> None:
    maps = write_maps(tmp_path / "maps", np.full((20, 36, 2), 0.5, np.float32), rule="species_threshold")
    (product,) = export_species(maps, [0], tmp_path / "out")
    assert product.bands == ("probability",) and "second band" not in product.reading


def test_images_are_written_in_several_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("releve.predict.maps.export.OPEN_IMAGES", 2)
    probs = np.full((20, 36, 5), 0.1, np.float32) * np.arange(1, 6, dtype=np.float32)
    maps = write_maps(tmp_path / "maps", probs)
    assert len(export_species(maps, range(5), tmp_path / "out")) == 5
    (values, _), _ = read(tmp_path / "out" / "Species_e.tif")
    np.testing.assert_allclose(values, 0.5, atol=0.008)


def test_names_that_a_disk_cannot_tell_apart_have_files_of_their_own(tmp_path: Path) -> None:
    names = ("Poa (sp.)", "poa sp", "../x")
    maps = write_maps(tmp_path / "maps", np.full((20, 36, 3), 0.5, np.float32), names=names)
    files = [product.file for product in export_species(maps, [0, 1, 2], tmp_path / "out")]
    assert files == ["Poa_sp.tif", "poa_sp_1.tif", "x.tif"]


def test_species_are_found_by_name_and_by_group(maps: Maps) -> None:
    assert species_of(maps, ["species B", "Species a"], ["watched"]) == [1, 0, 2]
    with pytest.raises(TableError, match="no species 'Specis c'.*did you mean 'Species c'"):
        species_of(maps, ["Specis c"])
    with pytest.raises(TableError, match="no species 'Xyz'. They are called like 'Species a'"):
        species_of(maps, ["Xyz"])
    with pytest.raises(TableError, match="no group 'watch'.*did you mean 'watched'"):
        species_of(maps, [], ["watch"])


def test_images_are_replaced_only_when_told_to(maps: Maps, tmp_path: Path) -> None:
    export_species(maps, [0], tmp_path / "out")
    with pytest.raises(RunError, match=r"holds Species_a\.tif.*--overwrite"):
        export_species(maps, [0, 1], tmp_path / "out")
    export_species(maps, [0, 1], tmp_path / "out", overwrite=True)
    with pytest.raises(RunError, match="no species was named"):
        export_species(maps, [], tmp_path / "out")
