"""Autoregressive Gaussian posteriors: what is z_i, given x and the entries before it?"""

from typing import NamedTuple

from iavae import flows, masked
from iavae.by_name import check_sizes
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.types import Array, Params, PosteriorFamily

DEFAULTS: dict[str, object] = {
  'context_dim': 64,  # entries of the head that the network reads
  'hidden': 128,  # units of the network
}


class AutoregressiveGaussian(NamedTuple):
  """q(z) = prod_i N(z_i; mu_i(z_<i), s_i(z_<i)^2), each conditional in units of a mean-field part.

  With y = (z - mean) / exp(log_scale), mu_i = mean_i + exp(log_scale_i) m_i(y_<i) and
  s_i = exp(log_scale_i + r_i(y_<i)), m and r by a network that reads the context, too. With m
  linear and r constant it is the Gaussian with a full covariance (Kingma et al.,
  arXiv:1606.04934, section 3.1). Differs from the paper: r is bounded, see `flows.bounded`.

  Attributes:
    base: mean and log_scale.
    context: [C].
    flow: the network, {'step_00': ..}, see `masked`.
  """

  base: DiagonalGaussian
  context: Array
  flow: Params

  def transform(self, noise: Array) -> flows.Transformed:
    """z, from y_i = m_i + exp(r_i) noise_i, and log |dz/dnoise|: ([Z], [])."""
    y, log_det = masked.sequential(self.flow['step_00'], noise, self.context)
    z, log_det_base = flows.forward(self.base, y)
    return z, log_det + log_det_base

  def inverse(self, z: Array) -> flows.Transformed:
    """The noise of which z: [Z] is made, and log |dz/dnoise|: ([Z], [])."""
    y, log_det_base = flows.backward(self.base, z)
    noise, log_det = masked.parallel(self.flow['step_00'], y, self.context)
    return noise, log_det + log_det_base

  def sample_and_log_prob(self, rng: Array) -> tuple[Array, Array]:
    """A draw, entry by entry, and log q(z): ([Z], [] in nats)."""
    return flows.draw(self.transform, rng, self.base.mean)

  def log_prob(self, z: Array) -> Array:
    """log q(z) of z: [Z] in one pass, [] in nats."""
    return flows.log_prob(self.inverse, z)


def make(context_dim: int = 64, hidden: int = 128) -> PosteriorFamily:
  """The family of `AutoregressiveGaussian`, see DEFAULTS.

  Raises:
    ValueError: for a size that is not a whole number above 0.
  """
  check_sizes(context_dim=context_dim, hidden=hidden)
  return flows.context_family(
    AutoregressiveGaussian,
    lambda rng, heads: {'flow': masked.init(rng, heads, hidden, num_steps=1)},
    context_dim,
  )
