"""What `releve check` says of a study: rows, species, and its rasters at its places."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from commands import Commands
from discover.folders import long_plots, places, write, write_raster
from releve.ingest.inventory import Inventory
from releve.ingest.study import load_study
from releve.study.check import check_study

RNG = np.random.default_rng(3)
AMOUNT = RNG.uniform(5, 15, (10, 10)).astype("float32")
HALF = np.where(np.arange(10) < 5, np.nan, AMOUNT).astype("float32")


def check(folder: Path, study: str) -> Inventory:
    (folder / "study.toml").write_text(study, encoding="utf-8")
    return check_study(load_study(folder / "study.toml"))


def found(inventory: Inventory) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Return, by code, how many and which, of all rows."""
    return {finding.code: (finding.count, finding.examples) for row in inventory.rows for finding in row.findings}


PLOTS = '[[study.plots]]\nfile = "plots.csv"\n'


def test_layers_that_are_constant_empty_or_the_same_are_told(tmp_path: Path) -> None:
    write(tmp_path, plots=long_plots(30))
    write_raster(tmp_path / "rain.tif", AMOUNT)
    write_raster(tmp_path / "minus_rain.tif", 7 - 2 * AMOUNT)
    write_raster(tmp_path / "sun.tif", AMOUNT[::-1].copy())
    write_raster(tmp_path / "flat.tif", np.full((10, 10), 3, "float32"))
    write_raster(tmp_path / "nothing.tif", np.full((10, 10), -1, "int16"), nodata=-1)
    inventory = check(tmp_path, PLOTS + '[[study.rasters]]\nfile = "*.tif"\ncategorical = false\n')
    told = found(inventory)
    assert told["constant"] == (1, ("flat",)) and told["no-data"] == (1, ("nothing",))
    assert told["same"] == (1, ("minus_rain and rain",)) and told["species"][0] == 3
    assert told["grid"] == (5, ("flat", "minus_rain", "and 3 more"))
    assert not inventory.breaks_run
    (row,) = [row for row in inventory.rows if row.modality == "rasters"]
    assert (row.num_surveys, row.num_present, row.num_missing) == (30, 30, 0)


def test_what_a_run_would_do_is_told_with_the_reasons(tmp_path: Path) -> None:
    write(tmp_path, plots=long_plots(60))
    write_raster(tmp_path / "rain.tif", AMOUNT)
    inventory = check(tmp_path, PLOTS + '[[study.rasters]]\nfile = "rain.tif"\ncategorical = false\n')
    (row,) = [row for row in inventory.rows if row.modality == "settings"]
    assert row.split == "all" and any("plots" in finding.message for finding in row.findings)


def test_places_outside_and_without_data_are_counted_with_examples_once_for_layers_alike(tmp_path: Path) -> None:
    lonlat = places(20)
    num_west = sum(lon < 10.5 for lon, _ in lonlat)
    rows = ["plot,lon,lat,species", *(f"P{i},{lon},{lat},Poa annua" for i, (lon, lat) in enumerate(lonlat))]
    write(tmp_path, plots="\n".join([*rows, "far,30.5,49.5,Poa annua"]))
    for name in ("a", "b"):
        write_raster(tmp_path / f"{name}.tif", HALF)
    inventory = check(tmp_path, PLOTS + '[[study.rasters]]\nfile = "*.tif"\n')
    missing = [f for row in inventory.rows for f in row.findings if f.code == "missing-values"]
    assert [(finding.count, len(finding.examples)) for finding in missing] == [(num_west + 1, 3)]
    assert (
        f"a and 1 more layers ({(num_west + 1) / 21:.1%}): 1 outside, {num_west} where it has no data"
        in missing[0].message
    )


def test_places_that_lie_in_no_raster_would_break_a_run(tmp_path: Path) -> None:
    write(tmp_path, plots=long_plots())
    write_raster(tmp_path / "rain.tif", AMOUNT, crs="EPSG:25832", west=600000, north=5500000, cell=1000)
    inventory = check(tmp_path, PLOTS + '[[study.rasters]]\nfile = "rain.tif"\n')
    assert inventory.breaks_run and found(inventory)["outside-all"][0] == 12


@pytest.mark.parametrize(("setting", "said"), [("", True), ("scale = 0.1\n", False)], ids=["as-it-is", "mended"])
def test_another_unit_than_the_tables_is_told_until_it_is_mended(tmp_path: Path, setting: str, said: bool) -> None:
    lonlat = places(30)
    rows = ["plot,lon,lat,species,bio_5"]
    for i, (lon, lat) in enumerate(lonlat):
        value = float(AMOUNT[int((50 - lat) / 0.1), int((lon - 10) / 0.1)])
        rows += [f"P{i},{lon},{lat},{name},{value:.2f}" for name in ("Poa annua", "Abies alba")]
    write(tmp_path, plots="\n".join(rows))
    write_raster(tmp_path / "bio5.tif", np.round(AMOUNT * 10))
    text = f'{PLOTS}[[study.rasters]]\nfile = "bio5.tif"\ncategorical = false\n{setting}'
    messages = [f.message for row in check(tmp_path, text).rows for f in row.findings if f.code == "other-units"]
    assert messages == (
        ["layers that, divided by 10, are what plots.csv has under this name; to mend it, give them scale = 0.1"]
        if said
        else []
    )


def test_a_study_without_any_covariate_is_warned_of(tmp_path: Path) -> None:
    write(tmp_path, plots=long_plots())
    assert "no-covariates" in found(check(tmp_path, PLOTS))
    assert "no-covariates" not in found(
        check(write(tmp_path, plots=long_plots(extra="ph")), PLOTS + 'covariates = ["ph"]')
    )


def test_the_command_exits_with_1_where_a_run_would_break(tmp_path: Path, commands: Commands) -> None:
    write(tmp_path, plots=long_plots())
    write_raster(tmp_path / "rain.tif", AMOUNT)
    study = tmp_path / "study.toml"
    study.write_text(PLOTS + '[[study.rasters]]\nfile = "rain.tif"\n')
    done = commands.run("check", str(study), "--json")
    assert done.code == 0 and json.loads(done.stdout)["layout"] == "study"
    for wrong, hint in (
        (PLOTS + '[[study.rasters]]\nfile = "rian.tif"\n', "did you mean 'rain.tif'"),
        (PLOTS.replace("plots.csv", "plot.csv"), "Did you mean 'plots.csv'"),
    ):
        study.write_text(wrong)
        done = commands.run("check", str(study), "--json")
        errors = [f["message"] for row in json.loads(done.stdout)["rows"] for f in row["findings"]]
        assert done.code == 1 and any(hint in message for message in errors)
