"""Inverse autoregressive flows: what do all entries become, each told of those before it?"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from iavae import flows, masked
from iavae.by_name import check_sizes
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.types import Array, Params, PosteriorFamily

DEFAULTS: dict[str, object] = {
  'num_steps': 2,  # each reads z from its other end
  'context_dim': 64,  # entries of the head that the networks read
  'hidden': 128,  # units of each network
}
GATE_BIAS = 2.0  # added to what a gate's sigmoid reads, so that it starts almost open


class InverseAutoregressiveFlow(NamedTuple):
  """z_t = g / sigmoid(b) * z_t-1 + (1 - g) * m, g = sigmoid(s + b), b = GATE_BIAS.

  m_i and s_i are functions of the entries of z_t-1 before the i-th and of the context, z_0 ~ the
  mean-field Gaussian (Kingma et al., arXiv:1606.04934, section 4). All entries at once; but a
  z that it did not draw would have to be traced back entry by entry.

  Differs from the paper: the gate that multiplies z_t-1 is divided by what it starts with, so that
  the flow starts as the identity. Like the paper's, it may shrink z without bound in a step.

  Attributes:
    base: the distribution of z_0.
    context: [C].
    flow: a network (m, s) a step, see `masked`.
  """

  base: DiagonalGaussian
  context: Array
  flow: Params

  def transform(self, noise: Array) -> flows.Transformed:
    """z_T and log |dz_T/dnoise|: ([Z], [])."""
    z, log_det = flows.forward(self.base, noise)
    for t, step in enumerate(flows.steps(self.flow)):
      z, log_det_t = _step(step, masked.turn(t, z), self.context)
      z, log_det = masked.turn(t, z), log_det + log_det_t
    return z, log_det

  def sample_and_log_prob(self, rng: Array) -> tuple[Array, Array]:
    """A draw and log q(z): ([Z], [] in nats)."""
    return flows.draw(self.transform, rng, self.base.mean)


def _step(params: Params, z: Array, context: Array) -> flows.Transformed:
  shift, raw_gate = masked.outputs(params, z, context)
  log_gate = jax.nn.log_sigmoid(raw_gate + GATE_BIAS) - jax.nn.log_sigmoid(GATE_BIAS)
  closed = jax.nn.sigmoid(-raw_gate - GATE_BIAS)
  return jnp.exp(log_gate) * z + closed * shift, jnp.sum(log_gate)


def make(num_steps: int = 2, context_dim: int = 64, hidden: int = 128) -> PosteriorFamily:
  """The family of `InverseAutoregressiveFlow`, see DEFAULTS.

  Raises:
    ValueError: for a size that is not a whole number above 0.
  """
  check_sizes(num_steps=num_steps, context_dim=context_dim, hidden=hidden)
  return flows.context_family(
    InverseAutoregressiveFlow,
    lambda rng, heads: {'flow': masked.init(rng, heads, hidden, num_steps)},
    context_dim,
  )
