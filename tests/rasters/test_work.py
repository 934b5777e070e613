from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rasters.fakes import write_raster
from releve.errors import RasterError, ReleveError
from releve.ingest.config import RasterConfig
from releve.rasters import plan, work
from releve.rasters.layer import Layer
from releve.rasters.layers import open_layers
from releve.rasters.sample import sample_layers

distributed: Any = pytest.importorskip("distributed")
SCRIPT = Path(__file__).with_name("sample_to_file.py")


def stack(folder: Path, side: int = 128) -> Path:
    """Write two files, of three bands and of one, each of 16 x 16 degrees in tiles."""
    rng = np.random.default_rng(1)
    options = {
        "north": 46.0,
        "cell": 16 / side,
        "tiled": True,
        "blockxsize": 16,
        "blockysize": 16,
        "compress": "deflate",
    }
    write_raster(folder / "three.tif", rng.normal(size=(3, side, side)).astype("float32"), **options)
    write_raster(folder / "one.tif", rng.integers(0, 900, (side, side)).astype("int16"), **options)
    return folder


def some_places(number: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    lon, lat = np.random.default_rng(2).uniform([9, 29], [27, 47], (number, 2)).T
    return lon, lat


def layers_of(folder: Path) -> tuple[Layer, ...]:
    return open_layers([RasterConfig(file="*.tif", derive=("slope",))], folder)


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_byte(tmp_path: Path) -> None:
    folder, kept = stack(tmp_path / "rasters"), tmp_path / "work"
    whole, resumed = tmp_path / "whole.npy", tmp_path / "resumed.npy"
    subprocess.run([sys.executable, SCRIPT, folder, tmp_path / "other", whole], check=True)
    num_units = len(list((tmp_path / "other").glob("*.npy")))
    rng = np.random.default_rng()
    for _ in range(10):
        target = len(list(kept.glob("*.npy"))) + int(rng.integers(1, num_units // 20))
        with subprocess.Popen([sys.executable, SCRIPT, folder, kept, resumed]) as process:
            while process.poll() is None and len(list(kept.glob("*.npy"))) < target:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
            process.kill()
        assert process.wait() == -signal.SIGKILL, "the process ended before it was killed"
    before = {path: path.stat().st_mtime_ns for path in kept.glob("*.npy")}
    assert 10 <= len(before) < num_units
    subprocess.run([sys.executable, SCRIPT, folder, kept, resumed], check=True)
    assert resumed.read_bytes() == whole.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(kept.iterdir())) == num_units


@pytest.mark.slow
def test_a_lost_worker_of_three_loses_no_finished_work_and_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "WINDOW_BYTES", 1)
    monkeypatch.setattr(plan, "UNIT_BYTES", 1)
    layers, (lon, lat) = layers_of(stack(tmp_path)), some_places()
    whole = sample_layers(layers, lon, lat)
    kept = tmp_path / "work"
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(n_workers=3, **options) as cluster, distributed.Client(cluster) as client:
        pids = list(client.run(os.getpid).values())
        done_before: dict[Path, int] = {}

        def kill_one(done: int, total: int) -> None:
            if done == total // 3:
                done_before.update({path: path.stat().st_mtime_ns for path in kept.glob("*.npy")})
                os.kill(pids[0], signal.SIGKILL)

        address = cluster.scheduler_address
        sampled = sample_layers(layers, lon, lat, work=kept, scheduler=address, advance=kill_one)
    assert len(done_before) > 20
    assert {path: path.stat().st_mtime_ns for path in done_before} == done_before
    assert sampled.values.tobytes() == whole.values.tobytes()
    assert len(list(kept.glob("*.npy"))) > 2 * len(done_before)


@pytest.mark.slow
def test_a_cluster_on_this_machine_gives_the_same_values(tmp_path: Path) -> None:
    layers, (lon, lat) = layers_of(stack(tmp_path)), some_places()
    whole = sample_layers(layers, lon, lat)
    sampled = sample_layers(layers, lon, lat, scheduler="local", num_workers=2)
    assert sampled.values.tobytes() == whole.values.tobytes()
    content = (tmp_path / "three.tif").read_bytes()
    (tmp_path / "three.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(RasterError, match="three.tif cannot be read"):
        sample_layers(layers, lon, lat, scheduler="local", num_workers=1)


def test_an_address_where_no_scheduler_answers_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "ANSWER_S", 1)
    layers, (lon, lat) = layers_of(stack(tmp_path)), some_places(10)
    for address in ("tcp://127.0.0.1:9", "nonsense"):
        with pytest.raises(ReleveError, match=f"no Dask scheduler answers at {address}.*tcp://"):
            sample_layers(layers, lon, lat, scheduler=address)


def test_without_dask_its_installation_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    layers, (lon, lat) = layers_of(stack(tmp_path)), some_places(10)
    with pytest.raises(ReleveError, match=r'pip install "releve\[dask\]"'):
        sample_layers(layers, lon, lat, scheduler="local")
