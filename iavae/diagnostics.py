"""What do the latents of a trained model carry, and can its posteriors be believed?

Of each example the posterior is summed up once; every number below is made from these summaries.
The prior is N(0, I), and all that is called KL, information or use is in nats.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm

from iavae.calibration import make_calibration
from iavae.evaluate import over_examples
from iavae.modulation_diagnostics import make_modulation_diagnostics
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.types import Array, GenerativeModel, InferenceMethod, Metrics, Params, Posterior

ACTIVE = 0.01  # a latent is active if its posterior mean varies by more (Burda et al.)
NUM_DRAWS = 4  # of z an example, in what needs draws
MOMENT_DRAWS = 100  # of z an example, for the moments of a posterior that does not know them


class Moments(NamedTuple):
  """Mean and variance of each entry of z ~ q, [Z] each.

  `num_draws` is how many they are estimated from, infinity where they are exact.
  """

  mean: Array
  variance: Array
  num_draws: float

  @property
  def squared_error(self) -> Array:
    """The variance of `mean` as an estimate, [Z]; 0 where it is exact."""
    return self.variance / self.num_draws


def moments(q: Posterior, rng: Array, num_draws: int = MOMENT_DRAWS) -> Moments:
  """Exact for a mean-field Gaussian, estimated from draws for any other posterior."""
  if isinstance(q, DiagonalGaussian):
    return Moments(q.mean, jnp.exp(2 * q.log_scale), math.inf)
  z, _ = jax.vmap(q.sample_and_log_prob)(jax.random.split(rng, num_draws))
  return Moments(jnp.mean(z, axis=0), jnp.var(z, axis=0, ddof=1), num_draws)


def kl_per_dim(q: Moments) -> Array:
  """KL(N(m_i, v_i) || N(0, 1)) = 1/2 (m_i^2 + v_i - 1 - log v_i) of every latent, [Z] in nats.

  For a mean-field Gaussian q these sum to KL(q || N(0, I)). Of another posterior they are those of
  the mean-field Gaussian of the same moments, which leave out what its entries know of each other
  and what is not Gaussian about them. Estimated moments are corrected for the bias of m^2, v / S,
  and, to first order, for that of log v, -1 / (S - 1).
  """
  squared_mean = q.mean**2 - q.squared_error
  log_variance = jnp.log(q.variance) + 1 / (q.num_draws - 1)
  return 0.5 * (squared_mean + q.variance - 1 - log_variance)


def active_units(mean: np.ndarray, squared_error: np.ndarray) -> np.ndarray:
  """Which latents are active: Var_x(E_q[z_i | x]) > .01, [Z] of bool (arXiv:1509.00519, sec. 5.1).

  Args:
    mean: [N, Z], posterior means.
    squared_error: [N, Z], their variances as estimates, which add to that over x; 0 if exact.
  """
  variance = np.var(mean, axis=0, ddof=1, dtype=np.float64)
  return variance - np.mean(squared_error, axis=0, dtype=np.float64) > ACTIVE


class Encodings(NamedTuple):
  """The posteriors of N examples, leaves [N, ...], and draws of each.

  Attributes:
    posteriors: without the field `flow`, networks that all examples share.
    flow: those networks; None for a family without.
    z: [N, S, Z].
  """

  posteriors: Posterior
  flow: Params | None
  z: np.ndarray


def _log_aggregate(encodings: Encodings, z: Array, rng: Array) -> Array:
  """log q(z) = log 1/N sum_j q(z | x_j) of draws z: [S, Z], [S] in nats."""
  del rng
  q, axes = encodings.posteriors, 0
  if encodings.flow is not None:
    q = q._replace(flow=encodings.flow)
    axes = type(q)(*(None if name == 'flow' else 0 for name in q._fields))
  log_probs = jax.vmap(lambda q: jax.vmap(q.log_prob)(z), in_axes=(axes,))(q)  # [N, S]
  return logsumexp(log_probs, axis=0) - math.log(len(log_probs))


_aggregate = over_examples(_log_aggregate, at_once=50)


def mutual_information(encodings: Encodings, log_probs: np.ndarray) -> float:
  """I_q(x; z) = E log q(z | x) / q(z) in nats, q(z) the mixture of these N encodings.

  This is E_x KL(q(z | x) || p(z)) - KL(q(z) || p(z)) (He et al., arXiv:1901.05534, eq. 5), both at
  the same draws. An example's own posterior is in the mixture: the value is the information that z
  has of which of the N examples it was, at most log N, and a lower bound on that of all x that
  they stand for (Poole et al., arXiv:1905.06922, eq. 12). Near log N it only says 'at least'.

  Args:
    encodings: of a family with `log_prob`.
    log_probs: [N, S], log q(z | x) of the draws.
  """
  log_aggregate = _aggregate(encodings, encodings.z, jax.random.key(0))  # nothing is drawn
  return float(np.mean(log_probs - log_aggregate, dtype=np.float64))


def _encode(method: InferenceMethod, params: Params, x: Array, rng: Array) -> dict[str, Any]:
  """What is kept of q(z | x) of one example."""
  rng_infer, rng_moments, rng_draws = jax.random.split(rng, 3)
  q = method.infer(params, x, rng_infer)
  of_entries = moments(q, rng_moments)
  z, log_prob = jax.vmap(q.sample_and_log_prob)(jax.random.split(rng_draws, NUM_DRAWS))
  log_ratio = log_prob - jnp.sum(norm.logpdf(z), axis=1)
  known = hasattr(q, 'standard_normal_kl')
  found = {
    'mean': of_entries.mean,
    'squared_error': of_entries.squared_error,
    'kl_per_dim': kl_per_dim(of_entries),
    'kl': q.standard_normal_kl() if known else jnp.mean(log_ratio),
    'z': z,
  }
  if not hasattr(q, 'log_prob'):
    return found
  # Evaluated as the mixture will be, so that no rounding lifts the information above log N
  found['log_prob'] = jax.vmap(q.log_prob)(z)
  return found | {'posterior': q._replace(flow=None) if hasattr(q, 'flow') else q}


def latent_use(model: GenerativeModel, params: Params, x: dict[str, Array], rng: Array) -> Metrics:
  """E log p(x | z), z ~ q(z | x), minus the same with z of another example, [] in nats.

  0: the decoder does not read z.

  Args:
    params: of the model.
    x: {'x': the example, 'z': [S, Z], 'other': [S, Z], draws for another example}.
  """
  del rng
  log_likelihood = jax.lax.map(
    lambda z: model.log_likelihood(params, x['x'], z), jnp.concatenate([x['z'], x['other']])
  )
  own, other = jnp.split(log_likelihood, 2)
  return {'latent_use': jnp.mean(own) - jnp.mean(other)}


def _of_posteriors(found: dict[str, Any], flow: Params | None) -> tuple[dict[str, Any], np.ndarray]:
  """All that needs no decoder, see `make_measure`, and which latents are active, [Z]."""
  kl, per_dim = (np.mean(found[key], axis=0, dtype=np.float64) for key in ('kl', 'kl_per_dim'))
  information = None
  if 'posterior' in found:
    encodings = Encodings(found['posterior'], flow, found['z'])
    information = mutual_information(encodings, found['log_prob'])
  active = active_units(found['mean'], found['squared_error'])
  summary = {
    'kl': float(kl),
    'kl_per_dim': np.sort(per_dim)[::-1].tolist(),
    'kl_per_dim_exact': not found['squared_error'].any(),
    'active_units': int(active.sum()),
    'latent_dim': len(active),
    'mutual_information': information,
    'aggregate_kl': None if information is None else float(kl) - information,
  }
  return summary, active


def make_measure(
  model: GenerativeModel,
  method: InferenceMethod,
  *,
  at_once: int = 100,
  num_simulations: int = 500,
  modulation_examples: int = 200,
) -> Callable[[Params, Array, Array], dict[str, Any]]:
  """measure(params, x: [N, ...], rng) -> the diagnostics of a method, ready for JSON.

  Args:
    at_once: examples worked on at once; changes nothing else.
    num_simulations: draws from the model for the calibration; 0 leaves it out.
    modulation_examples: of x, for what a hypernetwork does; its memory is theirs times the weights.

  Returns:
    num_examples; kl, E_x KL(q(z | x) || p(z)); kl_per_dim, [Z], descending, with kl_per_dim_exact
    (see `kl_per_dim`); active_units of latent_dim; mutual_information, and aggregate_kl,
    KL(q(z) || p(z)) = kl - mutual_information, None for a family that cannot evaluate the z of
    other examples; latent_use; sbc, see `calibration`, or None; modulation, see
    `modulation_diagnostics`, or None without a hypernetwork. All in nats.

  Raises:
    ValueError: if the prior is not N(0, I); when called, for fewer than two examples.
  """
  if not model.standard_normal_prior:
    raise ValueError('these diagnostics are of models whose prior is N(0, I)')
  encode = over_examples(lambda params, x, rng: _encode(method, params, x, rng), at_once)
  decode = over_examples(lambda params, x, rng: latent_use(model, params, x, rng), at_once)
  calibrate = make_calibration(model, method, num_simulations=num_simulations, at_once=at_once)
  modulate = make_modulation_diagnostics(method, at_once=at_once)

  def measure(params: Params, x: Array, rng: Array) -> dict[str, Any]:
    if len(x) < 2:
      raise ValueError('what latents tell of examples takes two of them')
    rng_encode, rng_calibrate, rng_modulate = jax.random.split(rng, 3)
    found = encode(params, x, rng_encode)
    z = found['z']
    # Half the set away: neighbors may be alike in data that are sorted
    pairs = {'x': np.asarray(x), 'z': z, 'other': np.roll(z, len(z) // 2, axis=0)}
    use = decode(params['model'], pairs, rng_encode)['latent_use']
    summary, active = _of_posteriors(found, params['inference'].get('flow'))
    summary['latent_use'] = float(np.mean(use, dtype=np.float64))
    summary['sbc'] = calibrate(params, active, rng_calibrate) if num_simulations else None
    summary['modulation'] = modulate(params, x[:modulation_examples], rng_modulate)
    return {'num_examples': len(x)} | summary

  return measure


def measure(
  model: GenerativeModel,
  method: InferenceMethod,
  params: Params,
  x: Array,
  rng: Array,
  **options: int,
) -> dict[str, Any]:
  """`make_measure` for one call; whoever measures several params compiles once by that."""
  return make_measure(model, method, **options)(params, x, rng)
