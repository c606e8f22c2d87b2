"""IA-VAE's encoder: the fast path against two ways that form the weights of every example."""

import math
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import (
  BATCH_SIZE,
  SHAPE,
  Section,
  binary,
  clock,
  compare,
  compiled,
  interleave,
  judge,
  temporary_megabytes,
)
from configs import default
from iavae import hypernetworks, layers
from iavae.convolution import Padding
from iavae.experiments import image_models
from iavae.hypernetworks import layerwise
from iavae.modulation import modulate
from iavae.parallel import replicate, shard_batch
from iavae.types import BATCH, Array, Hypernetwork, Network, Params

FEW = 10  # images for the definition, whose gradient XLA on CPU computes by a naive loop


def windows(u: Array, size: tuple[int, int], stride: int, padding: Padding) -> Array:
  """im2col, [H', W', h w C]: what a kernel [h, w, C, C_out] sees at every place, by slices."""
  u = jnp.pad(u, (*padding, (0, 0)))
  height, width = ((u.shape[i] - size[i]) // stride + 1 for i in range(2))
  parts = [
    u[a : a + stride * (height - 1) + 1 : stride, b : b + stride * (width - 1) + 1 : stride]
    for a in range(size[0])
    for b in range(size[1])
  ]
  return jnp.concatenate(parts, axis=-1)


def materialized_convolution(p: Params, layer: Params, a: Array, u: Array) -> Array:
  """What `layerwise` factors, by forming the kernel of the example: a product with its windows."""
  kernel = layer['kernel']
  height, width, num_in, num_out = kernel.shape
  weight, bias = (p[name][:height, :width, :, :num_out] for name in ('weight', 'bias'))
  kernel += jnp.einsum('hwro,ir->hwio', weight, a[:num_in]) + bias
  columns = windows(u, (height, width), *layers.window(kernel))
  return columns @ kernel.reshape(-1, num_out) + layer['bias']


def size_of_heads(heads: dict[str, Array]) -> Array:
  return sum(0.5 * jnp.sum(head**2) for head in heads.values())


def adaptive_gradients(encoder: Network, h: Hypernetwork) -> dict[str, Callable]:
  """{way of computing IA-VAE's encoder: (psi, base, batch) -> gradient with respect to psi}."""

  def factored(psi: Params, base: Params, x: Array) -> dict[str, Array]:
    return encoder.apply_layers(h.layers(psi, base, x.ravel()), base, x)

  def im2col(psi: Params, base: Params, x: Array) -> dict[str, Array]:
    # The dense heads, of rank one, stay as they are: they cost nothing either way
    with mock.patch.object(layerwise, '_modulated_convolution', materialized_convolution):
      return factored(psi, base, x)

  def definition(psi: Params, base: Params, x: Array) -> dict[str, Array]:
    return encoder.apply(modulate(base, h.modulation(psi, base, x.ravel())), x)

  def gradient(way: Callable) -> Callable:
    def mean_size(psi: Params, base: Params, batch: Array) -> Array:
      return jnp.mean(jax.vmap(lambda x: size_of_heads(way(psi, base, x)))(batch))

    return jax.grad(mean_size)

  return {way.__name__: gradient(way) for way in (factored, im2col, definition)}


def plain_gradient(encoder: Network) -> Callable:
  """(base, batch) -> gradient with respect to all weights, normalized by the batch's moments."""

  def mean_size(base: Params, batch: Array) -> Array:
    heads, tracking = jax.vmap(encoder.apply_train, (None, 0), axis_name=BATCH)(base, batch)
    return jnp.mean(jax.vmap(size_of_heads)(heads)) + jnp.mean(tracking)

  return jax.grad(mean_size)


def raise_if_different(one: Params, other: Params) -> None:
  """Times of two things that do not compute the same would mean nothing."""
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    if not np.allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max()):
      raise SystemExit('two ways of computing a gradient disagree')


def measure_encoder(rounds: int) -> Section:
  """Forward and backward: IA-VAE's encoder in three ways, and the plain one, all of it trained."""
  config = default.get_config()
  encoder = image_models.make_encoder(config)
  h = hypernetworks.make('layerwise', **config.hypernetwork)
  base = jax.jit(encoder.init)(jax.random.key(0), jnp.zeros(SHAPE))
  psi = jax.jit(h.init, static_argnums=2)(jax.random.key(1), base, math.prod(SHAPE))
  base, psi = replicate((base, psi))
  batch, few = (shard_batch(binary(0, size, *SHAPE)) for size in (BATCH_SIZE, FEW))
  ways, plain = adaptive_gradients(encoder, h), compiled(plain_gradient(encoder), base, batch)
  whole = {name: compiled(way, psi, base, batch) for name, way in ways.items()}
  of_few = {name: compiled(ways[name], psi, base, few) for name in ('factored', 'definition')}
  raise_if_different(whole['factored'](psi, base, batch), whole['im2col'](psi, base, batch))

  fast = ('factored', 'im2col')
  clocks = {f'encoder, {name}': clock(whole[name], psi, base, batch) for name in fast}
  times = interleave(clocks | {'encoder, plain': clock(plain, base, batch)}, rounds)
  label = f'encoder, B={FEW}, '
  clocks = {f'{label}{name}': clock(of_few[name], psi, base, few) for name in of_few}
  clocks[f'{label}factored']()
  times |= interleave(clocks, rounds=1, warm_up=False)

  memory = {name: temporary_megabytes(program) for name, program in whole.items()}
  rows = {
    'IA encoder / plain encoder': compare(times, 'encoder, factored', 'encoder, plain', '<= 1.0'),
    'IA encoder: im2col / factored': compare(times, 'encoder, im2col', 'encoder, factored'),
    f'IA encoder: definition / factored (B={FEW}, once)': compare(
      times, f'{label}definition', f'{label}factored'
    ),
  }
  for name, target in (('im2col', '<= 0.35'), ('definition', '')):
    row = judge(memory['factored'] / memory[name], target)
    row |= {'factored_mb': memory['factored'], f'{name}_mb': memory[name]}
    rows[f'IA encoder, memory: factored / {name}'] = row
  return Section(times, rows)
