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
import jax.numpy as jnp
import numpy as np

from iavae import gap_checks, gap_parts, gap_summary, gap_words
from iavae.evaluate import over_examples
from iavae.evidence import Evidence
from iavae.gap_parts import Example, Protocol
from iavae.parallel import even_chunk
from iavae.posteriors.auxiliary import AuxiliaryFlow
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.rng import CHECKS
from iavae.types import (
  BATCH,
  Array,
  GenerativeModel,
  InferenceMethod,
  Params,
  Posterior,
)

THOROUGH = Protocol()


class Problem(NamedTuple):
  """A model and an encoder, functions of one example.

  Attributes:
    log_joint: (params, x, z) -> log p(x, z), [] in nats.
    posterior: (params, x, rng) -> q(z | x).
  """

  log_joint: Callable[[Params, Array, Array], Array]
  posterior: Callable[[Params, Array, Array], Posterior]


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
      deviation; or x -> a pytree with `sample_and_log_prob(rng) -> (z, log q(z))`, whose leaves may
      be any real numbers: the search for the best of its family starts at q and moves them all.
    x: [N, ...], numbers of any type, of which the functions see float32.
    log_evidence: x -> log p(x), [] in nats, where it is known.
    simulate: rng -> (x, z), an exact draw of p(x, z), for the sandwich; else there is none.

  Raises:
    ValueError: for functions that return something else, fewer than two examples, or a log p(x, z)
      that is not finite at a draw of q or of a better posterior.
  """
  problem = Problem(
    lambda params, x, z: log_joint(x, z), lambda params, x, rng: _as_posterior(posterior(x))
  )
  found = measure(problem, {}, x, rng, protocol, log_evidence)
  rng_floor, rng_sandwich = jax.random.split(jax.random.fold_in(rng, CHECKS))
  checks = {}
  if protocol.num_oracle:
    _, latent_dim = _inspect(problem, {}, x, rng)
    checks['floor'] = gap_checks.noise_floor(latent_dim, protocol, rng_floor)
  if simulate is not None and protocol.num_simulated:
    draw = lambda params, rng: simulate(rng)  # noqa: E731
    checks['sandwich'] = gap_checks.sandwich(problem, draw, {}, rng_sandwich, protocol)
  return found._replace(summary=gap_words.with_checks(found.summary, **checks))


def problem_of(model: GenerativeModel, method: InferenceMethod) -> Problem:
  """The problem of a model and a method; params is {'model': ..., 'inference': ...}."""

  def log_joint(params: Params, x: Array, z: Array) -> Array:
    return model.log_prior(params['model'], z) + model.log_likelihood(params['model'], x, z)

  return Problem(log_joint, method.infer)


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
  family, _ = _inspect(problem, params, x, rng)
  _raise_if_alone(protocol)
  seconds: dict[str, float] = {}
  found = _find(_make_run(problem, params, rng, seconds), x, family, protocol)
  exact = None
  if log_evidence is not None:
    each = over_examples(lambda params, x, rng: log_evidence(x), protocol.at_once)
    exact = each({}, x, rng)
    if exact.ndim != 1 or not np.isfinite(exact).all():
      raise ValueError('log_evidence of one example is not one finite number, [] in nats')
  summary = gap_summary.summarize(found, exact, family, protocol)
  return Gaps(summary | {'seconds': seconds}, gap_summary.arrays(found, exact))


def _make_run(
  problem: Problem, params: Params, rng: Array, seconds: dict[str, float]
) -> Callable[..., Any]:
  """run(name, part, examples, protocol): a part for all examples; its time goes to `seconds`."""

  def run(name: str, part: Callable, examples: Example, protocol: Protocol) -> Any:
    def one(params: Params, example: Example, rng: Array) -> Any:
      rng_infer, rng = jax.random.split(rng)
      q = problem.posterior(params, example.x, rng_infer)
      target = functools.partial(problem.log_joint, params, example.x)
      return part(protocol, target, q, example, rng)

    began = time.perf_counter()
    at_once = even_chunk(len(examples.x), protocol.at_once)
    found = over_examples(one, at_once)(params, examples, rng)
    seconds[name] = time.perf_counter() - began
    return found

  return run


def _find(
  run: Callable[..., Any], x: Array, family: str, protocol: Protocol
) -> dict[str, Evidence]:
  """What every estimator says of the examples."""
  found: dict[str, Evidence] = {}
  found['q'], q = run('encoder', gap_parts.encoder, Example(x), protocol)
  _raise_if_not_finite(found)
  found['optimal'], best = run('mean_field', gap_parts.mean_field, Example(x, q), protocol)
  known = Example(x, q, best)
  if protocol.flow_search.num_steps:
    found['optimal_flow'] = run('flow', gap_parts.flow, known, protocol)
  if family == 'own' or (family == 'flow' and 'optimal_flow' not in found):
    found['optimal_own'] = run('own', gap_parts.own, known, protocol)
  if protocol.num_annealed:
    found |= run('annealing', gap_parts.anneal, _first(known, protocol.num_annealed), protocol)
  _raise_if_not_finite(found)
  return found | _doubled(run, known, found, protocol)


def _doubled(
  run: Callable[..., Any], known: Example, found: dict[str, Evidence], protocol: Protocol
) -> dict[str, Evidence]:
  """Every search again with twice the steps, of the first examples."""
  twice = protocol._replace(
    search=protocol.search.doubled(), flow_search=protocol.flow_search.doubled()
  )
  few, again = _first(known, protocol.num_doubled), {}
  if protocol.num_doubled and not protocol.cremer_stop:  # which takes no number of steps
    again['optimal_doubled'], _ = run('mean_field_doubled', gap_parts.mean_field, few, twice)
  for name, part in (('flow', gap_parts.flow), ('own', gap_parts.own)):
    if protocol.num_doubled and f'optimal_{name}' in found:
      again[f'optimal_{name}_doubled'] = run(f'{name}_doubled', part, few, twice)
  return again


def _first(examples: Example, num: int) -> Example:
  return jax.tree.map(lambda leaf: leaf[:num], examples)


def _inspect(problem: Problem, params: Params, x: Array, rng: Array) -> tuple[str, int]:
  """(q's family: 'mean_field', 'flow' or 'own', any other; Z); checks what the functions return."""
  if len(x) < 2:
    raise ValueError(f'a standard error takes two examples, not {len(x)}')

  def one(x: Array) -> tuple[Posterior, Array, Array, Array]:
    q = problem.posterior(params, x, rng)
    z, log_prob = q.sample_and_log_prob(rng)
    return q, z, problem.log_joint(params, x, z), log_prob

  first = jnp.asarray(np.asarray(x[:1]), jnp.float32)
  q, z, log_joint, log_prob = jax.eval_shape(jax.vmap(one, axis_name=BATCH), first)
  for name, value in (('log_joint', log_joint), ('log q(z)', log_prob)):
    if value.shape != (1,):
      raise ValueError(f'{name} of one example has the shape {value.shape[1:]}, not ()')
  families = {DiagonalGaussian: 'mean_field', AuxiliaryFlow: 'flow'}
  return families.get(type(q), 'own'), z.shape[-1]


def _as_posterior(returned: Any) -> Posterior:
  if hasattr(returned, 'sample_and_log_prob'):
    return returned
  if not isinstance(returned, (tuple, list)) or len(returned) != 2:
    raise ValueError(
      f'posterior(x) returned {type(returned).__name__}, not (mean, scale) or something with '
      'sample_and_log_prob'
    )
  mean, scale = map(jnp.asarray, returned)
  if mean.ndim != 1 or mean.shape != scale.shape:
    raise ValueError(f'posterior(x) returned (mean, scale) of {mean.shape}, {scale.shape}, not [Z]')
  return DiagonalGaussian(mean, jnp.log(scale))


def _raise_if_alone(protocol: Protocol) -> None:
  """Of one example there is no standard error."""
  for name in ('num_annealed', 'num_doubled', 'num_oracle', 'num_simulated'):
    if getattr(protocol, name) == 1:
      raise ValueError(f'{name}=1 has no standard error; take two examples or more, or 0 for none')


_WHERE = {
  'q': 'at draws of q',
  'optimal': 'at draws of the best mean-field posterior',
  'optimal_flow': 'at draws of the best flow',
  'optimal_own': "at draws of the best of q's family",
  'ais_q': 'where annealing from q leads',
  'ais_prior': 'where annealing from N(0, I) leads',
}


def _raise_if_not_finite(found: dict[str, Evidence]) -> None:
  for name, of in found.items():
    values = of.log_evidence if name.startswith('ais') else of.elbo  # a weight of 0 is no harm
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
      raise ValueError(
        f'log p(x, z) - log q(z) is not finite {_WHERE[name]} for {len(bad)} of {len(values)} '
        f'examples, the first being number {bad[0]}; is every scale above 0, and log_joint finite '
        'at every z?'
      )
