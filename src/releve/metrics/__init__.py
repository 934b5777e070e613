"""How good lists and scores are: sets against sets, scores against sets, probabilities against sets, and intervals.

Everything is computed over the whole set of surveys, never averaged over batches, and sparsely or by blocks: no
dense table of surveys x species is ever made from lists, and a memory map of scores may be larger than memory.
"""
