"""A trunk before the paper's kernels: is it the linear map of [x; e_l] that holds IA-VAE back?

The kernels of `layerwise`, slice by slice and column by column, but what a layer is asked to do
comes from g(x) by weights of its own instead of from a linear map of x that all layers share:

  g = silu(T x + t)
  Delta K_i = sum_r W_out[:, :, r, :] a_i,r + B_out,    a = A_l g + a_l in R^(C_in x d)
  Delta W_j = (C_l g + c_l) / D_in + W_in e_in_j / sqrt(D_in)

W_out, B_out, W_in, C_l and c_l, where the modulation comes out, start at 0, unlike the paper's;
A_l at N(0, 1 / trunk_dim), and a_l, which takes the place of the embedding e_l, at N(0, 1 / d), so
that an h that reads nothing can still learn. Sums over the inputs of a dense layer are divided as
those of `layerwise` are with `normalized`.
"""

import functools

import jax
import jax.numpy as jnp

from iavae import layers, trunks
from iavae.by_name import check_sizes
from iavae.hypernetworks import layerwise
from iavae.types import Array, Hypernetwork, Params

DEFAULTS: dict[str, object] = {
  'trunk_dim': 32,  # entries of g
  'slice_dim': 16,  # d, entries of a_i
  'column_embedding_dim': 8,  # entries of e_in_j
}


def _largest(base: Params, rank: int) -> tuple[int, ...]:
  """The shape that no kernel of this rank exceeds; () without any."""
  shapes = [layer['kernel'].shape for layer in base.values() if layer['kernel'].ndim == rank]
  return tuple(map(max, zip(*shapes, strict=True)))


def _init(rng: Array, base: Params, trunk_dim: int, slice_dim: int, column_dim: int) -> Params:
  rng_columns, *rngs = jax.random.split(rng, 1 + len(base))
  psi: Params = {'codes': {}}
  for rng_layer, (name, layer) in zip(rngs, sorted(base.items()), strict=True):
    shape = layer['kernel'].shape
    if len(shape) == 4:
      rng_weight, rng_bias = jax.random.split(rng_layer)
      code = trunks.normal_layer(rng_weight, trunk_dim, shape[2] * slice_dim)
      own = slice_dim**-0.5 * jax.random.normal(rng_bias, code['bias'].shape)
      psi['codes'][name] = code | {'bias': own}
    else:
      psi['codes'][name] = trunks.zero_layer(trunk_dim, shape[1])
  if largest := _largest(base, 4):
    height, width, _, num_out = largest
    psi['convolution'] = {
      'weight': jnp.zeros((height, width, slice_dim, num_out)),
      'bias': jnp.zeros((height, width, 1, num_out)),
    }
  if largest := _largest(base, 2):
    num_in, num_out = largest
    psi['dense'] = {
      'weight': jnp.zeros((num_out, column_dim)),
      'columns': jax.random.normal(rng_columns, (num_in, column_dim)),
    }
  return psi


def _code(psi: Params, name: str, layer: Params, g: Array) -> Array:
  """a: [C_in, d] of a convolution, C_l g + c_l: [D_out_max] of a dense layer."""
  code, shape = layers.linear(psi['codes'][name], g), layer['kernel'].shape
  if len(shape) == 4:
    return code.reshape(shape[2], -1)
  return jnp.pad(code, (0, len(psi['dense']['weight']) - shape[1]))


def _shift(psi: Params, name: str, layer: Params, g: Array) -> Params:
  return layerwise.shift_layer(psi, layer, _code(psi, name, layer, g), normalized=True)


def _apply(psi: Params, name: str, layer: Params, g: Array, u: Array) -> Array:
  return layerwise.apply_layer(psi, layer, _code(psi, name, layer, g), True, u)


def make(trunk_dim: int = 32, slice_dim: int = 16, column_embedding_dim: int = 8) -> Hypernetwork:
  """See DEFAULTS; psi is {'trunk', 'codes': {name: layer from g}, 'convolution', 'dense'}.

  The last two, where there are such layers, {'weight': W_out, [h, w, d, C_out], 'bias': B_out, [h,
  w, 1, C_out]} and {'weight': W_in, [D_out, n], 'columns': [D_in, n]}, are as large as the largest
  layer needs.
  """
  check_sizes(slice_dim=slice_dim, column_embedding_dim=column_embedding_dim)
  init = functools.partial(_init, slice_dim=slice_dim, column_dim=column_embedding_dim)
  form = trunks.Form(init=init, shift=_shift, apply=_apply)
  return trunks.make(form, trunk_dim, early_layers=True, reads='x')
