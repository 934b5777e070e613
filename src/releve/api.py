"""What the commands do, from Python: tables go in and come out as frames of polars, pandas or geopandas.

Neither pandas nor geopandas is needed; whoever hands in a frame of theirs has them.
"""

from __future__ import annotations

import atexit
import json
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from releve import pipeline
from releve.config import apply_override, make_config
from releve.discover.document import study_text
from releve.discover.study import look_through
from releve.errors import RunError, StoreError, TableError
from releve.files import write_parquet, write_text
from releve.ingest.study import Study, load_study
from releve.predict.seen import read_seen
from releve.predict.tables import predict_lists, species_column, store_for_prediction
from releve.progress import say
from releve.runs.folder import Run
from releve.store.read import Store
from releve.study.settings import settings_for

TABLES = ("plots", "records", "covariates", "rasters", "series")
"""Parts of a study of which there may be several."""


def read_study(source: str | Path | Mapping[str, Any], *, folder: str | Path | None = None) -> Study:
    """Return a study from its file, from the folder of its data, or from frames.

    A study that has no file gets one: a study.toml, and beside it the frames as parquet.

    Parameters
    ----------
    source
        A ``study.toml``; a folder, which is looked through as by ``releve init`` where it holds no such file; or what
        stands under ``[study]`` in one, as a dictionary. There, a frame may stand wherever a file is named, and a frame
        or file alone is short for ``[{"file": ...}]``. Files are named from the working directory.
    folder
        Where study.toml and frames are written; by default a temporary folder, which is gone when Python ends.

    Raises
    ------
    TableError
        If a folder holds neither plots nor records, or a frame's shapes are no points.
    ConfigError
        If a key is unknown or a value is impossible.

    Examples
    --------
    >>> plots = pl.DataFrame({"plot": ["a", "a", "b"], "lon": [5.1, 5.1, 5.3], "lat": [45.0, 45.0, 45.2],
    ...                       "species": ["Carex flacca", "Poa annua", None], "pH": [7.1, 7.1, 5.2]})
    >>> study = read_study({"plots": {"file": plots, "covariates": ["pH"]}})
    >>> study.splits, study.species["name"].to_list()
    (('train',), ['Carex flacca', 'Poa annua'])
    """
    if not isinstance(source, Mapping):
        path = Path(source)
        if not path.is_dir() or (path / "study.toml").is_file():
            return load_study(path / "study.toml" if path.is_dir() else path)
        described = tomllib.loads(study_text(look_through(path), Path.cwd()))["study"]
    else:
        described = source
    made = _temporary_folder() if folder is None else Path(folder)
    made.mkdir(parents=True, exist_ok=True)
    lines = [f"{key} = {_toml(value)}" for key, value in _described(described, made).items()]
    write_text(made / "study.toml", "\n".join(["[study]", *lines]) + "\n")
    return load_study(made / "study.toml")


def prepare_study(
    study: Study,
    out: str | Path,
    *,
    recipe: str | Path | None = None,
    settings: Sequence[str] = (),
    seed: int = 0,
    overwrite: bool = False,
) -> Store:
    """Return a store of a study, as ``releve prepare`` builds it in the folder ``out``.

    Parameters
    ----------
    study
        As of :func:`read_study`.
    out
        Folder of the store.
    recipe
        A TOML file; by default settings are chosen from the data, and said.
    settings
        Changes such as ``"train.epochs=5"``.
    seed
        Of everything random.
    overwrite
        Replace a store that was prepared otherwise.

    Raises
    ------
    ReleveError
        As of the command.
    """
    chosen = settings_for(study, None if recipe is None else Path(recipe), settings)
    for reason in chosen.reasons:
        say(reason)
    options: dict[str, Any] = {"seed": seed, "overwrite": overwrite, "reasons": chosen.reasons, "source": study}
    return pipeline.prepare(chosen.config, study.path, Path(out), **options)


def train_run(
    store: Store,
    out: str | Path,
    *,
    settings: Sequence[str] = (),
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
) -> Run:
    """Return a run on a store, as ``releve train`` makes it in the folder ``out``.

    Parameters
    ----------
    store
        As of :func:`prepare_study`; it knows its recipe.
    out
        Folder of the run.
    settings
        Changes such as ``"train.epochs=5"``.
    seed
        Of the members.
    resume, overwrite
        Go on with a run that was stopped; or start over.

    Raises
    ------
    ReleveError
        As of the command.
    """
    file = store.path / "run.json"
    if not file.is_file():
        raise StoreError(f"store {store.path} does not say what it was prepared by", action="Prepare it again")
    recipe = json.loads(file.read_text(encoding="utf-8"))["config"]
    for text in settings:
        apply_override(recipe, text)
    config = make_config(recipe, origin=str(file))
    return pipeline.train(config, store, Path(out), seed=seed, resume=resume, overwrite=overwrite)


def evaluate_run(run: Run) -> pl.DataFrame:
    """Return the scores of a run and of reference models on held-out blocks, a row each; write its report.html."""
    return pipeline.evaluate(run).table()


def explain_run(
    run: Run,
    *,
    species: Sequence[str] = (),
    variables: Sequence[str] = (),
    pairs: Sequence[tuple[str, str]] = (),
    plot: str | None = None,
    seed: int = 0,
) -> dict[str, pl.DataFrame]:
    """Return what drives a run, as tables by name; nothing is written.

    Parameters
    ----------
    run
        A trained run.
    species
        Names, or official ids where species have none; by default the community.
    variables
        Whose response curves are wanted beside those of the most important ones.
    pairs
        Pairs of variables whose joint response is wanted.
    plot
        Id of a survey whose patch and series are looked at.
    seed
        Of everything that is drawn.

    Returns
    -------
    dict
        The tables of ``releve explain``, see docs/explain.md: ``importance``, ``species``, ``correlated``, ``curves``,
        ``lines``, ``distribution``, ``optima``, and where there is something in them ``species_importance``, ``pairs``,
        ``limiting``, ``saliency``.

    Raises
    ------
    RunError
        As of the command.
    """
    from releve.explain.explain import Asked, explain

    asked = Asked(tuple(species), tuple(variables), tuple(pairs), plot)
    return explain(run, asked, seed=seed).tables


def predict_places(
    run: Run,
    places: Any,
    *,
    rasters: str | Path | None = None,
    crs: str | None = None,
    seen: str | None = None,
) -> Any:
    """Return how likely each species grows at places, and which are in a place's list.

    Parameters
    ----------
    run
        A trained run.
    places
        A frame, or the file of a table, with longitude and latitude (or a geometry) for each place; also an id, date
        and covariates, as of ``releve predict --data``.
    rasters
        Where covariates are taken from that the table lacks: a folder, a file or a study.toml; by default the rasters
        that the run learned from.
    crs
        Of the coordinates, where they are no degrees; a geometry knows its own.
    seen
        Column of species that are known to be there, separated by ``;``.

    Returns
    -------
    frame of the kind of ``places``
        ``surveyId``, ``species`` (``speciesId``, where species have no names), ``probability``, ``listed``: of each
        place the likelier species, best first, and all that are in its list. Probabilities below 0.001 are 0.

    Raises
    ------
    TableError
        As of the command.
    """
    if isinstance(places, (str, Path)):
        return _predict(run, Path(places), rasters, crs, seen)
    with tempfile.TemporaryDirectory(prefix="releve-") as folder:
        file = Path(folder) / "places.parquet"
        write_parquet(file, to_polars(places))
        return _like(_predict(run, file, rasters, crs, seen), places)


def _predict(run: Run, file: Path, rasters: str | Path | None, crs: str | None, seen: str | None) -> pl.DataFrame:
    if not file.is_file() or file.suffix.lower() == ".toml":
        raise RunError(f"{file} is no table of places", expected="a frame, or the file of a table")
    sightings = None if seen is None else read_seen(run, file, seen)
    store = store_for_prediction(run, file, "", rasters=None if rasters is None else Path(rasters), crs=crs)
    column, tables = species_column(run.species), []
    for part in predict_lists(run, store, probabilities=True, seen=sightings):
        assert part.probabilities is not None
        row = part.lists.surveys()
        listed = pl.DataFrame({"surveyId": part.survey_ids.gather(row), column: run.species[part.lists.indices]})
        order = pl.DataFrame({"surveyId": part.survey_ids}).with_row_index("at")
        whole = part.probabilities.join(
            listed.with_columns(listed=pl.lit(True)), on=["surveyId", column], how="full", coalesce=True
        )
        whole = whole.with_columns(pl.col("listed").fill_null(False), pl.col("probability").fill_null(0.0))
        whole = whole.join(order, on="surveyId").sort("at", -pl.col("probability"), column)
        tables.append(whole.drop("at"))
    return pl.concat(tables)


def to_polars(frame: Any) -> pl.DataFrame:
    """Return a frame of polars, pandas or geopandas as one of polars; points become ``lon, lat`` in degrees.

    Parameters
    ----------
    frame
        Also a dictionary of columns.

    Raises
    ------
    TableError
        If it is nothing of that kind, or its shapes are no points.
    """
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, (pl.DataFrame, Mapping)):
        return pl.DataFrame(frame)
    if not hasattr(frame, "columns") or not hasattr(frame, "notna"):
        raise TableError(f"a table is a {type(frame).__name__}", expected="a frame of polars, pandas or geopandas")
    if hasattr(frame, "to_crs") and hasattr(frame, "geom_type"):
        frame = _with_degrees(frame)
    return pl.DataFrame([_column(str(name), frame[name]) for name in frame.columns])


def _with_degrees(frame: Any) -> Any:
    """Return a frame of geopandas with columns of degrees in place of its points."""
    kinds = sorted(set(frame.geom_type.dropna()))
    if kinds != ["Point"]:
        raise TableError(f"the geometry of a frame holds {kinds}", expected="points")
    points = frame.geometry if frame.crs is None else frame.geometry.to_crs("EPSG:4326")
    kept = [name for name in frame.columns if name not in (frame.geometry.name, "lon", "lat")]
    return frame[kept].assign(lon=points.x, lat=points.y)


def _column(name: str, values: Any) -> pl.Series:
    """Return a column of pandas; numbers and text that stand in one column are text."""
    found = [value if known else None for value, known in zip(values.tolist(), values.notna().tolist(), strict=True)]
    try:
        return pl.Series(name, found, strict=True)
    except (TypeError, pl.exceptions.PolarsError):
        return pl.Series(name, [None if value is None else str(value) for value in found])


def _like(table: pl.DataFrame, frame: Any) -> Any:
    """Return a table as a frame of the library that another is of."""
    if isinstance(frame, (pl.DataFrame, pl.LazyFrame, Mapping)):
        return table
    return sys.modules["pandas"].DataFrame({name: table[name].to_list() for name in table.columns})


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="releve-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _described(source: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a study's description that can be written: frames as files in a folder, files by their whole paths."""
    content: dict[str, Any] = {}
    for key, value in source.items():
        if key in TABLES:
            parts = value if isinstance(value, (list, tuple)) else [value]
            content[key] = [_part(key, part, at, folder) for at, part in enumerate(parts)]
        else:
            content[key] = _part(key, value, 0, folder) if key == "patches" else value
    return content


def _part(key: str, part: Any, at: int, folder: Path) -> dict[str, Any]:
    """Return one part of a study with the names of files for its frames."""
    is_described = isinstance(part, Mapping) and "file" in part
    content = dict(part) if is_described else {"file": part}
    file = content["file"]
    if isinstance(file, (str, Path, list, tuple)):
        names = [file] if isinstance(file, (str, Path)) else file
        content["file"] = [_whole(name) for name in names]
    else:
        table = to_polars(file)
        written = folder / f"{key}{at + 1 if at else ''}.parquet"
        write_parquet(written, table)
        content["file"] = str(written)
    if "species_table" in content:
        content["species_table"] = _part(f"{key}_species", content["species_table"], at, folder)
    return content


def _whole(name: str | Path) -> str:
    """Return a file's whole path; remote ones are left as they are."""
    return str(name) if "://" in str(name) or str(name).startswith("/vsi") else str(Path.cwd() / name)


def _toml(value: Any) -> str:
    r"""Return a value as TOML on one line.

    Examples
    --------
    >>> _toml({"file": ["a b.csv"], "columns": {"x": "Länge"}, "low": float("-inf"), "categorical": True})
    '{"file" = ["a b.csv"], "columns" = {"x" = "Länge"}, "low" = -inf, "categorical" = true}'
    """
    if isinstance(value, Mapping):
        items = (f"{_toml(str(key))} = {_toml(each)}" for key, each in value.items() if each is not None)
        return "{" + ", ".join(items) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)
