"""The image protocol with other inference methods, posterior families and modulations.

All rows of config.methods start from one base VAE and get the same batches for as many epochs.
"""

from iavae.experiments.images import CHECKS, GROWS, check, run

__all__ = ['CHECKS', 'GROWS', 'check', 'run']
