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


def make_amortization_gap(
  model: GenerativeModel,
  method: InferenceMethod,
  *,
  num_steps: int = 500,
  learning_rate: float = 0.05,
  num_samples: int = 4,
  evaluation_samples: int = 200,
  at_once: int = 100,
) -> Callable[..., dict[str, np.ndarray]]:
  """gap(params, x: [N, ...], rng) -> {'elbo', 'elbo_optimal', 'amortization_gap': [N]}, nats.

  The quick way to compare methods, where `gaps.measure` is the thorough one: q* is searched from q
  alone, see `optimum.search`; a search that ends below its start counts as none. Both ELBOs are
  means over the same draws. What the search misses makes a gap too small; that no gap is below 0
  makes one that is 0 too large by what the draws leave uncertain, some .01 nats.

  A fourth argument, `elbo_optimal` [N] of another method with the same decoder, family and key,
  spares the search.

  Args:
    num_samples: draws of z a step.
    evaluation_samples: draws of z in an ELBO.
  """
  search = Search(num_steps, num_samples, learning_rate, learning_rate / 100, -(-num_steps // 5))
  problem = problem_of(model, method)
  value = functools.partial(elbo, num_samples=evaluation_samples)

  def one(params: Params, x: Array, rng: Array, searches: bool) -> Metrics:
    rng_infer, rng_search, rng_elbo = jax.random.split(rng, 3)
    q = problem.posterior(params, x, rng_infer)
    found = {'elbo': value(model, params['model'], q, x, rng_elbo)}
    if searches:
      target = functools.partial(problem.log_joint, params['model'], x)
      best = optimum.search(search, target, q, rng_search)
      found['elbo_optimal'] = value(model, params['model'], best, x, rng_elbo)
    return found

  with_search, without = (
    over_examples(functools.partial(one, searches=searches), at_once) for searches in (True, False)
  )

  def gap(
    params: Params, x: Array, rng: Array, elbo_optimal: np.ndarray | None = None
  ) -> dict[str, np.ndarray]:
    found = (with_search if elbo_optimal is None else without)(params, x, rng)
    known = found['elbo_optimal'] if elbo_optimal is None else elbo_optimal
    optimal = np.maximum(found['elbo'], known)
    gap = optimal - found['elbo']
    return {'elbo': found['elbo'], 'elbo_optimal': optimal, 'amortization_gap': gap}

  return gap
