"""Gaussian posteriors: what does a mean-field q(z | x) know about itself?"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from iavae.types import Array, PosteriorFamily


class DiagonalGaussian(NamedTuple):
  """q(z) = prod_i N(z_i; mean_i, exp(log_scale_i)^2).

  Attributes:
    mean: [Z].
    log_scale: [Z], log of the standard deviations.
  """

  mean: Array
  log_scale: Array

  def sample_and_log_prob(self, rng: Array) -> tuple[Array, Array]:
    """z = mean + exp(log_scale) * noise, and log q(z): ([Z], [] in nats)."""
    noise = jax.random.normal(rng, self.mean.shape, self.mean.dtype)
    z = self.mean + jnp.exp(self.log_scale) * noise
    return z, jnp.sum(norm.logpdf(noise) - self.log_scale)

  def antithetic_pair(self, rng: Array) -> Array:
    """Two draws whose noises are each other's negative, [2, Z]."""
    noise = jnp.exp(self.log_scale) * jax.random.normal(rng, self.mean.shape, self.mean.dtype)
    return jnp.stack([self.mean + noise, self.mean - noise])

  def mirrored_draws(self, rng: Array) -> tuple[Array, Array]:
    """`antithetic_pair` and log q(z) of each: ([2, Z], [2] in nats).

    The gradient of log q(z) is the path derivative: q's parameters are held fixed in its density.
    """
    z = self.antithetic_pair(rng)
    return z, jax.vmap(jax.lax.stop_gradient(self).log_prob)(z)

  def log_prob(self, z: Array) -> Array:
    """log q(z) of z: [Z], [] in nats."""
    noise = (z - self.mean) * jnp.exp(-self.log_scale)
    return jnp.sum(norm.logpdf(noise) - self.log_scale)

  def kl(self, other: 'DiagonalGaussian') -> Array:
    """KL(q || other), [] in nats."""
    ratio = self.log_scale - other.log_scale
    distance = (self.mean - other.mean) * jnp.exp(-other.log_scale)
    return 0.5 * jnp.sum(jnp.exp(2 * ratio) + distance**2 - 1 - 2 * ratio)

  def standard_normal_kl(self) -> Array:
    """KL(q || N(0, I)) = 1/2 sum_i (mean_i^2 + s_i^2 - 1 - log s_i^2), [] in nats."""
    variance = jnp.exp(2 * self.log_scale)
    return 0.5 * jnp.sum(self.mean**2 + variance - 1 - 2 * self.log_scale)


DEFAULTS: dict[str, object] = {}


def make() -> PosteriorFamily:
  """The mean-field family: the heads are its parameters."""
  return PosteriorFamily(
    heads=lambda latent_dim: {'mean': latent_dim, 'log_var': latent_dim},
    init=lambda rng, heads: {},
    posterior=lambda params, heads: diagonal_gaussian(heads),
  )


MEAN_FIELD = make()


def diagonal_gaussian(heads: dict[str, Array]) -> DiagonalGaussian:
  """The mean-field posterior of an encoder's heads {'mean': [Z], 'log_var': [Z]}."""
  return DiagonalGaussian(mean=heads['mean'], log_scale=0.5 * heads['log_var'])


def standard_normal(latent_dim: int) -> DiagonalGaussian:
  """The prior N(0, I) as a posterior: where stochastic variational inference starts."""
  return DiagonalGaussian(jnp.zeros(latent_dim), jnp.zeros(latent_dim))
