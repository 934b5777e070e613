"""A map of what holds a species back: for each cell the covariate whose change would help it most."""

# N cells, T subjects

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from releve.errors import RunError
from releve.explain.limiting import Typical, limiting_factors, typical_values
from releve.explain.response import name_of
from releve.explain.subjects import Subject
from releve.files import file_sha256
from releve.predict.maps.engine import Plan, engine_for
from releve.predict.maps.geotiff import image_writer
from releve.predict.maps.grid import Tile
from releve.predict.maps.manifest import REGION_FILE, Product
from releve.predict.maps.read import Maps
from releve.progress import progress_bar, quiet_progress
from releve.rasters.work import do_units
from releve.runs.folder import Run, open_run

CELLS_AT_ONCE = 2_000


@dataclass(frozen=True)
class LimitingWork:
    """A tile to be worked on by a thread."""

    plan: Plan
    tile: Tile
    subjects: tuple[Subject, ...]

    def key(self) -> str:
        """Return its name."""
        return self.tile.name

    def read(self) -> NDArray[np.float32]:
        """Return (2 T, cells): of each subject the limiting covariate, then how much its change adds; NaN where none.

        -1 stands where no change of one covariate helps.
        """
        engine, (row, column) = engine_for(self.plan), (self.tile.height, self.tile.width)
        found = np.full((2 * len(self.subjects), row * column), np.nan, np.float32)
        torch.set_num_threads(1)  # tiles are worked on side by side
        with quiet_progress():
            cells, lon, lat, values = engine.cells_of(self.tile)
            for first in range(0, len(cells), CELLS_AT_ONCE):
                at = slice(first, first + CELLS_AT_ONCE)
                store = engine.store_of(lon[at], lat[at], {name: column[at] for name, column in values.items()})
                typical = _typical(self.plan.run, self.subjects)
                limits = limiting_factors(engine.run, store, np.arange(len(store)), self.subjects, typical=typical)
                found[::2, cells[at]] = limits.factor_NT.T
                found[1::2, cells[at]] = (limits.raised_NT - limits.response_NT).T
        return found


@lru_cache(maxsize=4)
def _typical(run: str, subjects: tuple[Subject, ...]) -> Typical:
    return typical_values(open_run(Path(run)), subjects)


def draw_limiting(maps: Maps, subjects: Sequence[Subject], out: Path) -> list[Product]:
    """Return images, written into a folder, of what limits each subject on a map.

    The first band is a number of a covariate (the tags say which; -1: no change of one covariate helps), the second how
    much higher the probability, or the expected number of species, would be with its usual value. Every cell is
    predicted as often as there are covariates, so that coarse maps are to be preferred.

    Parameters
    ----------
    maps
        Drawn maps, whose run and its rasters are still there.
    subjects
        Columns of species, or None for the community.
    out
        The folder; it is made.

    Raises
    ------
    RunError
        If the run of the maps is no longer there.
    """
    plan = plan_of(maps)
    run = open_run(Path(plan.run))
    engine_for(plan)
    variables = _typical(plan.run, tuple(subjects)).variables
    works = [LimitingWork(plan, tile, tuple(subjects)) for tile in maps.tiles]
    tags = {"covariates": ", ".join(f"{number} {each.name}" for number, each in enumerate(variables))}
    files = [out / f"limiting_{_file_name(run, subject)}.tif" for subject in subjects]
    bands = ("limiting covariate", "gain if it were usual")
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack, progress_bar() as bar:
        options = {"nodata": float("nan"), "resampling": "nearest", "tags": tags}
        writers = [
            stack.enter_context(image_writer(file, maps.grid, "float32", bands, **options))  # type: ignore[arg-type]
            for file in files
        ]
        task = bar.add_task("limiting factors", total=len(works))
        for index, found in do_units(works, None):
            for subject, writer in enumerate(writers):
                for band in (0, 1):
                    writer.write(maps.tiles[index], band + 1, found[2 * subject + band])
            bar.advance(task)
    return [_product(run, subject, file, bands) for subject, file in zip(subjects, files, strict=True)]


def plan_of(maps: Maps) -> Plan:
    """Return the plan that maps were drawn by.

    Raises
    ------
    RunError
        If the run is no longer there.
    """
    told = json.loads((maps.path / "run.json").read_text(encoding="utf-8"))
    run, request, region = Path(told["run"]), told["request"], maps.path / REGION_FILE
    if not (run / "run.json").is_file():
        raise RunError(
            f"the run {run} that maps {maps.path} were drawn of is no longer there", action="Draw them again"
        )
    return Plan(
        str(run),
        maps.grid,
        maps.manifest.facts,
        told["rasters"],
        str(region.resolve()) if region.is_file() else None,
        precision=request["precision"],
    )


def _file_name(run: Run, subject: Subject) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in str(name_of(run, subject)))


def _product(run: Run, subject: Subject, file: Path, bands: tuple[str, ...]) -> Product:
    return Product(
        file=file.name,
        title=f"What limits {name_of(run, subject)}",
        unit="number of a covariate; probability or species",
        bands=bands,
        reading="The covariate whose change to where the species grows would raise its probability most, as the model "
        "sees it: of one change alone, and not a cause.",
        num_bytes=file.stat().st_size,
        sha256=file_sha256(file),
    )
