"""What do the latents of a trained model carry, and can its posteriors be believed?

Of each example the posterior is summed up once; every number below is made from these summaries.
The prior is N(0, I), and all that is called KL, information or use is in nats.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm

from iavae import calibration
from iavae.evaluate import over_examples
from iavae.modulation_diagnostics import make_modulation_diagnostics
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.types import Array, GenerativeModel, InferenceMethod, Params, Posterior

ACTIVE = 0.01  # a latent is active if its posterior mean varies by more (Burda et al.)
NUM_DRAWS = 4  # of z an example, where each is evaluated


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


def moments(q: Posterior, z: Array) -> Moments:
  """Exact for a mean-field Gaussian, estimated from draws z: [S, Z] for any other posterior."""
  if isinstance(q, DiagonalGaussian):
    return Moments(q.mean, jnp.exp(2 * q.log_scale), math.inf)
  return Moments(jnp.mean(z, axis=0), jnp.var(z, axis=0, ddof=1), len(z))


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


def _whole(q: Posterior, flow: Params | None) -> Posterior:
  """A posterior with the networks that all examples share, where its family has such."""
  return q._replace(flow=flow) if hasattr(q, 'flow') else q


def _describe(flow: Params | None, q: Posterior, rng: Array) -> dict[str, Array]:
  """All that is kept of the posterior of one example."""
  q = _whole(q, flow)
  z, log_prob = jax.vmap(q.sample_and_log_prob)(jax.random.split(rng, calibration.NUM_DRAWS))
  log_ratio = log_prob - jnp.sum(norm.logpdf(z), axis=1)
  of_entries, known = moments(q, z), hasattr(q, 'standard_normal_kl')
  found = {
    'draws': z,
    'mean': of_entries.mean,
    'squared_error': of_entries.squared_error,
    'kl_per_dim': kl_per_dim(of_entries),
    'kl': q.standard_normal_kl() if known else jnp.mean(log_ratio),
  }
  if hasattr(q, 'log_prob'):
    # Evaluated as the mixture will be, so that no rounding lifts the information above log N
    found['log_prob'] = jax.vmap(q.log_prob)(z[:NUM_DRAWS])
  return found


def _log_aggregate(encodings: tuple[Params | None, Posterior], z: Array, rng: Array) -> Array:
  """log q(z) = log 1/N sum_j q(z | x_j) of draws z: [S, Z], [S] in nats."""
  del rng
  flow, posteriors = encodings

  def log_probs(q: Posterior) -> Array:
    return jax.vmap(_whole(q, flow).log_prob)(z)

  of_examples = jax.vmap(log_probs)(posteriors)  # [N, S]
  return logsumexp(of_examples, axis=0) - math.log(len(of_examples))


# Of a family, not of a method: compiled once for all methods that share one
_describe_all = over_examples(_describe, at_once=100)
_log_aggregate_all = over_examples(_log_aggregate, at_once=50)


def mutual_information(
  posteriors: Posterior, flow: Params | None, z: np.ndarray, log_probs: np.ndarray
) -> float:
  """I_q(x; z) = E log q(z | x) / q(z) in nats, q(z) the mixture of these N encodings.

  This is E_x KL(q(z | x) || p(z)) - KL(q(z) || p(z)) (He et al., arXiv:1901.05534, eq. 5), both at
  the same draws. An example's own posterior is in the mixture: the value is the information that z
  has of which of the N examples it was, at most log N, and a lower bound on that of all x that
  they stand for (Poole et al., arXiv:1905.06922, eq. 12). Near log N it only says 'at least'.

  Args:
    posteriors: leaves [N, ...], of a family with `log_prob`, without its field `flow`.
    flow: the networks that all examples share; None for a family without.
    z: [N, S, Z], draws from each.
    log_probs: [N, S], log q(z | x) of them.
  """
  log_aggregate = _log_aggregate_all((flow, posteriors), z, jax.random.key(0))  # nothing is drawn
  return float(np.mean(log_probs - log_aggregate, dtype=np.float64))


def latent_use(model: GenerativeModel, params: Params, x: dict[str, Array], rng: Array) -> Array:
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
  return jnp.mean(own) - jnp.mean(other)


def _make_describe(method: InferenceMethod, at_once: int) -> Callable:
  """describe(params, x: [N, ...], rng) -> (`_describe` of all examples, their posteriors)."""

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    return _whole(method.infer(params, x, rng), None)

  encode = over_examples(infer, at_once)

  def describe(params: Params, x: Array, rng: Array) -> tuple[dict[str, np.ndarray], Posterior]:
    rng_encode, rng_describe = jax.random.split(rng)
    posteriors = encode(params, x, rng_encode)
    return _describe_all(params['inference'].get('flow'), posteriors, rng_describe), posteriors

  return describe


@functools.cache
def _programs_of_model(model: GenerativeModel, at_once: int) -> tuple[Callable, Callable]:
  """`latent_use` and `calibration.simulate` for many examples; compiled once for all methods."""

  def simulate(params: Params, _: Array, rng: Array) -> tuple[Array, Array]:
    return calibration.simulate(model, params, rng)

  use = functools.partial(latent_use, model)
  return over_examples(use, at_once), over_examples(simulate, at_once)


def _summary(
  found: dict[str, np.ndarray], posteriors: Posterior, flow: Params | None
) -> dict[str, Any]:
  """What `make_measure` tells of the posteriors alone."""
  kl, per_dim = (np.mean(found[key], axis=0, dtype=np.float64) for key in ('kl', 'kl_per_dim'))
  information = None
  if 'log_prob' in found:
    z = found['draws'][:, :NUM_DRAWS]
    information = mutual_information(posteriors, flow, z, found['log_prob'])
  active = active_units(found['mean'], found['squared_error'])
  return {
    'num_examples': len(found['kl']),
    'kl': float(kl),
    'kl_per_dim': np.sort(per_dim)[::-1].tolist(),
    'kl_per_dim_exact': not found['squared_error'].any(),
    'active_units': int(active.sum()),
    'latent_dim': len(active),
    'mutual_information': information,
    'aggregate_kl': None if information is None else float(kl) - information,
  }


def make_measure(
  model: GenerativeModel,
  method: InferenceMethod,
  *,
  at_once: int = 100,
  num_simulations: int = 500,
  modulation_examples: int = 100,
) -> Callable[[Params, Array, Array], dict[str, Any]]:
  """measure(params, x: [N, ...], rng) -> the diagnostics of a method, ready for JSON.

  Args:
    at_once: examples worked on at once; else it changes rounding only.
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
  use, simulate = _programs_of_model(model, at_once)
  describe = _make_describe(method, at_once)
  modulate = make_modulation_diagnostics(method, at_once=at_once)

  def calibrate(params: Params, active: np.ndarray, rng: Array) -> dict[str, Any]:
    rng_simulate, rng_describe = jax.random.split(rng)
    z, x = simulate(params['model'], np.zeros(num_simulations), rng_simulate)
    found, _ = describe(params, x, rng_describe)
    return calibration.summarize(calibration.rank(z, found['draws']), active)

  def measure(params: Params, x: Array, rng: Array) -> dict[str, Any]:
    if len(x) < 2:
      raise ValueError('what latents tell of examples takes two of them')
    rng_describe, rng_calibrate, rng_modulate = jax.random.split(rng, 3)
    x = np.asarray(x, np.float32)  # as simulated ones are: one program for both
    found, posteriors = describe(params, x, rng_describe)
    z = found['draws'][:, :NUM_DRAWS]
    # Half the set away: neighbors may be alike in data that are sorted
    pairs = {'x': x, 'z': z, 'other': np.roll(z, len(z) // 2, axis=0)}
    uses = use(params['model'], pairs, rng)
    active = active_units(found['mean'], found['squared_error'])
    return _summary(found, posteriors, params['inference'].get('flow')) | {
      'latent_use': float(np.mean(uses, dtype=np.float64)),
      'sbc': calibrate(params, active, rng_calibrate) if num_simulations else None,
      'modulation': modulate(params, x[:modulation_examples], rng_modulate),
    }

  return measure


def measure(
  model: GenerativeModel,
  method: InferenceMethod,
  params: Params,
  x: Array,
  rng: Array,
  **options: int,
) -> dict[str, Any]:
  """`make_measure` for one x: [N, ...]; whoever measures several params compiles once by that."""
  return make_measure(model, method, **options)(params, x, rng)
