"""What belongs together in a folder, and the study.toml that says so."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from releve.discover.document import study_text
from releve.discover.study import look_through
from releve.errors import TableError
from releve.ingest.config import StudyConfig
from releve.ingest.study import open_source

from .folders import long_plots, places, study_of, write, write_raster

RNG = np.random.default_rng(1)
AMOUNT = (RNG.uniform(5, 15, (10, 10))).astype("float32")


def test_plots_and_rasters_make_a_study_with_files_named_from_its_folder(tmp_path: Path) -> None:
    data = write(tmp_path / "my data é", sites=long_plots(extra="soil_ph"))
    write_raster(data / "rain.tif", AMOUNT)
    study = study_of(data, tmp_path)
    assert study == {
        "title": "my data é",
        "plots": [
            {
                **{"file": "my data é/sites.csv", "crs": "EPSG:4326", "covariates": ["soil_ph"]},
                "columns": {"lon": "lon", "lat": "lat", "species": "species", "survey_id": "plot"},
            }
        ],
        "rasters": [{"file": "my data é/rain.tif", "categorical": False}],
    }


def test_names_that_toml_would_misread_come_back_as_they_are(tmp_path: Path) -> None:
    data = write(tmp_path / 'a "b" \\c #d', plots=long_plots(extra='"ph ""x"" \\ #"'))
    text = study_text(look_through(data), tmp_path)
    plots = tomllib.loads(text)["study"]["plots"][0]
    assert plots["file"] == 'a "b" \\c #d/plots.csv' and plots["covariates"] == ['ph "x" \\ #']


def test_plots_and_species_in_two_tables_are_joined_by_the_column_they_share(tmp_path: Path) -> None:
    head = ["PlotNr,Easting,Northing,slope", *(f"A{i},{600000 + i * 50},5500000,{i / 3:.1f}" for i in range(20))]
    body = ["PlotNr,TaxonName,cover"]
    body += [f"A{i},{name},{i % 5}" for i in range(20) for name in ("Poa annua", "Abies alba")]
    study = study_of(write(tmp_path, header="\n".join(head), vegetation="\n".join(body)))
    (plots,) = study["plots"]
    assert plots["file"] == "header.csv" and plots["covariates"] == ["slope"]
    assert plots["columns"] == {"x": "Easting", "y": "Northing", "survey_id": "PlotNr"}
    assert plots["species_table"] == {
        "file": "vegetation.csv",
        "columns": {"survey_id": "PlotNr", "species": "TaxonName", "abundance": "cover"},
    }


def test_plots_and_species_are_joined_by_words_that_are_the_same_under_other_names(tmp_path: Path) -> None:
    head = ["Punkt,Easting,Northing", *(f"Wald-{i:02d},{600000 + i * 50},5500000" for i in range(20))]
    body = ["Ort,Artname", *(f"Wald-{i:02d},{name}" for i in range(20) for name in ("Poa annua", "Abies alba"))]
    (plots,) = study_of(write(tmp_path, orte="\n".join(head), arten="\n".join(body)))["plots"]
    assert plots["columns"]["survey_id"] == "Punkt"
    assert plots["species_table"]["columns"] == {"survey_id": "Ort", "species": "Artname"}


def test_the_same_plots_in_another_form_are_left_out(tmp_path: Path) -> None:
    names = ("Poa annua", "Abies alba", "Carex nigra")
    wide = [",".join(["plot,lon,lat", *(name.replace(" ", "_") for name in names)])]
    wide += [f"P{i},{lon},{lat},1,{i % 2},1" for i, (lon, lat) in enumerate(places(12))]
    found = look_through(write(tmp_path, a_long=long_plots(), b_wide="\n".join(wide)))
    assert [part.name for part in found.parts] == ["a_long.csv"]
    assert found.left_out[0][1] == "it has the plots of a_long.csv once more"


def test_sampling_events_of_darwin_core_are_plots(tmp_path: Path) -> None:
    head = "eventID\tsamplingProtocol\tsampleSizeValue\tsampleSizeUnit\teventDate\tdecimalLatitude\tdecimalLongitude"
    events = [f"e{i}\trelevé\t25\tm2\t2019-05-0{i % 9 + 1}\t{lat}\t{lon}" for i, (lon, lat) in enumerate(places(15))]
    first = "occurrenceID\teventID\tbasisOfRecord\toccurrenceStatus\tscientificName\torganismQuantity"
    found = [
        f"o{i}-{name[:3]}\te{i}\tHumanObservation\t{'present' if i % 2 else 'absent'}\t{name}\t{i % 2 * 5}"
        for i in range(15)
        for name in ("Poa annua", "Abies alba")
    ]
    for name, rows in (("event", [head, *events]), ("occurrence", [first, *found])):
        (tmp_path / f"{name}.txt").write_text("\n".join(rows), encoding="utf-8")
    (plots,) = study_of(tmp_path)["plots"]
    assert (plots["file"], plots["columns"]["survey_id"], plots["columns"]["area_m2"]) == (
        *("event.txt", "eventID"),
        "sampleSizeValue",
    )
    species = plots["species_table"]["columns"]
    assert (species["species"], species["occurrence_status"], species["abundance"]) == (
        *("scientificName", "occurrenceStatus"),
        "organismQuantity",
    )


def test_numbers_by_plot_id_are_a_group_of_covariates_and_a_legend_is_left_out(tmp_path: Path) -> None:
    soil = "\n".join(["plot,soil_n,soil_p,soil_k", *(f"P{i},{i / 7:.2f},{i * 3},{i * 2.5}" for i in range(12))])
    legend = "column,meaning\nsoil_n,nitrogen\nsoil_p,phosphorus\n"
    found = look_through(write(tmp_path, plots=long_plots(), soil=soil, legend=legend))
    study = study_of(tmp_path)
    assert study["covariates"] == [{"file": "soil.csv", "group": "soil", "key": "plot", "columns": ["soil_*"]}]
    assert [path.name for path, _ in found.left_out] == ["legend.csv"]


def test_few_plots_of_the_species_of_the_records_are_kept_for_the_test(tmp_path: Path) -> None:
    there = "\n".join(["presence,lon,lat", *(f"1,{lon},{lat}" for lon, lat in places(40))])
    looked = "\n".join(
        ["presence,lon,lat", *(f"{i % 2},{lon},{lat}" for i, (lon, lat) in enumerate(places(30, seed=3)))]
    )
    study = study_of(write(tmp_path / "Salix herbacea", po=there, pa=looked))
    assert [(part["file"], part["species"], part["split"]) for part in study["plots"]] == [
        ("pa.csv", "Salix herbacea", "test")
    ]
    assert [(part["file"], part["species"]) for part in study["records"]] == [("po.csv", "Salix herbacea")]


def test_tables_of_one_species_each_are_named_after_their_files(tmp_path: Path) -> None:
    text = "\n".join(["presence,lon,lat", *(f"1,{lon},{lat}" for lon, lat in places(20))])
    more = "\n".join(["presence,lon,lat", *(f"1,{lon},{lat}" for lon, lat in places(20, seed=5))])
    study = study_of(write(tmp_path, abies_alba_occurrences=text, picea=more))
    assert {part["file"]: part["species"] for part in study["records"]} == {
        "abies_alba_occurrences.csv": "abies alba",
        "picea.csv": "picea",
    }


def test_files_of_the_same_columns_are_one_table_but_another_version_is_left_out(tmp_path: Path) -> None:
    first = long_plots()
    study = study_of(write(tmp_path / "parts", north=first, south=first.replace("P", "S")))
    assert [part["file"] for part in study["plots"]] == [["north.csv", "south.csv"]]
    moved = "\n".join(line.replace(",10.", ",11.") for line in first.splitlines())
    found = look_through(write(tmp_path / "versions", a=first, b=moved))
    assert [part.files for part in found.parts] == [(tmp_path / "versions" / "a.csv",)]
    assert [(path.name, "at other places" in why) for path, why in found.left_out] == [("b.csv", True)]


def test_names_of_one_species_are_kept_apart_and_the_file_says_how_to_take_them_as_one(tmp_path: Path) -> None:
    names = ("Solanum acaule Bitter", "solanum acaule", "Solanum acaule subsp. aemulans")
    rows = ["species,lon,lat", *(f"{names[i % 3]},{lon},{lat}" for i, (lon, lat) in enumerate(places(12)))]
    text = study_text(look_through(write(tmp_path, acaule="\n".join(rows))), tmp_path)
    assert '# species = "Solanum acaule"' in text and tomllib.loads(text)["study"]["records"][0]["columns"]["species"]
    merged = text.replace('# species = "Solanum', 'species = "Solanum').replace('\nspecies = "species"', "\n# gone")
    (tmp_path / "study.toml").write_text(merged, encoding="utf-8")
    source = open_source(tmp_path / "study.toml")
    assert source.species is not None and source.species["name"].to_list() == ["Solanum acaule"]
    two = look_through(write(tmp_path / "two", finds="\n".join([*rows, "Poa annua,10.5,49.5"])))
    assert two.parts[0].table.one_binomial == ""


def test_a_column_that_splits_the_plots_is_told(tmp_path: Path) -> None:
    lines = long_plots(20).splitlines()
    rows = [f"{line},{'test' if i > 40 else 'train'}" for i, line in enumerate(lines[1:])]
    study = study_of(write(tmp_path, plots="\n".join([f"{lines[0]},split", *rows])))
    assert study["plots"][0]["columns"]["split"] == "split"


def test_places_alone_are_finds_of_the_species_that_the_file_is_called_after_but_for_a_background(
    tmp_path: Path,
) -> None:
    data = write(
        tmp_path,
        Puma_concolor_gbif="\n".join(["x,y", *(f"{lon},{lat}" for lon, lat in places(20))]),
        lynx="\n".join(["x,y", *(f"{lon},{lat}" for lon, lat in places(20, seed=4))]),
        background="\n".join(["x,y", *(f"{lon},{lat}" for lon, lat in places(20, seed=5))]),
    )
    found = look_through(data)
    assert {part.name: part.species_name for part in found.parts} == {
        "Puma_concolor_gbif.csv": "Puma concolor",
        "lynx.csv": "lynx",
    }
    assert [path.name for path, _ in found.left_out] == ["background.csv"]
    write(data, plots=long_plots())
    assert [part.name for part in look_through(data).parts] == ["plots.csv"]


def test_records_that_another_table_has_too_and_rows_of_absence_are_left_out(tmp_path: Path) -> None:
    head = "gbifID,basisOfRecord,recordedBy,catalogNumber,species,decimalLongitude,decimalLatitude"
    rows = [f"{i},HUMAN_OBSERVATION,A,{i},Poa annua,{lon},{lat}" for i, (lon, lat) in enumerate(places(12))]
    write(
        tmp_path,
        occurrence="\n".join([head, *rows]),
        verbatim="\n".join([head.replace("species", "taxon"), *rows[:11]]),
    )
    random = "\n".join(["species,occ,lon,lat", *(f"NA,0,{lon},{lat}" for lon, lat in places(30, seed=6))])
    found = look_through(write(tmp_path, bg=random.replace("NA", "background")))
    assert [part.name for part in found.parts] == ["occurrence.csv"]
    why = {path.name: reason for path, reason in found.left_out}
    assert "the records of occurrence.csv once more" in why["verbatim.csv"] and "drawn anew" in why["bg.csv"]


def test_plots_of_a_test_by_the_name_of_the_file_are_kept_apart_and_take_their_covariates_from_their_sites(
    tmp_path: Path,
) -> None:
    """As of benchmarks: records with covariates, and sites and their species in two tables of the same rows."""
    lonlat = places(20, seed=7)
    sites = ["siteid,x,y,bc01,bc12", *(f"{i},{lon},{lat},{i * 1.5},{i * 7}" for i, (lon, lat) in enumerate(lonlat))]
    species = ["siteid,x,y,awt01,awt02,awt03"]
    species += [f"{i},{lon},{lat},{i % 2},{i % 3 == 0:d},{i % 5 == 0:d}" for i, (lon, lat) in enumerate(lonlat)]
    records = ["siteid,spid,x,y,occ,bc01,bc12"]
    records += [f"{i},a0{i % 3 + 1},{lon},{lat},1,{i * 1.5},{i * 7}" for i, (lon, lat) in enumerate(places(40, seed=8))]
    write(tmp_path, AWTtrain_po="\n".join(records))
    study = study_of(write(tmp_path, AWTtest_env="\n".join(sites), AWTtest_pa="\n".join(species)))
    (plots,), (found,) = study["plots"], study["records"]
    assert (plots["file"], plots["split"], plots["covariates"]) == ("AWTtest_env.csv", "test", ["bc01", "bc12"])
    assert plots["species_table"] == {
        **{"file": "AWTtest_pa.csv", "form": "wide", "species_columns": ["awt*"]},
        "columns": {"survey_id": "siteid"},
    }
    assert (found["columns"]["species"], found["covariates"]) == ("spid", ["bc01", "bc12"])


def test_an_official_release_is_told_that_it_needs_no_study(tmp_path: Path) -> None:
    (tmp_path / "GLC24_PA_metadata_train.csv").write_text("surveyId,lon,lat,year,speciesId\n1,3,45,2019,7\n")
    with pytest.raises(TableError, match="is an official release, .*needs no study.toml: releve check"):
        look_through(tmp_path)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_tells_what_is_in_it_and_how_to_unpack_it(tmp_path: Path, kind: str) -> None:
    data = write(tmp_path / "packed", finds=long_plots(), notes="a,b\n1,2\n")
    shutil.make_archive(str(tmp_path / "download 1"), "zip" if kind == "zip" else "gztar", data)
    shutil.rmtree(data)
    how = "unzip" if kind == "zip" else "tar -xf"
    with pytest.raises(TableError, match=rf"an archive of .*finds\.csv, .*notes\.csv: unpack it \({how} 'download 1"):
        look_through(tmp_path)


# ---- projections -------------------------------------------------------------------------------------------


def metres(num: int = 15) -> str:
    return "\n".join(["id,x,y,species", *(f"{i},{600000 + i * 100},{5500000 + i * 90},Poa annua" for i in range(num))])


def test_without_any_word_of_it_the_projection_is_to_be_given(tmp_path: Path) -> None:
    found = look_through(write(tmp_path, records=metres()))
    text = study_text(found, tmp_path)
    assert "crs" not in tomllib.loads(text)["study"]
    assert found.projections.lacking == ("records.csv",) and "# TO BE GIVEN" in text
    assert '# crs = "EPSG:25832"  # ETRS89 / UTM 32N' in text


def test_the_readme_is_believed_only_as_a_proposal(tmp_path: Path) -> None:
    write(tmp_path, records=metres())
    (tmp_path / "README.md").write_text("Coordinates: UTM 33N, see also EPSG:5514.")
    found = look_through(tmp_path)
    assert [hint.crs for hint in found.projections.hints][:3] == ["EPSG:5514", "EPSG:25833", "EPSG:32633"]
    assert "crs" not in study_of(tmp_path)["records"][0]


def test_a_raster_in_metres_that_holds_the_places_tells_their_projection(tmp_path: Path) -> None:
    write(tmp_path, records=metres())
    write_raster(tmp_path / "dem.tif", AMOUNT, crs="EPSG:32633", west=599000, north=5502000, cell=500)
    assert study_of(tmp_path)["records"][0]["crs"] == "EPSG:32633"


def test_a_column_that_names_the_projection_is_read(tmp_path: Path) -> None:
    lines = metres().splitlines()
    write(tmp_path, records="\n".join([f"{lines[0]},epsg", *(f"{line},31468" for line in lines[1:])]))
    assert study_of(tmp_path)["records"][0]["crs"] == "EPSG:31468"


def test_a_raster_without_projection_under_places_in_degrees_is_in_degrees(tmp_path: Path) -> None:
    write(tmp_path, plots=long_plots())
    write_raster(tmp_path / "rain.asc.tif", AMOUNT, crs=None)
    assert study_of(tmp_path)["rasters"][0]["crs"] == "EPSG:4326"


# ---- units and other things that tables and rasters tell of one another -----------------------------------


def values_at(values: np.ndarray, lonlat: list[tuple[float, float]]) -> list[float]:
    return [float(values[int((50 - lat) / 0.1), int((lon - 10) / 0.1)]) for lon, lat in lonlat]


@pytest.mark.parametrize(
    ("factor", "offset", "said"),
    [(10.0, 0.0, "# scale = 0.1"), (1.0, 273.15, "# offset = -273.15"), (1.0, 0.0, "")],
    ids=["times-10", "kelvin", "the-same"],
)
def test_a_raster_in_another_unit_than_the_column_of_its_name_is_said(
    tmp_path: Path, factor: float, offset: float, said: str
) -> None:
    lonlat = places(30)
    rows = ["plot,lon,lat,species,bio_5"]
    for i, ((lon, lat), value) in enumerate(zip(lonlat, values_at(AMOUNT, lonlat), strict=True)):
        rows += [f"P{i},{lon},{lat},{name},{value:.2f}" for name in ("Poa annua", "Abies alba")]
    write(tmp_path, plots="\n".join(rows))
    write_raster(tmp_path / "wc2_bio5.tif", (AMOUNT * factor + offset).astype("float32"))
    text = study_text(look_through(tmp_path), tmp_path)
    assert (said in text) and ("UNITS" in text) == bool(said)
    assert "covariates" not in tomllib.loads(text)["study"]["plots"][0]


def test_records_drawn_on_the_grid_are_no_covariate(tmp_path: Path) -> None:
    lonlat = places(25)
    write(tmp_path, occurrences="\n".join(["species,lon,lat", *(f"Poa annua,{lon},{lat}" for lon, lat in lonlat)]))
    drawn = np.zeros((10, 10), "uint8")
    for lon, lat in lonlat:
        drawn[int((50 - lat) / 0.1), int((lon - 10) / 0.1)] = 1
    write_raster(tmp_path / "RV.tif", drawn)
    write_raster(tmp_path / "burnt.tif", np.tile(np.array([0, 1], "uint8"), (10, 5)))
    found = look_through(tmp_path)
    assert [layer.name for group in found.rasters for layer in group.layers] == ["burnt"]
    assert [(path.name, "drawn on a grid" in why) for path, why in found.left_out] == [("RV.tif", True)]


# ---- odd folders -------------------------------------------------------------------------------------------


def test_folders_without_plots_and_records_say_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="neither plots nor records: it is empty"):
        look_through(tmp_path)
    write_raster(tmp_path / "only" / "rain.tif", AMOUNT)
    with pytest.raises(TableError, match="neither plots nor records: 1 rasters"):
        look_through(tmp_path / "only")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "plots.parquet").write_bytes(b"PAR1 this is none")
    (broken / "plots.xlsx").write_bytes(b"nor is this")
    (broken / "plots.csv").write_bytes(b"")
    with pytest.raises(
        TableError, match=r"plots\.csv: 0 bytes; plots\.parquet: cannot be read: .*plots\.xlsx: cannot be"
    ):
        look_through(broken)


def test_a_broken_raster_is_left_out_and_the_others_are_read(tmp_path: Path) -> None:
    write(tmp_path, plots=long_plots())
    write_raster(tmp_path / "rain.tif", AMOUNT)
    (tmp_path / "torn.tif").write_bytes((tmp_path / "rain.tif").read_bytes()[:40])
    found = look_through(tmp_path)
    assert [layer.name for group in found.rasters for layer in group.layers] == ["rain"]
    assert found.left_out[0][0].name == "torn.tif" and "cannot be read as a raster" in found.left_out[0][1]


# ---- real folders ------------------------------------------------------------------------------------------

OWN = Path(__file__).parents[3] / "shared" / "data" / "own"
PLOTS = OWN.parent / "plots"


def real(name: str) -> StudyConfig:
    if not OWN.is_dir():
        pytest.skip("the real samples are not here")
    return StudyConfig.model_validate(study_of(OWN / name, OWN))


def test_southwest_is_plots_with_soil_in_the_table_and_climate_in_rasters() -> None:
    study = real("southwest")
    (plots,), (rasters,) = study.plots, study.rasters
    assert plots.columns == {"lon": "Long", "lat": "Lat", "species": "species", "survey_id": "site"}
    assert plots.covariates == ("awcA", "phTotal", "sandA", "shcA", "solumDepth") and plots.crs == "EPSG:4326"
    assert (rasters.file, rasters.categorical) == ("southwest/swBioclims.grd", False)
    units = {note.layer.name: note.conversion for note in look_through(OWN / "southwest").units}
    assert units == {"bio5": "divided by 10", "bio6": "divided by 10"}


def test_new_caledonia_is_records_without_the_row_names_and_a_raster_of_classes() -> None:
    study = real("new-caledonia")
    (records,), (rasters,) = study.records, study.rasters
    assert records.columns == {"lon": "LONGITUDE", "lat": "LATITUDE", "species": "SPECIES"} and not study.plots
    assert records.covariates == () and rasters.categorical == ("SUBSTRATE",)


def test_grasslands_asks_for_the_projection_and_keeps_the_plots_for_the_test() -> None:
    study = real("grasslands")
    found = look_through(OWN / "grasslands")
    assert study.crs is None and found.projections.lacking and found.projections.hints[0].crs == "EPSG:25832"
    assert [(part.split, part.species) for part in study.plots] == [("test", "grasslands")]
    assert [part.columns["x"] for part in study.records] == ["POINT_X"]
    classes, amounts, elevation = study.rasters
    assert (classes.file, classes.categorical) == ("grasslands/EV_categorical/*.asc", True)
    assert (len(amounts.file), amounts.categorical) == (7, False)
    assert elevation.file == "grasslands/EV_continuous/terdem.asc"


def test_potato_is_specimens_with_nine_bands_and_biomes() -> None:
    study = real("potato")
    (records,), (rasters,) = study.records, study.rasters
    assert (records.columns["species"], records.columns["country"], records.covariates) == ("species", "country", ())
    assert rasters.file == ("potato/bio.tif", "potato/biome.tif") and rasters.categorical == ("biome",)


def test_four_providers_of_records_are_four_tables_of_one_study() -> None:
    study = real("brazil-records")
    assert {str(part.file).rpartition("/")[2]: part.columns["species"] for part in study.records} == {
        **{"at_epiphytes.csv": "EPIPHYTE_SPECIES", "dryflor.csv": "Accepted name"},
        **{"gbif.csv": "species", "specieslink.csv": "scientificname"},
    }
    assert [part.columns["lon"] for part in study.records][-1] == "longitude"


def test_a_wide_table_of_birds_has_its_split_and_one_of_three_versions() -> None:
    if not PLOTS.is_dir():
        pytest.skip("the real samples are not here")
    study = StudyConfig.model_validate(study_of(PLOTS / "birds", PLOTS))
    (plots,) = study.plots
    assert (plots.form, plots.species_columns, plots.covariates) == ("wide", ("sp_*",), ("env_*",))
    assert plots.columns["split"] == "split" and plots.file == "birds/split_1.csv"
