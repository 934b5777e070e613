"""Rasters: layers, their values at places, and the patches and series that are cut from them."""
