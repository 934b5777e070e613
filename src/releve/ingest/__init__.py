"""Official releases, read as they are published: one reader, and one row of data for each layout."""

from releve.ingest.covariates import Covariates, TableFacts, mask_values, read_covariates
from releve.ingest.cubes import SeriesChunk, SeriesSource, read_series_chunk, series_source
from releve.ingest.inventory import Finding, Inventory, Row, check_release, render_inventory
from releve.ingest.layouts import LAYOUTS
from releve.ingest.patches import PatchChunk, PatchSource, decode_patch, patch_source, read_patch_chunk
from releve.ingest.problems import Problem
from releve.ingest.release import Release, open_release
from releve.ingest.surveys import Occurrences, Surveys, read_occurrences, read_surveys

__all__ = [
    "LAYOUTS",
    "Covariates",
    "Finding",
    "Inventory",
    "Occurrences",
    "PatchChunk",
    "PatchSource",
    "Problem",
    "Release",
    "Row",
    "SeriesChunk",
    "SeriesSource",
    "Surveys",
    "TableFacts",
    "check_release",
    "decode_patch",
    "mask_values",
    "open_release",
    "patch_source",
    "read_covariates",
    "read_occurrences",
    "read_patch_chunk",
    "read_series_chunk",
    "read_surveys",
    "render_inventory",
    "series_source",
]
