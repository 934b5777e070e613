"""A map of limiting factors says of each cell what is said of a place in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from releve.errors import RunError
from releve.explain.limiting import limiting_factors
from releve.explain.limiting_map import draw_limiting, plan_of
from releve.predict.maps.engine import engine_for
from releve.predict.maps.grid import Tile
from releve.predict.maps.read import Maps, open_maps


def test_cells_have_the_factor_of_their_place(world_maps: Maps, tmp_path: Path) -> None:
    subjects = (None, 2)
    products = draw_limiting(world_maps, subjects, tmp_path)
    engine, grid = engine_for(plan_of(world_maps)), world_maps.grid
    cells, lon, lat, values = engine.cells_of(Tile(0, 0, grid.height, grid.width))
    store = engine.store_of(lon, lat, values)
    expected = limiting_factors(engine.run, store, np.arange(len(store)), subjects)
    for at, product in enumerate(products):
        with rasterio.open(tmp_path / product.file) as dataset:
            factor, gain = (dataset.read(band).ravel() for band in (1, 2))
            assert dataset.tags()["covariates"].startswith("0 ")
        assert np.isfinite(factor).sum() == len(cells) < grid.height * grid.width
        added = expected.raised_NT[:, at] - expected.response_NT[:, at]
        np.testing.assert_allclose(gain[cells], added, atol=1e-5)
        clear = added > 1e-4  # two covariates may help as much
        assert clear.any() and (factor[cells][clear] == expected.factor_NT[clear, at]).mean() > 0.99
    assert products[0].title == "What limits expected richness" and "Poa c" in products[1].title


def test_maps_whose_run_is_gone_say_so(world_maps: Maps, tmp_path: Path) -> None:
    shutil.copytree(world_maps.path, tmp_path / "maps")
    file = tmp_path / "maps" / "run.json"
    file.write_text(file.read_text().replace("/run", "/gone"))
    with pytest.raises(RunError, match="no longer there"):
        plan_of(open_maps(tmp_path / "maps"))
