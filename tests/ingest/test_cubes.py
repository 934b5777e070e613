from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from releve.errors import ConfigError, ReleaseError
from releve.ingest.cubes import SeriesSource, read_series_chunk, series_source
from releve.ingest.layouts import LAYOUTS
from releve.ingest.release import open_release
from releve.ingest.surveys import read_surveys

from .fakes import BANDS, STYLES, climate_array, landsat_array, write_cube, write_release, write_text

POSITIONS = {1: 0, 642: 2, 3018575: 3}
"""Survey -> its row in the table of the train split; row 1 is survey 500, which has no data."""


def source_of(root: Path, split: str = "train", modality: str = "landsat", **options: Any) -> SeriesSource:
    release = open_release(root)
    source = series_source(release, split, modality, read_surveys(release, split).table, **options)
    assert source is not None
    return source


def as_floats(values: np.ndarray, fill: int) -> np.ndarray:
    return np.where(values == fill, np.nan, values.astype(float))


def cube_path(root: Path, survey_id: int, split: str = "train") -> Path:
    return root / STYLES["glc24"].landsat_cube[split].format(id=survey_id)


@pytest.mark.parametrize("style", ["glc24", "glc24-seafile", "glc25", "geoplant26"])
def test_tables_and_cubes_give_the_same_series(style: str, tmp_path: Path) -> None:
    write_release(tmp_path, style)
    for modality, expected in (("landsat", landsat_array), ("climate", climate_array)):
        source = source_of(tmp_path, modality=modality)
        assert source.has.tolist() == [True, False, True, True]
        (chunk,) = source.chunks()
        assert chunk.rows.tolist() == list(POSITIONS.values())
        assert chunk.values.dtype == source.dtype and chunk.values.shape[1:] == source.shape
        for row, survey_id in zip(as_floats(chunk.values, source.fill), POSITIONS, strict=True):
            np.testing.assert_array_equal(row, expected(survey_id))
        assert chunk.problems == [] and chunk.counts == {}


def test_train_test_and_po_cubes_differ_in_spelling_but_all_are_found(tmp_path: Path) -> None:
    """Pitfall 2: hyphens for train, underscores for test, P0 for climate and PO for Landsat."""
    write_release(tmp_path, "glc25")
    for split in ("train", "test", "po"):
        for modality in ("landsat", "climate"):
            source = source_of(tmp_path, split, modality)
            assert source.kind == "files" and source.has.sum() == (2 if split == "test" else 3)


def test_a_split_reads_its_own_files_only(tmp_path: Path) -> None:
    """Pitfall 3: validation files opened from the folder of the training files."""
    write_release(tmp_path, "glc24")
    write_cube(cube_path(tmp_path, 642, "test"), np.full((6, 4, 21), 7.0))
    (chunk,) = source_of(tmp_path, "test").chunks()
    assert (chunk.values[1] == 7).all() and not (chunk.values[0] == 7).all()


def test_glc23_tables_are_keyed_by_series_and_end_with_eos(tmp_path: Path) -> None:
    source = source_of(write_release(tmp_path, "glc23"), "po")
    (chunk,) = source.chunks()
    np.testing.assert_array_equal(as_floats(chunk.values[0], -1), landsat_array(3018575))  # survey 1
    np.testing.assert_array_equal(as_floats(chunk.values[1], -1), landsat_array(642))  # survey 2
    assert chunk.counts == {}


def test_what_a_source_says_of_itself(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    landsat, climate = source_of(tmp_path), source_of(tmp_path, modality="climate")
    assert landsat.channel_names == BANDS and climate.channel_names == ("pr", "tas", "tasmax", "tasmin")
    assert (landsat.shape, climate.shape) == ((6, 21, 4), (4, 19, 12))
    assert (landsat.first_year, landsat.seasons_per_year, climate.seasons_per_year) == (2000, 4, 12)
    assert "K x 10" in climate.units and "reflectance" in landsat.units
    for layout in LAYOUTS.values():
        for rules in layout.series:
            assert all(not low <= rules.fill <= high for low, high in rules.valid)
            assert np.iinfo(rules.dtype).min <= rules.fill <= np.iinfo(rules.dtype).max


@pytest.mark.parametrize("style", ["glc24", "glc24-seafile"])
def test_chunks_are_the_same_from_any_start_alone_and_in_another_process(style: str, tmp_path: Path) -> None:
    source = source_of(write_release(tmp_path, style))
    whole = list(source.chunks(chunk_size=2))
    assert [chunk.rows.tolist() for chunk in whole] == [[0, 2], [3]]
    assert source.num_chunks(2) == 2
    (resumed,) = source.chunks(chunk_size=2, start=1)
    sent = pickle.loads(pickle.dumps(source))
    for other in (resumed, read_series_chunk(sent, 1, 2)):
        np.testing.assert_array_equal(other.values, whole[1].values)
        np.testing.assert_array_equal(other.rows, whole[1].rows)


class Payload:
    """Unpickled carelessly, this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def broken_cubes(tmp_path: Path) -> dict[str, Any]:
    return {
        "truncated": lambda path: path.write_bytes(path.read_bytes()[:-700]),
        "half": lambda path: path.write_bytes(path.read_bytes()[:900]),
        "empty": lambda path: path.write_bytes(b""),
        "text": lambda path: path.write_text("404 Not Found"),
        "shape": lambda path: torch.save(torch.zeros(6, 21, 4), path),
        "dtype": lambda path: torch.save(torch.zeros(6, 4, 21, dtype=torch.uint8), path),
        "dict": lambda path: torch.save({"cube": torch.zeros(6, 4, 21)}, path),
        "sparse": lambda path: torch.save(torch.zeros(6, 4, 21).to_sparse(), path),
        "folder": lambda path: (path.unlink(), path.mkdir()),
        "nan": lambda path: torch.save(torch.full((6, 4, 21), torch.nan), path),
    }


@pytest.mark.parametrize("how", broken_cubes(Path()))
def test_a_broken_cube_costs_one_survey_and_says_which_file(how: str, tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    path = cube_path(tmp_path, 642)
    broken_cubes(tmp_path)[how](path)
    if how == "folder":
        path.rmdir()
        path.symlink_to(tmp_path / "gone")
    (chunk,) = source_of(tmp_path).chunks()
    assert chunk.rows.tolist() == [0, 3]
    np.testing.assert_array_equal(as_floats(chunk.values[1], -1), landsat_array(3018575))
    (problem,) = chunk.problems
    assert (problem.split, problem.modality, problem.survey_id) == ("train", "landsat", "642")
    assert problem.path == path.relative_to(tmp_path).as_posix()
    assert "expected" in problem.what


@pytest.mark.parametrize("old_format", [False, True])
def test_a_cube_that_holds_code_is_refused_and_not_run(old_format: bool, tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    trap = tmp_path / "trap"
    path = cube_path(tmp_path, 642)
    torch.save(Payload(trap), path, _use_new_zipfile_serialization=not old_format)
    (chunk,) = source_of(tmp_path).chunks()
    assert not trap.exists()
    assert chunk.rows.tolist() == [0, 3]
    assert "cannot be loaded safely" in chunk.problems[0].what
    torch.load(path, weights_only=False)  # the trap does work when the file is trusted
    assert trap.exists()


def test_values_are_rounded_or_refused_and_counted(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    cube = np.full((6, 4, 21), 5.0)
    cube[0, :4, 0] = [17.4, -3.0, 256.0, np.inf]
    write_cube(cube_path(tmp_path, 1), cube)
    (chunk,) = source_of(tmp_path).chunks()
    assert chunk.values[0, 0, 0].tolist() == [17, -1, -1, -1]
    assert chunk.counts == {"values rounded to integers": 1, "values out of range": 3}


def test_cells_that_are_not_numbers_are_missing_and_counted(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24-seafile")
    path = tmp_path / STYLES["glc24-seafile"].landsat_table.format("PA-train", band="red")
    lines = path.read_text().splitlines()
    lines[3] = "1.0," + ",".join(['"17"', "oops", "eos", *lines[3].split(",")[4:]])
    path.write_bytes("\r\n".join(lines).encode())
    (chunk,) = source_of(tmp_path).chunks()
    assert chunk.values[0, 0, 0, :3].tolist() == [17, -1, -1]
    np.testing.assert_array_equal(as_floats(chunk.values[0, 0, 1:], -1), landsat_array(1)[0, 1:])
    assert chunk.counts == {"cells that are not numbers": 1}


def test_short_rows_repeated_rows_and_blank_lines_of_a_table(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24-seafile")
    path = tmp_path / STYLES["glc24-seafile"].landsat_table.format("PA-train", band="red")
    header = path.read_text().splitlines()[0]
    write_text(path, f"{header}\n\n1,9,9\n1,8,8\nx,7\n642")
    (chunk,) = source_of(tmp_path).chunks()
    assert chunk.values[0, 0, 0].tolist() == [9, 9, -1, -1]
    assert (chunk.values[1, 0] == -1).all() and (chunk.values[1, 1, 0] >= 0).all()


def test_a_missing_band_is_missing_values_not_a_missing_series(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24-seafile")
    (tmp_path / STYLES["glc24-seafile"].landsat_table.format("PA-train", band="nir")).unlink()
    (chunk,) = source_of(tmp_path).chunks()
    assert (chunk.values[:, 3] == -1).all()
    np.testing.assert_array_equal(as_floats(chunk.values[0, 4], -1), landsat_array(1)[4])


def test_a_row_without_any_value_is_a_problem(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24-seafile")
    for band in BANDS:
        path = tmp_path / STYLES["glc24-seafile"].landsat_table.format("PA-train", band=band)
        lines = path.read_text().splitlines()
        write_text(path, "\n".join([*lines[:3], "1" + "," * 84]) + "\n")
    (chunk,) = source_of(tmp_path).chunks()
    assert chunk.rows.tolist() == [2, 3]
    assert chunk.problems[0].survey_id == "1" and "no value" in chunk.problems[0].what


def test_tables_are_preferred_and_either_kind_can_be_asked_for(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    assert source_of(tmp_path).kind == "files"
    for band in BANDS:
        write_text(tmp_path / f"GLC24-PA-train-landsat_time_series-{band}.csv", "surveyId,2000_1\n1,5\n")
    assert source_of(tmp_path).kind == "tables"
    assert source_of(tmp_path, kind="files").has.sum() == 3
    with pytest.raises(ConfigError, match="unknown kind of series 'cubes'"):
        source_of(tmp_path, kind="cubes")


def test_a_modality_that_is_not_there_is_none(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path, "glc23"))
    table = read_surveys(release, "po").table
    assert series_source(release, "po", "climate", table) is None
    with pytest.raises(ConfigError, match="unknown modality 'radar'"):
        series_source(release, "po", "radar", table)
    for path in tmp_path.rglob("time_series_*"):
        path.unlink()
    release = open_release(tmp_path)
    assert series_source(release, "po", "landsat", table) is None


def test_surveys_without_a_series_id_have_no_series(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path, "glc23"))
    table = read_surveys(release, "po").table.with_columns(series_id=pl.Series([None, "642"], dtype=pl.String))
    source = series_source(release, "po", "landsat", table)
    assert source is not None and source.has.tolist() == [False, True]


def test_a_table_of_series_without_ids_is_an_error(tmp_path: Path) -> None:
    write_text(tmp_path / "GLC24_PA_metadata_train.csv", "lon,lat,speciesId,surveyId\n1,50,1,642\n")
    write_text(tmp_path / "GLC24-PA-train-landsat_time_series-red.csv", "id,2000_1\n1,5\n")
    with pytest.raises(ReleaseError, match="no column of ids"):
        source_of(tmp_path)
