"""What a loss is given, and the term that all losses share: silence."""

# B rows, K background sites, S species, P presences

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True)
class Sites:
    """What a loss is given.

    Parameters
    ----------
    logits_BS
        Logits of the labelled rows.
    label_rows, label_species
        (P,) index pairs of the species present.
    trust_B
        How far each row's silence is trusted, 0 to 1; None: wholly, as on a plot.
    background_KS
        Logits of background sites, where nothing is known to grow; None without them.
    own_share
        Weight of the rows' own silence against that of the background: 1 target-group, 0 random.
    frequency_S
        Share of the training rows that have each species, above 0; needed by ``full_weighted`` only.
    class_weight_S
        Weight of each species' presences; None: all 1.
    num_rows, num_background
        Rows and sites that means are taken over, where these are a part of them; by default their own numbers.
    num_species
        All species, where these are a part of them.
    picked_P
        Logits of the presences, where they were looked up already.
    """

    logits_BS: Tensor
    label_rows: Tensor
    label_species: Tensor
    trust_B: Tensor | None = None
    background_KS: Tensor | None = None
    own_share: float = 1.0
    frequency_S: Tensor | None = None
    class_weight_S: Tensor | None = None
    num_rows: int | None = None
    num_background: int | None = None
    num_species: int | None = None
    picked_P: Tensor | None = None

    @cached_property
    def present(self) -> Tensor:
        """(P,) logits of the presences."""
        return self.picked_P if self.picked_P is not None else self.logits_BS[self.label_rows, self.label_species]

    def sum_present(self, values_P: Tensor) -> Tensor:
        """Return the sum over presences, weighted by class, for each row."""
        if self.class_weight_S is not None:
            values_P = values_P * self.class_weight_S[self.label_species]
        return values_P.sum() / self.over_rows

    @property
    def over_rows(self) -> int:
        """What sums over rows are divided by."""
        return self.num_rows or len(self.logits_BS) or 1

    @property
    def over_background(self) -> int:
        """What sums over background sites are divided by."""
        assert self.background_KS is not None
        return self.num_background or len(self.background_KS) or 1


def silence(
    sites: Sites, term: Callable[[Tensor], Tensor], *, trust_B: Tensor | None = None, weight_S: Tensor | None = None
) -> Tensor:
    """Return the mean over sites of a term summed over the species that are silent there.

    Parameters
    ----------
    sites
        Rows and background.
    term
        Loss of one silent species, elementwise in its logit.
    trust_B
        Weight of each row; None: 1.
    weight_S
        Weight of each species; None: 1.
    """
    total = sites.logits_BS.new_zeros(())
    if sites.own_share > 0:
        all_BS, present_P = term(sites.logits_BS), term(sites.present)
        if weight_S is not None:
            all_BS, present_P = all_BS * weight_S, present_P * weight_S[sites.label_species]
        if trust_B is None:
            own = all_BS.sum() - present_P.sum()
        else:
            own = (trust_B * all_BS.sum(dim=1)).sum() - (trust_B[sites.label_rows] * present_P).sum()
        total = total + sites.own_share * own / sites.over_rows
    if sites.own_share < 1 and sites.background_KS is not None and len(sites.background_KS):
        all_KS = term(sites.background_KS)
        if weight_S is not None:
            all_KS = all_KS * weight_S
        total = total + (1 - sites.own_share) * all_KS.sum() / sites.over_background
    return total
