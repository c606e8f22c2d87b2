"""How good are the instruments of a gap report, where the answer is known?

The search for q* on a model whose best posterior has a closed form, and estimates of log p(x) on
data drawn from the model itself, which annealing bounds from both sides.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from iavae import annealing, gap_parts, optimum
from iavae.evaluate import over_examples
from iavae.evidence import LogDensity, importance_sampling, of_log_weights
from iavae.gap_parts import Example, Problem, Protocol
from iavae.models import linear_gaussian
from iavae.parallel import even_chunk
from iavae.posteriors import auxiliary
from iavae.posteriors.gaussian import DiagonalGaussian, standard_normal
from iavae.statistics import mean_and_error
from iavae.types import Array

_NOISE_SCALE = 0.5


def noise_floor(latent_dim: int, protocol: Protocol, rng: Array) -> dict[str, Any]:
  """What the searches for q* miss on a linear-Gaussian model of so many latents; nats.

  p(z | x) is a Gaussian with correlations there: the best mean-field posterior is known, and is not
  p(z | x), which a flow could be.

  Returns:
    'approximation_gap': of the best mean-field posterior, exact, for scale; 'mean_field': what the
    search leaves below it, by the exact ELBO; 'flow': what that for a flow leaves below log p(x).
  """
  model = linear_gaussian.make(2 * latent_dim, latent_dim, _NOISE_SCALE, orthogonal=False)
  rng_model, rng_data, rng_search = jax.random.split(rng, 3)
  params = model.init(rng_model)

  def draw(rng: Array) -> Array:
    rng_z, rng_x = jax.random.split(rng)
    return model.sample(params, model.sample_prior(params, rng_z), rng_x)

  def one(params: Any, x: Array, rng: Array) -> dict[str, Array]:
    def target(z: Array) -> Array:
      return model.log_prior(params, z) + model.log_likelihood(params, x, z)

    known = linear_gaussian.posterior(params, x, _NOISE_SCALE)
    exact = linear_gaussian.elbo(known, params, x, _NOISE_SCALE)
    evidence = linear_gaussian.log_evidence(params, x, _NOISE_SCALE)
    start = standard_normal(latent_dim)
    if protocol.cremer_stop:
      found = optimum.search_as_cremer(target, start, rng)
    else:
      found = optimum.best_from(protocol.search, target, (start,), rng)
    missed = exact - linear_gaussian.elbo(found, params, x, _NOISE_SCALE)
    told = {'approximation_gap': evidence - exact, 'mean_field': missed}
    if protocol.flow_search.num_steps:
      start = auxiliary.local(found, rng, hidden=protocol.flow_hidden)
      flow = optimum.best_from(protocol.flow_search, target, (start,), rng)
      draws = importance_sampling(target, flow, jax.random.fold_in(rng, 1), protocol.num_samples)
      told['flow'] = evidence - draws.elbo
    return told

  x = jax.jit(jax.vmap(draw))(jax.random.split(rng_data, protocol.num_oracle))
  # closed forms are told to four digits, which products in TF32 or bfloat16 do not have
  precision = None if jax.default_backend() == 'cpu' else 'highest'
  every = over_examples(one, even_chunk(protocol.num_oracle, protocol.at_once))
  with jax.default_matmul_precision(precision):
    found = every(params, x, rng_search)
  return {name: mean_and_error(values) for name, values in found.items()} | {
    'latent_dim': latent_dim,
    'num_examples': protocol.num_oracle,
  }


def sandwich(
  problem: Problem,
  simulate: Callable[[Any, Array], tuple[Array, Array]],
  params: Any,
  rng: Array,
  protocol: Protocol,
) -> dict[str, Any]:
  """log p(x) of protocol.num_simulated examples from below and from above; nats.

  The z: [Z] that an x was drawn of is an exact draw of p(z | x), from which annealing backwards
  bounds log p(x) from above (bidirectional Monte Carlo, Grosse et al., arXiv:1511.02543).

  Args:
    simulate: (params, rng) -> (x, z), an exact draw of p(x, z).

  Returns:
    'lower' and 'upper': estimator -> mean and standard error, annealing from N(0, I) and from a
    Gaussian of q's moments, and importance sampling from q; 'width': the lowest upper minus the
    highest lower bound, by their means; 'acceptance' of the transitions.

  Raises:
    ValueError: for a bound that is no number.
  """
  num_examples, (rng_simulate, rng_measure) = protocol.num_simulated, jax.random.split(rng)
  draw = jax.jit(jax.vmap(simulate, in_axes=(None, 0)))
  pairs = jax.device_get(draw(params, jax.random.split(rng_simulate, num_examples)))

  examples = Example(pairs[0], z=pairs[1])
  run = functools.partial(
    gap_parts.run, problem=problem, params=params, rng=rng_measure, protocol=protocol
  )
  of_q, moments = run(_from_posterior, examples=examples, reads_posterior=True)
  found = run(_from_both_sides, examples=examples._replace(q=moments))
  lower, upper = {'q': of_q} | found['lower'], found['upper']
  for name, values in (*lower.items(), *upper.items()):
    if not np.isfinite(values).all():
      raise ValueError(
        f'of data drawn from the model the bound {name} on log p(x) is not finite: log_joint is to '
        'be finite at every z; num_simulated=0 leaves these bounds out'
      )
  width = min(upper.values(), key=np.mean) - max(lower.values(), key=np.mean)
  return {
    'num_examples': num_examples,
    'lower': {name: mean_and_error(values) for name, values in lower.items()},
    'upper': {name: mean_and_error(values) for name, values in upper.items()},
    'width': mean_and_error(width),
    'acceptance': float(np.mean(found['acceptance'])),
  }


def _from_posterior(
  protocol: Protocol, target: LogDensity, example: Example, rng: Array, lengthen: Array
) -> tuple[Array, DiagonalGaussian]:
  """The importance-weighted bound from q, and the Gaussian of its moments."""
  q, rng_draw = example.posterior, jax.random.split(rng, 3)[0]
  draws = importance_sampling(target, q, rng_draw, protocol.num_samples, protocol.samples_at_once)
  return draws.log_evidence, gap_parts.moments(q, rng_draw)


def _from_both_sides(
  protocol: Protocol, target: LogDensity, example: Example, rng: Array, lengthen: Array
) -> dict[str, Any]:
  """Bounds on log p(x) by annealing forth, and back from the exact draw of p(z | x)."""
  _, rng_run, rng_back = jax.random.split(rng, 3)
  lower, upper, acceptance = {}, {}, []
  starts = {'ais_prior': standard_normal(example.z.size), 'ais_q': example.q}
  for name, start in starts.items():
    forth = annealing.anneal(protocol.annealing, start, target, rng_run)
    back = annealing.anneal_back(protocol.annealing, start, target, example.z, rng_back)
    lower[name] = of_log_weights(forth.log_weights).log_evidence
    upper[name] = -of_log_weights(back.log_weights).log_evidence
    acceptance += [forth.acceptance, back.acceptance]
  return {'lower': lower, 'upper': upper, 'acceptance': jnp.mean(jnp.stack(acceptance))}
