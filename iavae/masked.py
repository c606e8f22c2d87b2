"""MADE: a network whose i-th outputs read the entries of z before the i-th, and a context.

A hidden unit of degree m reads z_1, ..., z_m and the context; the i-th outputs read the units of
degree below i and, directly, z_<i and the context (Germain et al., arXiv:1502.03509, section 4).
The direct connections alone make every Gaussian with a full covariance, linear in z_<i.

One hidden layer, so that z can be made entry by entry with the arithmetic of a single pass: each
new entry only adds its row to the hidden layer (`sequential`).
"""

import jax
import jax.numpy as jnp
import numpy as np

from iavae import flows
from iavae.layers import linear
from iavae.types import Array, Params


def init(rng: Array, heads: dict[str, Array], hidden: int, num_steps: int) -> Params:
  """One network a step, {'step_00': {'hidden', 'output'}, ...}.

  The output layer reads [hidden; z; context], gives two vectors [Z] and starts at zero.

  Args:
    heads: arrays or shapes, 'mean': [Z] and 'context': [C].
    hidden: units.
  """
  (latent_dim,), (context_dim,) = heads['mean'].shape, heads['context'].shape
  num_in = latent_dim + context_dim
  shapes = {'hidden': (num_in, hidden), 'output': (hidden + num_in, 2 * latent_dim)}
  return flows.init_networks(rng, flows.name_steps([shapes] * num_steps))


def _masks(latent_dim: int, context_dim: int, hidden: int) -> tuple[np.ndarray, np.ndarray]:
  """1 where a weight may be, for the two layers."""
  entries = np.arange(1, latent_dim + 1)
  inputs = np.append(entries, np.zeros(context_dim, int))
  units = np.arange(hidden) * latent_dim // hidden  # degrees 0, ..., Z - 1, as even as can be
  read = np.append(units, inputs)
  return inputs[:, None] <= units, read[:, None] < np.tile(entries, 2)


def _masked(params: Params, latent_dim: int) -> tuple[Params, Params]:
  """Both layers with zeros in their kernels where the masks are zero."""
  num_in, hidden = params['hidden']['kernel'].shape
  masks = _masks(latent_dim, num_in - latent_dim, hidden)
  first, second = (
    layer | {'kernel': jnp.where(mask, flows.exact_kernel(layer), 0)}
    for layer, mask in zip((params['hidden'], params['output']), masks, strict=True)
  )
  return first, second


def outputs(params: Params, z: Array, context: Array) -> tuple[Array, Array]:
  """The two outputs, [Z] each, of all entries at once.

  Args:
    z: [Z].
    context: [C].
  """
  first, second = _masked(params, z.size)
  u = jnp.append(z, context)
  units = jax.nn.elu(linear(first, u))
  shift, raw_scale = jnp.split(linear(second, jnp.append(units, u)), 2)
  return shift, raw_scale


def parallel(params: Params, z: Array, context: Array) -> flows.Transformed:
  """The u of which z is made, u_i = (z_i - m_i(z_<i)) exp(-s_i(z_<i)), in one pass.

  The log-scale s is bounded (`flows.bounded`). (Papamakarios et al., arXiv:1705.07057, eq. 4)

  Args: as `outputs`.

  Returns:
    u: [Z], and log |dz/du|, [].
  """
  shift, raw_scale = outputs(params, z, context)
  log_scale = flows.bounded(raw_scale)
  return (z - shift) * jnp.exp(-log_scale), jnp.sum(log_scale)


def sequential(params: Params, u: Array, context: Array) -> flows.Transformed:
  """z_i = m_i(z_<i) + exp(s_i(z_<i)) u_i, entry by entry: the inverse of `parallel`.

  Args:
    u: [Z].
    context: [C].

  Returns:
    z: [Z], and log |dz/du|, [].
  """
  (first, first_bias), (second, second_bias) = (
    (layer['kernel'], layer['bias']) for layer in _masked(params, u.size)
  )
  hidden, latent_dim = first_bias.size, u.size
  # All that the outputs read of z: [what enters the hidden layer; z], to which z_i adds a row
  start = jnp.append(context @ first[latent_dim:] + first_bias, jnp.zeros_like(u))
  rows = jnp.append(first[:latent_dim], jnp.eye(latent_dim, dtype=u.dtype), axis=1)
  offsets = context @ second[hidden + latent_dim :] + second_bias
  columns = second[: hidden + latent_dim].reshape(-1, 2, latent_dim)

  def entry(state: Array, inputs: tuple) -> tuple[Array, tuple[Array, Array]]:
    u, row, column, offset = inputs
    read = jnp.append(jax.nn.elu(state[:hidden]), state[hidden:])
    shift, raw_scale = read @ column + offset
    log_scale = flows.bounded(raw_scale)
    z = shift + jnp.exp(log_scale) * u
    return state + z * row, (z, log_scale)

  inputs = (u, rows, jnp.moveaxis(columns, 2, 0), offsets.reshape(2, -1).T)
  _, (z, log_scales) = jax.lax.scan(entry, start, inputs)
  return z, jnp.sum(log_scales)


def turn(t: int, z: Array) -> Array:
  """z: [Z] in the order of step t of a flow: every other step reads it from its end."""
  return z[::-1] if t % 2 else z
