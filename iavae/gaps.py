"""Gaps: how far is q(z | x) from p(z | x), and whose fault is it?

log p(x) - L[q] = (log p(x) - L[q*]) + (L[q*] - L[q]), the approximation and the amortization gap,
with q* the best posterior of the family for this x and decoder (Cremer et al., arXiv:1801.03558,
eq. 3). For any model and any encoder, given as plain functions.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from iavae import gap_checks, gap_inputs, gap_parts, gap_summary, gap_words
from iavae.evaluate import over_examples
from iavae.evidence import Evidence
from iavae.gap_parts import Example, Part, Problem, Protocol
from iavae.rng import CHECKS
from iavae.types import Array, GenerativeModel, InferenceMethod, Params

THOROUGH = Protocol()


class Gaps(NamedTuple):
  """What was found.

  Attributes:
    summary: ready for JSON, see `gap_summary.summarize`.
    per_example: {'<estimator>/<quantity>': [N]}, nats or counts, see `evidence.Evidence`.
  """

  summary: dict[str, Any]
  per_example: dict[str, np.ndarray]


def inference_gaps(
  log_joint: Callable[[Array, Array], Array],
  posterior: Callable[[Array], Any],
  x: Array,
  rng: Array,
  *,
  protocol: Protocol = THOROUGH,
  log_evidence: Callable[[Array], Array] | None = None,
  simulate: Callable[[Array], tuple[Array, Array]] | None = None,
) -> Gaps:
  """The gaps of any model, given as two functions of one example; `summary['verdict']` in words.

  Beside what `gap_summary.summarize` has, the summary has 'floor', what the searches miss where the
  best posterior is known, and 'sandwich', log p(x) of simulated examples from both sides.

  Args:
    log_joint: (x, z) -> log p(x, z), [] in nats; z: [Z].
    posterior: x -> (mean, scale), both [Z], of a mean-field Gaussian, scale being the standard
      deviation, or x -> a mean-field Gaussian of distrax, numpyro or tfp; or x -> a pytree with
      `sample_and_log_prob(rng) -> (z, log q(z))`. Its leaves are floats that make sense at any
      value, so log-scales and not scales: the search for the best of its family starts at q and
      moves them all.
    x: [N, ...], numbers of any type, of which the functions see float32.
    log_evidence: x -> log p(x), [] in nats, where it is known.
    simulate: rng -> (x, z), an exact draw of p(x, z), for the sandwich; else there is none.

  Raises:
    ValueError: for functions that return something else, fewer than two examples, or a log p(x, z)
      that is not finite at a draw of q or of a better posterior.
  """
  # New functions, so that no compiled program outlives what the user's may have captured
  problem = Problem(
    lambda params, x, z: log_joint(x, z),
    lambda params, x, rng: gap_inputs.as_posterior(posterior(x)),
  )
  x, params, checks = gap_inputs.as_examples(x), {'model': (), 'inference': ()}, {}
  gap_inputs.check_protocol(protocol)
  _, latent_dim = gap_inputs.describe(problem, params, x, rng)
  rng_floor, rng_sandwich = jax.random.split(jax.random.fold_in(rng, CHECKS))
  if simulate is not None and protocol.num_simulated:  # first, as it can fail
    gap_inputs.check_simulate(simulate, x, latent_dim, rng)
    draw = lambda params, rng: simulate(rng)  # noqa: E731
    checks['sandwich'] = gap_checks.sandwich(problem, draw, params, rng_sandwich, protocol)
  found = measure(problem, params, x, rng, protocol, log_evidence)
  if protocol.num_oracle:
    checks['floor'] = gap_checks.noise_floor(latent_dim, protocol, rng_floor)
  return found._replace(summary=gap_words.with_checks(found.summary, **checks))


def problem_of(model: GenerativeModel, method: InferenceMethod) -> Problem:
  """The problem of a model and a method; params is {'model': ..., 'inference': ...}."""
  return Problem(_log_joint_of(model), method.infer)


@functools.lru_cache(maxsize=16)
def _log_joint_of(model: GenerativeModel) -> Callable[[Params, Array, Array], Array]:
  """The same function for all methods of a model, which then share compiled programs."""

  def log_joint(params: Params, x: Array, z: Array) -> Array:
    return model.log_prior(params, z) + model.log_likelihood(params, x, z)

  return log_joint


def measure(
  problem: Problem,
  params: Params,
  x: Array,
  rng: Array,
  protocol: Protocol = THOROUGH,
  log_evidence: Callable[[Array], Array] | None = None,
) -> Gaps:
  """The gaps of a problem on x: [N, ...]; args and errors as `inference_gaps`.

  An example's numbers depend on `rng` and its place in x only, up to rounding.
  """
  x, exact = np.asarray(x), None
  gap_inputs.check_protocol(protocol)
  family, _ = gap_inputs.describe(problem, params, x, rng)
  if log_evidence is not None:
    each = over_examples(lambda params, x, rng: log_evidence(x), protocol.at_once)
    exact = each({}, x, rng)
    if exact.ndim != 1 or not np.isfinite(exact).all():
      gap_inputs.check_x(x, np.argmin(np.isfinite(exact).reshape(len(x), -1).all(axis=1)))
      raise ValueError('log_evidence of one example is not one finite number, [] in nats')
  run, seconds = _timed(functools.partial(gap_parts.run, problem=problem, params=params, rng=rng))
  found = _find(run, x, family, protocol)
  summary = gap_summary.summarize(found, exact, family, protocol)
  return Gaps(summary | {'seconds': seconds}, gap_summary.arrays(found, exact))


def _timed(run: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, float]]:
  """run(name, part, ...), and a dict to which the seconds of every name go."""
  seconds: dict[str, float] = {}

  def timed(name: str, part: Part, examples: Example, protocol: Protocol, **options: Any) -> Any:
    began = time.perf_counter()
    found = run(part, examples=examples, protocol=protocol, **options)
    seconds[name] = time.perf_counter() - began
    return found

  return timed, seconds


def _find(
  run: Callable[..., Any], x: Array, family: str, protocol: Protocol
) -> dict[str, Evidence]:
  """What every estimator says of the examples."""
  found: dict[str, Evidence] = {}
  found['q'], q = run('encoder', gap_parts.encoder, Example(x), protocol, reads_posterior=True)
  gap_inputs.check_finite(found, x)
  known = Example(x, q=q)
  if protocol.num_annealed:  # before the searches, as it can fail
    found |= run('annealing', gap_parts.anneal, _first(known, protocol.num_annealed), protocol)
    gap_inputs.check_finite(found, x)
  found['optimal'], best = run('mean_field', gap_parts.mean_field, known, protocol)
  known = known._replace(best=best)
  if protocol.flow_search.num_steps:
    found['optimal_flow'] = run('flow', gap_parts.flow, known, protocol)
  if family == 'own' or (family == 'flow' and 'optimal_flow' not in found):
    found['optimal_own'] = run('own', gap_parts.own, known, protocol, reads_posterior=True)
  found |= _doubled(run, known, found, protocol)
  gap_inputs.check_finite(found, x)
  return found


def _doubled(
  run: Callable[..., Any], known: Example, found: dict[str, Evidence], protocol: Protocol
) -> dict[str, Evidence]:
  """Every search again with twice the steps, of the first examples."""
  again: dict[str, Evidence] = {}
  if not protocol.num_doubled:
    return again

  def search(name: str, part: Part, **options: bool) -> Any:
    few = _first(known, protocol.num_doubled)
    return run(f'{name}_doubled', part, few, protocol, lengthen=2, **options)

  if not protocol.cremer_stop:  # which takes no number of steps
    again['optimal_doubled'], _ = search('mean_field', gap_parts.mean_field)
  if 'optimal_flow' in found:
    again['optimal_flow_doubled'] = search('flow', gap_parts.flow)
  if 'optimal_own' in found:
    again['optimal_own_doubled'] = search('own', gap_parts.own, reads_posterior=True)
  return again


def _first(examples: Example, num: int) -> Example:
  return jax.tree.map(lambda leaf: leaf[:num], examples)
