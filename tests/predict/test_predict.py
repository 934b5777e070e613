"""Predictions are written as they come, in full or not at all."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from commands import Commands
from releve import pipeline
from releve.config import make_config
from releve.errors import RunError, TableError
from releve.evaluate.submission import read_submission
from releve.lists import Lists
from releve.predict import tables
from releve.predict.tables import store_for_prediction, write_predictions
from releve.runs import predict
from releve.runs.folder import Run, open_run
from releve.runs.predict import predict_probs
from releve.store.read import Store

CONTENT = {
    "split": {"num_folds": 3},
    "model": {"modalities": ["covariates", "location"], "embedding_dim": 16, "hidden_dim": 16},
    "train": {"num_folds": 2, "epochs": 2, "batch_size": 64, "device": "cpu"},
}


@pytest.fixture(scope="module")
def run(labelled_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("predict")
    config = make_config(CONTENT, origin="test")
    return pipeline.train(config, pipeline.prepare(config, labelled_release, folder / "store"), folder / "run")


@pytest.fixture(scope="module")
def store(run: Run, labelled_release: Path) -> Store:
    return store_for_prediction(run, labelled_release, "test")


@pytest.fixture
def many_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 7 surveys, parts of two or so batches, and at most 5 species a survey."""
    monkeypatch.setattr(predict, "BATCH_SIZE", 7)
    monkeypatch.setattr(tables, "PART_ROWS", 50)
    monkeypatch.setattr(tables, "MAX_PER_SURVEY", 5)


@pytest.mark.usefixtures("many_small_batches")
def test_what_is_written_batch_by_batch_is_what_all_surveys_give_at_once(
    run: Run, store: Store, tmp_path: Path
) -> None:
    done = write_predictions(run, store, tmp_path / "p.csv", tmp_path / "p.parquet")
    probs_NS = torch.cat([block for _, block in predict_probs(run, store)]).numpy()
    survey_ids = store.surveys["survey_id"].to_numpy()

    lists = run.decision.lists(probs_NS)
    written = read_submission(tmp_path / "p.csv")
    assert written["surveyId"].to_list() == survey_ids.tolist()
    assert written["species"].to_list() == [sorted(run.species_ids[lists.row(i)].tolist()) for i in range(len(store))]
    assert (done.num_surveys, done.num_listed) == (len(store), len(lists.indices))

    table = pl.read_parquet(tmp_path / "p.parquet")
    assert table.schema == {"surveyId": pl.String, "speciesId": pl.Int64, "probability": pl.Float32}
    best_N5 = np.sort(probs_NS, axis=1)[:, ::-1][:, :5]
    kept_N5 = best_N5 >= tables.MIN_PROBABILITY
    assert table["surveyId"].to_list() == np.repeat(survey_ids, kept_N5.sum(axis=1)).tolist()
    np.testing.assert_array_equal(table["probability"].to_numpy(), best_N5[kept_N5])
    row_of = {str(survey): row for row, survey in enumerate(survey_ids)}
    column_of = {int(species): column for column, species in enumerate(run.species_ids)}
    for survey, species, probability in table.rows():
        assert probs_NS[row_of[survey], column_of[species]] == np.float32(probability)


def test_a_species_that_is_nowhere_likely_leaves_an_empty_table_with_its_columns(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MIN_PROBABILITY", 2.0)
    write_predictions(run, store, tmp_path / "p.csv", tmp_path / "p.parquet")
    table = pl.read_parquet(tmp_path / "p.parquet")
    assert table.schema == {"surveyId": pl.String, "speciesId": pl.Int64, "probability": pl.Float32}
    assert not len(table)


@pytest.mark.usefixtures("many_small_batches")
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("earlier", [False, True])
def test_nothing_is_left_of_predictions_that_were_interrupted_and_earlier_files_stay(
    error: type[BaseException],
    earlier: bool,
    run: Run,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [tmp_path / "p.csv", tmp_path / "p.parquet"]
    if earlier:
        for file in files:
            file.write_text("earlier")
    left = []

    def stops_in_the_third_batch(
        run: Run, store: Store, seen: Lists | None
    ) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        for i, part in enumerate(predict_probs(run, store, seen)):
            if i == 2:
                left.extend(path.name for path in tmp_path.iterdir() if path not in files)
                raise error
            yield part

    monkeypatch.setattr(tables, "predict_probs", stops_in_the_third_batch)
    with pytest.raises(error):
        write_predictions(run, store, *files)
    assert len(left) == 2  # the lists so far, and the folder of the table's parts
    assert sorted(tmp_path.iterdir()) == (files if earlier else [])
    assert all(file.read_text() == "earlier" for file in files if earlier)


def test_parts_are_written_before_the_last_survey_is_predicted(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not grow with the number of surveys: what is held is less than a part and a batch."""
    monkeypatch.setattr(predict, "BATCH_SIZE", 5)
    monkeypatch.setattr(tables, "PART_ROWS", 1)
    num_parts = []

    def watched(run: Run, store: Store, seen: Lists | None) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        for part in predict_probs(run, store, seen):
            num_parts.append(len(list(tmp_path.glob(".p.parquet.*.parts/*.parquet"))))
            yield part

    monkeypatch.setattr(tables, "predict_probs", watched)
    write_predictions(run, store, tmp_path / "p.csv", tmp_path / "p.parquet")
    assert num_parts == [0, 1, 2, 3]


def test_repeated_surveys_are_refused_before_anything_is_predicted(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "predict_probs", lambda run, store, seen: pytest.fail("predicted"))
    doubled = replace(store, surveys=store.surveys.with_columns(survey_id=pl.lit("7")))
    with pytest.raises(TableError, match=r"1 survey ids are repeated, such as \['7'\]"):
        write_predictions(run, doubled, tmp_path / "p.csv")
    assert not list(tmp_path.iterdir())


def write_places(file: Path, num: int) -> Path:
    rng = np.random.default_rng(0)
    table = {"surveyId": np.arange(num), "lon": rng.uniform(5, 8, num), "lat": rng.uniform(44, 47, num)}
    pl.DataFrame(table).write_csv(file)
    return file


def test_a_killed_command_leaves_no_file_under_its_name_and_the_next_one_clears_up(
    run: Run, commands: Commands, tmp_path: Path
) -> None:
    places = write_places(tmp_path / "places.csv", 30_000)
    out = tmp_path / "out"
    command = ["predict", run.path, "--out", out / "p.csv", "--probabilities", out / "p.parquet", "--data"]
    pid = commands.start(*command, places)
    deadline = time.monotonic() + 60
    while not list(out.glob(".p.parquet.*.parts")) and time.monotonic() < deadline:
        time.sleep(0.005)
    commands.kill(pid)
    left = sorted(path.name for path in out.iterdir())
    assert left == [f".p.csv.{pid}.part", f".p.parquet.{pid}.parts"]
    done = commands.run(*command, write_places(tmp_path / "few.csv", 10))
    assert done.code == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["p.csv", "p.parquet", "p.places.csv"]
    assert len(pl.read_csv(out / "p.csv")) == 10


def test_a_full_disk_is_said_and_leaves_nothing(run: Run, commands: Commands, tmp_path: Path) -> None:
    places = write_places(tmp_path / "places.csv", 3_000)
    out = tmp_path / "out"
    command = ["predict", run.path, "--out", out / "p.csv", "--probabilities", out / "p.parquet", "--data", places]
    done = commands.run(*command, file_limit=20_000)
    assert done.code == 2 and "cannot write" in done.stderr, done.stderr
    assert not list(out.iterdir())


def write_seen(file: Path, run: Run, cells: list[str]) -> Path:
    rng = np.random.default_rng(1)
    places = {
        "surveyId": np.arange(len(cells)),
        "lon": rng.uniform(5, 8, len(cells)),
        "lat": rng.uniform(44, 47, len(cells)),
    }
    pl.DataFrame(places | {"found": cells}).write_csv(file)
    return file


def test_what_was_seen_is_in_its_list_tells_of_the_rest_and_changes_nothing_where_the_column_is_empty(
    run: Run, commands: Commands, tmp_path: Path
) -> None:
    one, two, three = run.species_ids[[3, 0, 5]].tolist()
    cells = [f"{one};{two}", "", f" {two} ; {one};{two};", f"{three};999999"]
    places = write_seen(tmp_path / "places.csv", run, cells)
    plain, told = tmp_path / "plain", tmp_path / "told"
    for out, options in ((plain, []), (told, ["--seen", "found"])):
        command = ["predict", run.path, "--data", places, "--out", out / "p.csv"]
        done = commands.run(*command, "--probabilities", out / "p.parquet", *options)
        assert done.code == 0, done.stderr
    said = "1 of 6 seen species are none that the run knows, left out: '999999'"
    assert said in " ".join(done.stderr.split()) and "not know" not in said
    before, after = (read_submission(out / "p.csv")["species"].to_list() for out in (plain, told))
    assert before[1] == after[1] and {one, two} <= set(after[0]) and {one, two} <= set(after[2]) and three in after[3]
    before, after = (pl.read_parquet(out / "p.parquet") for out in (plain, told))
    assert before.filter(pl.col("surveyId") == "1").equals(after.filter(pl.col("surveyId") == "1"))
    sure = after.filter(pl.col("probability") == 1).select("surveyId", "speciesId").sort(pl.all()).rows()
    assert sure == sorted([("0", one), ("0", two), ("2", one), ("2", two), ("3", three)])
    both = before.join(after, on=["surveyId", "speciesId"]).filter(pl.col("surveyId") == "0")
    assert ((both["probability"] - both["probability_right"]).abs() > 1e-6).all()


def test_the_order_of_sightings_and_of_places_is_of_no_matter(run: Run, store: Store) -> None:
    seen = Lists.from_rows([[i % 5, 5] if i % 3 else [] for i in range(len(store))])
    together = torch.cat([block for _, block in predict_probs(run, store, seen)])
    backwards = np.arange(len(store))[::-1]
    again = torch.cat([block for _, block in predict_probs(run, store.take(backwards), seen.take(backwards))])
    torch.testing.assert_close(together[backwards.copy()], again, rtol=1e-4, atol=1e-7)
    plain = torch.cat([block for _, block in predict_probs(run, store)])
    assert torch.equal(plain[::3], together[::3])


def test_a_list_of_fixed_length_holds_what_was_seen_even_if_that_is_more(
    run: Run, store: Store, tmp_path: Path
) -> None:
    short = replace(run)
    short.__dict__["decision"] = run.decision.model_copy(update={"rule": "top_k", "setting": 2.0})
    seen = Lists.from_rows([[1, 2, 4]] + [[]] * (len(store) - 1))
    write_predictions(short, store, tmp_path / "p.csv", None, seen)
    written = read_submission(tmp_path / "p.csv")["species"].to_list()
    assert written[0] == sorted(run.species_ids[[1, 2, 4]].tolist()) and len(written[1]) == 2


def test_what_was_seen_is_refused_where_it_cannot_be_used(run: Run, labelled_release: Path, tmp_path: Path) -> None:
    places = write_seen(tmp_path / "places.csv", run, ["a daisy; 77777777", ""])
    out = tmp_path / "p.csv"
    with pytest.raises(
        TableError, match=r"knows none of the 2 species in column 'found', such as 'a daisy', '77777777'"
    ):
        pipeline.predict(run, places, "test", out, seen="found")
    with pytest.raises(TableError, match=r"has no column 'Found'; it has \['surveyId'.*did you mean 'found'\?"):
        pipeline.predict(run, places, "test", out, seen="Found")
    with pytest.raises(TableError, match="--seen found with .*, which is a release. expected a table of places"):
        pipeline.predict(run, labelled_release, "test", out, seen="found")
    shutil.copytree(run.path, tmp_path / "old", ignore=lambda folder, names: {"companions.safetensors"} & {*names})
    old = open_run(tmp_path / "old")
    places = write_seen(tmp_path / "places.csv", run, [str(run.species_ids[0]), ""])
    with pytest.raises(RunError, match="old has not learned which species grow together: it has no companions.safet"):
        pipeline.predict(old, places, "test", out, seen="found")
    assert not out.exists()
