"""Species lists and probabilities for the surveys of a split, or of a user's table."""

# B batch, S species

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import torch
from numpy.typing import NDArray

from releve.errors import RasterError, TableError
from releve.evaluate.submission import check_no_repeats, submission_writer
from releve.files import atomic_path, scratch_folder, write_parquet
from releve.ingest.own import Sampler, read_own_table
from releve.ingest.study import Source, Study, open_source
from releve.lists import Lists
from releve.predict.covariates import as_known
from releve.predict.rasters import rasters_for, sampler_for
from releve.predict.training import training_of
from releve.progress import progress_bar, say
from releve.runs.folder import Run
from releve.runs.predict import predict_probs
from releve.store.build import build_store
from releve.store.contents import read_contents
from releve.store.read import Store

MIN_PROBABILITY = 0.001
"""Smaller probabilities are left out of the sparse table."""
MAX_PER_SURVEY = 512
"""At most this many species a survey are kept in the sparse table, the most probable ones."""


PART_ROWS = 4_000_000
"""Rows of the sparse table that are held before they are written: about 80 MB."""


@dataclass(frozen=True)
class Predictions:
    """Lists of some surveys, and their larger probabilities."""

    survey_ids: pl.Series
    lists: Lists
    """``species_index`` of the run's columns."""
    probabilities: pl.DataFrame | None
    """``surveyId``, ``speciesId`` (or ``species``), ``probability`` of the likelier species; None if not asked for."""


@dataclass(frozen=True)
class Predicted:
    """What was written: numbers of surveys, and of listed species over all surveys."""

    num_surveys: int
    num_listed: int


def store_for_prediction(
    run: Run, data: Path | Source, split: str, *, rasters: Path | None = None, crs: str | None = None
) -> Store:
    """Return a store of the surveys to predict, built beside the run so that a second call finds it.

    Parameters
    ----------
    run
        A trained run.
    data
        A release's folder or a study.toml, or either opened; or a table of text or ``.parquet`` as of
        ``read_own_table``.
    split
        The release's split; not used for a table.
    rasters
        Where a table's covariates are taken from that it lacks itself, as of ``releve.predict.rasters.rasters_for``; by
        default the rasters of the study that the run learned from.
    crs
        Of a table's coordinates, where they are no degrees.
    """
    if isinstance(data, (str, Path)) and (file := Path(data)).is_file() and file.suffix.lower() != ".toml":
        return _store_of_table(run, file, rasters, crs)
    source = open_source(data) if isinstance(data, (str, Path)) else data
    place = source.path if isinstance(source, Study) else source.root
    settings = run.config.data.model_copy(update={"splits": (split,), "records": None})
    folder = run.path / "stores" / f"{split}-{_short_hash(str(place.resolve()))}"
    contents, training = read_contents(source, settings), training_of(run)
    known_as = {name: as_known(each, training, origin=str(place)) for name, each in contents.covariates.items()}
    return build_store(replace(contents, covariates=known_as), None, folder, overwrite=True)


def _store_of_table(run: Run, data: Path, rasters: Path | None, crs: str | None) -> Store:
    """Return the places of a table, with what rasters tell of them, in memory."""
    covariates = run.models[0].statistics.tables.get("covariates")
    names = covariates.columns if covariates else ()
    training = training_of(run)
    looked_at = [name for name in run.config.model.modalities if name in ("patch", "landsat", "climate")]
    try:
        known = rasters_for(run, rasters)
        sample = sampler_for(known.layers, names, training.classes, given=rasters) if known else None
    except RasterError as error:
        if rasters is not None or looked_at:
            raise
        known, sample = None, _sampler_of_lost(error)
    table = read_own_table(data, names, training, crs=crs, sample=sample)
    for note in table.notes:
        say(note)
    arrays = known.arrays(table.surveys, looked_at) if known else {}
    return Store.from_tables(table.surveys, None, table.covariates, arrays=arrays, origin=str(data))


def _sampler_of_lost(error: RasterError) -> Sampler:
    """Return what tells of no place, where the rasters of the run are no longer there: only some tables need them."""

    def sample(places: pl.DataFrame, names: Sequence[str]) -> Mapping[str, NDArray]:
        raise error

    return sample


def write_predictions(
    run: Run, store: Store, out: Path, probabilities: Path | None = None, seen: Lists | None = None
) -> Predicted:
    """Write the submission of a store, and if asked the sparse table of its likelier species.

    Surveys are predicted and written batch by batch, so that memory does not grow with their number. Both files get
    their names at the end, and nothing is left of them if something fails before.

    Parameters
    ----------
    run
        A trained run.
    store
        The surveys.
    out
        CSV file: ``surveyId,predictions``, or ``surveyId,species`` where species have names; see ``submission_writer``.
    probabilities
        Parquet file: ``surveyId, speciesId`` (or ``species``), ``probability``, of each survey the ``MAX_PER_SURVEY``
        most probable species at most, best first, and none below ``MIN_PROBABILITY``.
    seen
        Species that are known to be there, as of ``predict_probs``; every list holds them.

    Raises
    ------
    TableError
        If a survey id is repeated, or ``probabilities`` is not to be a .parquet.
    """
    check_no_repeats(store.surveys["survey_id"])
    num_surveys = num_listed = 0
    with ExitStack() as stack:
        add_lists = stack.enter_context(submission_writer(out, run.species))
        add_rows = (
            stack.enter_context(probabilities_writer(probabilities, run.species)) if probabilities is not None else None
        )
        bar = stack.enter_context(progress_bar())
        task = bar.add_task("predict", total=len(store))
        for part in predict_lists(run, store, probabilities=probabilities is not None, seen=seen):
            add_lists(part.survey_ids, part.lists)
            if add_rows is not None and part.probabilities is not None:
                add_rows(part.probabilities)
            num_surveys += len(part.survey_ids)
            num_listed += len(part.lists.indices)
            bar.advance(task, len(part.survey_ids))
    return Predicted(num_surveys, num_listed)


def predict_lists(
    run: Run, store: Store, *, probabilities: bool = False, seen: Lists | None = None
) -> Iterator[Predictions]:
    """Yield, batch by batch, the surveys' species lists and, if asked, their likelier species' probabilities.

    Lists and likelier species are found on the run's device; only they travel to the CPU. What was seen is in the list
    whatever the rule: a fixed length may be shorter.
    """
    survey_ids = store.surveys["survey_id"]
    for rows, probs_BS in predict_probs(run, store, seen):
        lists = run.decision.lists(probs_BS)
        lists = lists if seen is None else lists.union(seen.take(rows))
        likelier = likelier_species(probs_BS, survey_ids.gather(rows), run.species) if probabilities else None
        yield Predictions(survey_ids.gather(rows), lists, likelier)


def likelier_species(probs_BS: torch.Tensor, survey_ids: pl.Series, species: NDArray) -> pl.DataFrame:
    """Return ``surveyId, speciesId, probability`` of each survey's likelier species, best first.

    The second column is ``species`` where they have names.

    Examples
    --------
    >>> import numpy as np
    >>> likelier_species(torch.tensor([[0.25, 0.0, 0.5]]), pl.Series(["a7"]), np.array([10, 11, 12])).rows()
    [('a7', 12, 0.5), ('a7', 10, 0.25)]
    """
    top = probs_BS.topk(min(MAX_PER_SURVEY, probs_BS.shape[1]), dim=1)
    row, rank = (top.values >= MIN_PROBABILITY).nonzero(as_tuple=True)
    return pl.DataFrame(
        {
            "surveyId": survey_ids.gather(row.cpu().numpy()),
            species_column(species): species[top.indices[row, rank].cpu().numpy()],
            "probability": top.values[row, rank].cpu().numpy(),
        }
    )


def species_column(species: NDArray) -> str:
    """Return what outputs call the column of species: ``species`` of names, ``speciesId`` of numbers."""
    return "speciesId" if species.dtype.kind == "i" else "species"


@contextmanager
def probabilities_writer(path: Path, species: NDArray) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Yield a function ``append(table)`` that adds rows to a parquet file.

    Rows are kept as parts in a folder beside the file, which are joined when the block ends well: a parquet file is
    written in one go. Nothing is left of it otherwise.

    Raises
    ------
    TableError
        If the file is not to be a .parquet.
    """
    check_probabilities_name(path)
    with atomic_path(path) as partial, scratch_folder(path) as folder:
        parts: list[Path] = []
        waiting: list[pl.DataFrame] = []

        def write_part() -> None:
            if waiting:
                parts.append(folder / f"{len(parts):06d}.parquet")
                write_parquet(parts[-1], pl.concat(waiting))
                waiting.clear()

        def append(table: pl.DataFrame) -> None:
            waiting.append(table)
            if sum(len(held) for held in waiting) >= PART_ROWS:
                write_part()

        yield append
        write_part()
        kind = pl.Int64 if species.dtype.kind == "i" else pl.String
        empty = pl.LazyFrame(schema={"surveyId": pl.String, species_column(species): kind, "probability": pl.Float32})
        write_parquet(partial, pl.scan_parquet(parts, glob=False) if parts else empty)


def check_probabilities_name(path: Path) -> None:
    """Refuse a name that is not parquet's, before the work rather than after it.

    Raises
    ------
    TableError
        If the file is not to be a .parquet.
    """
    if path.suffix != ".parquet":
        raise TableError(f"--probabilities {path}", expected="a name that ends in .parquet")


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
