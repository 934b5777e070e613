"""Tiny fake releases, one style for each way an official release lies on disk, with broken rows on purpose.

The same four valid surveys are written everywhere: 1 (unpadded path), 642 (path of an odd length), 3018575 and
one that has labels but no other data, 500. In ``train`` several species grow on each.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
import torch
from PIL import Image

from releve.ingest.surveys import Surveys

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

IDS = (1, 642, 3018575)
BARE_ID = 500
LABELS = {1: [10, 11], 500: [12], 642: [12, 20], 3018575: [10, 13, 14]}
BANDS = ("red", "green", "blue", "nir", "swir1", "swir2")
PRESSURES = ("Built1994", "Railways", "HFP2009")
BIOCLIM = tuple(f"Bio{n}" for n in range(1, 20))

PA_COLUMNS = "lon,lat,year,geoUncertaintyInM,areaInM2,region,country,speciesId,surveyId"
PA_TRAIN = """\
10.5,57.0,2018,10.0,-inf,CONTINENTAL,Denmark,11.0,1
10.5,57.0,2018,10.0,25.0,CONTINENTAL,Denmark,10.0,1
10.5,57.0,2018,10.0,50.0,CONTINENTAL,Denmark,10.0,1
8.25,47.5,2019,,,ALPINE,,20.0,642.0
8.25,47.5,2019,,,ALPINE,,12,642
8.25,47.5,2019,,,ALPINE,,,642
9.75,47.5,2019,,,ALPINE,,21.0,642
-3.5,40.0,2021,5.0,100.0,MEDITERRANEAN,Spain,14.0,3018575
-3.5,40.0,2021,5.0,100.0,MEDITERRANEAN,Spain,10.0,3018575
-3.5,40.0,2021,5.0,100.0,MEDITERRANEAN,Spain,13.0,3018575
4.0,50.0,2020,5.0,100.0,ATLANTIC,Belgium,12.0,500
4.0,95.0,2020,5.0,100.0,ATLANTIC,Belgium,12.0,501
,50.0,2020,5.0,100.0,ATLANTIC,Belgium,12.0,502
4.0,50.0,2020,5.0,100.0,ATLANTIC,Belgium,12.0,
4.0,50.0,2020,5.0,100.0,ATLANTIC,Belgium,12.0,NA
"""
PA_TEST = """\
10.0,56.0,2018,10.0,25.0,CONTINENTAL,Denmark,,642
11.0,56.0,2018,10.0,25.0,CONTINENTAL,Denmark,,1
"""
PO_TRAIN = """\
publisher,year,month,day,lat,lon,geoUncertaintyInM,taxonRank,date,dayOfYear,speciesId,surveyId
iNaturalist,2019,6,17,57.0,10.5,5.0,SPECIES,2019-06-17,168,10.0,1
iNaturalist,2019,6,17,57.0,10.5,5.0,SPECIES,2019-06-17,168,11.0,1
"Botanic Garden, Berlin",2020,1,2,52.5,13.4,25.0,SPECIES,2020-01-02,2,12.0,642
Artportalen,2021,8,,60.0,18.0,,SPECIES,,,13.0,3018575
"""
GLC23_PA = """\
;glcID;gbifID;observer;datasetName;date;dayOfYear;year;lon;lat;geoUncertaintyInM;speciesId;patchID;timeSerieID
0;20;;;CBNMed;1587938400;118;2020;10.5;57.0;10.0;10;91;81
1;10;;;CBNMed;1587938400;118;2020;10.5;57.0;10.0;11;91;81
2;30;;;CBNMed;1635372000;301;2021;8.25;47.5;10.0;12;92;82
"""
GLC23_PO = """\
glcID;gbifID;observer;datasetName;date;dayOfYear;year;lon;lat;geoUncertaintyInM;speciesId;patchID;timeSerieID
1;5.0;Somebody;Some herbarium;2018-06-17;168;2018;10.5;57.0;10.0;10;642;3018575
2;6.0;Somebody;Some herbarium;2018-06-17;168;2018;10.5;57.0;10.0;11;1;642
"""


def labels_of(surveys: Surveys) -> dict[int, list[int]]:
    """Return the species of each survey, whose ids are numbers; an empty list where none grew."""
    found: dict[int, list[int]] = {int(survey_id): [] for survey_id in surveys.table["survey_id"]}
    for row, species in surveys.labels.rows():
        found[int(surveys.table["survey_id"][row])].append(species)
    return found


@dataclass(frozen=True)
class Style:
    """Where one release keeps its files; ``{}`` is the split, ``{id}`` the survey, ``{band}`` a band."""

    metadata: Mapping[str, tuple[str, str]]
    """Split -> (file, content)."""
    tokens: Mapping[str, str]
    covariates: Mapping[str, str] = field(default_factory=dict)
    landsat_table: str = ""
    landsat_cube: Mapping[str, str] = field(default_factory=dict)
    climate_table: str = ""
    climate_cube: Mapping[str, str] = field(default_factory=dict)
    rgb: Mapping[str, str] = field(default_factory=dict)
    nir: Mapping[str, str] = field(default_factory=dict)
    tiff: Mapping[str, str] = field(default_factory=dict)
    ids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def _metadata(train: str, test: str, po: str) -> dict[str, tuple[str, str]]:
    return {
        "train": (train, f"{PA_COLUMNS}\n{PA_TRAIN}"),
        "test": (
            test,
            f"{PA_COLUMNS}\n{PA_TEST}".replace("speciesId,", "").replace(",,642", ",642").replace(",,1", ",1"),
        ),
        "po": (po, PO_TRAIN),
    }


_TOKENS = {"train": "PA-train", "test": "PA-test", "po": "PO-train"}
_ENV = "EnvironmentalRasters/EnvironmentalRasters"
_CUBES = "TimeSeries-Cubes/TimeSeries-Cubes/GLC24"
_GLC25_CUBES = "BioclimTimeSeries/cubes"
_SEAFILE = "EnvironmentalRasters"

STYLES = {
    "glc24": Style(
        metadata=_metadata("GLC24_PA_metadata_train.csv", "GLC24_PA_metadata_test.csv", "GLC24_P0_metadata_train.csv"),
        tokens=_TOKENS,
        covariates={
            "bioclim": f"{_ENV}/Climate/Average 1981-2010/GLC24-{{}}-bioclimatic.csv",
            "elevation": f"{_ENV}/Elevation/GLC24-{{}}-elevation.csv",
            "human_footprint": f"{_ENV}/Human Footprint/GLC24-{{}}-human_footprint.csv",
            "landcover": f"{_ENV}/LandCover/GLC24-{{}}-landcover.csv",
            "soil": f"{_ENV}/SoilGrids/GLC24-{{}}-soilgrids.csv",
        },
        landsat_cube={
            "train": f"{_CUBES}-PA-train-landsat_time_series/GLC24-PA-train-landsat-time-series_{{id}}_cube.pt",
            "test": f"{_CUBES}-PA-test-landsat_time_series/GLC24-PA-test-landsat_time_series_{{id}}_cube.pt",
        },
        climate_cube={
            split: f"{_CUBES}-PA-{split}-bioclimatic_monthly/GLC24-PA-{split}-bioclimatic_monthly_{{id}}_cube.pt"
            for split in ("train", "test")
        },
        rgb={
            "train": "PA_Train_SatellitePatches_RGB/pa_train_patches_rgb/{path}.jpeg",
            "test": "PA_Test_SatellitePatches_RGB/pa_test_patches_rgb/{path}.jpeg",
            "po": "po_train_patches_rgb/{path}.jpeg",
        },
        nir={
            "train": "PA_Train_SatellitePatches_NIR/pa_train_patches_nir/{path}.jpeg",
            "test": "PA_Test_SatellitePatches_NIR/pa_test_patches_nir/{path}.jpeg",
            "po": "po_train_patches_nir/{path}.jpeg",
        },
    ),
    "glc24-seafile": Style(
        metadata=_metadata(
            "PresenceAbsenceSurveys/GLC24-PA-metadata-train.csv",
            "PresenceAbsenceSurveys/GLC24-PA-metadata-test.csv",
            "PresenceOnlyOccurrences/GLC24-PO_metadata-train.csv",
        ),
        tokens=_TOKENS,
        covariates={
            "bioclim": f"{_SEAFILE}/Climate/GLC24-{{}}-bioclimatic-average.csv",
            "elevation": f"{_SEAFILE}/Elevation/GLC24-{{}}-elevation.csv",
            "human_footprint": f"{_SEAFILE}/HumanFootprint/GLC24-{{}}-human-footprint.csv",
            "landcover": f"{_SEAFILE}/LandCover/GLC24-{{}}-landcover.csv",
            "soil": f"{_SEAFILE}/Soilgrids/GLC24-{{}}-soilgrids.csv",
        },
        landsat_table="SatelliteTimeSeries/GLC24-{}-landsat-time-series-{band}.csv",
        climate_table=f"{_SEAFILE}/Climate/GLC24-{{}}-bioclimatic-monthly.csv",
        rgb={"train": "SatellitePatches/PA-Train-RGB/{path}.jpeg"},
        nir={"train": "SatellitePatches/PA_Train-NIR/{path}.jpeg"},
    ),
    "glc25": Style(
        metadata=_metadata("GLC25_PA_metadata_train.csv", "GLC25_PA_metadata_test.csv", "GLC25_P0_metadata_train.csv"),
        tokens=_TOKENS,
        covariates={
            "bioclim": "EnvironmentalValues/ClimateAverage_1981-2010/GLC25-{}-bioclimatic.csv",
            "elevation": "EnvironmentalValues/Elevation/GLC25-{}-elevation.csv",
            "landcover13": "EnvironmentalValues/LandCover/GLC25-{}-landcover.csv",
            "human_footprint2": "EnvironmentalValues/HumanFootprint/GLC25-{}-human_footprint.csv",
            "soil": "EnvironmentalValues/SoilGrids/GLC25-{}-soilgrids.csv",
        },
        landsat_cube={
            "train": "SateliteTimeSeries-Landsat/cubes/PA-train/GLC25-PA-train-landsat-time-series_{id}_cube.pt",
            "test": "SateliteTimeSeries-Landsat/cubes/PA-test/GLC25-PA-test-landsat_time_series_{id}_cube.pt",
            "po": "SateliteTimeSeries-Landsat/cubes/PO-train/{folder}/GLC25-PO-train-landsat_time_series_{id}_cube.pt",
        },
        climate_cube={
            "train": f"{_GLC25_CUBES}/PA-train/GLC25-PA-train-bioclimatic_monthly_{{id}}_cube.pt",
            "test": f"{_GLC25_CUBES}/PA-test/GLC25-PA-test-bioclimatic_monthly_{{id}}_cube.pt",
            "po": f"{_GLC25_CUBES}/PO-train/{{folder}}/GLC25-P0-train-bioclimatic_monthly_{{id}}_cube.pt",
        },
        tiff={split: f"SatelitePatches/{token}/{{path}}.tiff" for split, token in _TOKENS.items()},
    ),
    "geoplant26": Style(
        metadata={
            "train": ("PresenceAbsenceSurveys/PA_metadata_train.csv", f"{PA_COLUMNS}\n{PA_TRAIN}"),
            **{
                f"test_{name}": (
                    f"PresenceAbsenceSurveys/PA_metadata_test_{name}.csv",
                    f"{PA_COLUMNS}\n{PA_TEST}",
                )
                for name in ("iid", "ood", "glc25")
            },
            "po": ("PresenceOnlyOccurrences/PO_metadata_train.csv", PO_TRAIN),
        },
        tokens={"train": "PA-train", "po": "PO-train"} | {f"test_{n}": f"PA-test-{n}" for n in ("iid", "ood", "glc25")},
        covariates={
            "bioclim": "EnvironmentalValues/Climate/{}-bioclimatic.csv",
            "elevation": "EnvironmentalValues/Elevation/{}-elevation.csv",
            "human_footprint": "EnvironmentalValues/HumanFootprint/v1/{}-human-footprint.csv",
            "human_footprint2": "EnvironmentalValues/HumanFootprint/v2/{}-human_footprint.csv",
            "landcover13": "EnvironmentalValues/LandCover/{}-landcover.csv",
            "soil": "EnvironmentalValues/SoilGrids/v2/{}-soilgrids.csv",
        },
        landsat_table="TimeSeries/Landsat/values/{}-landsat-time-series-{band}.csv",
        climate_table="TimeSeries/Bioclim/values/{}-bioclimatic_time_series.csv",
        tiff={"train": "SatelliteData/Sentinel2Patches-tiff/PA-train/{path}.tiff"},
    ),
    "glc23": Style(
        metadata={
            "train": ("Presence_Absences_occurrences/Presences_Absences_train.csv", GLC23_PA),
            "po": ("Presence_only_occurrences/Presences_only_train.csv", GLC23_PO),
        },
        tokens={"po": ""},
        landsat_table="SatelliteTimeSeries/time_series_{band}.csv",
        rgb={"po": "SatelliteImages/rgb/{path}.jpeg"},
        nir={"po": "SatelliteImages/nir/{path}.jpeg"},
    ),
}


def write_release(root: Path, name: str) -> Path:
    """Write a fake release of a style and return its folder."""
    style = STYLES[name]
    for path, content in style.metadata.values():
        write_text(root / path, content)
    for split, token in style.tokens.items():
        for kind, path in style.covariates.items():
            write_rows(root / path.format(token), covariate_rows(kind))
        if style.landsat_table:
            for band in BANDS:
                path = root / style.landsat_table.format(token, band=band)
                write_rows(
                    path,
                    landsat_rows(band, "timeSerieID" if name == "glc23" else "surveyId"),
                    name == "glc23",
                )
        if style.climate_table:
            write_rows(root / style.climate_table.format(token), climate_rows())
        for survey_id in IDS:
            write_survey_files(root, style, split, survey_id)
    return root


def write_survey_files(root: Path, style: Style, split: str, survey_id: int) -> None:
    """Write the cubes and patches of one survey where the style keeps them."""
    folder = "/".join(part for part in (str(survey_id)[-2:], str(survey_id)[-4:-2]) if part)
    names = {"id": survey_id, "folder": folder, "path": f"{folder}/{survey_id}"}
    if split in style.landsat_cube:
        write_cube(root / style.landsat_cube[split].format(**names), landsat_array(survey_id).transpose(0, 2, 1))
    if split in style.climate_cube:
        write_cube(root / style.climate_cube[split].format(**names), climate_array(survey_id))
    if split in style.rgb:
        write_jpeg(root / style.rgb[split].format(**names), survey_id, "RGB")
        write_jpeg(root / style.nir[split].format(**names), survey_id, "L")
    if split in style.tiff:
        write_tiff(root / style.tiff[split].format(**names), tiff_array(survey_id))


# ---- values, each a function of the survey so that a mix-up shows ------------------------------------------


def landsat_array(survey_id: int) -> np.ndarray:
    """Return (band, year, quarter); the last three quarters of 2020 had not ended."""
    values = (np.arange(6 * 21 * 4) + survey_id).reshape(6, 21, 4) % 200.0
    values[:, -1, 1:] = np.nan
    return values


def climate_array(survey_id: int) -> np.ndarray:
    """Return (variable, year, month): precipitation, then three temperatures."""
    steps = np.arange(19 * 12).reshape(19, 12) + survey_id % 100
    return np.stack([steps * 10.0, 2700.0 + steps, 2800.0 + steps, 2600.0 + steps])


def tiff_array(survey_id: int) -> np.ndarray:
    values = (np.arange(4 * 64 * 64).reshape(4, 64, 64) + survey_id) % 5000
    values[2, 5, 7] = -1
    return values.astype(np.int16)


def covariate_rows(kind: str) -> list[dict[str, object]]:
    """Return the rows of a table of values: the three surveys, one in float spelling, and one extra row."""
    ids = ["1", "642.0", "3018575", "999999"]
    if kind == "bioclim":
        return [
            {"surveyId": i} | {name: (50 if name in ("Bio2", "Bio3", "Bio7") else 2700) + n for name in BIOCLIM}
            for n, i in enumerate(ids)
        ]
    if kind == "elevation":
        return [{"surveyId": i, "Elevation": value} for i, value in zip(ids, (24.0, "", "inf", 3.0), strict=True)]
    if kind == "landcover":
        return [{"surveyId": i, "LandCover": value} for i, value in zip(ids, (9.0, 255, 17.0, 1), strict=True)]
    if kind == "landcover13":
        return [{"": n, "surveyId": i} | {f"LandCover-{k}": 1 for k in range(1, 14)} for n, i in enumerate(ids)]
    if kind == "human_footprint":
        fills = ((10.0, 0, 29.0), (31.75, 255, 31.75), (-8.5e37, 63.75, ""), (1, 1, 1))
        names = [f"HumanFootprint-{name}" for name in PRESSURES]
        return [{"surveyId": i} | dict(zip(names, row, strict=True)) for i, row in zip(ids, fills, strict=True)]
    if kind == "human_footprint2":
        return [{"surveyId": i, "HumanFootprint-dump-site": 0.5, "HumanFootprint-forest": n} for n, i in enumerate(ids)]
    assert kind == "soil"
    return [{"surveyId": i, "Soilgrid-bdod": 120 + n, "Soilgrid-phh2o": 65} for n, i in enumerate(ids)]


def landsat_rows(band: str, key: str) -> list[dict[str, object]]:
    at = BANDS.index(band)
    columns = [f"{year}_{quarter}" for year in range(2000, 2021) for quarter in range(1, 5)]
    missing = "eos" if key == "timeSerieID" else ""
    rows = []
    for survey_id in reversed(IDS):
        values = landsat_array(survey_id)[at].ravel()
        rows.append(
            {key: survey_id} | dict(zip(columns, [missing if np.isnan(v) else int(v) for v in values], strict=True))
        )
    return rows


def climate_rows() -> list[dict[str, object]]:
    """Return rows whose columns run month by month and year by year, variables innermost, as published."""
    rows = []
    for survey_id in IDS:
        cube, row = climate_array(survey_id), {"surveyId": survey_id}
        for year in range(19):
            for month in range(12):
                for v, variable in enumerate(("pr", "tas", "tasmax", "tasmin")):
                    row[f"Bio-{variable}_{month + 1:02d}_{2000 + year}"] = cube[v, year, month]
        rows.append(row)
    return rows


# ---- files -------------------------------------------------------------------------------------------------


def write_text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def write_rows(path: Path, rows: list[dict[str, object]], semicolons: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, rows[0], delimiter=";" if semicolons else ",", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_cube(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.tensor(np.ascontiguousarray(values), dtype=torch.float32), path)


def write_jpeg(path: Path, survey_id: int, mode: str, size: int = 128) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = (np.add.outer(np.arange(size), np.arange(size)) // 2 + survey_id % 50).astype(np.uint8)
    pixels = np.stack([grey, grey // 2, grey // 3], axis=-1) if mode == "RGB" else grey
    Image.fromarray(pixels, mode=None).save(path, quality=95)


def write_tiff(path: Path, values: np.ndarray, order: tuple[str, ...] = ("red", "green", "blue", "nir")) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    form = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype.name}
    with rasterio.open(path, "w", **form, nodata=-1, compress="lzw", crs="EPSG:3035", transform=TRANSFORM) as image:
        image.write(values)
        image.descriptions = order[:count]


TRANSFORM = rasterio.Affine(10.0, 0.0, 3498370.0, 0.0, -10.0, 3360010.0)
