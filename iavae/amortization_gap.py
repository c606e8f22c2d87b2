"""The amortization gap in a moment: how much better could the posterior of each example be?"""

import functools
from collections.abc import Callable

import jax
import numpy as np

from iavae import optimum
from iavae.bounds import elbo
from iavae.evaluate import over_examples
from iavae.gaps import problem_of
from iavae.optimum import Search
from iavae.types import Array, GenerativeModel, InferenceMethod, Metrics, Params

NUM_DOUBLED = 20  # examples that are searched again with twice the steps


def make_amortization_gap(
  model: GenerativeModel,
  method: InferenceMethod,
  *,
  num_steps: int = 500,
  learning_rate: float = 0.05,
  num_samples: int = 4,
  evaluation_samples: int = 200,
  num_doubled: int = NUM_DOUBLED,
  at_once: int = 100,
) -> Callable[..., dict[str, np.ndarray]]:
  """gap(params, x: [N, ...], rng) -> {'elbo', 'elbo_optimal', 'amortization_gap': [N], ..}, nats.

  The quick way to compare methods, where `gaps.measure` is the thorough one: q* is searched from q
  alone, see `optimum.search`; a search that ends below its start counts as none. Both ELBOs are
  means over the same draws. What the search misses makes a gap too small: 'added_by_doubling' is
  what twice the steps add to `elbo_optimal` of the first examples, at most [num_doubled]. That no
  gap is below 0 makes one that is 0 too large by what the draws leave uncertain, some 0.01 nats.

  A fourth argument, `elbo_optimal` [N] of another method with the same decoder, family and key,
  spares the searches.

  Args:
    num_samples: draws of z a step.
    evaluation_samples: draws of z in an ELBO.
    num_doubled: examples, the first, that are searched again with twice the steps; 0 for none.
  """
  search = Search(num_steps, num_samples, learning_rate, learning_rate / 100, -(-num_steps // 5))
  problem = problem_of(model, method)
  value = functools.partial(elbo, num_samples=evaluation_samples)

  def one(params: Params, x: Array, rng: Array, lengthen: int) -> Metrics:
    rng_infer, rng_search, rng_elbo = jax.random.split(rng, 3)
    q = problem.posterior(params, x, rng_infer)
    found = {'elbo': value(model, params['model'], q, x, rng_elbo)}
    if lengthen:
      target = functools.partial(problem.log_joint, params['model'], x)
      best = optimum.search(search, target, q, rng_search, lengthen)
      found['elbo_optimal'] = value(model, params['model'], best, x, rng_elbo)
    return found

  def all_of(lengthen: int, at_once: int) -> Callable[..., dict[str, np.ndarray]]:
    return over_examples(functools.partial(one, lengthen=lengthen), at_once)

  without, once = all_of(0, at_once), all_of(1, at_once)
  twice = all_of(2, min(at_once, num_doubled))

  def gap(
    params: Params, x: Array, rng: Array, elbo_optimal: np.ndarray | None = None
  ) -> dict[str, np.ndarray]:
    found = (once if elbo_optimal is None else without)(params, x, rng)
    known = found['elbo_optimal'] if elbo_optimal is None else elbo_optimal
    optimal = np.maximum(found['elbo'], known)
    found |= {'elbo_optimal': optimal, 'amortization_gap': optimal - found['elbo']}
    if elbo_optimal is None and num_doubled:
      doubled = twice(params, x[:num_doubled], rng)
      better = np.maximum(doubled['elbo'], doubled['elbo_optimal'])
      found['added_by_doubling'] = better - optimal[:num_doubled]
    return found

  return gap
