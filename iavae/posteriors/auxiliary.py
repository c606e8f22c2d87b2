"""Auxiliary variables: what if z has a companion v that a flow may mix it with, and then forgets?

The q_Flow of Cremer et al. (arXiv:1801.03558, section 2.4), Real NVP between z and v.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from iavae import flows, layers
from iavae.by_name import check_sizes
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.rng import AUXILIARY
from iavae.types import Array, Params, PosteriorFamily

DEFAULTS: dict[str, object] = {
  'num_steps': 2,  # in each both z and v change
  'context_dim': 64,  # entries of the head that the networks read
  'hidden': 128,  # units of each network
}


class AuxiliaryFlow(NamedTuple):
  """q(z) = int q(z, v) dv, bounded by means of a reverse model r(v | z).

  z_0 ~ the mean-field Gaussian, v_0 ~ N(m(z_0), exp(s(z_0))^2), and in each step
  v' = exp(s_v(z)) v + m_v(z), then z' = exp(s_z(v')) z + m_z(v'); r is a Gaussian like that of v_0,
  and all networks read the context, too.

  Differs from the paper: scales are exp of a bounded output, not sigmoids, so that the flow starts
  as the identity; r starts as what v_0 is drawn from, so that the bound on log q(z) starts tight.

  Attributes:
    base: the distribution of z_0.
    context: [C].
    flow: a network for every Gaussian and update, {'start', 'reverse', 'v_00', 'z_00', ..}.
  """

  base: DiagonalGaussian
  context: Array
  flow: Params

  def transform(self, noise: Array) -> flows.Transformed:
    """[z_T, v_T], and the log-determinant with respect to the noise: ([2, Z], []).

    Args:
      noise: [2, Z], for z and for v.
    """
    z, log_det = flows.forward(self.base, noise[0])
    v, log_det_v = self._affine('start', z, noise[1])
    log_det += log_det_v
    for name in sorted(name for name in self.flow if name.startswith('v_')):
      v, log_det_v = self._affine(name, z, v)
      z, log_det_z = self._affine(name.replace('v_', 'z_'), v, z)
      log_det += log_det_v + log_det_z
    return jnp.stack([z, v]), log_det

  def _affine(self, name: str, given: Array, a: Array) -> flows.Transformed:
    shift, log_scale = flows.affine(self.flow[name], given, self.context)
    return jnp.exp(log_scale) * a + shift, jnp.sum(log_scale)

  def log_reverse(self, z: Array, v: Array) -> Array:
    """log r(v | z) of z, v: [Z], [] in nats."""
    shift, log_scale = flows.affine(self.flow['reverse'], z, self.context)
    return jnp.sum(norm.logpdf(v, shift, jnp.exp(log_scale)))

  def sample_and_log_prob(self, rng: Array) -> tuple[Array, Array]:
    """A draw z ~ q and an estimate of log q(z) FROM ABOVE: ([Z], [] in nats).

    The second is log q(z, v) - log r(v | z), whose expectation given z is log q(z) +
    KL(q(v | z) || r(v | z)). So E log q(z) is overestimated and the ELBO stays a lower bound, as
    do importance-weighted ones: r(v | z) p(x, z) / q(z, v) has mean p(x).
    """
    # The draw of z is that of the mean-field Gaussian
    rngs = rng, jax.random.fold_in(rng, AUXILIARY)
    mean = self.base.mean
    noise = jnp.stack([jax.random.normal(rng, mean.shape, mean.dtype) for rng in rngs])
    (z, v), log_det = self.transform(noise)
    return z, jnp.sum(norm.logpdf(noise)) - log_det - self.log_reverse(z, v)


def make(num_steps: int = 2, context_dim: int = 64, hidden: int = 128) -> PosteriorFamily:
  """The family of `AuxiliaryFlow`, v as large as z; see DEFAULTS.

  Raises:
    ValueError: for a size that is not a whole number above 0.
  """
  check_sizes(num_steps=num_steps, context_dim=context_dim, hidden=hidden)

  def init(rng: Array, heads: dict[str, Array]) -> Params:
    (latent_dim,) = heads['mean'].shape
    rng_updates, rng_start = jax.random.split(rng)
    shapes = flows.network_shapes(latent_dim + context_dim, hidden, latent_dim)
    updates = [f'{letter}_{t:02d}' for letter in 'vz' for t in range(num_steps)]
    flow = flows.init_networks(rng_updates, dict.fromkeys(updates, shapes))
    # If v started as independent of z, nothing would tell z what to do with it: a saddle point
    start = layers.torch_uniform(rng_start, shapes)
    return {'flow': flow | {'start': start, 'reverse': jax.tree.map(jnp.copy, start)}}

  return flows.context_family(AuxiliaryFlow, init, context_dim)
