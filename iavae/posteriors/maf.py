"""Masked autoregressive flows: what if the draw of one conditional is the noise of the next?"""

from typing import NamedTuple

from iavae import flows, masked
from iavae.by_name import check_sizes
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.types import Array, Params, PosteriorFamily

DEFAULTS: dict[str, object] = {
  'num_steps': 2,  # each reads z from its other end
  'context_dim': 64,  # entries of the head that the networks read
  'hidden': 128,  # units of each network
}


class MaskedAutoregressiveFlow(NamedTuple):
  """z_t,i = m_i(z_t,<i) + exp(s_i(z_t,<i)) z_t-1,i, where z_0 ~ the mean-field Gaussian.

  (Papamakarios et al., arXiv:1705.07057, eq. 3; m and s read the context, too.) A draw is
  sequential, a density takes one pass a step.

  Differs from the paper: s is bounded, see `flows.bounded`.

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
      z, log_det_t = masked.sequential(step, masked.turn(t, z), self.context)
      z, log_det = masked.turn(t, z), log_det + log_det_t
    return z, log_det

  def inverse(self, z: Array) -> flows.Transformed:
    """The noise of which z: [Z] is made, and log |dz/dnoise|: ([Z], [])."""
    log_det = 0.0
    for t, step in reversed(list(enumerate(flows.steps(self.flow)))):
      z, log_det_t = masked.parallel(step, masked.turn(t, z), self.context)
      z, log_det = masked.turn(t, z), log_det + log_det_t
    noise, log_det_base = flows.backward(self.base, z)
    return noise, log_det + log_det_base

  def sample_and_log_prob(self, rng: Array) -> tuple[Array, Array]:
    """A draw, entry by entry, and log q(z): ([Z], [] in nats)."""
    return flows.draw(self.transform, rng, self.base.mean)

  def log_prob(self, z: Array) -> Array:
    """log q(z) of z: [Z], [] in nats."""
    return flows.log_prob(self.inverse, z)


def make(num_steps: int = 2, context_dim: int = 64, hidden: int = 128) -> PosteriorFamily:
  """The family of `MaskedAutoregressiveFlow`, see DEFAULTS.

  Raises:
    ValueError: for a size that is not a whole number above 0.
  """
  check_sizes(num_steps=num_steps, context_dim=context_dim, hidden=hidden)
  return flows.context_family(
    MaskedAutoregressiveFlow,
    lambda rng, heads: {'flow': masked.init(rng, heads, hidden, num_steps)},
    context_dim,
  )
