"""The network of records: its two losses by hand, the shift to shares, and that it finds species."""

from __future__ import annotations

import numpy as np
import torch

from recorded import look_at, make_places
from releve.models.softmax import fit_softmax, shift_to, where_found, which_found


def test_where_a_species_was_found_is_a_softmax_over_places_that_random_ones_join_by_their_share() -> None:
    logits, found = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    first, second = np.log(np.e + 1) - 1, np.log(2.0)  # species 1 at both of two like places
    expected = (first + np.sqrt(2) * second) / (1 + np.sqrt(2))
    assert abs(float(where_found(logits, found, torch.zeros(0, 2), 0.0)) - expected) < 1e-6
    # four random places that weigh a half together: as much as the two places
    joined = (np.log(np.e + 1 + 2) - 1 + np.sqrt(2) * np.log(4.0)) / (1 + np.sqrt(2))
    assert abs(float(where_found(logits, found, torch.zeros(4, 2), 0.5)) - joined) < 1e-6


def test_which_species_was_found_is_a_softmax_over_species() -> None:
    logits, found = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    total = np.log(np.exp(2) + 2)
    assert abs(float(which_found(logits, found)) - ((total - 2) + total + np.log(3)) / 3) < 1e-6


def test_logits_are_shifted_until_their_mean_probability_is_the_share() -> None:
    logits = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 3
    share = torch.tensor([0.01, 0.3, 0.9])
    torch.testing.assert_close(torch.sigmoid(logits + shift_to(share, logits)).mean(dim=0), share, atol=1e-4, rtol=0)


def test_species_are_found_where_they_grow() -> None:
    store = make_places(200, 50, num_species=20)
    gatherer, statistics = look_at(store, ("covariates", "location"))
    model = fit_softmax(gatherer, np.arange(250), statistics, seed=0)
    logits_NS = model(gatherer.batch(np.arange(250)))
    wet_N = torch.from_numpy(store.arrays["covariates"].gather(np.arange(250))[:, 0])
    assert logits_NS[wet_N > 0.5, 0].min() > logits_NS[wet_N < -0.5, 0].max()
    torch.testing.assert_close(logits_NS, model(gatherer.batch(np.arange(250))))  # no dropout
