"""Energy-normalized FiLM: scales that read x, divided by an energy, and shifts by log energies.

  t = A x + a in R^K,   n = t / (1 + |t|^2),   e_k = log(1 + t_k^2)

  hidden units   y = (1 + g + G x) * (W u + b) + S x
  mean           y = (1 + g + G n) * (W u + b) + S x
  log_var        y =                  W u + b  + S e
  other heads    as hidden units

Division as neurons do it (Carandini & Heeger, doi:10.1038/nrn3136) lets a mean fall off where x
determines it well, log energies do the same for a log-variance, and scales that read x make
products of inputs: what an exact posterior is made of, and a small network without them is not. For
problems of few inputs: the scales of a layer cost D_out x D weights. No shift has a constant, so
the control that reads no x is only fair where the base is trained along.

The form was found on the synthetic model of arXiv:2604.06796, section 4.1, with its posterior
known, but nothing of the decoder is in it. g, G and S start at 0, at the base. Parameters for the
base of two hidden units: 38 with K = 2, 58 together.
"""

import functools

import jax
import jax.numpy as jnp

from iavae import layers, trunks
from iavae.by_name import check_sizes
from iavae.modulation import check_dense
from iavae.types import Array, Hypernetwork, Linear, Params

DEFAULTS: dict[str, object] = {
  'trunk_dim': 2,  # K
}
_OFFSET = 0.5  # standard deviation of the initial a: with a = 0, e would start even in x


def _reads(name: str) -> tuple[str, str]:
  """What the scales and the shifts of a layer read; '' is nothing."""
  return {'mean': ('normalized', 'x'), 'log_var': ('', 'energy')}.get(name, ('x', 'x'))


def _read(psi: Params, x: Array) -> dict[str, Array]:
  t = layers.linear(psi['trunk'], x)
  return {'x': x, 'normalized': t / (1 + jnp.sum(t**2)), 'energy': jnp.log1p(t**2)}


def _changes(psi: Params, name: str, read: dict[str, Array]) -> tuple[Array | float, Array]:
  """Scale - 1 and shift of a layer's outputs, [D_out] each."""
  by, to = _reads(name)
  p = psi[name]
  scale = read[by] @ p['scale'] + p['scale_bias'] if by else 0.0
  return scale, read[to] @ p['shift']


def _init(rng: Array, base: Params, data_dim: int, trunk_dim: int) -> Params:
  check_dense(base)
  rng_trunk, rng_offset = jax.random.split(rng)
  trunk = trunks.normal_layer(rng_trunk, data_dim, trunk_dim)
  psi = {'trunk': trunk | {'bias': _OFFSET * jax.random.normal(rng_offset, (trunk_dim,))}}
  sizes = {'x': data_dim, 'normalized': trunk_dim, 'energy': trunk_dim}
  for name, layer in base.items():
    (num_out,) = layer['bias'].shape
    by, to = _reads(name)
    psi[name] = {'shift': jnp.zeros((sizes[to], num_out))}
    if by:
      scales = {'scale': jnp.zeros((sizes[by], num_out)), 'scale_bias': jnp.zeros(num_out)}
      psi[name] |= scales
  return psi


def _modulation(psi: Params, base: Params, x: Array) -> Params:
  read, result = _read(psi, x), {}
  for name, layer in base.items():
    scale, shift = _changes(psi, name, read)
    result[name] = {'kernel': scale * layer['kernel'], 'bias': scale * layer['bias'] + shift}
  return result


def _layers(psi: Params, base: Params, x: Array) -> Linear:
  read = _read(psi, x)

  def linear(name: str, u: Array) -> Array:
    scale, shift = _changes(psi, name, read)
    return (1 + scale) * layers.linear(base[name], u) + shift

  return linear


def make(trunk_dim: int = 2) -> Hypernetwork:
  """See DEFAULTS; psi = {'trunk', layer: {'scale', 'scale_bias', 'shift'}} as the equations say.

  Of a base of dense layers {'kernel', 'bias'}, an MLP.

  Raises:
    ValueError: for a size that is not a whole number above 0, or in `init` other layers.
  """
  check_sizes(trunk_dim=trunk_dim)
  return Hypernetwork(
    init=functools.partial(_init, trunk_dim=trunk_dim), modulation=_modulation, layers=_layers
  )
