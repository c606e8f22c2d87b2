"""The linear-Gaussian oracle: what is the exact posterior and evidence of an example?

z ~ N(0, I_Z), x = W z + b + noise_scale * N(0, I_D). If the columns of W are orthogonal the exact
posterior is a diagonal Gaussian, so a mean-field method can reach a gap of zero; if not, the best
mean-field posterior and its gap are known as well.
"""

import jax
import jax.numpy as jnp
from jax.scipy.stats import multivariate_normal, norm

from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.types import Array, GenerativeModel, Params


def make(
  data_dim: int, latent_dim: int, noise_scale: float = 0.5, orthogonal: bool = True
) -> GenerativeModel:
  """A linear-Gaussian model; params {'weight': [D, Z], 'bias': [D]}.

  Args:
    orthogonal: whether the columns of W are; else its entries are N(0, 1 / D) each.

  Raises:
    ValueError: if `latent_dim` exceeds `data_dim`, for then W has no Z orthogonal columns.
  """
  if orthogonal and latent_dim > data_dim:
    raise ValueError(
      f'latent_dim={latent_dim} needs data_dim >= latent_dim, not data_dim={data_dim}'
    )

  def init(rng: Array) -> Params:
    rng_weight, rng_scale, rng_bias = jax.random.split(rng, 3)
    weight = jax.random.normal(rng_weight, (data_dim, latent_dim))
    bias = jax.random.normal(rng_bias, (data_dim,))
    if not orthogonal:
      return {'weight': weight / data_dim**0.5, 'bias': bias}
    scales = jax.random.uniform(rng_scale, (latent_dim,), minval=0.5, maxval=2.0)
    return {'weight': jnp.linalg.qr(weight)[0] * scales, 'bias': bias}

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


def _precision(params: Params, noise_scale: float) -> Array:
  """P = I + W^T W / s^2 of p(z | x), [Z, Z]."""
  weight = params['weight']
  return jnp.eye(weight.shape[1]) + weight.T @ weight / noise_scale**2


def _mean(params: Params, x: Array, noise_scale: float) -> Array:
  """P^-1 W^T (x - b) / s^2, the mean of p(z | x), [Z]."""
  pull = params['weight'].T @ (x - params['bias']) / noise_scale**2
  return jnp.linalg.solve(_precision(params, noise_scale), pull)


def posterior(params: Params, x: Array, noise_scale: float) -> DiagonalGaussian:
  """The best mean-field posterior, N(m, diag(P)^-1) with p(z | x) = N(m, P^-1); x: [D].

  If the columns of W are orthogonal P is diagonal, and this is p(z | x) itself.
  """
  precision = jnp.diagonal(_precision(params, noise_scale))
  return DiagonalGaussian(_mean(params, x, noise_scale), -0.5 * jnp.log(precision))


def elbo(q: DiagonalGaussian, params: Params, x: Array, noise_scale: float) -> Array:
  """Exact ELBO of a mean-field posterior, log p(x) - KL(q || p(z | x)), [] in nats; x: [D].

  KL = 1/2 (tr(P S) + (mu - m)^T P (mu - m) - Z - log det(P S)), q = N(mu, S).
  """
  precision, variance = _precision(params, noise_scale), jnp.exp(2 * q.log_scale)
  distance = q.mean - _mean(params, x, noise_scale)
  log_det = jnp.linalg.slogdet(precision)[1] + 2 * jnp.sum(q.log_scale)
  trace = jnp.sum(jnp.diagonal(precision) * variance)
  kl = 0.5 * (trace + distance @ precision @ distance - q.mean.size - log_det)
  return log_evidence(params, x, noise_scale) - kl
