"""A fake GLC24 release that is large enough for folds, chunks and kills, and how to read it independently."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ingest.fakes import BIOCLIM, STYLES, write_rows, write_survey_files, write_text

STYLE = STYLES["glc24"]
HEADER = "lon,lat,year,geoUncertaintyInM,areaInM2,region,country,speciesId,surveyId"
SPECIES = (10, 11, 12, 20, 33, 47)


def write_labelled_release(root: Path, num_train: int = 240, num_test: int = 20, num_with_files: int = 60) -> Path:
    """Write surveys over a region of some 500 km; species follow latitude; the first ones have patches and cubes."""
    rng = np.random.default_rng(0)
    for split, count, first in (("train", num_train, 1001), ("test", num_test, 500001)):
        ids = first + 7 * np.arange(count)
        lon, lat = rng.uniform(5, 11, count).round(5), rng.uniform(45, 50, count).round(5)
        lines, covariates = [HEADER if split == "train" else HEADER.replace("speciesId,", "")], []
        for i, survey_id in enumerate(ids):
            facts = f"{lon[i]},{lat[i]},{2017 + i % 5},{5.0 + i % 20},100.0,ALPINE,Italy"
            north = (lat[i] - 45) / 5
            chances = [0.9 - 0.7 * north, 0.2 + 0.7 * north, 0.5, 0.3, 0.1 + 0.4 * north, 0.15]
            found = [s for s, p in zip(SPECIES, chances, strict=True) if rng.random() < p] or [SPECIES[i % 6]]
            if split == "train":
                lines += [f"{facts},{float(species)},{survey_id}" for species in found]
                lines += [f"{facts},{float(found[0])},{survey_id}"] * (i % 10 == 0)  # a pair that is repeated
            else:
                lines.append(f"{facts},{survey_id}")
            row = {name: 2700 + k + round(40 * north) for k, name in enumerate(BIOCLIM)}
            row |= {name: 50 + i % 30 for name in ("Bio2", "Bio3", "Bio7")}
            covariates.append({"surveyId": survey_id} | row)
            if i < num_with_files:
                write_survey_files(root, STYLE, split, int(survey_id))
        if split == "train":
            lines += ["9.0,95.0,2020,5.0,100.0,ALPINE,Italy,12.0,77", "9.0,46.0,2020,5.0,100.0,ALPINE,Italy,12.0,"]
        write_text(root / STYLE.metadata[split][0], "\n".join(lines) + "\n")
        write_rows(root / STYLE.covariates["bioclim"].format(STYLE.tokens[split]), covariates)
        heights = [{"surveyId": i, "Elevation": -99999 if n % 9 == 0 else 10.0 * n} for n, i in enumerate(ids)]
        write_rows(root / STYLE.covariates["elevation"].format(STYLE.tokens[split]), heights)
    return root


def read_labels(root: Path, style: str = "glc24") -> dict[int, set[int]]:
    """Return the set of species of each survey, read with nothing but the csv module."""
    labels: dict[int, set[int]] = {}
    with (root / STYLES[style].metadata["train"][0]).open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            try:
                survey_id, species_id, lat = float(row["surveyId"]), float(row["speciesId"]), float(row["lat"])
                float(row["lon"])
            except ValueError:
                continue
            if survey_id.is_integer() and abs(lat) <= 90:
                labels.setdefault(int(survey_id), set()).add(int(species_id))
    return labels


def read_patch(root: Path, survey_id: int, split: str = "train") -> np.ndarray:
    """Return (4, 128, 128) from the two JPEG files, read with PIL."""
    path = "/".join(part for part in (str(survey_id)[-2:], str(survey_id)[-4:-2], str(survey_id)) if part)
    rgb = np.asarray(Image.open(root / STYLE.rgb[split].format(path=path)))
    nir = np.asarray(Image.open(root / STYLE.nir[split].format(path=path)))
    return np.concatenate([rgb.transpose(2, 0, 1), nir[None]])


def read_cube(root: Path, survey_id: int, modality: str, split: str = "train") -> np.ndarray:
    """Return (channels, years, seasons) floats of a ``.pt`` file, read with torch."""
    template = {"landsat": STYLE.landsat_cube, "climate": STYLE.climate_cube}[modality][split]
    cube = torch.load(root / template.format(id=survey_id), weights_only=True).numpy()
    return cube.transpose(0, 2, 1) if modality == "landsat" else cube
