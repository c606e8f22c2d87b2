"""Randomness as a function of (seed, purpose, index): a resumed run equals an unbroken one."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from iavae.types import Array

# Numbers to fold into a key for what is drawn beside the main thing: counters that no draw and no
# split reaches, so that the main thing stays the same whether or not the rest is drawn
INFER, REFINE, AUXILIARY, FAMILY, CHECKS = (2**31 - 1 - i for i in range(5))


def purpose_rng(seed: int, *purpose: str) -> Array:
  """The key of a named purpose, e.g. purpose_rng(0, 'adapt', 'init'); independent of call order."""
  digest = hashlib.sha256('/'.join([str(seed), *purpose]).encode()).digest()
  return jax.random.wrap_key_data(np.frombuffer(digest[:8], np.uint32), impl='threefry2x32')


def model_rngs(rng: Array, num_models: int) -> Array:
  """One key a model, [M]; key m is the same however many models train beside it."""
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(rng, jnp.arange(num_models))
