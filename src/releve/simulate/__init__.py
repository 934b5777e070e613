"""A virtual world with known truth, written in an official layout."""

from releve.simulate.config import FULL_TABLES, SimulateConfig
from releve.simulate.imagery import make_textures, monthly_climate, render_landsat, render_patches
from releve.simulate.records import sample_records
from releve.simulate.species import make_species, oracle_sets, true_probabilities
from releve.simulate.surveys import draw_presences, sample_landscape, sample_plots
from releve.simulate.world import World, make_world
from releve.simulate.write import SimulationSummary, simulate_release, write_release

__all__ = [
    "FULL_TABLES",
    "SimulateConfig",
    "SimulationSummary",
    "World",
    "draw_presences",
    "make_species",
    "make_textures",
    "make_world",
    "monthly_climate",
    "oracle_sets",
    "render_landsat",
    "render_patches",
    "sample_landscape",
    "sample_plots",
    "sample_records",
    "simulate_release",
    "true_probabilities",
    "write_release",
]
