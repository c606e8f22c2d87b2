"""Generative models p(x, z), one file each; the two with exact answers are the oracles."""
