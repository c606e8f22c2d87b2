"""FiLM: is it enough to scale and shift the outputs of a layer, its units or channels?

  y = (1 + s_l(g)) * (W u + b) + t_l(g),   [s_l; t_l] = A_l g + a_l,   g = silu(T f + t)

(Perez et al., arXiv:1709.07871, eq. 2; * by output unit or channel), from the base encoder's own
features f of x. In the space of weights, which is where phi_AVI + h lives:

  Delta W = W diag(s_l),   Delta b = s_l * b + t_l

A_l and a_l start at 0. The cheapest form: per layer 2 D_out numbers and trunk_dim times as many
multiplications, whatever the size of W.
"""

import jax.numpy as jnp

from iavae import layers, trunks
from iavae.types import Array, Hypernetwork, Params

DEFAULTS = trunks.DEFAULTS


def _init(rng: Array, kernel: Array, trunk_dim: int) -> Params:
  return trunks.zero_layer(trunk_dim, 2 * kernel.shape[-1])


def _scale_and_shift(p: Params, g: Array) -> tuple[Array, Array]:
  """s_l, t_l: [D_out]."""
  scale, shift = jnp.split(layers.linear(p, g), 2)
  return scale, shift


def _shift(p: Params, layer: Params, g: Array) -> Params:
  scale, shift = _scale_and_shift(p, g)
  return {'kernel': layer['kernel'] * scale, 'bias': scale * layer['bias'] + shift}


def _apply(p: Params, layer: Params, g: Array, u: Array) -> Array:
  scale, shift = _scale_and_shift(p, g)
  return (1 + scale) * layers.linear(layer, u) + shift


def make(trunk_dim: int = 32, early_layers: bool = False) -> Hypernetwork:
  """See DEFAULTS; psi_l = {'kernel': [trunk_dim, 2 D_out], 'bias': [2 D_out]}."""
  return trunks.make(trunks.make_form(_init, _shift, _apply), trunk_dim, early_layers)
