"""Sample all rasters of a folder in units of one block; a process of its own, to be killed.

python sample_to_file.py FOLDER WORK OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from releve.ingest.config import RasterConfig
from releve.rasters import plan
from releve.rasters.layers import open_layers
from releve.rasters.sample import sample_layers


def main(folder: Path, work: Path, out: Path) -> None:
    plan.WINDOW_BYTES = plan.UNIT_BYTES = 1
    layers = open_layers([RasterConfig(file="*.tif", derive=("slope",))], folder)
    lon, lat = np.random.default_rng(0).uniform([10, 30], [26, 46], (20_000, 2)).T
    np.save(out, sample_layers(layers, lon, lat, work=work, num_workers=2).values)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
