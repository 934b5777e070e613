"""The NCEAS benchmark: presence-only models scored on independent presence-absence plots of six regions."""
