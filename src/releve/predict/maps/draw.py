"""Draw the maps of a run: tile by tile, in threads or by Dask workers, then the images; a killed call goes on."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import shapely

import releve
from releve.errors import RunError, StoreError
from releve.files import atomic_path, file_sha256, held_alone, json_text, write_json, write_text
from releve.ingest.units import notes_on_units
from releve.predict.maps.engine import NUM_TOP, Engine, Plan, TileWork, engine_for, make_engine, nothing_of
from releve.predict.maps.export import SPECIES_FOLDER, export_species, group_called, species_of
from releve.predict.maps.facts import Facts, typical_facts
from releve.predict.maps.geotiff import image_writer
from releve.predict.maps.grid import Bounds, Tile, centres_at, grid_for, tile_size, tiles_of
from releve.predict.maps.groups import find_species, read_groups
from releve.predict.maps.manifest import MANIFEST_FILE, REGION_FILE, SPECIES_FILE, TILES_FOLDER, Manifest, Product
from releve.predict.maps.pack import PackedTile
from releve.predict.maps.products import Image, images_of
from releve.predict.maps.read import Maps, open_maps
from releve.predict.maps.region import bounds_of_region, read_region
from releve.predict.maps.sparse import HELD, LIKELY, LOWEST
from releve.predict.training import training_of
from releve.progress import progress_bar, say
from releve.rasters.grid import Grid
from releve.rasters.plan import state_of
from releve.rasters.work import do_units, num_cores
from releve.runs.claim import identity_of
from releve.runs.folder import NOVELTY_FILE, Run, open_run
from releve.runs.provenance import write_provenance

PROBE_CELLS = 2_048
"""Cells that are looked at before a map is drawn: units, classes, time and size."""
LOCK_FILE = ".lock"
MEMBER_FILES = ("statistics.json", "weights.safetensors")
"""Of a run's member: what it predicts."""
NOWHERE = Grid("EPSG:4326", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 0, 0, 1, 1)
"""Until the rasters are known."""


@dataclass(frozen=True)
class Request:
    """What is asked of a map."""

    rasters: Path | None = None
    """Where covariates are taken from; by default the rasters that the run learned from."""
    bounds: Bounds | None = None
    region: Path | None = None
    """File with polygons; only cells with their centre in them are mapped."""
    resolution_m: float | None = None
    crs: str | None = None
    year: int | None = None
    area_m2: float | None = None
    groups: Path | None = None
    """File with species of indicators."""
    precision: str | None = None
    """fp32 or bf16; by default that of training."""
    species: tuple[str, ...] = ()
    """Species that get an image each, as do those of ``shown_groups``."""
    shown_groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """What a map will take."""

    num_cells: int
    """Of the grid."""
    num_mapped: int
    """Of them, those that will be mapped, as far as a sample tells."""
    num_tiles: int
    minutes: float
    num_bytes: dict[str, int]
    """Of the tiles, and of all images together."""
    memory_mb: int | None
    """As taken by the trial."""


@dataclass(frozen=True)
class _Prepared:
    run: Run
    engine: Engine
    region: shapely.Geometry | None
    notes: tuple[str, ...]


def draw_maps(
    run_path: Path,
    out: Path,
    request: Request,
    *,
    overwrite: bool = False,
    num_workers: int = 0,
    scheduler: str | None = None,
) -> Maps:
    """Return the maps of a run in a folder, drawn as far as they are not there yet.

    Parameters
    ----------
    run_path
        A trained run.
    out
        Folder of the maps. What an earlier call with the same request finished is kept.
    request
        What is mapped, and from what.
    overwrite
        Replace maps of another run or request.
    num_workers
        Threads, or processes of a local cluster; 0 means one a core.
    scheduler
        Address of a Dask scheduler whose workers see the same run and rasters, or ``local``.

    Raises
    ------
    RunError
        If the folder holds something else, or another process draws there.
    TableError
        If the run does not know a species or a group that is to be shown.
    RasterError
        If the rasters hold no covariate of the run or do not overlap the region.
    ReleveError
        If the disk is full or Dask does not answer.
    """
    started = time.monotonic()
    prepared = _prepare(run_path, request)
    identity = _identity(prepared, request)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with held_alone(out / LOCK_FILE, "draws maps"):
        _claim(out, identity, overwrite)
        maps = _begin(out, prepared, identity)
        for note in prepared.notes:
            say(note)
        if not maps.manifest.is_whole:
            _draw_tiles(maps, _plan_in(out, prepared, identity), num_workers, scheduler)
            maps = _finish(maps)
        if shown := species_of(maps, request.species, request.shown_groups):
            export_species(maps, shown, out / SPECIES_FOLDER, overwrite=True)
        facts: dict[str, Any] = {
            "run": str(Path(run_path).resolve()),
            "entries": sorted(path.name for path in out.iterdir()),
        }
        facts |= {"rasters": prepared.engine.plan.rasters}
        write_provenance(out, "map", started, request=_plain(asdict(request)), **facts)
    return maps


def estimate_maps(run_path: Path, request: Request, *, num_workers: int = 0) -> Estimate:
    """Return what maps will take, from a few cells on trial; nothing is written.

    Parameters
    ----------
    run_path, request, num_workers
        As of :func:`draw_maps`.
    """
    engine = _prepare(run_path, request).engine
    grid, tiles = engine.plan.grid, tiles_of(engine.plan.grid)
    picked = [tiles[index] for index in np.unique(np.linspace(0, len(tiles) - 1, 9).astype(int))]
    probes = [_middle(tile) for tile in picked]
    engine.draw(probes[0])  # what is slow once
    started = time.perf_counter()
    drawn = [engine.draw(probe) for probe in probes]
    seconds = time.perf_counter() - started
    num_probed = sum(probe.height * probe.width for probe in probes)
    num_cells, packed = grid.height * grid.width, [_opened(blob) for blob in drawn]
    mapped = sum(int(np.isfinite(tile.array("richness")).sum()) for tile in packed if not tile.is_empty) / num_probed
    array_bytes = sum(tile.num_cells * 4 * len(tile.arrays) for tile in packed if not tile.is_empty) / num_probed
    return Estimate(
        num_cells=num_cells,
        num_mapped=round(num_cells * mapped),
        num_tiles=len(tiles),
        minutes=seconds / num_probed * num_cells / (num_workers or num_cores()) / 60,
        num_bytes={
            "tiles": round(sum(map(len, drawn)) / num_probed * num_cells),
            "images": round(array_bytes * num_cells / 2),
        },
        memory_mb=_memory_mb(),
    )


def _middle(tile: Tile) -> Tile:
    """Return a part of a tile to try."""
    height, width = min(tile.height, 32), min(tile.width, 64)
    return Tile(tile.row + (tile.height - height) // 2, tile.column + (tile.width - width) // 2, height, width)


def _opened(blob: bytes) -> PackedTile:
    return PackedTile(io.BytesIO(blob))


def _memory_mb() -> int | None:
    """Return the most memory that this process took; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)


def _prepare(run_path: Path, request: Request) -> _Prepared:
    """Return the engine of a request, and what there is to say before it starts."""
    run = open_run(run_path)
    facts = typical_facts(run, year=request.year, area_m2=request.area_m2)
    region = None if request.region is None else read_region(request.region)
    bounds = request.bounds if region is None else bounds_of_region(region)
    if region is not None and request.bounds is not None:
        raise RunError("--bounds and --region were both given", expected="one of them")
    rasters = None if request.rasters is None else str(Path(request.rasters).resolve())
    plan = Plan(str(Path(run_path).resolve()), NOWHERE, facts, rasters, precision=request.precision)
    engine = make_engine(run, plan)
    grid = grid_for(
        engine.layers,
        bounds,
        tile_size=tile_size(len(run.species)),
        resolution_m=request.resolution_m,
        crs=request.crs,
    )
    groups = () if request.groups is None else read_groups(request.groups, run.species)
    for name in request.species:
        find_species(name, run.species.astype(str).tolist(), where="the run")
    for name in request.shown_groups:
        group_called(name, dict(groups))
    engine = replace(engine, plan=replace(plan, grid=grid, groups=groups))
    return _Prepared(run, engine, region, (*_facts_set(run, facts), *_look_at_rasters(engine, region)))


def _facts_set(run: Run, facts: Facts) -> list[str]:
    """Return what of a survey was set, because nobody knows it of a cell."""
    if "survey" not in run.config.model.modalities:
        return []
    names = {"area_m2": "a plot of {:g} m²", "uncertainty_m": "its place known to {:g} m", "year": "the year {}"}
    told = [text.format(getattr(facts, name)) for name, text in names.items() if getattr(facts, name) is not None]
    return [f"Each cell is predicted as {', '.join(told)}; its country and region are taken as unknown"] if told else []


def _look_at_rasters(engine: Engine, region: shapely.Geometry | None) -> list[str]:
    """Return what is amiss with the covariates of some cells of the map.

    Raises
    ------
    RasterError
        Where it is so amiss that there is nothing to map.
    """
    run, table = engine.run, engine.run.models[0].statistics.tables.get("covariates")
    notes: list[str] = []
    if table is None:
        return notes
    if lacking := [name for name in table.columns if name not in engine.columns]:
        shown = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} others" if len(lacking) > 5 else "")
        notes.append(f"The rasters lack {len(lacking)} of {len(table.columns)} covariates ({shown}): taken as missing")
    lon, lat = _some_places(engine, region)
    if not len(lon):
        return notes
    values = engine.describe(lon, lat)
    empty = [name for name, column in values.items() if not np.isfinite(column).any()]
    if empty and len(empty) < len(values):
        notes.append(f"No cell looked at has a value in {', '.join(empty[:5])}")
    training = training_of(run)
    known = {name: column for name, column in values.items() if name in training.quantiles}
    notes += notes_on_units(known, training.quantiles)
    for name, codes in training.codes.items():
        if name in values and (unseen := np.setdiff1d(values[name][np.isfinite(values[name])], codes)).size:
            share = float(np.isin(values[name], unseen).mean())
            notes.append(f"{name} has {unseen.size} classes that training did not see, in {share:.0%} of the cells")
    return notes


def _some_places(engine: Engine, region: shapely.Geometry | None) -> tuple[np.ndarray, np.ndarray]:
    """Return longitude and latitude of cells drawn over the map, those in the region."""
    grid = engine.plan.grid
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(0, grid.height, PROBE_CELLS), rng.integers(0, grid.width, PROBE_CELLS)
    lon, lat = centres_at(grid, rows, columns)
    inside = np.isfinite(lon) & np.isfinite(lat)
    if region is not None:
        inside &= shapely.contains_xy(region, lon, lat)
    return lon[inside], lat[inside]


def _identity(prepared: _Prepared, request: Request) -> dict[str, Any]:
    """Return all that the tiles' bytes depend on."""
    engine = prepared.engine
    plan = asdict(replace(engine.plan, run="", region=None))
    return _plain(
        plan
        | {
            "rasters": [[str(layer), state_of(layer.source)] for layer in engine.layers],
            "run": _digest_of(prepared.run),
            "region": None if prepared.region is None else hashlib.sha256(prepared.region.wkb).hexdigest(),
        }
    )


def _digest_of(run: Run) -> str:
    """Return a name for all of a run that what it predicts depends on."""
    members = [run.path / member.name / name for member in run.members for name in MEMBER_FILES]
    files = [file for file in (run.path / "decision.json", run.path / NOVELTY_FILE, *members) if file.is_file()]
    facts = [identity_of(run.config), list(map(_digest_of, run.parts)), list(map(file_sha256, files))]
    return hashlib.sha256(json_text(facts).encode()).hexdigest()


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json_text(dict(value)))


def _claim(out: Path, identity: dict[str, Any], overwrite: bool) -> None:
    """Make sure that a folder is empty or holds these very maps; or make it so."""
    others = sorted(path.name for path in out.iterdir() if path.name != LOCK_FILE)
    if not others:
        return
    if not (out / MANIFEST_FILE).is_file():
        if _is_hardly_begun(out, others):
            return
        raise RunError(f"{out} holds no maps but {others[:3]}", action="Give another --out")
    try:
        differs = [
            key
            for key, value in open_maps(out, unfinished=True).manifest.identity.items()
            if identity.get(key) != value
        ]
    except StoreError:
        differs = ["format"]
    if not differs:
        return
    if not overwrite:
        raise RunError(
            f"{out} holds maps of another {' and '.join(differs)}",
            action="Give another --out, or --overwrite to replace them",
        )
    ours = {MANIFEST_FILE, REGION_FILE, SPECIES_FILE, TILES_FOLDER, "run.json", "maps.html", SPECIES_FOLDER}
    foreign = [name for name in others if name not in ours and not name.endswith((".tif", ".part", ".csv", ".gpkg"))]
    if foreign:
        raise RunError(
            f"{out} holds {foreign[:5]}, which no map wrote", action="Move it elsewhere, or give another --out"
        )
    for name in others:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_hardly_begun(out: Path, names: list[str]) -> bool:
    """Return whether a folder holds nothing but what a call that was killed at once had written."""
    first = (TILES_FOLDER, REGION_FILE, SPECIES_FILE)
    ours = all(name in first or (name.startswith(".") and name.endswith(".part")) for name in names)
    return ours and not ((out / TILES_FOLDER).is_dir() and any((out / TILES_FOLDER).iterdir()))


def _plan_in(out: Path, prepared: _Prepared, identity: dict[str, Any]) -> Plan:
    """Return the plan, the region's file in it."""
    state = hashlib.sha256(json_text(identity).encode()).hexdigest()
    region = None if prepared.region is None else str((out / REGION_FILE).resolve())
    return replace(prepared.engine.plan, region=region, state=state)


def _begin(out: Path, prepared: _Prepared, identity: dict[str, Any]) -> Maps:
    """Return maps that are begun: what they are is written before the first tile."""
    if (out / MANIFEST_FILE).is_file():
        return open_maps(out, unfinished=True)
    run, plan = prepared.run, prepared.engine.plan
    (out / TILES_FOLDER).mkdir(exist_ok=True)
    if prepared.region is not None:
        with atomic_path(out / REGION_FILE) as partial:
            partial.write_bytes(prepared.region.wkb)
    known = run.models[0].statistics
    table = pl.DataFrame({"species": run.species.astype(str), "num_positives": known.num_positives})
    write_text(out / SPECIES_FILE, table.with_row_index("species_index").write_csv())
    manifest = Manifest(
        releve=releve.__version__,
        identity=identity,
        title=run.config.title,
        num_species=len(run.species),
        grid=plan.grid,
        facts=plan.facts,
        rule="" if run.config.is_of_records_alone else run.decision.rule,
        settings={
            "lowest_probability": LOWEST,
            "likely_from": LIKELY,
            "held_share": HELD,
            "precision": plan.precision or run.config.train.precision,
        },
        notes=prepared.notes,
        citations=citations_of(run),
        groups={name: species for name, species in plan.groups},
        variables=prepared.engine.novelty.variables,
    )
    write_json(out / MANIFEST_FILE, manifest.model_dump(mode="json"))
    return open_maps(out, unfinished=True)


def citations_of(run: Run) -> tuple[str, ...]:
    """Return how the data that a run learned from are to be cited, as far as its study says so."""
    found = []
    for part in run.parts or (run,):
        with contextlib.suppress(StoreError, OSError):  # its store may be gone
            provenance = json.loads((part.store.path / "run.json").read_text(encoding="utf-8"))
            found.append(str(provenance.get("citation", "")))
    return tuple(dict.fromkeys(filter(None, found)))


def _draw_tiles(maps: Maps, plan: Plan, num_workers: int, scheduler: str | None) -> None:
    """Draw the tiles that are not there yet."""
    waiting = [tile for tile in maps.tiles if not maps.tile_path(tile).is_file()]
    if scheduler is None:
        engine_for(plan)  # before threads ask for it
    with progress_bar() as bar:
        task = bar.add_task("tiles", total=len(maps.tiles), completed=len(maps.tiles) - len(waiting))
        works = [TileWork(plan, tile) for tile in waiting]
        for index, array in do_units(works, None, num_workers, scheduler):
            with atomic_path(maps.tile_path(waiting[index])) as partial:
                partial.write_bytes(array.tobytes())
            bar.advance(task)


def _finish(maps: Maps) -> Maps:
    """Return maps with their images and what they come to."""
    arrays = _arrays_of(maps)
    images = images_of(arrays, NUM_TOP, maps.manifest.groups)
    num_cells = num_kept = 0
    with ExitStack() as stack:
        writers = {}
        for image in images:
            dtype = arrays[image.arrays[0]]
            writers[image.name] = stack.enter_context(
                image_writer(
                    maps.path / f"{image.name}.tif",
                    maps.grid,
                    dtype.name,
                    image.arrays,
                    nodata=nothing_of(dtype),
                    resampling=image.resampling,
                    tags=_tags(image, maps.manifest),
                )
            )
        with progress_bar() as bar:
            for tile in bar.track(maps.tiles, description="images"):
                with maps.tile_path(tile).open("rb") as handle:
                    packed = PackedTile(handle)
                    if packed.is_empty:
                        continue
                    counts, _, _ = packed.cells()
                    num_kept += int(counts.sum())
                    num_cells += int(np.isfinite(packed.array("richness")).sum())
                    for image in images:
                        for band, name in enumerate(image.arrays, 1):
                            writers[image.name].write(tile, band, packed.array(name))
    products = {}
    for image in images:
        file = maps.path / f"{image.name}.tif"
        products[image.name] = Product(
            file=file.name,
            title=image.title,
            unit=image.unit,
            bands=image.arrays,
            reading=image.reading,
            nodata=_written(nothing_of(arrays[image.arrays[0]])),
            num_bytes=file.stat().st_size,
            sha256=file_sha256(file),
        )
    update = {"is_whole": True, "num_cells": num_cells, "num_kept": num_kept, "products": products}
    manifest = maps.manifest.model_copy(update=update)
    write_json(maps.path / MANIFEST_FILE, manifest.model_dump(mode="json"))
    return Maps(maps.path, manifest)


def _tags(image: Image, manifest: Manifest) -> dict[str, str]:
    """Return what is written into an image."""
    tags = {"title": image.title, "unit": image.unit, "reading": image.reading, "run": manifest.title}
    if image.name == "most_dissimilar":
        tags["covariates"] = ", ".join(f"{number} {name}" for number, name in enumerate(manifest.variables))
    return tags


def _written(nodata: float) -> float | None:
    """Return what stands for no value as JSON can hold it: None for NaN."""
    return None if nodata != nodata else nodata


def _arrays_of(maps: Maps) -> dict[str, np.dtype]:
    """Return the arrays that tiles hold, and their types.

    Raises
    ------
    RunError
        If no tile holds any.
    """
    for tile in maps.tiles:
        with maps.tile_path(tile).open("rb") as handle:
            packed = PackedTile(handle)
            if not packed.is_empty:
                return {name: packed.dtype(name) for name in packed.arrays}
    raise RunError(
        f"no cell of {maps.path} can be mapped: the rasters have no data there, or the region holds no cell's centre",
        action="Look at --bounds, --region and --resolution",
    )
