"""Devices: over how many is a batch spread, and how much of it at once?"""

import jax
import numpy as np

from iavae.types import Array, Params

IMAGES_IN_CACHE = 10  # feature maps of so many images stay in the cache of a CPU


def micro_batch(batch_size: int, convolutional: bool) -> int:
  """How many examples of a batch to work on at once: a divisor of its size.

  Convolutions on a CPU are twice as fast on ten images as on fifty; all else takes all.
  """
  if jax.default_backend() != 'cpu' or not convolutional:
    return batch_size
  return max(d for d in range(1, IMAGES_IN_CACHE + 1) if batch_size % d == 0)


def evaluation_chunk(convolutional: bool) -> tuple[int, int]:
  """(examples, draws of z of each) to evaluate at once."""
  if jax.default_backend() != 'cpu' or not convolutional:
    return 100, 50
  return IMAGES_IN_CACHE, 1


def even_chunk(num: int, at_once: int) -> int:
  """The size of equal chunks that so many examples fill best, at most `at_once` and a few more.

  It is a multiple of the number of devices.
  """
  num_chunks, devices = -(-num // at_once), len(jax.devices())
  return -(-num // (num_chunks * devices)) * devices


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
