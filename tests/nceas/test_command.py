from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from commands import Commands, strict_json
from nceas.regions import write_region


def test_the_command_prints_one_object_and_writes_its_files(commands: Commands, tmp_path: Path) -> None:
    write_region(tmp_path / "data", "AA", num_sites=40, num_plots=40)
    write_region(tmp_path / "data", "BB", num_sites=40, num_plots=40, seed=1)
    out = tmp_path / "out"
    done = commands.run("benchmark", "nceas", tmp_path / "data", "--json", "--no-references", "--out", out)
    assert done.code == 0, done.stderr
    content = strict_json(done.stdout)
    assert set(content["regions"]) == {"AA", "BB"}
    assert content["num_species"] == sum(region["num_species"] for region in content["regions"].values())
    aucs = [region["auc"] * region["num_species"] for region in content["regions"].values()]
    assert content["mean_auc"] == pytest.approx(sum(aucs) / content["num_species"])
    assert "chosen with the AUC of these three regions' plots in view" in content["settings"]["note"]
    assert content["mean_auc"] > 0.7 and 0 < content["mean_ap"] <= 1
    with (out / "species.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert {row["method"] for row in rows} == {"blend of five models", "releve train, regime po"}
    assert len(rows) == 2 * content["num_species"]
    of_blend = [float(row["auc"]) for row in rows if row["method"] == "blend of five models"]
    assert sum(of_blend) / len(of_blend) == pytest.approx(content["mean_auc"])
    assert (out / "auc.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((out / "summary.json").read_text())["mean_auc"] == content["mean_auc"]


def test_the_command_compares_with_reference_models_beyond_a_buffer(commands: Commands, tmp_path: Path) -> None:
    pytest.importorskip("elapid")
    write_region(tmp_path, "AA", num_sites=60, num_plots=15)
    done = commands.run("benchmark", "nceas", tmp_path, "--buffer-km", 5, "--regions", "AA")
    assert done.code == 0, done.stderr
    for word in ("MaxEnt", "forest", "AA", "gain of the"):
        assert word in done.stdout
    assert "sites within 5 km of plots dropped" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--buffer-km", "-3"), "a buffer of -3.0 km. expected 0 km or more"),
        (("--buffer-km", "900"), "no presence-only site of ['XX'] is 900 km from every plot"),
        (("--regions", "CC"), "no region ['CC']"),
    ],
)
def test_what_a_user_gets_wrong_is_one_message(
    commands: Commands, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    write_region(tmp_path)
    done = commands.run("benchmark", "nceas", tmp_path, "--no-references", *arguments)
    assert done.code == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_output_folder_that_cannot_be_made_is_one_message(commands: Commands, tmp_path: Path) -> None:
    write_region(tmp_path / "data", num_sites=30, num_plots=20)
    (tmp_path / "file").write_text("")
    done = commands.run("benchmark", "nceas", tmp_path / "data", "--no-references", "--out", tmp_path / "file" / "x")
    assert done.code == 2 and f"cannot write {tmp_path / 'file' / 'x'}" in done.stderr.replace(os.linesep, "")
