"""The command line as a user meets it: the real command, in processes of its own."""

from __future__ import annotations

import csv
import inspect
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from commands import Commands, strict_json
from ingest.fakes import write_release, write_text
from releases import SPECIES
from releve import cli
from releve.cli import show
from releve.progress import say
from scored import write_run

NAMES = ("demo", "simulate", "check", "prepare", "train", "evaluate", "predict", "run", "score")
RECIPE = """\
title = "tiny"

[split]
block_size_km = 60
num_folds = 3

[model]
modalities = ["covariates", "survey", "location", "landsat"]
embedding_dim = 16
hidden_dim = 16
series_width = 8

[train]
num_folds = 2
epochs = 2
batch_size = 64
device = "cpu"

[evaluate]
references = ["frequency"]
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    file.write_text(RECIPE)
    return file


@pytest.fixture(scope="module")
def made(
    commands: Commands, recipe: Path, labelled_release: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, str]:
    """A run from ``releve run``, and what it printed."""
    out = tmp_path_factory.mktemp("run") / "run"
    done = commands.run("run", recipe, "--data", labelled_release, "--out", out, "--seed", 3)
    assert done.code == 0, done.stderr
    return out, done.stdout, done.stderr


def releve(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "releve.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


# ---- help ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_help_of_every_command_teaches(name: str, commands: Commands) -> None:
    done = commands.run(name, "--help")
    assert done.code == 0 and done.stderr == ""
    assert f"releve {name}" in done.stdout and len(done.stdout.splitlines()) > 8
    assert max(map(len, done.stdout.splitlines())) <= 80
    options = {"seed": name not in ("check", "score", "predict"), "set": name not in ("demo", "check", "score")}
    assert {option for option, wanted in options.items() if wanted} <= set(re.findall(r"--(\w+)", done.stdout))


def test_help_of_the_program_lists_the_commands_and_starts_without_heavy_libraries() -> None:
    code = "import sys, releve.cli; sys.argv = ['releve', '--help']\ntry: releve.cli.main()\nfinally: " + (
        "assert not {'torch', 'polars', 'numpy', 'pydantic'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in NAMES)


def test_an_unknown_command_or_option_is_refused(commands: Commands) -> None:
    assert commands.run("trian").code == 2
    assert commands.run("score", "--zebra").code == 2
    assert commands.run("--version").stdout.count(".") == 2


# ---- train -----------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_training_takes_and_writes_nothing(
    commands: Commands, recipe: Path, made: tuple[Path, str, str], tmp_path: Path
) -> None:
    before = sorted(made[0].rglob("*"))
    done = commands.run("train", recipe, "--store", made[0] / "store", "--out", tmp_path / "x", "--dry-run")
    assert done.code == 0, done.stderr
    for words in ("rows trained on", "landsat", "mapped file", "parameters", "time an epoch", "members: network"):
        assert words in done.stdout
    assert not (tmp_path / "x").exists() and sorted(made[0].rglob("*")) == before


@pytest.mark.slow
def test_two_processes_of_the_command_make_a_run_like_any_other(
    commands: Commands, recipe: Path, made: tuple[Path, str, str], tmp_path: Path
) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "releve"]
    train = ["train", recipe, "--store", made[0] / "store", "--out", tmp_path / "two", "--seed", "3"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = list(map(str, [*launcher, *train]))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("list rule") == 1  # the first process speaks for both
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode != 0 and again.stderr.count("holds a run. Use --resume") == 1
    evaluated = commands.run("evaluate", tmp_path / "two", "--json")
    assert evaluated.code == 0, evaluated.stderr
    two = strict_json(evaluated.stdout)["models"][0]["sample_f1"]
    one = json.loads((made[0] / "evaluation/scores.json").read_text())[0]["sample_f1"]
    assert two == pytest.approx(one, abs=0.05)  # dropout differs


# ---- score -----------------------------------------------------------------------------------------------

PREDICTIONS = "surveyId,predictions\n1,10 11 11\n2,12\n3,\n"
SOLUTION = "surveyId,target_species_ids\n3,10\n1,10 12 13\n2,12\n4,11 12\n"


def test_score_prints_one_object_worked_out_by_hand_without_torch(tmp_path: Path) -> None:
    """Survey 1: 2·1/(2+3) = .4, survey 2: 1, survey 3 lists nothing: 0, survey 4 is missing: 0. Mean: .35.

    In all 2 hits of 3 listed and 7 true: micro F1 = 4/10. By species, of 10, 11, 12, 13: 10 has 1 hit, 1 listed,
    2 true: 2/3; 11 has 0 of 1 listed and 1 true: 0; 12 has 1 hit, 1 listed, 3 true: 1/2; 13: 0. Mean: .2917.
    """
    (tmp_path / "p.csv").write_text(PREDICTIONS)
    (tmp_path / "s.csv").write_text(SOLUTION)
    done = releve("score", tmp_path / "p.csv", tmp_path / "s.csv", "--json")
    assert done.returncode == 0
    assert re.fullmatch(r"1 of 4 surveys of .*, such as \['4'\], are not in .*: each scores 0\n", done.stderr)
    scores = strict_json(done.stdout)
    assert list(scores) == ["sample_f1", "micro_f1", "macro_f1", "precision", "recall", "num_surveys"]
    assert scores["sample_f1"] == pytest.approx(0.35) and scores["num_surveys"] == 4
    assert scores["micro_f1"] == pytest.approx(0.4)
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 0 + 1 / 2 + 0) / 4)
    assert scores["recall"] == pytest.approx((1 / 3 + 1 + 0 + 0) / 4)
    assert scores["precision"] == pytest.approx((1 / 2 + 1 + 0 + 0) / 4)
    imports = "import sys, releve.evaluate.submission; assert not {'torch', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", imports], check=True, timeout=60)


def test_score_takes_a_submission_as_solution_and_prints_a_table(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(PREDICTIONS)
    done = commands.run("score", tmp_path / "p.csv", tmp_path / "p.csv")
    assert done.code == 0 and re.search(r"micro f1 +│ 1.0000", done.stdout)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (PREDICTIONS + "99,10\n", r"1 of 4 predicted surveys are not in .*such as \['99'\]"),
        ("surveyId,predictions\n1,10\n1,11\n", "more than one row"),
        ("surveyId,predictions\n1,10;11\n", "no integers"),
        ("survey,species\n1,10\n", "has the columns"),
        (None, "does not exist"),
    ],
)
def test_score_refuses_bad_files(predictions: str | None, message: str, commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(SOLUTION)
    if predictions is not None:
        (tmp_path / "p.csv").write_text(predictions)
    done = commands.run("score", tmp_path / "p.csv", tmp_path / "s.csv", "--json")
    assert done.code == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and re.search(message, done.stderr)


# ---- check -----------------------------------------------------------------------------------------------


def test_check_exits_with_0_1_or_2(commands: Commands, tmp_path: Path) -> None:
    whole, broken = write_release(tmp_path / "whole", "glc24"), write_release(tmp_path / "broken", "glc24")
    assert commands.run("check", whole).code == 0
    table = next((broken / "EnvironmentalRasters").rglob("*PA-train-elevation.csv"))
    table.write_text(table.read_text().replace("surveyId", "plot"))
    assert commands.run("check", broken).code == 1
    done = commands.run("check", tmp_path / "none")
    assert done.code == 2 and "does not exist" in done.stderr
    (tmp_path / "empty").mkdir()
    done = commands.run("check", tmp_path / "empty")
    assert done.code == 2 and "not a known release" in done.stderr


def test_check_as_json_is_one_object(commands: Commands, labelled_release: Path) -> None:
    done = commands.run("check", labelled_release, "--json")
    assert done.code == 0 and strict_json(done.stdout)["layout"]


def test_every_command_that_prints_json_is_read_by_a_strict_parser_in_a_test() -> None:
    """The others of these commands: ``compare`` and ``select`` in test_records.py, ``nceas`` in test_command.py."""
    groups = [cli.app, *(group.typer_instance for group in cli.app.registered_groups)]
    callbacks = [command.callback for group in groups if group for command in group.registered_commands]
    having = {call.__name__ for call in callbacks if call and "as_json" in inspect.signature(call).parameters}
    assert having == {"check", "evaluate", "score", "compare", "select", "nceas"}


def test_what_is_not_defined_is_null_in_json(commands: Commands, tmp_path: Path) -> None:
    """Plots of one block have no interval; the gain of a run over itself is no gain."""
    paths = [write_run(tmp_path / name, np.array([0.2, 0.4])) for name in ("a", "b")]
    done = commands.run("compare", *paths, "--json")
    assert done.code == 0, done.stderr
    rows = strict_json(done.stdout)["runs"]
    assert [row["sample_f1"] for row in rows] == pytest.approx([0.3, 0.3])
    assert [(row["sample_f1_low"], row["gain_high"]) for row in rows] == [(None, None)] * 2


def test_names_of_files_stay_whole_in_tables(commands: Commands, tmp_path: Path) -> None:
    name = "predictions_of_the_second_run_with_forests_and_series_" * 2
    (tmp_path / f"{name}.csv").write_text(PREDICTIONS)
    done = commands.run("score", tmp_path / f"{name}.csv", tmp_path / f"{name}.csv")
    assert f"{name}.csv against {name}.csv\n" in done.stdout
    paths = [write_run(tmp_path / f"{name}{end}", np.linspace(0, 1, 8)) for end in "ab"]
    done = commands.run("compare", *paths)
    assert done.code == 0, done.stderr
    for end in "ab":
        line = next(line for line in done.stdout.splitlines() if f"{name}{end} " in line)
        assert ".500" in line


# ---- from files to lists ---------------------------------------------------------------------------------


def test_run_goes_from_files_to_lists(made: tuple[Path, str, str], labelled_release: Path) -> None:
    out, stdout, stderr = made
    assert max(map(len, stdout.splitlines())) <= 80
    assert "tiny" in stdout and "frequency" in stdout and "sF1" in stdout
    with (out / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["surveyId", "predictions"]
    assert sorted(int(row["surveyId"]) for row in rows) == [500001 + 7 * i for i in range(20)]
    assert {int(s) for row in rows for s in row["predictions"].split()} <= set(SPECIES)
    assert any(len(row["predictions"].split()) > 1 for row in rows)
    assert {"scores.csv", "surveys.csv", "species.csv"} <= {p.name for p in (out / "evaluation").iterdir()}
    assert "predictions.csv" in " ".join(stderr.split())


def test_each_output_folder_says_how_it_was_made(made: tuple[Path, str, str]) -> None:
    for folder, command in ((made[0], "train"), (made[0] / "store", "prepare")):
        provenance = json.loads((folder / "run.json").read_text())
        assert provenance["command"] == command and provenance["seed"] == 3
        assert provenance["config"]["train"]["epochs"] == 2
        assert re.fullmatch("[0-9a-f]{64}", next(iter(provenance["inputs"].values())))
        assert (
            {"torch", "numpy"} <= set(provenance["packages"])
            and provenance["seconds"] >= 0
            and "git_commit" in provenance
        )


def test_nothing_is_overwritten_unasked(
    made: tuple[Path, str, str], commands: Commands, recipe: Path, labelled_release: Path
) -> None:
    out = made[0]
    done = commands.run("run", recipe, "--data", labelled_release, "--out", out, "--seed", 3)
    assert done.code == 2 and "--overwrite" in done.stderr
    done = commands.run("train", recipe, "--store", out / "store", "--out", out)
    assert done.code == 2 and "holds a run" in done.stderr
    done = commands.run("predict", out, "--data", labelled_release, "--out", out / "predictions.csv")
    assert done.code == 2 and "--overwrite" in done.stderr
    done = commands.run("prepare", recipe, "--data", labelled_release, "--out", out / "store", "--seed", 4)
    assert done.code == 2 and "--overwrite" in done.stderr


def test_predict_writes_lists_and_probabilities_that_agree(
    made: tuple[Path, str, str], commands: Commands, labelled_release: Path, tmp_path: Path
) -> None:
    files = tmp_path / "p.csv", tmp_path / "p.parquet"
    command = ["predict", made[0], "--data", labelled_release, "--out", files[0], "--probabilities", files[1]]
    done = commands.run(*command)
    assert done.code == 0, done.stderr
    assert files[0].read_bytes() == (made[0] / "predictions.csv").read_bytes()
    table = pl.read_parquet(files[1])
    assert table.schema == {"surveyId": pl.String, "speciesId": pl.Int64, "probability": pl.Float32}
    assert table["probability"].is_between(0.001, 1).all() and table["surveyId"].n_unique() == 20
    listed = {
        (row["surveyId"], int(species))
        for row in pl.read_csv(files[0], infer_schema=False).iter_rows(named=True)
        for species in (row["predictions"] or "").split()
    }
    by_survey = {survey: group for (survey,), group in table.group_by("surveyId")}
    for survey, group in by_survey.items():  # a list holds the likeliest species, no others
        likeliest = group.sort("probability", descending=True)["speciesId"].to_list()
        mine = {species for other, species in listed if other == survey}
        assert mine == set(likeliest[: len(mine)])
    done = commands.run(*command[:-1], tmp_path / "p.csv2")
    assert done.code == 2 and ".parquet" in done.stderr


def test_predict_takes_a_table_of_places(made: tuple[Path, str, str], commands: Commands, tmp_path: Path) -> None:
    write_text(tmp_path / "places.csv", "surveyId,lon,lat,year,Bio1\n5,7.5,46,2020,2701\n9,8,47.5,2021,NA\n")
    command = ["predict", made[0], "--out", tmp_path / "p.csv", "--data"]
    done = commands.run(*command, tmp_path / "places.csv")
    assert done.code == 0, done.stderr
    assert "19 of 20 covariates are not there" in " ".join(done.stderr.split())
    assert pl.read_csv(tmp_path / "p.csv")["surveyId"].to_list() == [5, 9]
    at_sea = ("swapped.csv", "surveyId,lon,lat\n5,49.5,6\n6,49.6,5.8\n")  # Lorraine, exchanged: in the Indian Ocean
    for name, text in (("bad.csv", "plant,lon,let\n1,2,50\n"), ("worse.csv", "surveyId,lon,lat\n1,2,500\n"), at_sea):
        write_text(tmp_path / name, text)
        done = commands.run(*command, tmp_path / name, "--overwrite")
        assert done.code == 2 and done.stderr.startswith("error: ")
    write_text(tmp_path / "somalia.csv", "surveyId,lon,lat\n5,46,7.5\n")  # on land both ways: it may be meant
    done = commands.run(*command, tmp_path / "somalia.csv", "--overwrite")
    assert done.code == 0 and "lon and lat exchanged" in pl.read_csv(tmp_path / "p.places.csv")["remark"][0]
    done = commands.run(*command, tmp_path / "none.csv", "--overwrite")
    assert done.code == 2 and "does not exist" in done.stderr


def test_only_what_is_free_in_a_run_can_be_set(
    made: tuple[Path, str, str], commands: Commands, labelled_release: Path, tmp_path: Path
) -> None:
    command = ["predict", made[0], "--data", labelled_release, "--out", tmp_path / "p.csv", "--set"]
    for setting in (
        "model.hidden_dim=32",
        "train.epochs=9",
        "data.splits=['po']",
        "evaluate.references=[]",
        "title='x'",
    ):
        done = commands.run(*command, setting)
        assert done.code == 2 and "fixed in a run. expected one of train.device, data.num_workers." in done.stderr
    done = commands.run("evaluate", made[0], "--set", "train.epochs=999")
    assert done.code == 2 and "expected one of evaluate.*, train.device, data.num_workers." in done.stderr
    assert commands.run(*command, "train.device=cpu").code == 0
    shutil.copytree(made[0], tmp_path / "run")
    done = commands.run("evaluate", tmp_path / "run", "--set", "evaluate.references=[]", "--seed", 5, "--json")
    assert done.code == 0, done.stderr
    assert [row["model"] for row in strict_json(done.stdout)["models"]] == ["tiny"]


def test_train_refuses_the_store_of_another_recipe(
    made: tuple[Path, str, str], commands: Commands, recipe: Path, tmp_path: Path
) -> None:
    command = ["train", recipe, "--store", made[0] / "store", "--out", tmp_path / "run"]
    done = commands.run(*command, "--set", "split.block_size_km=61")
    assert done.code == 2 and "split.block_size_km is 60" in done.stderr and "61" in done.stderr
    assert not (tmp_path / "run").exists()
    done = commands.run("train", recipe, "--store", tmp_path, "--out", tmp_path / "run")
    assert done.code == 2 and "not a store" in done.stderr
    done = commands.run("train", recipe, "--store", made[0] / "store", "--out", tmp_path, "--set", "train.epoch=1")
    assert done.code == 2 and "did you mean 'epochs'" in done.stderr
    done = commands.run("evaluate", tmp_path)
    assert done.code == 2 and "not a run" in done.stderr


def test_simulate_overwrites_what_it_wrote_and_nothing_else(commands: Commands, tmp_path: Path) -> None:
    out = tmp_path / "world"
    sizes = ["--set", "num_plots=60", "--set", "num_records=50", "--set", "num_species=20", "--set", "tables_only=true"]
    (out / "truth").mkdir(parents=True)
    (out / "truth" / "thesis.tex").write_text("keep")
    done = commands.run("simulate", out, *sizes, "--overwrite")
    assert done.code == 2 and "not made by releve simulate" in done.stderr
    assert (out / "truth" / "thesis.tex").read_text() == "keep"
    shutil.rmtree(out)
    assert commands.run("simulate", out, *sizes).code == 0
    assert commands.run("simulate", out, *sizes).code == 2
    done = commands.run("simulate", out, *sizes, "--overwrite")
    assert done.code == 0, done.stderr
    (out / "mine.csv").write_text("keep")
    done = commands.run("simulate", out, *sizes, "--overwrite")
    assert done.code == 2 and "['mine.csv']" in done.stderr and (out / "mine.csv").is_file()


# ---- kills -----------------------------------------------------------------------------------------------


def losses(run: Path) -> list[list[dict[str, float]]]:
    members = sorted(run.glob("member-*"))
    lines = [(member / "metrics.jsonl").read_text().splitlines() for member in members]
    return [[{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in member] for member in lines]


@pytest.mark.parametrize("num_kills", [3, pytest.param(9, marks=pytest.mark.slow)])
def test_a_killed_train_goes_on_with_the_same_losses(
    num_kills: int, made: tuple[Path, str, str], commands: Commands, recipe: Path, tmp_path: Path
) -> None:
    def command(out: Path) -> list[object]:
        settings = ["--set", "train.epochs=6", "--set", "train.patience=6"]
        return ["train", recipe, "--store", made[0] / "store", "--out", out, *settings]

    def num_epochs(out: Path) -> int:
        return sum(len(file.read_text().splitlines()) for file in out.glob("member-*/metrics.jsonl"))

    assert commands.run(*command(tmp_path / "whole")).code == 0
    out, resumed = tmp_path / "run", 0
    for goal in sorted(random.Random(num_kills).sample(range(1, num_epochs(tmp_path / "whole")), num_kills)):
        pid = commands.start(*command(out), "--resume")
        while num_epochs(out) < goal:  # whichever step it is at then
            time.sleep(0.001)
        assert commands.kill(pid).code == -9
        resumed += bool(list(out.glob("member-*/state.pt")))
    done = commands.run(*command(out), "--resume")
    assert done.code == 0, done.stderr
    assert resumed >= 1
    assert losses(out) == losses(tmp_path / "whole")
    assert (out / "decision.json").read_bytes() == (tmp_path / "whole" / "decision.json").read_bytes()
    for member in ("member-00", "member-01"):
        files = [sorted(p.name for p in (folder / member).iterdir()) for folder in (out, tmp_path / "whole")]
        assert files[0] == files[1]
        weights = [(folder / member / "weights.safetensors").read_bytes() for folder in (out, tmp_path / "whole")]
        assert weights[0] == weights[1]


def test_tables_take_names_as_they_are_and_never_break_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    file = "geoplant_mini_test_solution_of_the_second_of_november_which_is_a_long_name.csv"
    show.print_facts(f"predictions [bold]1[/bold].csv against {file}", {"a [red]b": "x/" + "y" * 90, "f1": 0.5})
    show.print_rows("runs [i]", ["run", "f[b]1"], [["r" * 100, 0.25], ["model of [b]soil[/b]", 0.5]])
    shown = capsys.readouterr().out
    for name in (f"predictions [bold]1[/bold].csv against {file}", "a [red]b", "x/" + "y" * 90, "r" * 100, "f[b]1"):
        assert name in shown
    assert "model of [b]soil[/b]" in shown and "runs [i]" in shown and ".250" in shown
    say("a message about places [1].csv and " + "z" * 100)
    assert "a message about places [1].csv and " + "z" * 100 + "\n" in capsys.readouterr().err
