"""The paper's synthetic model: what are its evidence, its best posterior, its MAP, exactly?

z ~ N(0, I_2), x = f(z) + noise_scale * N(0, I_3), f(z) = (z1, z2, z1 + z2 + z1 z2)
(arXiv:2604.06796, section 4.1). f is bilinear, f_3 = (1 + z1)(1 + z2) - 1, hence each z_i given the
other and x is Gaussian, and everything below is exact: no Monte Carlo, no fitted constant.
Run under `jax.enable_x64(True)` the answers hold to 1e-6 nats; in float32 to a few 1e-4.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm

from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.types import Array, GenerativeModel, Params

LATENT_DIM = 2
DATA_DIM = 3


def mean_function(z: Array) -> Array:
  """f(z) = (z1, z2, z1 + z2 + z1 z2); z: [2] -> [3]."""
  return jnp.stack([z[0], z[1], z[0] + z[1] + z[0] * z[1]])


def make(noise_scale: float = 0.1) -> GenerativeModel:
  """The synthetic model; its decoder is the truth and has no parameters.

  Args:
    noise_scale: standard deviation of the observation noise (paper: 0.1).
  """

  def log_likelihood(params: Params, x: Array, z: Array) -> Array:
    return jnp.sum(norm.logpdf(x, mean_function(z), noise_scale))

  def sample(params: Params, z: Array, rng: Array) -> Array:
    return mean_function(z) + noise_scale * jax.random.normal(rng, (DATA_DIM,))

  return GenerativeModel(
    init=lambda rng: {},
    sample_prior=lambda params, rng: jax.random.normal(rng, (LATENT_DIM,)),
    log_prior=lambda params, z: jnp.sum(norm.logpdf(z)),
    log_likelihood=log_likelihood,
    decode=lambda params, z: mean_function(z),
    sample=sample,
    standard_normal_prior=True,
  )


def _conditional(x: Array, other: Array, own: Array, noise_scale: float) -> tuple[Array, Array]:
  """p(z_i | z_j, x) is N(mean, 1 / precision); `own` is x_i, `other` z_j: ([], [])."""
  slope = 1 + other  # d f_3 / d z_i
  precision = 1 + (1 + slope**2) / noise_scale**2
  return (own + slope * (x[2] - other)) / noise_scale**2 / precision, precision


def log_evidence(x: Array, noise_scale: float = 0.1, num_nodes: int = 4001) -> Array:
  """Exact log p(x) of one example, [] in nats.

  Integrates z1 in closed form (given z2 the model is linear-Gaussian in z1) and z2 by the
  trapezoidal rule over z2 +- 12 standard deviations of N(x_2, noise_scale^2) x N(0, 1), where the
  integrand is analytic and vanishes at both ends: the rule converges exponentially.

  Args:
    x: [3].
    num_nodes: nodes of the rule; 4001 and 8001 agree to 1e-13 nats in float64.
  """
  precision2 = 1 + 1 / noise_scale**2
  center, half_width = x[1] / noise_scale**2 / precision2, 12 / jnp.sqrt(precision2)
  z2 = center + half_width * jnp.linspace(-1, 1, num_nodes, dtype=x.dtype)
  mean, precision = jax.vmap(lambda z: _conditional(x, z, x[0], noise_scale))(z2)
  # log p(x, z2) = log p(x, z1, z2) - log p(z1 | z2, x) at any z1; z1 = mean is the stable choice
  z = jnp.stack([mean, z2], axis=1)
  log_joint = jax.vmap(lambda z: log_joint_density(x, z, noise_scale))(z)
  log_marginal = log_joint - 0.5 * jnp.log(precision / (2 * jnp.pi))
  return logsumexp(log_marginal) + jnp.log(2 * half_width / (num_nodes - 1))


def log_joint_density(x: Array, z: Array, noise_scale: float = 0.1) -> Array:
  """log p(x, z), [] in nats; x: [3], z: [2]."""
  return jnp.sum(norm.logpdf(z)) + jnp.sum(norm.logpdf(x, mean_function(z), noise_scale))


def elbo(q: DiagonalGaussian, x: Array, noise_scale: float = 0.1) -> Array:
  """Exact ELBO of a diagonal Gaussian, full density, [] in nats.

  E_q ||x - f(z)||^2 = (x1 - m1)^2 + v1 + (x2 - m2)^2 + v2 + r^2 + u^2 v2 + w^2 v1 + v1 v2 with
  u = 1 + m1, w = 1 + m2, r = x3 + 1 - u w and v the variances.

  Args:
    q: mean and log_scale [2].
    x: [3].
  """
  (m1, m2), (v1, v2) = q.mean, jnp.exp(2 * q.log_scale)
  u, w = 1 + m1, 1 + m2
  r = x[2] + 1 - u * w
  error = (x[0] - m1) ** 2 + v1 + (x[1] - m2) ** 2 + v2 + r**2 + u**2 * v2 + w**2 * v1 + v1 * v2
  log_normalizer = DATA_DIM * (jnp.log(noise_scale) + 0.5 * jnp.log(2 * jnp.pi))
  return -0.5 * error / noise_scale**2 - log_normalizer - q.standard_normal_kl()


def elbo_paper(q: DiagonalGaussian, x: Array, noise_scale: float = 0.1) -> Array:
  """The 'ELBO' that the paper prints, []; not a bound: compare it with the paper's numbers only.

  -||x - f(mean)||^2 / (2 noise_scale^2) - KL(q || p(z)): the decoder at the posterior mean, the
  Gaussian constant dropped. Inferred, not stated in the paper: no other convention gives its ELBO
  and KL at once, and its -6.36 exceeds the exact mean log p(x) without constants, -6.81.

  Args:
    q: mean and log_scale [2].
    x: [3].
  """
  error = jnp.sum((x - mean_function(q.mean)) ** 2)
  return -0.5 * error / noise_scale**2 - q.standard_normal_kl()


def _starts(x: Array) -> Array:
  """Points from which the searches below begin, [3, 2]: two readings of x, and the prior mode."""
  safe = jnp.where(jnp.abs(1 + x[1]) > 0.1, 1 + x[1], 0.1)
  return jnp.stack([x[:2], jnp.stack([(x[2] - x[1]) / safe, x[1]]), jnp.zeros(2, x.dtype)])


def optimal_posterior(
  x: Array, noise_scale: float = 0.1, num_sweeps: int = 200
) -> DiagonalGaussian:
  """q* = argmax of the ELBO over all diagonal Gaussians, by exact coordinate ascent.

  E_{q_j} log p(x, z) is quadratic in z_i, so each q_i is optimal in closed form given the other:
  precision_i = 1 + (1 + E(1 + z_j)^2) / noise_scale^2. Best of three starts.

  Args:
    x: [3].
    num_sweeps: updates of both coordinates; the slowest example needs about 100 to reach 1e-9 nats.
  """

  def update(own: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
    slope = 1 + mean
    precision = 1 + (1 + slope**2 + variance) / noise_scale**2
    # E (1 + z_j)(x3 - z_j) = slope (x3 - mean) - variance
    return (own + slope * (x[2] - mean) - variance) / noise_scale**2 / precision, 1 / precision

  def sweep(_: int, state: tuple[Array, ...]) -> tuple[Array, ...]:
    m1, v1, m2, v2 = state
    m1, v1 = update(x[0], m2, v2)
    m2, v2 = update(x[1], m1, v1)
    return m1, v1, m2, v2

  def ascend(start: Array) -> DiagonalGaussian:
    zero = jnp.zeros((), x.dtype)
    m1, v1, m2, v2 = jax.lax.fori_loop(0, num_sweeps, sweep, (start[0], zero, start[1], zero))
    return DiagonalGaussian(jnp.stack([m1, m2]), 0.5 * jnp.log(jnp.stack([v1, v2])))

  candidates = jax.vmap(ascend)(_starts(x))
  best = jnp.argmax(jax.vmap(lambda q: elbo(q, x, noise_scale))(candidates))
  return jax.tree.map(lambda leaf: leaf[best], candidates)


def map_estimate(x: Array, noise_scale: float = 0.1, num_sweeps: int = 200) -> Array:
  """z_MAP = argmax_z p(z | x), [2]: coordinate ascent from three starts, then Newton's method.

  Args:
    x: [3].
  """

  def log_joint(z: Array) -> Array:
    return log_joint_density(x, z, noise_scale)

  def sweep(_: int, z: Array) -> Array:
    z1 = _conditional(x, z[1], x[0], noise_scale)[0]
    return jnp.stack([z1, _conditional(x, z1, x[1], noise_scale)[0]])

  def newton(_: int, z: Array) -> Array:
    return z - jnp.linalg.solve(jax.hessian(log_joint)(z), jax.grad(log_joint)(z))

  candidates = jax.vmap(lambda start: jax.lax.fori_loop(0, num_sweeps, sweep, start))(_starts(x))
  best = candidates[jnp.argmax(jax.vmap(log_joint)(candidates))]
  return jax.lax.fori_loop(0, 3, newton, best)


def laplace_covariance(x: Array, z_map: Array, noise_scale: float = 0.1) -> Array:
  """(-Hessian of log p(x, z) at z_map)^-1, [2, 2]; x: [3], z_map: [2]."""
  return jnp.linalg.inv(-jax.hessian(lambda z: log_joint_density(x, z, noise_scale))(z_map))
