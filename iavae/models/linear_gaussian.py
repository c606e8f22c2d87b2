"""The linear-Gaussian oracle: what is the exact posterior and evidence of an example?

z ~ N(0, I_Z), x = W z + b + noise_scale * N(0, I_D). If the columns of W are orthogonal the exact
posterior is a diagonal Gaussian, so a mean-field method can reach a gap of zero.
"""

import jax
import jax.numpy as jnp
from jax.scipy.stats import multivariate_normal, norm

from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.types import Array, GenerativeModel, Params


def make(data_dim: int, latent_dim: int, noise_scale: float = 0.5) -> GenerativeModel:
  """A linear-Gaussian model with orthogonal columns; params {'weight': [D, Z], 'bias': [D]}.

  Raises:
    ValueError: if `latent_dim` exceeds `data_dim`, for then W has no Z orthogonal columns.
  """
  if latent_dim > data_dim:
    raise ValueError(
      f'latent_dim={latent_dim} needs data_dim >= latent_dim, not data_dim={data_dim}'
    )

  def init(rng: Array) -> Params:
    rng_weight, rng_scale, rng_bias = jax.random.split(rng, 3)
    orthonormal = jnp.linalg.qr(jax.random.normal(rng_weight, (data_dim, latent_dim)))[0]
    scales = jax.random.uniform(rng_scale, (latent_dim,), minval=0.5, maxval=2.0)
    return {'weight': orthonormal * scales, 'bias': jax.random.normal(rng_bias, (data_dim,))}

  def decode(params: Params, z: Array) -> Array:
    return params['weight'] @ z + params['bias']

  def log_likelihood(params: Params, x: Array, z: Array) -> Array:
    return jnp.sum(norm.logpdf(x, decode(params, z), noise_scale))

  def sample(params: Params, z: Array, rng: Array) -> Array:
    return decode(params, z) + noise_scale * jax.random.normal(rng, (data_dim,))

  return GenerativeModel(
    init=init,
    sample_prior=lambda params, rng: jax.random.normal(rng, (latent_dim,)),
    log_prior=lambda params, z: jnp.sum(norm.logpdf(z)),
    log_likelihood=log_likelihood,
    decode=decode,
    sample=sample,
    standard_normal_prior=True,
  )


def log_evidence(params: Params, x: Array, noise_scale: float) -> Array:
  """Exact log p(x) = log N(x; b, W W^T + noise_scale^2 I), [] in nats; x: [D]."""
  weight = params['weight']
  covariance = weight @ weight.T + noise_scale**2 * jnp.eye(x.shape[0])
  return multivariate_normal.logpdf(x, params['bias'], covariance)


def posterior(params: Params, x: Array, noise_scale: float) -> DiagonalGaussian:
  """Exact p(z | x) = N(P^-1 W^T (x - b) / s^2, P^-1), P = I + W^T W / s^2; x: [D].

  The columns of W must be orthogonal: only the diagonal of the precision P is read.
  """
  weight = params['weight']
  precision = 1 + jnp.sum(weight**2, axis=0) / noise_scale**2
  mean = weight.T @ (x - params['bias']) / noise_scale**2 / precision
  return DiagonalGaussian(mean=mean, log_scale=-0.5 * jnp.log(precision))
