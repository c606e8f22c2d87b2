"""Randomness as a function of (seed, purpose, index): a resumed run equals an unbroken one."""

import zlib

import jax

from iavae.types import Array


def purpose_rng(seed: int, *purpose: str) -> Array:
  """The key of a named purpose, e.g. purpose_rng(0, 'adapt', 'init'); independent of call order."""
  rng = jax.random.key(seed)
  for name in purpose:
    rng = jax.random.fold_in(rng, zlib.crc32(name.encode()))
  return rng


def model_rngs(rng: Array, num_models: int) -> Array:
  """One key a model, [M]; key m is the same however many models train beside it."""
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(rng, jax.numpy.arange(num_models))
