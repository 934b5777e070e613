"""Pseudo-plots: presence-only records that lie close together, read as one survey."""

from releve.prepare.pseudoplots.config import PATCH_SIZE_M, PseudoplotConfig
from releve.prepare.pseudoplots.diagnostics import describe, draw_diagnostics
from releve.prepare.pseudoplots.group import Pseudoplots, group_records

__all__ = ["PATCH_SIZE_M", "PseudoplotConfig", "Pseudoplots", "describe", "draw_diagnostics", "group_records"]
