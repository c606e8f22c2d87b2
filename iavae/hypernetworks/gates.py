"""Gates: is it enough to scale what enters and what leaves the hidden layers?

  y = (1 + s_out) * (W ((1 + s_in) * u) + b),   [s_in; s_out] = A_l g + a_l,   g = tanh(T f + t)

(* by unit or channel), from the base encoder's own features f of x. In the space of weights:

  W' = diag(1 + s_in) W diag(1 + s_out),   b' = (1 + s_out) * b

The products of units that an encoder lacks, for D_in + D_out numbers a layer; heads stay as they
are. A_l and a_l start at 0.
"""

import jax.numpy as jnp

from iavae import layers, trunks
from iavae.types import Array, Hypernetwork, Params

DEFAULTS: dict[str, object] = trunks.DEFAULTS


def _init(rng: Array, kernel: Array, trunk_dim: int) -> Params:
  return trunks.zero_layer(trunk_dim, kernel.shape[-2] + kernel.shape[-1])


def _scales(p: Params, layer: Params, g: Array) -> tuple[Array, Array]:
  """s_in: [D_in], s_out: [D_out]."""
  inward, outward = jnp.split(layers.linear(p, g), [layer['kernel'].shape[-2]])
  return inward, outward


def _shift(p: Params, layer: Params, g: Array) -> Params:
  inward, outward = _scales(p, layer, g)
  scale = jnp.outer(1 + inward, 1 + outward) - 1
  return {'kernel': scale * layer['kernel'], 'bias': outward * layer['bias']}


def _apply(p: Params, layer: Params, g: Array, u: Array) -> Array:
  inward, outward = _scales(p, layer, g)
  return (1 + outward) * layers.linear(layer, (1 + inward) * u)


def make(trunk_dim: int = 32, early_layers: bool = False) -> Hypernetwork:
  """See DEFAULTS; psi_l = {'kernel': [trunk_dim, D_in + D_out], 'bias'}, no heads among the l."""
  form = trunks.make_form(_init, _shift, _apply)._replace(activation=jnp.tanh, heads=False)
  return trunks.make(form, trunk_dim, early_layers)
