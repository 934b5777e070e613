from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from drawn import UTM, write_maps
from releve.predict.maps.change import compare_maps
from releve.predict.maps.facts import Facts
from releve.predict.maps.read import Maps
from releve.rasters.grid import Grid
from releve.report.map_page import examples_of, named_classes, write_change_page, write_maps_page
from releve.report.map_pictures import STRIPE, Picture, draw_picture, read_thinned, scale_of, thinned

from .pages import Page


def pixels(svg: str) -> np.ndarray:
    """Return (H, W, 4) the picture inside an SVG element."""
    blob = max(re.findall(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)\"", svg), key=len)  # not the colour bar
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(blob))).convert("RGBA"))


@pytest.fixture
def maps(tmp_path: Path) -> Maps:
    """Five species, of 32, 16, 8, 4 and 2 training rows; the last row is outside, the first cell is sea."""
    probs = np.linspace(0.1, 0.9, 20 * 36 * 5, dtype=np.float32).reshape(20, 36, 5)
    probs[0, 0] = np.nan
    outside = np.zeros((20, 36), np.uint8)
    outside[19] = 1
    arrays = {"outside": outside, "mess": np.full((20, 36), -5.0), "most_dissimilar": np.ones((20, 36))}
    arrays |= {f"top_{rank}": np.full((20, 36), rank % 5) for rank in range(1, 11)}
    arrays |= {"watched:expected": probs[..., 1], "watched:any": probs[..., 1]}
    content = {"variables": ("rain", "lime <soil>"), "citations": ("A. Author (2020), Plots & more",)}
    return write_maps(tmp_path / "maps", probs, arrays=arrays, groups={"watched": (1,)}, **content)


def test_the_page_shows_every_product_and_says_how_to_read_it(maps: Maps) -> None:
    page = Page(write_maps_page(maps).read_text(encoding="utf-8"))
    assert page.addresses and all(each.startswith(("data:", "#")) for each in page.addresses)
    text = " ".join(" ".join(page.words).split())
    for product in maps.manifest.products.values():
        assert product.title in text and product.reading in text and product.file in text
    assert len(page.ids) == len(set(page.ids)) and page.source.count("<svg ") == len(maps.manifest.products) + 3
    assert "5 species in 719 cells of 1 × 1 km" in text and "100 m²" in text and "2020" in text
    assert "a note." in text and "A. Author (2020), Plots & more." in text
    assert "lime <soil>" in text, "the covariate that makes cells new"
    # 36 of 719 mapped cells.
    assert "5.0 % of the cells lie outside" in text


def test_examples_are_a_frequent_a_middling_and_a_rare_species(maps: Maps) -> None:
    assert examples_of(maps) == [0, 2, 4]
    text = " ".join(Page(write_maps_page(maps).read_text(encoding="utf-8")).words)
    assert "32 training rows with it" in text and "2 training rows with it" in text and "Species b." not in text
    text = " ".join(Page(write_maps_page(maps, [1]).read_text(encoding="utf-8")).words)
    assert "Species b." in text and "Species c." not in text and "Three of the species" not in text


def test_a_map_without_novelty_does_not_say_that_it_has_any(tmp_path: Path) -> None:
    maps = write_maps(tmp_path / "maps", np.full((20, 36, 1), 0.5, np.float32), facts=Facts())
    text = " ".join(Page(write_maps_page(maps).read_text(encoding="utf-8")).words)
    assert "Where the model guesses is not known" in text and "lie outside" not in text
    assert "as in training" in text and "The study names no citation" in text


def test_the_page_of_a_change_tells_both_maps_apart(tmp_path: Path) -> None:
    first = write_maps(tmp_path / "now", np.full((20, 36, 2), 0.5, np.float32))
    facts = Facts(100.0, None, 2050)
    second = write_maps(tmp_path / "then", np.full((20, 36, 2), 0.7, np.float32), facts=facts)
    change = compare_maps(first, second, tmp_path / "out")
    page = Page(write_change_page(change, tmp_path / "out").read_text(encoding="utf-8"))
    text = " ".join(" ".join(page.words).split())
    assert "2020 to 2050" in text and "in the map now and in the map then" in text and "Species gained" in text
    assert page.source.count("<svg ") == len(change.products) == 4 and "100 m² to" not in text


def test_a_picture_has_a_colour_where_there_is_a_number_and_stripes_outside() -> None:
    values = np.linspace(0, 1, 720).reshape(20, 36)
    values[:10, :18] = np.nan
    outside = np.zeros((20, 36), bool)
    outside[10:] = True
    shown = pixels(str(draw_picture(Picture(values, UTM, "share", outside), "x", "a map")))
    height, width = shown.shape[0] // 20, shown.shape[1] // 36
    assert height == width == 14
    assert (shown[: 10 * height, : 18 * width, 3] == 0).all(), "white where there is nothing"
    assert (shown[10 * height :, :, 3] == 255).all()
    grey = (np.abs(shown[..., :3] - np.array(STRIPE) * 255) <= 1).all(axis=-1)
    assert not grey[: 10 * height].any() and grey[10 * height :].mean() == pytest.approx(0.5, abs=0.01)


def test_rasters_that_run_upwards_are_drawn_with_north_above() -> None:
    values = np.zeros((20, 36))
    values[0] = 1
    up = Grid(UTM.crs, (1000.0, 0.0, 500_000.0, 0.0, 1000.0, 5_280_000.0), 20, 36, 16, 16)
    shown = [pixels(str(draw_picture(Picture(values, grid, "x"), "x", "x"))) for grid in (UTM, up)]
    np.testing.assert_array_equal(shown[0], shown[1][::-1])


def test_large_maps_are_thinned_and_species_lie_where_the_products_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("releve.report.map_pictures.MOST_PIXELS", 12)
    probs = np.linspace(0.1, 0.9, 720, dtype=np.float32).reshape(20, 36, 1)
    maps = write_maps(tmp_path / "maps", probs)
    small, step = thinned(maps.grid)
    assert (small.height, small.width, step) == (7, 12, 3) and small.transform[0] == 3000
    np.testing.assert_array_equal(maps.codes_of(0, step=3), maps.codes_of(0)[::3, ::3])
    window = rasterio.windows.Window(5, 2, 30, 17)
    np.testing.assert_array_equal(maps.codes_of(0, window, step=3), maps.codes_of(0)[2:19:3, 5:35:3])
    assert read_thinned(maps.path / "richness.tif").shape == (7, 12)


def test_what_shows_nothing_is_no_picture() -> None:
    assert draw_picture(Picture(np.full((20, 36), np.nan), UTM, "x"), "x", "x") is None
    assert scale_of(np.full(5, 3.0)) == (3.0, 4.0) and scale_of(np.zeros(3), has_sign=True) == (-1.0, 1.0)
    found, names = named_classes(np.full((2, 2), np.nan), ["a"])
    assert np.isnan(found).all() and names == []
