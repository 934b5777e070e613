from __future__ import annotations

import pytest

from predict.maps.worlds import make_study
from releve import pipeline
from releve.config import make_config
from releve.predict.maps.draw import Request, draw_maps
from releve.predict.maps.read import Maps
from releve.runs.folder import Run

CONTENT = {
    "data": {"modalities": ["covariates"]},
    "split": {"num_folds": 2, "block_size_km": 10.0, "buffer_km": 0.0},
    "model": {"modalities": ["covariates", "survey", "location"], "embedding_dim": 8, "hidden_dim": 8},
    "train": {
        "num_folds": 2,
        "kinds": ["network", "forest"],
        "refit": False,
        "epochs": 2,
        "batch_size": 16,
        "device": "cpu",
    },
    "forest": {"num_trees": 4},
}


@pytest.fixture(scope="session")
def world_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two folds of a network and a forest, of a study with rasters; read it, do not change it."""
    folder = tmp_path_factory.mktemp("world")
    study, config = make_study(folder), make_config(CONTENT, origin="test")
    return pipeline.train(config, pipeline.prepare(config, study, folder / "store"), folder / "run")


@pytest.fixture(scope="session")
def world_maps(world_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Maps:
    """All of its maps, of 3 x 4 tiles, one of them empty; read them, do not change them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("releve.predict.maps.grid.TILE_SIZES", {2**20: 16})
        return draw_maps(world_run.path, tmp_path_factory.mktemp("maps") / "maps", Request(), num_workers=1)
