"""Layers of networks on images: what is a linear layer, how does it start, what normalizes it?

A layer is {'kernel', 'bias'}; the rank of its kernel says whether it is dense, [D_in, D_out], or a
convolution, [h, w, C_in, C_out].
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from iavae.convolution import Padding, convolve, same
from iavae.types import BATCH, Array, Linear, Params

EPSILON = 1e-5  # added to variances, as PyTorch does
# Entries of a dense kernel up to which its bias is a column of it: so small, XLA on CPU takes a sum
# for something to compute again in its gradient, which costs 2 to 6 times the product; at the size
# of images it is the other way round, by a third of a train step
_SMALL = 1024


def window(kernel: Array) -> tuple[int, Padding]:
  """(stride, padding) of a convolution: an odd kernel keeps the size, an even one halves it."""
  size = kernel.shape[0]
  return (1 if size % 2 else 2), same(size)


def linear(layer: Params, u: Array) -> Array:
  """W u + b of a dense layer, or the convolution; u: [D_in] or [H, W, C_in].

  Multiplies in the precision of the kernel and adds in that of the bias.
  """
  kernel = layer['kernel']
  u = u.astype(kernel.dtype)
  if kernel.ndim == 2 and kernel.size <= _SMALL:
    return jnp.concatenate([kernel.T, layer['bias'][:, None]], axis=1) @ jnp.append(u, 1.0)
  if kernel.ndim == 2:
    return u @ kernel + layer['bias']
  return convolve(u, kernel, *window(kernel)) + layer['bias']


def shared(params: Params) -> Linear:
  """The linear layers of a network with one set of weights for all examples."""
  return lambda name, u: linear(params[name], u)


def torch_uniform(rng: Array, shapes: Any) -> Params:
  """Layers with PyTorch's default initialization, U(+-1/sqrt(fan_in)) for kernel and bias.

  Args:
    shapes: a pytree of kernel shapes, tuples.
  """
  leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda node: isinstance(node, tuple))
  sizes = [math.prod(shape) + shape[-1] for shape in leaves]
  # One draw for all: a draw for each would take seconds to compile
  draws = jax.random.uniform(rng, (sum(sizes),), minval=-1.0, maxval=1.0)
  layers = []
  for shape, part in zip(leaves, jnp.split(draws, np.cumsum(sizes)[:-1]), strict=True):
    scaled = part * math.prod(shape[:-1]) ** -0.5
    layers.append({'kernel': scaled[: -shape[-1]].reshape(shape), 'bias': scaled[-shape[-1] :]})
  return jax.tree.unflatten(treedef, layers)


def he_normal(rng: Array, shape: tuple[int, int]) -> Params:
  """A dense layer with kernel ~ N(0, 2 / fan_in) and PyTorch's default bias."""
  rng_kernel, rng_bias = jax.random.split(rng)
  limit = shape[0] ** -0.5
  return {
    'kernel': (2 / shape[0]) ** 0.5 * jax.random.normal(rng_kernel, shape),
    'bias': jax.random.uniform(rng_bias, shape[-1:], minval=-limit, maxval=limit),
  }


def batch_norm_init(channels: int) -> Params:
  """The identity: scale 1, shift 0, running moments 0 and 1; each [C]."""
  zeros, ones = jnp.zeros(channels), jnp.ones(channels)
  return {'scale': ones, 'shift': zeros, 'running_mean': zeros, 'running_variance': ones}


def _standardize(layer: Params, u: Array, mean: Array, variance: Array) -> Array:
  return (u - mean) * (jax.lax.rsqrt(variance + EPSILON) * layer['scale']) + layer['shift']


def frozen_batch_norm(layer: Params, u: Array) -> Array:
  """Normalization of u: [H, W, C] by the running moments (evaluation)."""
  return _standardize(layer, u, layer['running_mean'], layer['running_variance'])


def batch_norm(layer: Params, u: Array) -> tuple[Array, Array]:
  """Normalization by the moments of the batch, and the tracking term of `types.Network`.

  The running variance tracks the unbiased one, as in PyTorch.

  Args:
    u: [H, W, C], under a `vmap` whose axis is called BATCH.

  Returns:
    ([H, W, C], []).
  """
  mean = jax.lax.pmean(jnp.mean(u, (0, 1)), BATCH)
  variance = jax.lax.pmean(jnp.mean((u - mean) ** 2, (0, 1)), BATCH)
  count = u.shape[0] * u.shape[1] * jax.lax.axis_size(BATCH)
  distance = _half_square(layer['running_mean'] - jax.lax.stop_gradient(mean))
  unbiased = jax.lax.stop_gradient(variance) * (count / (count - 1))
  distance += _half_square(layer['running_variance'] - unbiased)
  return _standardize(layer, u, mean, variance), distance - jax.lax.stop_gradient(distance)


def _half_square(a: Array) -> Array:
  return 0.5 * jnp.sum(a**2)


def grown(trained: Params, fresh: Params) -> Params:
  """The layers of a trained network, and zeros for those of `fresh` that it does not have."""
  zeros = lambda leaf: jnp.zeros(leaf.shape, leaf.dtype)  # noqa: E731
  return {name: trained.get(name, jax.tree.map(zeros, layer)) for name, layer in fresh.items()}


def widen(narrow: Params, fresh: Params, positions: int = 1) -> Params:
  """A wide network that computes what a narrow one does.

  Every layer of `fresh`, a new network of the same form, gets the weights of `narrow` for its first
  channels; what leads from the other channels into those is zero.

  Args:
    narrow, fresh: {layer: {name: array}}.
    positions: in an image that enters dense layers, its channels last; 1 without images.
  """

  def paste(old: Array, new: Array) -> Array:
    if old.ndim == 2:  # as a convolution with one output
      both = (a.reshape(positions, 1, -1, a.shape[1]) for a in (old, new))
      return paste(*both).reshape(new.shape)
    if old.ndim == 4:
      new = new.at[:, :, old.shape[2] :, : old.shape[3]].set(0)
    return new.at[tuple(slice(size) for size in old.shape)].set(old)

  return jax.tree.map(paste, narrow, fresh)
