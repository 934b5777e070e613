"""``releve map`` killed at random moments, and by Dask workers of which one is lost: the same bytes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import Commands
from predict.maps.test_draw import contents
from predict.maps.worlds import CELL
from releve.predict.maps import draw
from releve.predict.maps.draw import Request, draw_maps
from releve.predict.maps.grid import METRES_A_DEGREE
from releve.rasters.work import do_units
from releve.runs.folder import Run

TILE, NUM_TILES, RESOLUTION_M = 16, 10 * 13, CELL / 4 * METRES_A_DEGREE


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_byte(commands: Commands, world_run: Run, tmp_path: Path) -> None:
    arguments = ("map", world_run.path, "--resolution", RESOLUTION_M, "--out")
    assert commands.run(*arguments, tmp_path / "whole", tile_size=TILE).code == 0
    rng, out = np.random.default_rng(), tmp_path / "resumed"
    tiles = out / "tiles"
    for kill in range(10):
        before = len(list(tiles.glob("*.tile"))) if tiles.is_dir() else 0
        target = min(before + int(rng.integers(1, NUM_TILES // 8)), NUM_TILES)
        process = commands.start(*arguments, out, tile_size=TILE)
        deadline = time.monotonic() + 300
        while kill and time.monotonic() < deadline and len(list(tiles.glob("*.tile"))) < target:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 2.0 if not kill else 0.1))
        commands.kill(process)
    drawn = {file: file.stat().st_mtime_ns for file in tiles.glob("*.tile")}
    assert len(drawn) >= 9
    done = commands.run(*arguments, out, tile_size=TILE)
    assert done.code == 0, done.stderr
    assert contents(out) == contents(tmp_path / "whole")
    assert {file: file.stat().st_mtime_ns for file in drawn} == drawn


@pytest.mark.slow
def test_a_second_command_is_refused_while_the_first_one_draws(
    commands: Commands, world_run: Run, tmp_path: Path
) -> None:
    arguments = ("map", world_run.path, "--resolution", RESOLUTION_M, "--out", tmp_path / "maps")
    first = commands.start(*arguments, tile_size=TILE)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not list((tmp_path / "maps").glob("tiles/*.tile")):
        time.sleep(0.002)
    os.kill(first, signal.SIGSTOP)
    try:
        second = commands.run(*arguments, tile_size=TILE)
    finally:
        os.kill(first, signal.SIGCONT)
    assert second.code == 2 and "another process draws maps" in second.stderr.replace("\n", " ")
    commands.wait(first)
    assert commands.run(*arguments, tile_size=TILE).code == 0  # whole: there is nothing left to do


@pytest.mark.slow
def test_a_lost_worker_of_three_changes_no_byte(
    world_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed: Any = pytest.importorskip("distributed")
    monkeypatch.setattr("releve.predict.maps.grid.TILE_SIZES", {2**20: 16})
    draw_maps(world_run.path, tmp_path / "whole", Request(resolution_m=2 * RESOLUTION_M), num_workers=1)
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(n_workers=3, **options) as cluster, distributed.Client(cluster) as client:
        pids, killed = list(client.run(os.getpid).values()), []

        def losing(*arguments: Any) -> Any:
            for number, done in enumerate(do_units(*arguments)):
                yield done
                if number == 8:
                    os.kill(pids[0], signal.SIGKILL)
                    killed.append(pids[0])

        monkeypatch.setattr(draw, "do_units", losing)
        draw_maps(
            world_run.path,
            tmp_path / "by_dask",
            Request(resolution_m=2 * RESOLUTION_M),
            scheduler=cluster.scheduler_address,
        )
    assert killed and contents(tmp_path / "by_dask") == contents(tmp_path / "whole")
