"""Hypernetworks with a trunk: how do the layers of an encoder share what is read of an example?

  g = silu(T c + t) in R^trunk_dim (or another activation),   phi_l(x) = phi_AVI,l + h_l(g; psi_l)

A layer has weights psi_l of its own, so that what c asks of one layer is not what it asks of the
others: in the paper's [x; e_l] followed by a linear map, x and e_l never interact. A form is the
map h_l; all here start at h = 0 exactly, at the weights of the base encoder.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from iavae import layers
from iavae.by_name import check_sizes
from iavae.types import Array, Hypernetwork, Linear, Params

# Hyperparameters of every form that reads features
DEFAULTS: dict[str, object] = {
  'trunk_dim': 32,  # entries of g
  'early_layers': False,  # True: also modulate the layers that the features are made of
}
# The layers that the features are made of, an MLP's first and a residual encoder's first block. An
# encoder that reads the features has computed these; modulated, it would need them once more
_EARLY = ('hidden_0', 'block0_')
_HIDDEN = ('hidden_', 'block', 'down')  # all but the heads


class Form(NamedTuple):
  """h_l: what a modulated layer does with g, `name` being that of the layer.

  Attributes:
    init: psi but for the trunk's weights, from layers {name: {'kernel', 'bias'}} or their shapes.
    shift: the definition: {'kernel': Delta W_l, 'bias': Delta b_l} or one of them.
    apply: the fast path: the output of the modulated layer, from its input u.
    activation: of the trunk.
    heads: whether the layers that put out heads are modulated, too.
  """

  init: Callable[..., Params]  # (rng, layers, trunk_dim) -> psi
  shift: Callable[..., Params]  # (psi, name, layer, g) -> changes
  apply: Callable[..., Array]  # (psi, name, layer, g, u) -> W u + b
  activation: Callable[[Array], Array] = jax.nn.silu
  heads: bool = True


def make_form(
  init_layer: Callable[..., Params], shift: Callable[..., Params], apply: Callable[..., Array]
) -> Form:
  """A form whose layers share nothing but the trunk; psi = {'layers': {name: psi_l}}.

  Args:
    init_layer: (rng, kernel, trunk_dim) -> psi_l; the kernel may be its shape.
    shift: (psi_l, layer, g) -> {'kernel', 'bias'}.
    apply: (psi_l, layer, g, u) -> W u + b.
  """

  def init(rng: Array, base: Params, trunk_dim: int) -> Params:
    rngs = jax.random.split(rng, len(base))
    parts = zip(rngs, sorted(base), strict=True)
    return {'layers': {n: init_layer(rng, base[n]['kernel'], trunk_dim) for rng, n in parts}}

  return Form(
    init=init,
    shift=lambda psi, name, layer, g: shift(psi['layers'][name], layer, g),
    apply=lambda psi, name, layer, g, u: apply(psi['layers'][name], layer, g, u),
  )


def normal_layer(rng: Array, num_in: int, num_out: int) -> Params:
  """A dense layer with kernel ~ N(0, 1 / fan_in) and bias 0."""
  return zero_layer(num_in, num_out) | {
    'kernel': num_in**-0.5 * jax.random.normal(rng, (num_in, num_out))
  }


def zero_layer(num_in: int, num_out: int) -> Params:
  """A dense layer that outputs 0."""
  return {'kernel': jnp.zeros((num_in, num_out)), 'bias': jnp.zeros(num_out)}


def _modulated(base: Params, early_layers: bool, heads: bool) -> Params:
  """Those of the layers that a form changes."""

  def changes(name: str) -> bool:
    is_early, is_head = name.startswith(_EARLY), not name.startswith(_HIDDEN)
    return (early_layers or not is_early) and (heads or not is_head)

  return {name: layer for name, layer in base.items() if 'kernel' in layer and changes(name)}


def _check(trunk_dim: object, early_layers: object) -> None:
  check_sizes(trunk_dim=trunk_dim)
  if not isinstance(early_layers, bool):
    raise ValueError(f'early_layers is True or False, not {early_layers!r}')


def make(
  form: Form, trunk_dim: int = 32, early_layers: bool = False, reads: str = 'features'
) -> Hypernetwork:
  """The hypernetwork of a form; psi = {'trunk': {'kernel': [data_dim, trunk_dim], 'bias'}, ...}.

  Biases and kernels change as the form says, batch normalization never.

  Raises:
    ValueError: for a bad hyperparameter, or in `init` if no layer is left to modulate.
  """
  _check(trunk_dim, early_layers)
  modulated = functools.partial(_modulated, early_layers=early_layers, heads=form.heads)

  def read(psi: Params, c: Array) -> Array:
    """g: [trunk_dim]."""
    return form.activation(layers.linear(psi['trunk'], c))

  def init(rng: Array, base: Params, data_dim: int) -> Params:
    rng_trunk, rng_form = jax.random.split(rng)
    changed = modulated(base)
    if not changed:
      raise ValueError(
        'no layer is left to modulate; take early_layers=True, or more hidden layers'
      )
    psi = form.init(rng_form, changed, trunk_dim)
    return psi | {'trunk': normal_layer(rng_trunk, data_dim, trunk_dim)}

  def modulation(psi: Params, base: Params, c: Array) -> Params:
    g, result = read(psi, c), jax.tree.map(jnp.zeros_like, base)
    for name, layer in modulated(base).items():
      result[name] = result[name] | form.shift(psi, name, layer, g)
    return result

  def fast_layers(psi: Params, base: Params, c: Array) -> Linear:
    g, names = read(psi, c), modulated(base).keys()

    def linear(name: str, u: Array) -> Array:
      layer = base[name]
      return form.apply(psi, name, layer, g, u) if name in names else layers.linear(layer, u)

    return linear

  return Hypernetwork(init=init, modulation=modulation, layers=fast_layers, reads=reads)
