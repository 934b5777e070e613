r"""Lists that serve the mean F1 of species, macro F1, beside the mean F1 of surveys.

Most species are rare, and the list with the highest expected F1 of a survey hardly ever names them. The lists here have
the highest expected sum, to first order, of sF1 + weight x macro F1. Adding species s of probability p to a list of k
species whose last one has probability c, where m species are expected, changes the survey's F1 by about 2 (p - c) / (k
+ m). For the species, listed on a share l_s of the surveys and expected on a share e_s, it changes F1_s by about (2 p -
F1_s) / (l_s + e_s) a survey. So s joins the expected-F1 list where

    2 (p - c) / (k + m) + weight x (2 p - F1_s) / (S (l_s + e_s)) > 0.

F1_s and l_s depend on the lists, and are found by iteration on calibration surveys, from probabilities alone; then they
are constants of the species, and a survey's list does not depend on which others are listed with it.

References
----------
Koyejo, Natarajan, Ravikumar & Dhillon (2015), Consistent multilabel classification, NeurIPS 28, 3321-3329.
Lipton, Elkan & Naryanaswamy (2014), Optimal thresholding of classifiers to maximize F1 measure, ECML PKDD,
doi:10.1007/978-3-662-44851-9_15.
"""

# N surveys, B surveys of a block, S species

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix

from releve.decide.blocks import lists_of_pairs, map_blocks
from releve.decide.expected_f1 import expected_f1_sets
from releve.errors import ConfigError, TableError
from releve.lists import Lists

ITERATIONS = 6


@dataclass(frozen=True)
class MacroSetting:
    """What a species gains by being listed once more: ``gain`` x (2 p - ``f1``)."""

    f1: tuple[float, ...]
    """(S,) expected F1 of each species."""
    gain: tuple[float, ...]
    """(S,) weight / (S x the species' share of surveys, listed and expected)."""


def fit_macro(probs: np.ndarray | torch.Tensor, weight: float) -> MacroSetting:
    """Return the species' constants for which lists and constants agree, on calibration surveys.

    Parameters
    ----------
    probs
        (N, S) calibrated probabilities; a memory map is read in blocks, eight times.
    weight
        What macro F1 counts for, sF1 being 1; 0 gives the expected-F1 lists.

    Raises
    ------
    ConfigError
        If ``weight`` is negative or not finite.
    TableError
        If a probability is NaN or outside [0, 1], or there is no survey.

    Examples
    --------
    Species 2 is never on an expected-F1 list, though it is most likely on the last survey. With a weight it is.

    >>> probs = np.array([[0.9, 0.8, 0.01]] * 9 + [[0.9, 0.8, 0.2]])
    >>> [expected_f1_macro_sets(probs, fit_macro(probs, weight)).lengths().tolist()[-2:] for weight in (0.0, 1.0)]
    [[2, 2], [2, 3]]
    """
    if not 0 <= weight < float("inf"):
        raise ConfigError(f"macro_weight is {weight}", expected="0 or more")
    if not len(probs):
        raise TableError("no survey to fit a rule on", expected="the calibration role", action="It must not be empty")
    num_surveys, num_species = probs.shape
    lists = expected_f1_sets(probs)
    base = lists.to_csr(num_species)
    cut_N, size_N, total_S = _surveys_and_totals(probs, lists)
    setting = MacroSetting((0.0,) * num_species, (0.0,) * num_species)
    f1_S = share_S = np.empty(0)
    for _ in range(ITERATIONS):

        def work(first: int, block_BS: torch.Tensor, setting: MacroSetting = setting) -> np.ndarray:
            rows = slice(first, first + len(block_BS))
            added_BS = _added(block_BS, cut_N[rows], size_N[rows], setting)
            listed_BS = added_BS | _mask(base[rows], block_BS)
            return torch.stack([listed_BS.sum(dim=0), (block_BS * listed_BS).sum(dim=0)]).double().cpu().numpy()

        listed_S, hits_S = np.sum(map_blocks(work, probs), axis=0)
        found_S = 2 * hits_S / np.maximum(listed_S + total_S, 1e-12), np.maximum(listed_S + total_S, 1.0) / num_surveys
        # half way to the new constants, since a step all the way may swing to and fro
        f1_S, share_S = found_S if not len(f1_S) else ((f1_S + found_S[0]) / 2, (share_S + found_S[1]) / 2)
        gain_S = weight / (num_species * share_S)
        setting = MacroSetting(tuple(f1_S.tolist()), tuple(gain_S.tolist()))
    return setting


def expected_f1_macro_sets(probs: np.ndarray | torch.Tensor, setting: MacroSetting) -> Lists:
    """Return the expected-F1 list of each survey, and the species whose own F1 gains more than the survey's loses.

    Parameters
    ----------
    probs
        (N, S) calibrated probabilities; a memory map is read in blocks.
    setting
        The species' constants.

    Raises
    ------
    TableError
        If a probability is NaN or outside [0, 1], or the setting is of another number of species.

    Examples
    --------
    >>> nothing = MacroSetting(f1=(0.5, 0.5), gain=(0.0, 0.0))
    >>> expected_f1_macro_sets(np.array([[0.9, 0.1]]), nothing).row(0).tolist()
    [0]
    """
    if probs.shape[-1] != len(setting.f1):
        raise TableError(f"{probs.shape[-1]} species", expected=f"the {len(setting.f1)} that the rule was fitted on")
    lists = expected_f1_sets(probs)
    cut_N, size_N, _ = _surveys_and_totals(probs, lists)

    def work(first: int, block_BS: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        rows = slice(first, first + len(block_BS))
        surveys, species = _added(block_BS, cut_N[rows], size_N[rows], setting).nonzero(as_tuple=True)
        return first + surveys.cpu().numpy(), species.cpu().numpy()

    pairs = [(lists.surveys(), lists.indices.astype(np.int64)), *map_blocks(work, probs)]
    return lists_of_pairs(pairs, len(probs))


def _added(block_BS: torch.Tensor, cut_B: np.ndarray, size_B: np.ndarray, setting: MacroSetting) -> torch.Tensor:
    """Return which species gain more than the survey loses by their being on its list."""
    cut_B1, size_B1 = (torch.from_numpy(values).to(block_BS)[:, None] for values in (cut_B, size_B))
    f1_S, gain_S = (block_BS.new_tensor(values) for values in (setting.f1, setting.gain))
    return 2 * (block_BS - cut_B1) / size_B1 + gain_S * (2 * block_BS - f1_S) > 0


def _mask(lists: csr_matrix, block_BS: torch.Tensor) -> torch.Tensor:
    """Return (B, S) bool: who is on the lists, on the device of the block."""
    return torch.from_numpy(lists.toarray() > 0).to(block_BS.device)


def _surveys_and_totals(probs: np.ndarray | torch.Tensor, lists: Lists) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the lowest listed probability of each survey, its listed and expected species, and species' totals."""
    base = lists.to_csr(probs.shape[1])

    def work(first: int, block_BS: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        listed_BS = _mask(base[first : first + len(block_BS)], block_BS)
        cut_B = block_BS.masked_fill(~listed_BS, 1.0).amin(dim=1)
        return (
            cut_B.double().cpu().numpy(),
            (listed_BS.sum(dim=1) + block_BS.double().sum(dim=1)).cpu().numpy(),
            block_BS.double().sum(dim=0).cpu().numpy(),
        )

    cuts, sizes, totals = zip(*map_blocks(work, probs, probs=True), strict=True)
    return np.concatenate(cuts), np.concatenate(sizes), np.sum(totals, axis=0)
