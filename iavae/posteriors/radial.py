"""Radial flows: what if z is pushed away from a point, or towards it?"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from iavae import flows
from iavae.by_name import check_sizes
from iavae.posteriors.gaussian import DiagonalGaussian, diagonal_gaussian
from iavae.types import Array, Params, PosteriorFamily

DEFAULTS: dict[str, object] = {
  'num_steps': 8,  # maps, one after the other
}
_TINY = 1e-12  # below any squared distance of use; a distance has no derivative at 0


class RadialFlow(NamedTuple):
  """z' = z + beta h (z - z_ref), h = 1 / (a + |z - z_ref|), step by step.

  (Rezende & Mohamed, arXiv:1505.05770, eq. 14.) z_0 ~ the mean-field Gaussian. a > 0, and
  beta > -a keeps a step invertible (appendix A.2): a = softplus(raw_a) and
  beta = softplus(raw_a + raw_beta) - softplus(raw_a).

  Differs from the paper: its beta = softplus(raw_beta) - a is not 0 at 0; z_ref is a head plus a
  point that z_0 is likely to come near, another one in each step (see `make`).

  Attributes:
    base: the distribution of z_0.
    reference: z_ref, [T, Z], of this example.
    raw_a, raw_beta: [T].
  """

  base: DiagonalGaussian
  reference: Array
  raw_a: Array
  raw_beta: Array

  def transform(self, noise: Array) -> flows.Transformed:
    """z_T and log |dz_T/dnoise|: ([Z], [])."""
    z, log_det = flows.forward(self.base, noise)
    z, log_dets = jax.lax.scan(_step, z, (self.reference, self.raw_a, self.raw_beta))
    return z, log_det + jnp.sum(log_dets)

  def sample_and_log_prob(self, rng: Array) -> tuple[Array, Array]:
    """A draw and log q(z): ([Z], [] in nats)."""
    return flows.draw(self.transform, rng, self.base.mean)


def _step(z: Array, step: tuple[Array, Array, Array]) -> flows.Transformed:
  reference, raw_a, raw_beta = step
  a = jax.nn.softplus(raw_a)
  beta = jax.nn.softplus(raw_a + raw_beta) - a
  away = z - reference
  h = 1 / (a + jnp.sqrt(jnp.maximum(away @ away, _TINY)))
  # Across the direction away from the reference, and along it
  log_det = (z.size - 1) * jnp.log1p(beta * h) + jnp.log1p(a * beta * h**2)
  return z + beta * h * away, log_det


def make(num_steps: int = 8) -> PosteriorFamily:
  """The family of `RadialFlow`: every example has its own reference points, a and beta.

  z_ref = mean + exp(log_scale) * r + head, heads 'reference': [T Z] and 'raw_a', 'raw_beta': [T];
  params['flow'] = {'reference': r: [T, Z]}, as steps that start as equals would long stay so.

  Raises:
    ValueError: for a number of steps that is not a whole number above 0.
  """
  check_sizes(num_steps=num_steps)

  def heads(latent_dim: int) -> dict[str, int]:
    steps = {'reference': num_steps * latent_dim, 'raw_a': num_steps, 'raw_beta': num_steps}
    return {'mean': latent_dim, 'log_var': latent_dim} | steps

  def init(rng: Array, heads: dict[str, Array]) -> Params:
    (latent_dim,) = heads['mean'].shape
    return {'flow': {'reference': jax.random.normal(rng, (num_steps, latent_dim))}}

  def posterior(params: Params, heads: dict[str, Array]) -> RadialFlow:
    base = diagonal_gaussian(heads)
    around = base.mean + jnp.exp(base.log_scale) * params['flow']['reference']
    reference = around + heads['reference'].reshape(num_steps, -1)
    return RadialFlow(base, reference, heads['raw_a'], heads['raw_beta'])

  return PosteriorFamily(heads, init, posterior)
