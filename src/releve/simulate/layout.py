"""Where each official release keeps its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from releve.simulate.config import Layout


@dataclass(frozen=True)
class LayoutPaths:
    """Names of the files of a release, relative to its root; subsets are ``PA-train``, ``PA-test``, ``PO-train``.

    Placeholders: ``{subset}``, ``{underscored}`` (subset with ``_``), ``{lower}`` (underscored, lower case),
    ``{band}``, ``{id}``, ``{folder}`` (the two id folders CD/AB).
    """

    pa_train: str
    pa_test: str
    po_train: str
    submission: str
    tables: dict[str, str]
    landsat_values: str
    climate_values: str
    landsat_cube: dict[str, str]
    climate_cube: str
    patches: dict[str, str]


_ENV24 = "EnvironmentalRasters/EnvironmentalRasters"
_SERIES24 = "landsat_time_series"
_CUBES24 = "TimeSeries-Cubes/TimeSeries-Cubes"
_LANDSAT25 = "SateliteTimeSeries-Landsat"
_ENV25 = "EnvironmentalValues"
LAYOUTS: dict[Layout, LayoutPaths] = {
    "glc24": LayoutPaths(
        pa_train="GLC24_PA_metadata_train.csv",
        pa_test="GLC24_PA_metadata_test.csv",
        po_train="GLC24_P0_metadata_train.csv",
        submission="GLC24_SAMPLE_SUBMISSION.csv",
        tables={
            "Bio": f"{_ENV24}/Climate/Average 1981-2010/GLC24-{{subset}}-bioclimatic.csv",
            "Elevation": f"{_ENV24}/Elevation/GLC24-{{subset}}-elevation.csv",
            "HumanFootprint": f"{_ENV24}/Human Footprint/GLC24-{{subset}}-human_footprint.csv",
            "LandCover": f"{_ENV24}/LandCover/GLC24-{{subset}}-landcover.csv",
            "Soilgrid": f"{_ENV24}/SoilGrids/GLC24-{{subset}}-soilgrids.csv",
        },
        landsat_values="{subset}-landsat_time_series/GLC24-{subset}-landsat_time_series-{band}.csv",
        climate_values=f"{_ENV24}/Climate/Monthly/GLC24-{{subset}}-bioclimatic_monthly.csv",
        landsat_cube={
            "PA-train": f"{_CUBES24}/GLC24-PA-train-{_SERIES24}/GLC24-PA-train-landsat-time-series_{{id}}_cube.pt",
            "PA-test": f"{_CUBES24}/GLC24-PA-test-{_SERIES24}/GLC24-PA-test-{_SERIES24}_{{id}}_cube.pt",
        },
        climate_cube=f"{_CUBES24}/GLC24-{{subset}}-bioclimatic_monthly"
        "/GLC24-{subset}-bioclimatic_monthly_{id}_cube.pt",
        patches={
            "rgb": "{underscored}_SatellitePatches_RGB/{lower}_patches_rgb/{folder}/{id}.jpeg",
            "nir": "{underscored}_SatellitePatches_NIR/{lower}_patches_nir/{folder}/{id}.jpeg",
        },
    ),
    "glc25": LayoutPaths(
        pa_train="GLC25_PA_metadata_train.csv",
        pa_test="GLC25_PA_metadata_test.csv",
        po_train="GLC25_P0_metadata_train.csv",
        submission="GLC25_SAMPLE_SUBMISSION.csv",
        tables={
            "Bio": f"{_ENV25}/ClimateAverage_1981-2010/GLC25-{{subset}}-bioclimatic.csv",
            "Elevation": f"{_ENV25}/Elevation/GLC25-{{subset}}-elevation.csv",
            "HumanFootprint": f"{_ENV25}/HumanFootprint/GLC25-{{subset}}-human_footprint.csv",
            "LandCover": f"{_ENV25}/LandCover/GLC25-{{subset}}-landcover.csv",
            "Soilgrid": f"{_ENV25}/SoilGrids/GLC25-{{subset}}-soilgrids.csv",
        },
        landsat_values="SateliteTimeSeries-Landsat/values/GLC25-{subset}-landsat_time_series-{band}.csv",
        climate_values="BioclimTimeSeries/values/GLC25-{subset}-bioclimatic_monthly.csv",
        landsat_cube={
            "PA-train": f"{_LANDSAT25}/cubes/PA-train/GLC25-PA-train-landsat-time-series_{{id}}_cube.pt",
            "PA-test": f"{_LANDSAT25}/cubes/PA-test/GLC25-PA-test-landsat_time_series_{{id}}_cube.pt",
        },
        climate_cube="BioclimTimeSeries/cubes/{subset}/GLC25-{subset}-bioclimatic_monthly_{id}_cube.pt",
        patches={"tiff": "SatelitePatches/{subset}/{folder}/{id}.tiff"},
    ),
}


def id_folder(survey_id: int) -> str:
    """Return the two folders that hold a survey's patch.

    Examples
    --------
    >>> id_folder(3018575), id_folder(642)
    ('75/85', '42/6')
    """
    text = str(survey_id)
    return str(PurePosixPath(text[-2:]) / text[-4:-2])


def patch_path(template: str, subset: str, survey_id: int) -> str:
    """Return the path of a survey's patch.

    Examples
    --------
    >>> patch_path(LAYOUTS["glc24"].patches["rgb"], "PA-train", 3018575)
    'PA_Train_SatellitePatches_RGB/pa_train_patches_rgb/75/85/3018575.jpeg'
    """
    first, second = subset.split("-")
    return template.format(
        subset=subset,
        underscored=f"{first}_{second.capitalize()}",
        lower=subset.replace("-", "_").lower(),
        folder=id_folder(survey_id),
        id=survey_id,
    )
