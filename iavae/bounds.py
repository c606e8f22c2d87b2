"""Lower bounds on log p(x) of one example: how good is a posterior?"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from iavae.rng import INFER
from iavae.types import Array, GenerativeModel, Metrics, Params, Posterior


def elbo_terms(
  model: GenerativeModel,
  params: Params,
  posterior: Posterior,
  x: Array,
  rng: Array,
  path_derivative: bool = True,
) -> tuple[Array, Array]:
  """One-sample estimates of E_q log p(x | z) and of KL(q || p(z)), each [] in nats.

  The KL is exact where the prior is N(0, I) and the family knows it, else log q(z) - log p(z),
  by the path derivative if the family can evaluate any z: there q's parameters in log q(z) are held
  fixed, as their score has mean zero and only adds noise (Roeder et al., arXiv:1703.09194, eq. 6).

  Args:
    params: of the model, i.e. params['model'] of a method.
    posterior: q(z | x), the pytree of variational parameters of this example.
    x: [H, W, C] or [D].
    path_derivative: False where a gradient of this is differentiated once more, which would take
      what is held fixed for constant.
  """
  z, log_prob = posterior.sample_and_log_prob(rng)
  log_likelihood = model.log_likelihood(params, x, z)
  if model.standard_normal_prior and hasattr(posterior, 'standard_normal_kl'):
    return log_likelihood, posterior.standard_normal_kl()
  if path_derivative and hasattr(posterior, 'log_prob'):
    again = jax.lax.stop_gradient(posterior).log_prob(z)
    # The value is that of the draw: where q is very narrow, z in floats says little of its noise
    log_prob = jax.lax.stop_gradient(log_prob) + (again - jax.lax.stop_gradient(again))
  return log_likelihood, log_prob - model.log_prior(params, z)


def elbo(
  model: GenerativeModel,
  params: Params,
  posterior: Posterior,
  x: Array,
  rng: Array,
  num_samples: int = 1,
) -> Array:
  """Evidence lower bound of one example, [] in nats.

  ELBO = E_q log p(x | z) - KL(q || p(z))        (Kingma & Welling, arXiv:1312.6114, eq. 3)

  Args: as `elbo_terms`; num_samples draws of z are averaged.
  """
  rngs = jax.random.split(rng, num_samples)
  log_likelihood, kl = jax.vmap(lambda rng: elbo_terms(model, params, posterior, x, rng))(rngs)
  return jnp.mean(log_likelihood - kl)


def log_weight(
  model: GenerativeModel, params: Params, posterior: Posterior, x: Array, rng: Array
) -> Array:
  """log p(x, z) - log q(z) of one draw z ~ q, [] in nats; args as `elbo_terms`."""
  z, log_prob = posterior.sample_and_log_prob(rng)
  return model.log_prior(params, z) + model.log_likelihood(params, x, z) - log_prob


def iwae_bound(
  model: GenerativeModel,
  params: Params,
  posterior: Posterior,
  x: Array,
  rng: Array,
  num_samples: int,
) -> Array:
  """Importance-weighted bound on log p(x) of one example, [] in nats.

  L_S = E log (1/S) sum_s p(x, z_s) / q(z_s),  z_s ~ q    (Burda et al., arXiv:1509.00519, eq. 8)

  Args: as `elbo_terms`; num_samples is S. S = 1 is the ELBO; non-decreasing in S in expectation.
  """
  rngs = jax.random.split(rng, num_samples)
  log_weights = jax.vmap(lambda rng: log_weight(model, params, posterior, x, rng))(rngs)
  return logsumexp(log_weights) - jnp.log(num_samples)


def divergence(q: Posterior, p: Posterior, rng: Array) -> Array:
  """KL(q || p) of two posteriors of one example, [] in nats: exact, or a one-draw estimate.

  Raises:
    ValueError: if p cannot evaluate a draw of q.
  """
  if hasattr(q, 'kl'):
    return q.kl(p)
  if not hasattr(p, 'log_prob'):
    raise ValueError('the family of this posterior cannot evaluate a z that it did not draw')
  z, _ = q.sample_and_log_prob(rng)
  return jax.lax.stop_gradient(q).log_prob(z) - p.log_prob(z)  # the path derivative


def posterior_loss(
  model: GenerativeModel, params: Params, posterior: Posterior, x: Array, rng: Array, beta: Array
) -> tuple[Array, Metrics]:
  """Minus the one-sample ELBO of a posterior with the KL weighted by beta, in nats.

  Args: as `elbo_terms`.

  Returns:
    ([], {'elbo': [], 'kl': []}); the metric `elbo` is at beta = 1 whatever the loss used.
  """
  return _weigh(*elbo_terms(model, params, posterior, x, rng), beta)


def _weigh(log_likelihood: Array, kl: Array, beta: Array) -> tuple[Array, Metrics]:
  return beta * kl - log_likelihood, {'elbo': log_likelihood - kl, 'kl': kl}


def antithetic_loss(
  model: GenerativeModel, params: Params, posterior: Posterior, x: Array, rng: Array, beta: Array
) -> tuple[Array, Metrics]:
  """`posterior_loss` with less noise in its gradient, for two draws of z instead of one.

  The draws are mirror images, so what is odd in the noise cancels, and the KL takes the path
  derivative (see `elbo_terms`) even where it is known exactly: together with log p(x | z) its noise
  vanishes as q nears the posterior.

  Args: as `posterior_loss`; x: [H, W, C] or [D].

  Returns:
    ([], {'elbo': [], 'kl': []}), as `posterior_loss`.

  Raises:
    ValueError: for a family without mirror images.
  """
  if not hasattr(posterior, 'antithetic_pair'):
    raise ValueError('the antithetic estimator needs the mean-field Gaussian family')
  fixed = jax.lax.stop_gradient(posterior)

  def terms(z: Array) -> tuple[Array, Array]:
    return model.log_likelihood(params, x, z), fixed.log_prob(z) - model.log_prior(params, z)

  log_likelihood, kl = map(jnp.mean, jax.vmap(terms)(posterior.antithetic_pair(rng)))
  return _weigh(log_likelihood, kl, beta)


def entropy_loss(
  model: GenerativeModel, params: Params, posterior: Posterior, x: Array, rng: Array, beta: Array
) -> tuple[Array, Metrics]:
  """Minus the one-sample ELBO of a posterior with its entropy, not its KL, weighted by beta.

  -E_q [log p(x, z) - beta log q(z)], in nats    (Cremer et al., arXiv:1801.03558, 'Annealing
  Entropy'): at beta = 0 the best q is a point, the mode of the posterior, from which it spreads as
  beta rises. The gradient is that of the draw, without path derivative, for all families.

  Args: as `posterior_loss`.

  Returns:
    ([], {'elbo': [], 'kl': []}), the metrics at beta = 1, from the draw.
  """
  z, log_prob = posterior.sample_and_log_prob(rng)
  log_likelihood, log_prior = model.log_likelihood(params, x, z), model.log_prior(params, z)
  metrics = {'elbo': log_likelihood + log_prior - log_prob, 'kl': log_prob - log_prior}
  return beta * log_prob - log_likelihood - log_prior, metrics


ESTIMATORS = {'standard': posterior_loss, 'antithetic': antithetic_loss, 'entropy': entropy_loss}


def bound_loss(
  model: GenerativeModel,
  infer: Callable[[Params, Array, Array], Posterior],
  estimator: str = 'standard',
) -> Callable[..., tuple[Array, Metrics]]:
  """The loss that most methods share: `posterior_loss` of what `infer` returns.

  Args:
    estimator: 'standard', 'antithetic' for `antithetic_loss`, or 'entropy' for `entropy_loss`.

  Returns:
    loss(params, x, rng, beta) -> ([], {'elbo': [], 'kl': []}), all in nats.

  Raises:
    ValueError: for an unknown estimator.
  """
  if estimator not in ESTIMATORS:
    raise ValueError(f'unknown estimator {estimator!r}; one of {", ".join(ESTIMATORS)}')

  def loss(
    params: Params, x: Array, rng: Array, beta: Array | float = 1.0
  ) -> tuple[Array, Metrics]:
    # Not `split`: where `infer` is deterministic its key is dead code and costs nothing
    posterior = infer(params, x, jax.random.fold_in(rng, INFER))
    return ESTIMATORS[estimator](model, params['model'], posterior, x, rng, beta)

  return loss
