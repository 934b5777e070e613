"""What a table is, and what its columns mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from releve.discover.kinds import Table, judge_table
from releve.discover.samples import read_samples

from .folders import long_plots, places, write


def judge(folder: Path, text: str) -> Table:
    return judge_table(read_samples(write(folder, table=text) / "table.csv")[0])


def columns(table: Table) -> dict[str, object]:
    return {role: found.column for role, found in table.columns().items()}


def test_a_plot_id_that_is_repeated_over_species_makes_plots(tmp_path: Path) -> None:
    table = judge(tmp_path, long_plots(extra="ph"))
    assert (table.kind, table.form, table.num_plots, table.num_species) == ("plots", "long", 12, 3)
    assert columns(table) == {"lon": "lon", "lat": "lat", "species": "species", "survey_id": "plot"}
    assert table.covariates == ("ph",)


def test_columns_of_0_and_1_are_species_and_numbers_are_covariates(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["plot;Longitude;Latitude;slope;Abies_alba;Poa_annua;Carex_nigra"]
    rows += [
        f"{at};{lon};{lat};{at / 7:.2f};" + ";".join(map(str, rng.integers(0, 2, 3)))
        for at, (lon, lat) in enumerate(places(20))
    ]
    table = judge(tmp_path, "\n".join(rows))
    assert (table.kind, table.form) == ("plots", "wide")
    assert table.species_columns == ("Abies_alba", "Poa_annua", "Carex_nigra")
    assert table.covariates == ("slope",)


def test_codes_of_abundance_with_many_blanks_are_a_wide_table(tmp_path: Path) -> None:
    rows = ["releve,x,y,Abies alba,Poa annua,Carex nigra"]
    codes = ["+", "2a", "", ".", "r", ""]
    rows += [
        f"R{i},{i * 1000 + 600000},{5500000 + i},{codes[i % 6]},{codes[(i + 1) % 6]},{codes[(i + 2) % 6]}"
        for i in range(9)
    ]
    table = judge(tmp_path, "\n".join(rows))
    assert (table.kind, table.form, len(table.species_columns)) == ("plots", "wide", 3)
    assert table.place is not None and table.place.kind == "x"


def test_hybrids_accents_and_a_genus_alone_among_species_are_species(tmp_path: Path) -> None:
    names = ["Abies alba", "Carex", "Isoëtes lacustris", "Mentha × piperita", "Poa annua", "Stipa.×.gallica"]
    rng = np.random.default_rng(1)
    rows = [f"releve,lon,lat,slope,{','.join(names)},grazed,×Festulolium loliaceum"]
    rows += [
        f"R{i},{lon},{lat},{i / 3:.2f}," + ",".join(rng.choice(["+", "2a", "", ".", "r"], 6)) + f",{i % 2},r"
        for i, (lon, lat) in enumerate(places(20))
    ]
    table = judge(tmp_path, "\n".join(rows).replace("grazed,", "").replace(",0,r", ",r").replace(",1,r", ",r"))
    assert table.species_columns == (*names, "×Festulolium loliaceum")
    rows = [line.rpartition(",")[0] for line in rows]
    assert judge(tmp_path, "\n".join(rows)).species_columns == tuple(names)


def test_collections_are_records_even_with_a_catalogue_number(tmp_path: Path) -> None:
    head = "catalogNumber,basisOfRecord,recordedBy,species,scientificName,decimalLongitude,decimalLatitude,eventDate,"
    head += "coordinateUncertaintyInMeters,taxonKey"
    rows = [
        f"{at},PRESERVED_SPECIMEN,A. B.,Poa annua,Poa annua L.,{lon},{lat},2001-05-0{at % 9 + 1},{at * 10 + 5},{at + 7}"
        for at, (lon, lat) in enumerate(places(10))
    ]
    table = judge(tmp_path, "\n".join([head, *rows]))
    assert table.kind == "records"
    assert columns(table) == {
        **{"lon": "decimalLongitude", "lat": "decimalLatitude", "species": "species", "basis": "basisOfRecord"},
        **{"date": "eventDate", "uncertainty_m": "coordinateUncertaintyInMeters"},
    }
    assert table.covariates == ()


def test_one_word_in_every_row_is_records_and_0_and_1_are_plots_of_one_species(tmp_path: Path) -> None:
    there = "\n".join(["Occurrence,POINT_X,POINT_Y", *(f"presence,{250000 + i},6550000" for i in range(9))])
    both = "\n".join(["Presence-Absence,POINT_X,POINT_Y", *(f"{i % 2},{250000 + i},6550000" for i in range(9))])
    assert judge(tmp_path, there).kind == "records"
    table = judge(tmp_path, both)
    assert (table.kind, table.num_species, columns(table)["occurrence_status"]) == ("plots", 1, "Presence-Absence")


def test_rows_of_absence_make_plots_of_a_long_table(tmp_path: Path) -> None:
    rows = ["site,lon,lat,species,present"]
    for at, (lon, lat) in enumerate(places(6)):
        rows += [f"{at},{lon},{lat},Poa annua,{at % 2}", f"{at},{lon},{lat},Abies alba,{1 - at % 2}"]
    table = judge(tmp_path, "\n".join(rows))
    assert table.kind == "plots" and columns(table)["occurrence_status"] == "present"


def test_genus_and_epithet_are_joined_where_the_species_is_one_word(tmp_path: Path) -> None:
    rows = ["genus,species,lon,lat", *(f"Poa,annua,{lon},{lat}" for lon, lat in places(5))]
    assert columns(judge(tmp_path, "\n".join(rows)))["species"] == ("genus", "species")
    rows = ["genus,species,scientificname,lon,lat", *(f"Poa,annua,Poa annua,{lon},{lat}" for lon, lat in places(5))]
    assert columns(judge(tmp_path, "\n".join(rows)))["species"] == "scientificname"


def test_the_centre_of_a_municipality_is_not_the_place(tmp_path: Path) -> None:
    rows = ["longitude_mun,latitude_mun,species,longitude,latitude"]
    rows += [f"10.5,49.5,Poa annua,{lon},{lat}" for lon, lat in places(5)]
    found = columns(judge(tmp_path, "\n".join(rows)))
    assert (found["lon"], found["lat"]) == ("longitude", "latitude")


@pytest.mark.parametrize(
    ("head", "x", "y", "kind", "meant"),
    [
        ("lon,lat", 10.5123, 49.5, "lon", ("lon", "lat")),
        ("X,Y", 10.5123, 49.5213, "lon", ("X", "Y")),
        ("LONGITUDE_X,LATITUDE_Y", -54.28361, -29.6, "lon", ("LONGITUDE_X", "LATITUDE_Y")),
        ("lon,lat", 49.5, 110.5, "lon", ("lat", "lon")),
        ("lon,lat", 612345.0, 5512345.0, "x", ("lon", "lat")),
        ("x,y", 612345.0, 5512345.0, "x", ("x", "y")),
        ("UTM_E,UTM_N", 612345.0, 5512345.0, "x", ("UTM_E", "UTM_N")),
        ("x_km,y_km", 505.5, 275.5, "x", ("x_km", "y_km")),
        ("x_km,y_km", 80.5, 75.5, "x", ("x_km", "y_km")),
        ("x_km,y_km", -75.65396, 38.56808, "lon", ("x_km", "y_km")),
    ],
    ids=[
        "degrees",
        "x-in-degrees",
        "x-and-lon",
        "exchanged",
        "metres-in-lon",
        "metres",
        "utm",
        "km",
        "small-km",
        "no-km",
    ],
)
def test_coordinates_are_told_by_name_and_value(
    tmp_path: Path, head: str, x: float, y: float, kind: str, meant: tuple[str, str]
) -> None:
    rows = [f"{head},species", *(f"{x + i / 1000:.7g},{y + i / 1000:.7g},Poa annua" for i in range(8))]
    table = judge(tmp_path, "\n".join(rows))
    assert table.place is not None and table.place.kind == kind
    assert tuple(found.column for found in table.place.columns.values()) == meant
    assert table.place.per_km == (kind == "x" and "km" in head)


def test_row_numbers_ids_dates_and_taxonomy_are_no_covariates(tmp_path: Path) -> None:
    rows = ["nr,plot,siteKey,lon,lat,species,julian_day,year,ph,moisture,wholly"]
    rows += [
        f"{i + 1},P{i},{1000 + i * 7},{lon},{lat},{name},{i},{2001 + i},{i / 3:.2f},{i * 10},5"
        for i, (lon, lat) in enumerate(places(9))
        for name in ("Poa annua", "Abies alba")
    ]
    assert judge(tmp_path, "\n".join(rows)).covariates == ("ph", "moisture")


def test_numbers_that_differ_within_a_plot_are_not_of_the_place(tmp_path: Path) -> None:
    rows = ["plot,lon,lat,species,ph,height"]
    for i, (lon, lat) in enumerate(places(9)):
        rows += [f"P{i},{lon},{lat},Poa annua,{i / 3:.2f},{i}", f"P{i},{lon},{lat},Abies alba,{i / 3:.2f},{i + 5}"]
    assert judge(tmp_path, "\n".join(rows)).covariates == ("ph",)


def test_a_list_of_words_is_neither(tmp_path: Path) -> None:
    table = judge(tmp_path, "column,meaning\nph,acidity\nlon,longitude\n")
    assert table.kind == "other"


def test_a_large_file_is_read_at_both_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WHOLE_BYTES", 1000), ("HEAD_BYTES", 600), ("TAIL_BYTES", 300)):
        monkeypatch.setattr(f"releve.discover.samples.{name}", value)
    rows = [f"P{i:05d},10.5,49.5,Poa annua" for i in range(2000)]
    sample = read_samples(write(tmp_path, table="\n".join(["plot,lon,lat,species", *rows]) + "\n") / "table.csv")[0]
    assert not sample.is_whole and 20 < len(sample.cells) < 60
    assert sample.cells["plot"][0] == "P00000" and sample.cells["plot"][-1] == "P01999"
    assert abs(sample.num_rows - 2000) < 100


def test_wide_tables_need_no_underscores_and_take_no_measures_for_species(tmp_path: Path) -> None:
    names = ["GuloGulo", "PantheraOnca", "VulpesVulpes"]
    rng = np.random.default_rng(4)
    rows = ["," + ",".join(["X_WGS84", "Y_WGS84", *names])]
    rows += [f"{i},{lon},{lat}," + ",".join(map(str, rng.integers(0, 2, 3))) for i, (lon, lat) in enumerate(places(30))]
    table = judge(tmp_path, "\n".join(rows))
    assert table.species_columns == tuple(names) and table.place is not None and not table.place.remarks
    rows = ["plot,lon,lat,Moss_cover,Litter_cover,Rock_cover,Location_uncertainty,Human_footprint"]
    rows += [f"P{i},{lon},{lat},{i % 3},0,{i % 2},50,{i % 4}" for i, (lon, lat) in enumerate(places(30))]
    table = judge(tmp_path, "\n".join(rows))
    assert table.kind == "header" and table.species_columns == ()
    assert columns(table)["uncertainty_m"] == "Location_uncertainty"


def test_absences_at_places_of_their_own_do_not_make_plots_of_several_species(tmp_path: Path) -> None:
    """A place where sp1 was not found says nothing of sp2; with one species it is a plot."""
    several = [
        "species,x,y,pr_ab",
        *(f"sp{i % 3},{500000 + i * 90},{4000000 + i * 70},{i // 3 % 2}" for i in range(30)),
    ]
    table = judge(tmp_path, "\n".join(several))
    assert table.kind == "records" and columns(table)["occurrence_status"] == "pr_ab" and len(table.remarks) == 1
    assert (
        judge(tmp_path, "\n".join(line.replace("sp2", "sp1").replace("sp0", "sp1") for line in several)).kind == "plots"
    )


def test_what_is_worked_out_from_the_species_is_no_covariate(tmp_path: Path) -> None:
    rows = ["plot,lon,lat,slope,species_richness,Shannon,Poa_annua,Abies_alba,Carex_nigra"]
    rows += [
        f"P{i},{lon},{lat},{i / 7},{i % 4},{i / 9},{i % 2},{i % 3 // 2},1" for i, (lon, lat) in enumerate(places(30))
    ]
    table = judge(tmp_path, "\n".join(rows))
    assert table.covariates == ("slope",) and len(table.species_columns) == 3


def test_common_species_among_rare_ones_are_species_and_not_covariates(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    names = ["ACRU", "ACSA", "BEAL", "FAGR", "PIST", "QURU", "TSCA", "TIAM"]
    rows = [",".join(["site", "lon", "lat", "elev_m", *names, "ph"])]
    for i, (lon, lat) in enumerate(places(40)):
        counts = rng.poisson(0.3, 8)
        counts[2], counts[4] = 5 + i % 7, 1  # a common one, and one that is everywhere
        rows.append(",".join(map(str, [f"S{i}", lon, lat, 200.5 + i * 3, *counts, 4 + i / 50])))
    table = judge(tmp_path, "\n".join(rows))
    assert table.species_columns == tuple(names) and table.covariates == ("elev_m", "ph")
