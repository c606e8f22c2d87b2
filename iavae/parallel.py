"""Devices: over how many is a batch spread?"""

import jax
import numpy as np

from iavae.types import Array, Params


def _sharding(*axes: str) -> jax.sharding.NamedSharding:
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ('data',))
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))


def shard_batch(batch: Array) -> Array:
  """Spreads the first axis over the devices, if they divide it; inside or outside of `jit`."""
  if len(batch) % len(jax.devices()):
    return batch
  return jax.lax.with_sharding_constraint(batch, _sharding('data'))


def replicate(tree: Params) -> Params:
  """A copy of every array on every device."""
  return jax.device_put(tree, _sharding())
