"""Planar flows: what if z is pushed along one direction, depending on where it is along another?"""

import math
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
_TINY = 1e-12  # below any |w|^2 of use


class PlanarFlow(NamedTuple):
  """z' = z + u' tanh(w^T z + b), step by step; z_0 ~ the mean-field Gaussian.

  u' = u + (m(w^T u) - w^T u) w / |w|^2 with m(a) = softplus(a + log(e - 1)) - 1 > -1 keeps a step
  invertible (Rezende & Mohamed, arXiv:1505.05770, eq. 10 and appendix A.1).

  Differs from the paper: its m(a) = softplus(a) - 1 is not 0 at 0, so that u = 0 would not be the
  identity.

  Attributes:
    base: the distribution of z_0.
    u, w: [T, Z], of this example.
    b: [T].
  """

  base: DiagonalGaussian
  u: Array
  w: Array
  b: Array

  def transform(self, noise: Array) -> flows.Transformed:
    """z_T and log |dz_T/dnoise|: ([Z], [])."""
    z, log_det = flows.forward(self.base, noise)
    z, log_dets = jax.lax.scan(_step, z, (self.u, self.w, self.b))
    return z, log_det + jnp.sum(log_dets)

  def sample_and_log_prob(self, rng: Array) -> tuple[Array, Array]:
    """A draw and log q(z): ([Z], [] in nats)."""
    return flows.draw(self.transform, rng, self.base.mean)


def _step(z: Array, step: tuple[Array, Array, Array]) -> flows.Transformed:
  u, w, b = step
  along = w @ u
  # 1 + w^T u' > 0, in floats, too
  stretch = jnp.maximum(jax.nn.softplus(along + math.log(math.e - 1)), jnp.finfo(u.dtype).tiny)
  u = u + (stretch - 1 - along) * w / jnp.maximum(w @ w, _TINY)
  h = jnp.tanh(w @ z + b)
  # 1 + (1 - h^2) w^T u', as a sum of what is positive
  return z + u * h, jnp.log(h**2 + (1 - h**2) * stretch)


def make(num_steps: int = 8) -> PosteriorFamily:
  """The family of `PlanarFlow`: every example has its own u, w and b.

  Heads 'u', 'w': [T Z] and 'b': [T]; params['flow'] = {'w': [T, Z]} is added to the head 'w', for
  at w = 0 nothing tells u where to go.

  Raises:
    ValueError: for a number of steps that is not a whole number above 0.
  """
  check_sizes(num_steps=num_steps)

  def heads(latent_dim: int) -> dict[str, int]:
    steps = {'u': num_steps * latent_dim, 'w': num_steps * latent_dim, 'b': num_steps}
    return {'mean': latent_dim, 'log_var': latent_dim} | steps

  def init(rng: Array, heads: dict[str, Array]) -> Params:
    (latent_dim,) = heads['mean'].shape
    w = jax.random.normal(rng, (num_steps, latent_dim))
    return {'flow': {'w': w * latent_dim**-0.5}}  # w^T z of order one

  def posterior(params: Params, heads: dict[str, Array]) -> PlanarFlow:
    u, w = (heads[name].reshape(num_steps, -1) for name in ('u', 'w'))
    return PlanarFlow(diagonal_gaussian(heads), u, params['flow']['w'] + w, heads['b'])

  return PosteriorFamily(heads, init, posterior)
