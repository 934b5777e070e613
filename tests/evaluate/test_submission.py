"""Submission files: round trips, scores by hand, and every way a file can be wrong."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from releve.errors import TableError
from releve.evaluate.submission import read_submission, score_files, write_submission
from releve.lists import Lists


@pytest.fixture
def file(tmp_path):
    def write(text, name="predictions.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_a_submission_is_written_as_the_field_has_it(tmp_path):
    """Species indices ascend, but not their ids."""
    lists = Lists.from_rows([[0, 1, 2], [], [1]])
    path = tmp_path / "new" / "submission.csv"
    write_submission(path, pl.Series(["30", "10", "20"]), lists, np.array([700, 5, 60]))
    assert path.read_text() == 'surveyId,predictions\n30,5 60 700\n10,""\n20,5\n'
    table = read_submission(path)
    assert table.rows() == [("30", [5, 60, 700]), ("10", []), ("20", [5])]
    assert [p.name for p in path.parent.iterdir()] == ["submission.csv"]


def test_lists_that_cannot_be_written_are_refused(tmp_path):
    lists = Lists.from_rows([[0], [1]])
    with pytest.raises(TableError, match="3 survey ids for 2 lists"):
        write_submission(tmp_path / "x.csv", pl.Series(["a", "b", "c"]), lists, np.arange(2))
    with pytest.raises(TableError, match="1 survey ids are repeated"):
        write_submission(tmp_path / "x.csv", pl.Series(["4", "4"]), lists, np.arange(2))
    with pytest.raises(TableError, match="names species index 1"):
        write_submission(tmp_path / "x.csv", pl.Series(["a", "b"]), lists, np.arange(1))
    assert not (tmp_path / "x.csv").exists()


def test_two_files_scored_by_hand(file):
    """Survey 1: {10, 20} for {10, 20, 30}, F1 4/5; survey 2 is missing, 0; survey 3: {7} for {7}, 1."""
    predictions = file("surveyId,predictions\n3,7\n1,20 10\n")
    solution = file("surveyId,target_species_ids,Usage\n1,10 20 30,Public\n2,10,Private\n3,7,Public\n", "s.csv")
    scores = score_files(predictions, solution)
    assert scores.per_survey_f1.tolist() == pytest.approx([4 / 5, 0, 1])
    assert scores.sample_f1 == pytest.approx(3 / 5)
    assert scores.num_surveys == 3
    assert scores.micro_f1 == pytest.approx(2 * 3 / (3 + 5))
    assert scores.precision == pytest.approx((1 + 0 + 1) / 3)
    assert scores.recall == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1 + 0 + 1) / 4)  # species 10, 20, 30, 7
    assert scores.per_species["species_id"].to_list() == [7, 10, 20, 30]
    assert scores.per_species["num_true"].to_list() == [1, 2, 1, 1]


def test_ids_repeated_within_a_list_count_once(file):
    predictions = file("surveyId,predictions\n1,5 5 6\n")
    solution = file("surveyId,predictions\n1,5 5 5 7\n", "s.csv")
    assert score_files(predictions, solution).sample_f1 == pytest.approx(2 * 1 / (2 + 2))


def test_spaces_windows_line_ends_byte_order_marks_and_quotes_are_accepted(file):
    path = file('\ufeffsurveyId,predictions\r\n 1 ,"  3  2 "\r\n2,\r\n')
    assert read_submission(path).rows() == [("1", [2, 3]), ("2", [])]


def test_lists_that_are_all_empty_score_zero(file):
    predictions = file("surveyId,predictions\n1,\n2,\n")
    solution = file("surveyId,target_species_ids\n1,4\n2,5 6\n", "s.csv")
    scores = score_files(predictions, solution)
    assert (scores.sample_f1, scores.micro_f1, scores.precision) == (0, 0, 0)
    assert scores.richness_bias == -1.5


def test_surveys_that_the_solution_lacks_are_refused(file):
    predictions = file("surveyId,predictions\n1,5\n8,5\n9,5\n")
    solution = file("surveyId,target_species_ids\n1,5\n", "s.csv")
    with pytest.raises(TableError, match=r"2 of 3 predicted surveys are not in .*s\.csv, such as \['8', '9'\]"):
        score_files(predictions, solution)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("surveyId,predictions\n", "no row"),
        ("id,predictions\n1,2\n", r"has the columns \['id', 'predictions'\].*expected surveyId and predictions"),
        ("surveyId,lists\n1,2\n", "expected surveyId and predictions, or species where"),
        ("surveyId,predictions\n1,2\n1,3\n", r"1 surveys have more than one row, such as \['1'\]"),
        ("surveyId,predictions\na,2\n,3\n", "1 rows have no surveyId"),
        ("surveyId,predictions\n1,2\n1.0,3\n", r"1 surveys have more than one row, such as \['1'\]"),
        ("surveyId,predictions\n1,2 x 3.0\n", r"2 species ids .*such as \['x', '3.0'\]"),
        ("surveyId,predictions\n1,-4\n", r"1 species ids .*such as \['-4'\]"),
        ("surveyId,predictions\n1,2,3\n", "cannot be read as CSV"),
    ],
)
def test_broken_files_are_refused_with_what_was_found(file, text, message):
    with pytest.raises(TableError, match=message):
        read_submission(file(text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TableError, match="cannot read .*gone.csv"):
        read_submission(tmp_path / "gone.csv")


def test_surveys_without_a_prediction_and_those_too_many_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "solution.csv").write_text("surveyId,target_species_ids\n1,5 6\n2,7\n3,8\n")
    (tmp_path / "p [1].csv").write_text("surveyId,predictions\n1,5 6\n")
    (tmp_path / "p 1.csv").write_text("surveyId,predictions\n1,5 6\n2,7\n3,8\n")
    assert score_files(tmp_path / "p 1.csv", tmp_path / "solution.csv").sample_f1 == 1.0
    assert capsys.readouterr().err == ""
    assert score_files(tmp_path / "p [1].csv", tmp_path / "solution.csv").sample_f1 == pytest.approx(1 / 3)
    said = capsys.readouterr().err
    assert "2 of 3 surveys of" in said and "p [1].csv: each scores 0" in said
    (tmp_path / "p 1.csv").write_text("surveyId,predictions\n1,5 6\n9,7\n")
    with pytest.raises(TableError, match=r"1 of 2 predicted surveys are not in .*solution.csv"):
        score_files(tmp_path / "p 1.csv", tmp_path / "solution.csv")


def test_species_with_names_are_listed_by_name_and_scored_by_hand(tmp_path, file):
    """Names hold blanks, commas and quotes. A: {x, y} of {x, z}, F1 1/2; B: nothing of nothing."""
    names = np.array(["Poa annua L., s. str.", 'Rosa "alba"', "Carex sp. 1"])
    write_submission(tmp_path / "p.csv", pl.Series(["A", "B"]), Lists.from_rows([[0, 1], []]), names)
    assert (tmp_path / "p.csv").read_text() == 'surveyId,species\nA,"Poa annua L., s. str.;Rosa ""alba"""\nB,""\n'
    assert read_submission(tmp_path / "p.csv").rows() == [("A", ["Poa annua L., s. str.", 'Rosa "alba"']), ("B", [])]
    solution = file('surveyId,species\nA,"Carex  sp. 1; Poa annua L., s. str.;Carex sp. 1"\nB,\n', "s.csv")
    scores = score_files(tmp_path / "p.csv", solution)
    assert scores.per_survey_f1[0] == 0.5
    assert scores.per_species.select("species", "num_true", "num_predicted").rows() == [
        ("Carex sp. 1", 1, 0),
        ("Poa annua L., s. str.", 1, 1),
        ('Rosa "alba"', 0, 1),
    ]


def test_names_and_ids_are_not_compared(file):
    with pytest.raises(TableError, match=r"p.csv has ids of species and .*s.csv has names of species"):
        score_files(file("surveyId,predictions\n1,5\n", "p.csv"), file("surveyId,species\n1,Poa annua\n", "s.csv"))
