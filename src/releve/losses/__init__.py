"""Losses of multi-label species models, from sparse labels: for plots, and for presence-only records.

All have one signature, ``loss(sites) -> ()``, and one form: what is present counts, and so does silence, at the rows
themselves (the **target-group** background of Phillips et al. 2009: the sites where any plant was recorded), at
background sites drawn evenly (the **random** background), or at both. The losses differ in how much each counts.

All are sums over species, and of means over rows. So they can be taken over a part of the species, or of the rows, and
the parts added up: see :mod:`releve.head_loss` for the first, and ``num_rows`` for the second.
"""

from releve.losses.functions import BACKGROUNDS, LOSSES, bce, trusted_bce
from releve.losses.sites import Sites, silence

__all__ = ["BACKGROUNDS", "LOSSES", "Sites", "bce", "silence", "trusted_bce"]
