"""The image protocol with the controls that the paper leaves out, in one table with IA-VAE."""

from iavae.experiments.images import CHECKS, GROWS, check, run

__all__ = ['CHECKS', 'GROWS', 'check', 'run']
