"""Evidence: what is log p(x), and is the estimate to be trusted?

Importance sampling for one example, whose memory does not grow with the number of draws, and what
tells whether a few draws carry all of the weight.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from iavae.types import Array, Posterior

LogDensity = Callable[[Array], Array]  # z: [Z] -> [], nats

MIN_TAIL = 5  # weights to which a tail can be fitted
_ALIKE = 1e-3  # relative difference of weights that are the same but for rounding


class Evidence(NamedTuple):
  """What S weights w_s = p(x, z_s) / q(z_s) of one example tell, each [] and in nats if no count.

  Attributes:
    log_evidence: log (1/S) sum_s w_s, an estimate of log p(x) whose expectation lies below.
    standard_error: of it, by the delta method: (sd of w) / (mean of w) / sqrt(S).
    elbo: (1/S) sum_s log w_s.
    elbo_standard_error: of it.
    effective_samples: (sum w)^2 / sum w^2, from 1 to S.
    pareto_k: shape of the generalized Pareto distribution of the largest weights; their variance is
      finite below 1/2, their mean below 1. NaN, unknown, for too few weights, or if all but one
      vanish; minus infinity where the largest are all alike.
  """

  log_evidence: Array
  standard_error: Array
  elbo: Array
  elbo_standard_error: Array
  effective_samples: Array
  pareto_k: Array


def max_pareto_k(num_samples: int) -> float:
  """Above which k an estimate by S > 1 draws is not to be trusted: min(1 - 1 / log10 S, 0.7).

  A larger k takes more draws than S (Vehtari et al., arXiv:1507.02646, section 3.2.4).
  """
  return min(1 - 1 / math.log10(num_samples), 0.7)


def tail_size(num_samples: int) -> int:
  """How many of S weights are the tail: min(S / 5, 3 sqrt(S)) (Vehtari et al., section 3)."""
  return int(min(0.2 * num_samples, 3 * num_samples**0.5))


class _Sums(NamedTuple):
  """Of the weights so far.

  Attributes:
    count: how many.
    mean, squares: the mean of log w, and the sum of squared distances from it.
    first, second: log sum w and log sum w^2.
    largest: the largest log w, [tail + 1].
  """

  count: Array
  mean: Array
  squares: Array
  first: Array
  second: Array
  largest: Array


def _empty(num_samples: int) -> _Sums:
  zero, nothing = jnp.zeros(()), jnp.asarray(-jnp.inf)
  largest = jnp.full(tail_size(num_samples) + 1, -jnp.inf)
  return _Sums(zero, zero, zero, nothing, nothing, largest)


def _add(sums: _Sums, log_weights: Array, counted: Array) -> _Sums:
  """With more weights, [n], of those that count, [n] bool; the others must be 0."""
  count = jnp.sum(counted)
  mean = jnp.sum(jnp.where(counted, log_weights, 0)) / jnp.maximum(count, 1)
  squares = jnp.sum(jnp.where(counted, log_weights - mean, 0) ** 2)
  total = jnp.maximum(sums.count + count, 1)
  step = mean - sums.mean
  return _Sums(
    count=sums.count + count,
    mean=sums.mean + step * count / total,
    squares=sums.squares + squares + step**2 * sums.count * count / total,
    first=jnp.logaddexp(sums.first, logsumexp(log_weights)),
    second=jnp.logaddexp(sums.second, logsumexp(2 * log_weights)),
    largest=jax.lax.top_k(jnp.append(sums.largest, log_weights), len(sums.largest))[0],
  )


def _finish(sums: _Sums, num_samples: int) -> Evidence:
  # S sum w^2 / (sum w)^2 - 1, the relative variance of w, is 0 but for rounding if all are the same
  log_effective = 2 * sums.first - sums.second
  variance = jnp.maximum(num_samples * jnp.exp(-log_effective) - 1, 0)
  others = float(max(num_samples - 1, 1))  # times S it does not fit in 32 bits
  return Evidence(
    log_evidence=sums.first - np.log(num_samples),
    standard_error=jnp.sqrt(variance / others),
    elbo=sums.mean,
    elbo_standard_error=jnp.sqrt(sums.squares / (others * num_samples)),
    effective_samples=jnp.exp(log_effective),
    pareto_k=_pareto_k(sums.largest),
  )


def _pareto_k(largest: Array) -> Array:
  """Of the largest weights, [tail + 1], the least of which is the threshold."""
  tail = len(largest) - 1
  if tail < MIN_TAIL:
    return jnp.full((), jnp.nan)
  from blackjax.diagnostics import pareto_khat  # here, as it takes a second

  weights = jnp.exp(largest - largest[0])
  k = pareto_khat(weights, tail='upper', tail_frac=(tail + 0.5) / len(largest))
  # of weights within rounding of each other a fit tells nothing: there is no tail
  return jnp.where(weights[-1] > 1 - _ALIKE, -jnp.inf, k)


def of_log_weights(log_weights: Array) -> Evidence:
  """The same of weights at hand, their logarithms [S] in nats."""
  count = len(log_weights)
  return _finish(_add(_empty(count), log_weights, jnp.full(count, True)), count)


def importance_sampling(
  target: LogDensity, posterior: Posterior, rng: Array, num_samples: int, at_once: int = 100
) -> Evidence:
  """Importance sampling from a posterior, the importance-weighted bound at S draws.

  log (1/S) sum_s p(x, z_s) / q(z_s),  z_s ~ q        (Burda et al., arXiv:1509.00519, eq. 8)

  A draw depends on `rng` and its number only, not on how many are worked on at once.

  Args:
    target: log p(x, z) of this example, z: [Z].
    num_samples: S.
    at_once: draws in memory at once; besides, the 3 sqrt(S) largest weights are kept.
  """

  def log_weight(i: Array) -> Array:
    z, log_prob = posterior.sample_and_log_prob(jax.random.fold_in(rng, i))
    return target(z) - log_prob

  def body(sums: _Sums, first: Array) -> tuple[_Sums, None]:
    numbers = first + jnp.arange(at_once)
    counted = numbers < num_samples
    log_weights = jnp.where(counted, jax.vmap(log_weight)(numbers), -jnp.inf)
    return _add(sums, log_weights, counted), None

  starts = jnp.arange(0, num_samples, at_once)
  return _finish(jax.lax.scan(body, _empty(num_samples), starts)[0], num_samples)
