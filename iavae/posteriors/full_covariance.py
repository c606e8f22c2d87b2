"""Gaussian posteriors with correlations: what do the entries of z know of each other?"""

from typing import NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg

from iavae import flows
from iavae.types import Array, PosteriorFamily

DEFAULTS: dict[str, object] = {}


class FullCovarianceGaussian(NamedTuple):
  """q(z) = N(z; mean, L L^T), L = diag(exp(log_scale)) (I + N), N strictly lower triangular.

  The scales of z are apart from N, which so is free of units (Kingma & Welling, arXiv:1906.02691,
  section 2.5.1, has L itself).

  Attributes:
    mean: [Z].
    log_scale: [Z], log of the diagonal of L.
    below_diagonal: [Z (Z - 1) / 2], the entries of N, see `strictly_lower`.
  """

  mean: Array
  log_scale: Array
  below_diagonal: Array

  def factor(self) -> Array:
    """I + N, [Z, Z]."""
    eye = jnp.eye(self.mean.size, dtype=self.mean.dtype)
    return eye + strictly_lower(self.below_diagonal, self.mean.size)

  def transform(self, noise: Array) -> flows.Transformed:
    """z = mean + L noise and log |dz/dnoise|: ([Z], [])."""
    return self.mean + jnp.exp(self.log_scale) * (self.factor() @ noise), jnp.sum(self.log_scale)

  def inverse(self, z: Array) -> flows.Transformed:
    """The noise of which z: [Z] is made, and log |dz/dnoise|: ([Z], [])."""
    standardized = (z - self.mean) * jnp.exp(-self.log_scale)
    return self._solve(standardized), jnp.sum(self.log_scale)

  def _solve(self, a: Array) -> Array:
    return jax.scipy.linalg.solve_triangular(self.factor(), a, lower=True, unit_diagonal=True)

  def sample_and_log_prob(self, rng: Array) -> tuple[Array, Array]:
    """A draw z = mean + L noise, and log q(z): ([Z], [] in nats)."""
    return flows.draw(self.transform, rng, self.mean)

  def log_prob(self, z: Array) -> Array:
    """log q(z) of z: [Z], [] in nats."""
    return flows.log_prob(self.inverse, z)

  def kl(self, other: 'FullCovarianceGaussian') -> Array:
    """KL(q || other), [] in nats."""
    ratio = jnp.exp(self.log_scale - other.log_scale)
    distance = other.inverse(self.mean)[0]
    mixed = other._solve(ratio[:, None] * self.factor())
    squares = jnp.sum(mixed**2) + jnp.sum(distance**2)
    return 0.5 * (squares - distance.size) + jnp.sum(other.log_scale - self.log_scale)

  def standard_normal_kl(self) -> Array:
    """KL(q || N(0, I)) = 1/2 (tr L L^T + mean^T mean - Z) - sum_i log L_ii, [] in nats."""
    scaled = jnp.exp(self.log_scale)[:, None] * self.factor()
    squares = jnp.sum(scaled**2) + jnp.sum(self.mean**2)
    return 0.5 * (squares - self.mean.size) - jnp.sum(self.log_scale)


def strictly_lower(entries: Array, size: int) -> Array:
  """The matrix [size, size] with these entries below its diagonal and zeros elsewhere.

  They fill a square of side size - 1 from both its ends, which puts each once at or below its
  diagonal: no gather and no scatter, both slow.

  Args:
    entries: [size (size - 1) / 2].
  """
  side = size - 1
  square = jnp.concatenate([entries[side:], entries[::-1]]).reshape(side, side)
  return jnp.pad(jnp.tril(square), ((1, 0), (0, 1)))


def make() -> PosteriorFamily:
  """The Gaussians of any covariance: the heads are their parameters."""
  return PosteriorFamily(
    heads=lambda latent_dim: {
      'mean': latent_dim,
      'log_var': latent_dim,
      'below_diagonal': latent_dim * (latent_dim - 1) // 2,
    },
    init=lambda rng, heads: {},
    posterior=lambda params, heads: FullCovarianceGaussian(
      heads['mean'], 0.5 * heads['log_var'], heads['below_diagonal']
    ),
  )
