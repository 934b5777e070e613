"""A study of one's own is read by its study.toml into the same values as a release."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from releve.errors import ConfigError, ReleaseError, TableError
from releve.ingest.covariates import Covariates, read_covariates
from releve.ingest.study import Study, load_study, open_source
from releve.ingest.surveys import Surveys, read_occurrences, read_surveys
from releve.store.config import DataConfig
from releve.store.contents import read_contents


def write_study(folder: Path, toml: str, **files: str) -> Study:
    """Write a study.toml and its files (``_`` in a name stands for the point before the ending) and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        stem, _, ending = name.rpartition("_")
        (folder / f"{stem}.{ending}").write_text(content, encoding="utf-8")
    (folder / "study.toml").write_text(toml, encoding="utf-8")
    return load_study(folder / "study.toml")


def lists_of(study: Study, split: str = "train") -> dict[str, set[str]]:
    """Return the names of the species of each plot."""
    found = read_surveys(study, split)
    return named_lists(study, found)


def named_lists(study: Study, found: Surveys) -> dict[str, set[str]]:
    names = dict(study.species.rows()) if study.species is not None else {}
    lists: dict[str, set[str]] = {survey: set() for survey in found.table["survey_id"]}
    for row, species in found.labels.rows():
        lists[found.table["survey_id"][row]].add(names.get(species, str(species)))
    return lists


LONG = """\
plot,lon,lat,year,species,soil_ph
A,10.5,47.5,2019,Poa annua,5.5
A,10.5,47.5,2019,Bellis perennis,5.5
B-2,11.25,47.25,2020,Poa annua,6.5
B-2,11.25,47.25,2020,Carex nigra,6.5
"""
PLOTS = '[study]\n[[study.plots]]\nfile = "plots.csv"\n'


def test_a_long_table_gives_sets_of_species_by_name(tmp_path: Path) -> None:
    study = write_study(tmp_path, PLOTS, plots_csv=LONG)
    assert study.splits == ("train",)
    assert lists_of(study) == {"A": {"Bellis perennis", "Poa annua"}, "B-2": {"Carex nigra", "Poa annua"}}
    assert study.species is not None and study.species["name"].to_list() == [
        "Bellis perennis",
        "Carex nigra",
        "Poa annua",
    ]
    table = read_surveys(study, "train").table
    assert table.select("survey_id", "lon", "lat", "year").rows() == [
        ("A", 10.5, 47.5, 2019),
        ("B-2", 11.25, 47.25, 2020),
    ]


def test_species_that_are_all_numbers_stay_numbers(tmp_path: Path) -> None:
    study = write_study(
        tmp_path,
        PLOTS,
        plots_csv=LONG.replace("Poa annua", "17").replace("Bellis perennis", "4.0").replace("Carex nigra", "250"),
    )
    assert study.species is None
    assert lists_of(study) == {"A": {"4", "17"}, "B-2": {"17", "250"}}


WIDE = """\
plot;x;y;jahr;Poa annua;Bellis perennis;Carex nigra;Abies alba;Fagus sylvatica
1;4321000,0;3210000;2019;0;12,5;;2;0
2;4310000;2710000;2020;0;0;;0;
3;4320000;2720000;2020;1;0;0;1;0
"""


def test_a_wide_table_in_a_projection_with_decimal_commas(tmp_path: Path) -> None:
    study = write_study(tmp_path, PLOTS + 'form = "wide"\ncrs = "EPSG:3035"\n', plots_csv=WIDE)
    assert lists_of(study) == {"1": {"Bellis perennis", "Abies alba"}, "2": set(), "3": {"Poa annua", "Abies alba"}}
    found = read_surveys(study, "train")
    # The origin of EPSG:3035 is 10 E, 52 N by definition; a kilometre further west is west of it.
    assert found.table.select("lon", "lat").row(0) == pytest.approx((10.0, 52.0), abs=1e-9)
    assert found.table["lon"][2] < found.table["lon"][0]
    assert found.table["year"].to_list() == [2019, 2020, 2020]
    assert found.noted["survey without species, kept as an empty list"] == 1


def test_records_have_a_row_each_and_absences_are_none(tmp_path: Path) -> None:
    records = "scientificName,decimalLongitude,decimalLatitude,occurrenceStatus,individualCount\n"
    records += "Poa annua,10.5,47.5,PRESENT,3\nPoa annua,10.5,47.5,ABSENT,\nBellis perennis,10.6,47.5,PRESENT,0\n"
    records += "Bellis perennis,10.7,47.5,PRESENT,\n"
    study = write_study(tmp_path, '[study]\n[[study.records]]\nfile = "records.csv"\n', records_csv=records)
    found = read_occurrences(study, "po")
    assert study.splits == ("po",) and study.species is not None
    names = dict(study.species.rows())
    kept = found.table.select("survey_id", pl.col("species_id").replace_strict(names, return_dtype=pl.String))
    assert kept.rows() == [("1", "Poa annua"), ("4", "Bellis perennis")]
    assert found.dropped == {"recorded as absent": 1, "count of zero": 1}


# ---- species: by column, in a table of their own, as codes of abundance ----------------------------------


def test_absences_in_other_languages_are_none_and_words_that_are_not_known_are_told(tmp_path: Path) -> None:
    words = ["Presente", "AUSENTE", "Ausencia", "abwesend", "absente", "not found", "0", "1", "Negative", "présent"]
    words += ["doubtful", "nicht gefunden"]
    rows = [f"{9 + at / 10},47.{at + 10},Poa annua,{word}" for at, word in enumerate(words)]
    toml = '[study]\n[[study.records]]\nfile = "r.csv"\ncolumns = { occurrence_status = "presencia" }\n'
    found = read_occurrences(write_study(tmp_path, toml, r_csv="\n".join(["lon,lat,species,presencia", *rows])), "po")
    assert found.table["lat"].to_list() == [47.10, 47.17, 47.19, 47.20]
    assert found.dropped == {"recorded as absent": 8}
    (told,) = found.noted
    assert "not known" in told and found.noted[told] == 1 and found.examples[told] == ("row 11: doubtful",)


def test_blanks_of_a_wide_table_that_writes_zeros_are_counted(tmp_path: Path) -> None:
    toml = '[study]\n[[study.plots]]\nfile = "w.csv"\nform = "wide"\n'
    rows = "A,5.1,47.1,1,0,NA\nB,5.2,47.2,NA,NA,NA\nC,5.3,47.3,0,0,1\nD,5.4,47.4,0,1,0\nE,5.5,47.5,0,1,0\n"
    head = "plot,lon,lat,Poa annua,Carex nigra,Abies alba\n"
    found = read_surveys(write_study(tmp_path, toml, w_csv=head + rows), "train")
    (told,) = (reason for reason in found.noted if "blanks" in reason)
    assert found.noted[told] == 2 and found.examples[told] == ("row 1: 1 of 3 species", "row 2: 3 of 3 species")
    found = read_surveys(write_study(tmp_path, toml, w_csv=(head + rows).replace("0", "").replace("NA", "")), "train")
    assert not any("blanks" in reason for reason in found.noted)


def test_species_in_a_table_of_their_own_are_joined_by_the_plots_ids(tmp_path: Path) -> None:
    plots = "Plot;lon;lat\n007;10,5;47,5\nB;10,6;47,5\nC;10,7;47,5\n"
    species = "plot,taxon,cover\n007,Poa annua,+\nB,Poa annua,.\n007,Carex nigra,2a\nZ,Abies alba,3\nB,Abies alba,3\n"
    study = write_study(
        tmp_path,
        PLOTS + 'species_table = { file = "species.csv" }\n',
        plots_csv=plots,
        species_csv=species,
    )
    assert lists_of(study) == {"007": {"Poa annua", "Carex nigra"}, "B": {"Abies alba"}, "C": set()}
    noted = read_surveys(study, "train").noted
    assert noted["species of a plot that the table of plots lacks"] == 1
    assert read_surveys(study, "train").examples["species of a plot that the table of plots lacks"] == ("survey_id Z",)


def test_a_wide_table_of_species_is_joined_and_its_counts_are_read(tmp_path: Path) -> None:
    study = write_study(
        tmp_path,
        PLOTS + 'species_table = { file = "counts.csv", form = "wide", columns = { survey_id = "which" } }\n',
        plots_csv="plot,lon,lat\nA,10.5,47.5\nB,10.6,47.5\n",
        counts_csv="which,Poa annua,Carex nigra,Abies alba\nA,3,0,12\nB,0,,1\n",
    )
    assert lists_of(study) == {"A": {"Poa annua", "Abies alba"}, "B": {"Abies alba"}}


BRAUN_BLANQUET = """\
plot,lon,lat,species,cover
A,10.5,47.5,Poa annua,r
A,10.5,47.5,Carex nigra,2m
A,10.5,47.5,Abies alba,1
B,10.6,47.5,Poa annua,2B
B,10.6,47.5,Carex nigra,0
"""


@pytest.mark.parametrize(
    ("least", "a", "b"),
    [
        ("", {"Poa annua", "Carex nigra", "Abies alba"}, {"Poa annua"}),
        ('least_abundance = "1"\n', {"Carex nigra", "Abies alba"}, {"Poa annua"}),
        ('least_abundance = "2a"\n', set(), {"Poa annua"}),
    ],
)
def test_codes_of_cover_are_presences_from_the_least_one_on(
    least: str, a: set[str], b: set[str], tmp_path: Path
) -> None:
    study = write_study(tmp_path, PLOTS + least, plots_csv=BRAUN_BLANQUET)
    assert lists_of(study) == {"A": a, "B": b}


@pytest.mark.parametrize("least", ["5", '"12"'])
def test_a_least_abundance_on_another_scale_is_refused(least: str, tmp_path: Path) -> None:
    study = write_study(tmp_path, PLOTS + f"least_abundance = {least}\n", plots_csv=BRAUN_BLANQUET)
    with pytest.raises(TableError, match=r"plots\.csv, column 'cover'"):
        read_surveys(study, "train")


def test_abundance_in_words_is_a_presence_and_said(tmp_path: Path) -> None:
    words = LONG.replace("soil_ph", "abundance").replace("5.5", "common").replace("6.5", "<1 %")
    found = read_surveys(study := write_study(tmp_path, PLOTS, plots_csv=words), "train")
    assert named_lists(study, found)["A"] == {"Bellis perennis", "Poa annua"}
    assert found.noted == {"abundance in words, taken as a presence": 2}
    assert found.examples["abundance in words, taken as a presence"] == ("row 1: common", "row 2: common")


def test_genus_and_epithet_are_joined_where_they_have_columns_of_their_own(tmp_path: Path) -> None:
    rows = "genus,species,lon,lat\nPoa,annua,10.5,47.5\nCarex,nigra,10.5,47.5\nPoa,,10.5,47.5\n"
    study = write_study(tmp_path, '[study]\n[[study.records]]\nfile = "r.csv"\n', r_csv=rows)
    found = read_occurrences(study, "po")
    assert study.species is not None and study.species["name"].to_list() == ["Carex nigra", "Poa annua"]
    assert found.dropped == {"no species": 1}


def test_a_table_of_one_species_has_its_name_in_the_study_and_absences_in_a_column(tmp_path: Path) -> None:
    rows = "Presence-Absence,POINT_X,POINT_Y\n1,4321000,3210000\n0,4322000,3210000\n1,4323000,3210000\n"
    toml = '[study]\ncrs = "EPSG:3035"\n[[study.plots]]\nfile = "pa.csv"\nspecies = "Arnica montana"\n'
    study = write_study(tmp_path, toml, pa_csv=rows)
    lists = lists_of(study)
    assert list(lists.values()) == [{"Arnica montana"}, set(), {"Arnica montana"}]
    assert list(lists) == ["4321000 3210000", "4322000 3210000", "4323000 3210000"]


def test_spellings_are_told_and_blanks_mended(tmp_path: Path) -> None:
    rows = "plot,lon,lat,species\n"
    names = ["Poa  annua", "Poa annua", "poa annua", "Poa annua L.", "Mentha ×piperita", "Mentha x piperita", ""]
    rows += "".join(f"A,10.5,47.5,{name}\n" for name in names)
    found = read_surveys(study := write_study(tmp_path, PLOTS, plots_csv=rows), "train")
    assert named_lists(study, found) == {"A": {*names[1:-1]}}
    assert found.noted["name of a species with blanks that are not needed, mended"] == 1
    assert found.noted["species in several spellings, kept apart"] == 2
    assert found.examples["species in several spellings, kept apart"] == (
        "Mentha x piperita / Mentha ×piperita",
        "Poa annua / Poa annua L. / poa annua",
    )
    assert found.dropped == {"no species": 1, "duplicate survey-species pair": 1}
    assert found.examples["duplicate survey-species pair"] == ("survey A, species Poa annua",)


def test_more_species_than_plots_is_fine(tmp_path: Path) -> None:
    rows = "plot,lon,lat,species\n" + "".join(f"P{n % 2},{10 + n % 2},47,sp{n}\n" for n in range(40))
    assert {name: len(names) for name, names in lists_of(write_study(tmp_path, PLOTS, plots_csv=rows)).items()} == {
        "P0": 20,
        "P1": 20,
    }


# ---- covariates ------------------------------------------------------------------------------------------


def covariates_of(study: Study, split: str = "train") -> Covariates:
    return read_covariates(study, split, read_surveys(study, split).table["survey_id"])


def test_covariates_are_those_of_a_plots_first_row_and_of_tables_by_its_id(tmp_path: Path) -> None:
    toml = PLOTS + 'covariates = ["soil_*"]\n[[study.covariates]]\nfile = "embedding.csv"\ngroup = "embedding"\n'
    toml += 'ranges = { e1 = { low = 0, high = 1, units = "share" } }\n'
    embedding = "plot,e1,e2\nB-2,0.5,2\nA,7,-9999\nZ,0.1,1\n"
    study = write_study(
        tmp_path, toml, plots_csv=LONG.replace("Bellis perennis,5.5", "Bellis perennis,5.75"), embedding_csv=embedding
    )
    found = covariates_of(study)
    assert found.table.fill_nan(None).rows() == [("A", 5.5, None, None), ("B-2", 6.5, 0.5, 2.0)]
    assert found.groups == {"soil_ph": "table", "e1": "embedding", "e2": "embedding"} and found.units["e1"] == "share"
    assert found.masked == {"e1": 1, "e2": 1}
    assert found.disagreeing == {"survey whose rows in plots.csv disagree, first kept": 1}


def test_classes_in_words_get_codes_in_the_order_of_their_names_over_all_tables(tmp_path: Path) -> None:
    toml = PLOTS + 'covariates = ["use", "moist"]\ncategorical = ["use", "moist"]\n'
    toml += '[[study.plots]]\nfile = "test.csv"\nsplit = "test"\ncovariates = ["use"]\n'
    study = write_study(
        tmp_path,
        toml,
        plots_csv="plot,lon,lat,species,use,moist\nA,10,47,x,mown,2\nB,11,47,x,,5\n",
        test_csv="plot,lon,lat,species,use\nT,10,48,x,grazed\n",
    )
    assert covariates_of(study).table.fill_nan(None).rows() == [("A", 1.0, 2.0), ("B", None, 5.0)]
    assert covariates_of(study, "test").table.rows() == [("T", 0.0)]
    assert covariates_of(study).classes == {"use": {0: "grazed", 1: "mown"}}
    assert set(covariates_of(study).categorical) == {"use", "moist"}


def test_columns_that_number_the_rows_are_no_covariates_by_a_pattern(tmp_path: Path) -> None:
    rows = '"","X","plot","lon","lat","species","ph"\n'
    rows += '"1",1,"A",10,47,"x",5\n"2",2,"B",11,47,"x",6\n"3",3,"C",12,47,"x",7\n'
    study = write_study(tmp_path, PLOTS + 'covariates = ["*"]\n', plots_csv=rows)
    assert list(covariates_of(study).groups) == ["ph"]


def test_values_of_plots_that_are_none_of_the_study_are_refused(tmp_path: Path) -> None:
    toml = PLOTS + '[[study.covariates]]\nfile = "soil.csv"\ngroup = "soil"\n'
    study = write_study(tmp_path, toml, plots_csv=LONG, soil_csv="plot,clay\n1,20\n2,30\n")
    with pytest.raises(TableError, match=r"soil\.csv: none of its ids, such as \['1', '2'\].*is that of a plot"):
        _ = study.rules


def test_values_by_the_plots_ids_are_not_given_to_records_by_the_numbers_of_their_rows(tmp_path: Path) -> None:
    toml = PLOTS + '[[study.records]]\nfile = "records.csv"\n'
    toml += '[[study.covariates]]\nfile = "soil.csv"\ngroup = "soil"\n'
    plots = "plot,lon,lat,species\n1,9.0,47.0,Poa annua\n1,9.0,47.0,Abies alba\n2,9.1,47.1,Poa annua\n"
    records = "lon,lat,species\n9.2,47.2,Poa annua\n9.3,47.3,Abies alba\n"
    study = write_study(tmp_path, toml, plots_csv=plots, records_csv=records, soil_csv="plot,clay\n1,20\n2,30\n")
    assert read_covariates(study, "train", pl.Series(["1", "2"])).table["clay"].to_list() == [20, 30]
    assert "clay" not in read_covariates(study, "po", pl.Series(["1", "2"])).table.columns
    (tmp_path / "records.csv").write_text("surveyId,lon,lat,species\n2,9.2,47.2,Poa annua\n7,9.3,47.3,Abies alba\n")
    told = toml.replace('"records.csv"\n', '"records.csv"\ncolumns = { survey_id = "surveyId" }\n')
    (tmp_path / "study.toml").write_text(told)
    values = read_covariates(open_source(tmp_path / "study.toml"), "po", pl.Series(["2", "7"])).table["clay"]
    assert values.fill_nan(None).to_list() == [30, None]


def test_one_name_in_two_groups_is_refused(tmp_path: Path) -> None:
    toml = PLOTS + 'covariates = ["soil_ph"]\n[[study.covariates]]\nfile = "soil.csv"\ngroup = "soil"\n'
    study = write_study(tmp_path, toml, plots_csv=LONG, soil_csv="plot,soil_ph\nA,20\n")
    with pytest.raises(TableError, match="'soil_ph' of soil.csv is in the groups 'table' and 'soil'"):
        _ = study.rules


# ---- several files, splits, ids --------------------------------------------------------------------------


def test_a_column_may_tell_which_plots_are_kept_for_the_test(tmp_path: Path) -> None:
    rows = "plot,lon,lat,species,set\nA,10,47,x,Training\nB,11,47,x,TEST\nC,12,47,y,\n"
    study = write_study(tmp_path, PLOTS + 'columns = { split = "set" }\n', plots_csv=rows)
    assert study.splits == ("train", "test")
    assert lists_of(study) == {"A": {"x"}, "C": {"y"}} and lists_of(study, "test") == {"B": {"x"}}
    strange = write_study(tmp_path, PLOTS + 'columns = { split = "set" }\n', plots_csv=rows.replace("TEST", "maybe"))
    with pytest.raises(TableError, match=r"column 'set' holds \['maybe'\]. expected train or test"):
        _ = strange.splits


def test_ids_that_two_files_give_to_different_places_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "Plots").mkdir()
    north = "plot,lon,lat,species,ph\n1,10.0,60,x,5\n2,11,60,x,6\n"
    (tmp_path / "Plots" / "north.csv").write_text(north)
    (tmp_path / "Plots" / "south.csv").write_text("Longitude;Latitude;Site;Taxon;pH\n10;47,5;1;y;7\nnowhere;47;3;y;8\n")
    study = write_study(tmp_path, PLOTS.replace("plots.csv", "Plots/*.csv") + 'covariates = ["[pP][hH]"]\n')
    assert lists_of(study) == {"north 1": {"x"}, "north 2": {"x"}, "south 1": {"y"}}
    found = read_surveys(study, "train")
    assert found.examples["longitude is no number"] == ("row 2 of Plots/south.csv: nowhere",)
    (tmp_path / "Plots" / "south.csv").write_text("plot,lon,lat,species,pH\n1,10,60.00,y,7\n")
    again = load_study(tmp_path / "study.toml")
    assert lists_of(again) == {"1": {"x", "y"}, "2": {"x"}}


def test_one_id_at_two_places_of_a_file_keeps_the_first_and_is_counted(tmp_path: Path) -> None:
    rows = "plot,lon,lat,species\nA,10,47,x\nA,10,47,y\nA,12,47,z\nB,11,47,x\n"
    found = read_surveys(study := write_study(tmp_path, PLOTS, plots_csv=rows), "train")
    assert named_lists(study, found) == {"A": {"x", "y"}, "B": {"x"}}
    assert found.dropped == {"survey id used at another place": 1} and found.examples == {
        "survey id used at another place": ("row 3",)
    }


def test_without_an_id_the_place_and_date_make_the_plot(tmp_path: Path) -> None:
    rows = "lon,lat,date,species\n10,47,2019-05-03,x\n10,47,03.05.2019,y\n10,47,2020-06-01,x\n11,47,06/13/2020,y\n"
    study = write_study(tmp_path, PLOTS, plots_csv=rows)
    found = read_surveys(study, "train")
    visits = {tuple(row) for row in found.table.select("lon", "year", "month", "day").rows()}
    assert visits == {(10.0, 2019, 5, 3), (10.0, 2020, 6, 1), (11.0, 2020, 6, 13)}
    assert len(found.table) == 3 and sorted(map(len, named_lists(study, found).values())) == [1, 1, 2]


def test_ids_that_number_the_rows_are_not_those_of_plots_unless_they_are_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "sampleId,lon,lat,species\n" + "".join(f"S{n},{10 + n // 3},47,{'xyz'[n % 3]}\n" for n in range(9))
    assert list(lists_of(write_study(tmp_path, PLOTS, plots_csv=rows)).values()) == [{"x", "y", "z"}] * 3
    assert "plots.csv: column 'sampleId' has an id of its own for each row" in capsys.readouterr().err
    told = write_study(tmp_path, PLOTS + 'columns = { survey_id = "sampleId" }\n', plots_csv=rows)
    assert len(lists_of(told)) == 9 and not capsys.readouterr().err


# ---- what is wrong is said -------------------------------------------------------------------------------


def test_columns_of_a_wide_table_that_are_no_species_are_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    species = [f"Species {n}" for n in range(8)]
    head = "plot,lon,lat,habitat,altitude,when," + ",".join(species)
    places = [f"P{n},{10 + n},47,meadow,{400 + n},{2010 + n}," for n in range(6)]
    found = [[(n + at) % 3 // 2 for at in range(8)] for n in range(6)]
    rows = [place + ",".join(map(str, here)) for place, here in zip(places, found, strict=True)]
    study = write_study(tmp_path, PLOTS + 'form = "wide"\n', plots_csv="\n".join([head, *rows, ""]))
    assert {name for names in lists_of(study).values() for name in names} <= set(species)
    said = capsys.readouterr().err
    assert (
        "3 of 11 columns are taken for no species: 'habitat' holds text, such as 'meadow'; 'altitude' holds 400" in said
    )
    covers = [place + ",".join(str(60 * there) for there in here) for place, here in zip(places, found, strict=True)]
    cover = "\n".join([head, *covers, ""])
    study = write_study(tmp_path, PLOTS + 'form = "wide"\n', plots_csv=cover)
    assert {name for names in lists_of(study).values() for name in names} <= set(species)
    said = capsys.readouterr().err
    assert (
        "'altitude' is 400 to 405 in every row, and the others" in said and "'when' holds years, such as 2010" in said
    )


def test_a_column_that_is_named_a_species_and_holds_text_is_refused(tmp_path: Path) -> None:
    toml = PLOTS + 'form = "wide"\nspecies_columns = ["Poa annua", "habitat"]\n'
    study = write_study(tmp_path, toml, plots_csv="plot,lon,lat,Poa annua,habitat\nA,10,47,1,meadow\nB,11,47,0,fen\n")
    with pytest.raises(TableError, match=r"column 'habitat', which is said to be a species, holds \['meadow', 'fen'\]"):
        _ = study.splits


@pytest.mark.parametrize(
    ("crs", "rows", "message"),
    [
        ("", "A,262750,6557250,x\n", r"columns \['x', 'y'\] hold .*no degrees, and the CRS is not given"),
        ('crs = "EPSG:25833"\n', "A,10.5,59.1,x\n", r"which are degrees, and the CRS is EPSG:25833"),
        ('crs = "EPSG:99999"\n', "A,262750,6557250,x\n", r"crs 'EPSG:99999' of plots.csv is not known"),
    ],
)
def test_coordinates_that_cannot_be_of_the_crs_are_refused(crs: str, rows: str, message: str, tmp_path: Path) -> None:
    study = write_study(tmp_path, PLOTS + crs, plots_csv="plot,x,y,species\n" + rows)
    with pytest.raises(TableError, match=message):
        _ = study.splits


@pytest.mark.parametrize(
    ("crs", "x", "y"),
    [
        ("EPSG:3035", "x_km", "y_km"),
        ("+proj=laea +lat_0=52 +lon_0=10 +x_0=4321000 +y_0=3210000 +ellps=GRS80 +units=km", "x", "y"),
    ],
)
def test_kilometres_by_the_columns_names_or_the_crs_are_kilometres(crs: str, x: str, y: str, tmp_path: Path) -> None:
    rows = f"plot,{x},{y},species\nA,4321,3210.0,x\nB,4421,3210,x\n"
    study = write_study(tmp_path, PLOTS + f'crs = "{crs}"\n', plots_csv=rows)
    places = read_surveys(study, "train").table.select("lon", "lat").rows()
    assert places[0] == pytest.approx((10.0, 52.0), abs=1e-6) and places[1][0] == pytest.approx(11.455, abs=0.01)


def test_easting_and_northing_exchanged_are_refused(tmp_path: Path) -> None:
    rows = "plot;x;y;species\nA;6557250,5;262750;x\nB;6558750;263250;x\nC;;263250;x\n"
    with pytest.raises(
        TableError, match=r"2 of 2 places lie far from Europe .*2 lie there when columns 'x' and 'y' are"
    ):
        _ = write_study(tmp_path, PLOTS + 'crs = "EPSG:25833"\n', plots_csv=rows).splits


def test_degrees_of_longitude_and_latitude_are_so_although_the_study_has_a_projection(tmp_path: Path) -> None:
    study = write_study(tmp_path, PLOTS.replace("[study]", '[study]\ncrs = "EPSG:25833"'), plots_csv=LONG)
    assert read_surveys(study, "train").table["lon"].to_list() == [10.5, 11.25]


def test_places_at_sea_that_are_on_land_when_exchanged_are_refused(tmp_path: Path) -> None:
    """Bavaria, whose mirror lies in the Indian Ocean; one such plot among others is left out and counted."""
    head = "plot,lon,lat,species\n"
    exchanged = "".join(f"P{n},48.{n},11.{n},x\n" for n in range(9))
    with pytest.raises(ReleaseError, match=r"9 of 9 places .*when columns 'lon' and 'lat' are exchanged"):
        read_surveys(write_study(tmp_path, PLOTS, plots_csv=head + exchanged), "train")
    right = "".join(f"P{n},11.{n},48.{n},x\n" for n in range(9))
    found = read_surveys(
        write_study(tmp_path, PLOTS, plots_csv=head + right + "Q,48.5,11.5,x\nR,0,0,x\nS,,48,x\n"), "train"
    )
    assert len(found.table) == 9 and found.dropped == {
        "no coordinates": 1,
        "plot at longitude 0, latitude 0": 1,
        "plot with longitude and latitude exchanged": 1,
    }


def test_a_study_of_another_continent_is_not_outside(tmp_path: Path) -> None:
    rows = "species,lon,lat\n" + "".join(f"x,{117 + n / 9:.4f},{-32 - n / 7:.4f}\n" for n in range(20))
    rows += "x,-53.1234,-11.4321\n"  # far from all others, on land
    study = write_study(tmp_path, '[study]\n[[study.records]]\nfile = "r.csv"\n', r_csv=rows)
    contents = read_contents(study, DataConfig(splits=(), records="po", modalities=()))
    assert "outside_extent" not in contents.surveys["po"].dropped
    assert contents.surveys["po"].table["lon"].min() == -53.1234
    assert (contents.kind, contents.origin) == ("study", "the study study.toml")


def test_a_table_of_absences_only_is_refused(tmp_path: Path) -> None:
    rows = LONG.replace("soil_ph", "cover").replace("5.5", "0").replace("6.5", "0")
    with pytest.raises(ReleaseError, match=r"no row of .* says that a species is present: 4 count of zero \(row 1\)"):
        read_contents(write_study(tmp_path, PLOTS, plots_csv=rows), DataConfig(modalities=()))


def test_a_file_that_moved_is_named_with_those_called_alike(tmp_path: Path) -> None:
    study = write_study(tmp_path, PLOTS)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "plots_2.csv").write_text(LONG)
    with pytest.raises(
        TableError, match=r"names 'plots.csv', and there is no such file.*Did you mean 'new/plots_2.csv'"
    ):
        _ = study.splits


def test_a_study_that_cannot_be_meant_is_refused_with_what_is_near(tmp_path: Path) -> None:
    for toml, message in (
        ('[study]\n[[study.plots]]\nfiel = "a.csv"\n', "unknown key 'plots.0.fiel', did you mean 'file'"),
        ('[study]\ntitle = "x"\n', "neither plots nor records"),
        ('title = "a recipe"\n', r"has no section \[study\]"),
        ("[study\n", "is not TOML"),
    ):
        with pytest.raises(ConfigError, match=message):
            write_study(tmp_path, toml)
    with pytest.raises(ConfigError, match=r"no study at .*studi.toml.*did you mean 'study.toml'"):
        load_study(tmp_path / "studi.toml")


def test_columns_that_are_not_there_are_named_with_what_is(tmp_path: Path) -> None:
    for columns, message in (
        ('columns = { lon = "Lenght" }\n', r"lon of plots.csv: there is no column 'Lenght'"),
        ('covariates = ["clay"]\n', r"covariates: there is no column 'clay'"),
        ('covariates = ["clay_*"]\n', r"covariates: no column is like 'clay_\*'"),
    ):
        with pytest.raises(TableError, match=message):
            _ = write_study(tmp_path, PLOTS + columns, plots_csv=LONG).splits
    with pytest.raises(TableError, match="no coordinates that are known by their names"):
        _ = write_study(tmp_path, PLOTS, plots_csv="plot,species\nA,x\n").splits
    with pytest.raises(TableError, match='has no column of species.*form = "wide"'):
        _ = write_study(tmp_path, PLOTS, plots_csv="plot,lon,lat,Poa\nA,10,47,1\n").splits


def test_a_path_with_blanks_accents_and_brackets_through_a_link(tmp_path: Path) -> None:
    real = tmp_path / "été 2019 [Jura]"
    (real / "relevés").mkdir(parents=True)
    (tmp_path / "lien").symlink_to(real, target_is_directory=True)
    (real / "relevés" / "Tabelle [1] ö.csv").write_text(LONG)
    study = write_study(tmp_path / "lien", PLOTS.replace("plots.csv", "releve\u0301s/Tabelle [1] o\u0308.csv"))
    assert lists_of(study)["A"] == {"Bellis perennis", "Poa annua"}
    assert isinstance(open_source(real), Study)


def test_a_file_of_0_bytes_is_refused(tmp_path: Path) -> None:
    for name in ("plots.csv", "plots.xlsx", "plots.parquet", "plots.gpkg"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(TableError, match=f"{name} is empty"):
            _ = write_study(tmp_path, PLOTS.replace("plots.csv", name)).splits
