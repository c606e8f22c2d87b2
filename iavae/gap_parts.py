"""Parts of a gap report: what is measured of one example, each in a program of its own?"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from iavae import annealing, optimum
from iavae.annealing import Annealing
from iavae.evaluate import over_examples
from iavae.evidence import Evidence, LogDensity, importance_sampling, of_log_weights
from iavae.optimum import Search
from iavae.parallel import even_chunk
from iavae.posteriors import auxiliary
from iavae.posteriors.gaussian import DiagonalGaussian, standard_normal
from iavae.types import Array, Params, Posterior

_MOMENT_DRAWS = 500  # of a posterior that is no mean-field Gaussian, for one that resembles it


class Problem(NamedTuple):
  """A model and an encoder, functions of one example.

  Attributes:
    log_joint: (params['model'], x, z) -> log p(x, z), [] in nats.
    posterior: (params, x, rng) -> q(z | x); None where a part does not read it.
  """

  log_joint: Callable[[Params, Array, Array], Array]
  posterior: Callable[[Params, Array, Array], Posterior] | None


class Protocol(NamedTuple):
  """How gaps are measured.

  Attributes:
    num_samples: draws of z in every ELBO and every importance-weighted bound.
    search: for the best mean-field Gaussian.
    cremer_stop: take `optimum.search_as_cremer` from N(0, I) for it instead.
    flow_search: for the best flow of an example's own; num_steps = 0 leaves the flow out.
    flow_hidden: units of each of its networks.
    annealing: of the chains from q and from N(0, I).
    num_annealed: examples, the first, that chains are run for; 0 for none.
    num_doubled: examples, the first, that are searched again with twice the steps; 0 for none.
    num_oracle: examples of a model with a known best posterior, for the noise floor; 0 for none.
    num_simulated: examples drawn from the model, where that is asked for.
    at_once: examples in memory at once.
    samples_at_once: draws of z of each of them in a bound.
  """

  num_samples: int = 5000
  search: Search = Search()
  cremer_stop: bool = False
  flow_search: Search = Search(max_norm=10.0)
  flow_hidden: int = 50
  annealing: Annealing = Annealing()
  num_annealed: int = 100
  num_doubled: int = 20
  num_oracle: int = 8
  num_simulated: int = 50
  at_once: int = 50
  samples_at_once: int = 100


class Example(NamedTuple):
  """What earlier parts know of an example.

  Attributes:
    x: [H, W, C] or [D].
    posterior: q(z | x), for the parts that read it.
    q: the mean-field Gaussian of the moments of q(z | x), q(z | x) itself if it is one.
    best: q* of that family.
    z: [Z], an exact draw from p(z | x), of simulated examples.
  """

  x: Array
  posterior: Posterior | None = None
  q: DiagonalGaussian | None = None
  best: DiagonalGaussian | None = None
  z: Array | None = None


# (protocol, log p(x, .), example, rng, times as many steps) -> arrays of the example
Part = Callable[[Protocol, LogDensity, Example, Array, Array], Any]


def run(
  part: Part,
  problem: Problem,
  params: Params,
  examples: Example,
  rng: Array,
  protocol: Protocol,
  *,
  reads_posterior: bool = False,
  lengthen: int = 1,
) -> Any:
  """A part for all examples, [N, ...] each.

  A part that does not read the posterior is compiled once for all methods of a model.
  """
  if not reads_posterior:
    problem, params = problem._replace(posterior=None), {'model': params['model']}
  at_once = even_chunk(len(examples.x), protocol.at_once)
  return _program(part, problem, protocol, at_once)((params, lengthen), examples, rng)


@functools.lru_cache(maxsize=16)
def _program(part: Part, problem: Problem, protocol: Protocol, at_once: int) -> Callable[..., Any]:
  def one(inputs: tuple[Params, Array], example: Example, rng: Array) -> Any:
    (params, lengthen), (rng_infer, rng) = inputs, jax.random.split(rng)
    target = functools.partial(problem.log_joint, params['model'], example.x)
    if problem.posterior is not None:
      example = example._replace(posterior=problem.posterior(params, example.x, rng_infer))
    return part(protocol, target, example, rng, lengthen)

  return over_examples(one, at_once)


def _purposes(rng: Array) -> dict[str, Array]:
  """Keys of an example. All parts evaluate with the same one: their differences are paired."""
  names = ('evaluate', 'search', 'flow', 'anneal', 'moments')
  return dict(zip(names, jax.random.split(rng, len(names)), strict=True))


def _weigh(protocol: Protocol, target: LogDensity, q: Posterior, rng: Array) -> Evidence:
  return importance_sampling(
    target, q, _purposes(rng)['evaluate'], protocol.num_samples, protocol.samples_at_once
  )


def moments(q: Posterior, rng: Array) -> DiagonalGaussian:
  """The mean-field Gaussian of the moments of q(z), z: [Z], by draws; q itself if it is one."""
  if isinstance(q, DiagonalGaussian):
    return q
  rngs = jax.random.split(_purposes(rng)['moments'], _MOMENT_DRAWS)
  draws = jax.vmap(lambda rng: q.sample_and_log_prob(rng)[0])(rngs)
  return DiagonalGaussian(jnp.mean(draws, 0), jnp.log(jnp.std(draws, 0) + 1e-6))


def encoder(
  protocol: Protocol, target: LogDensity, example: Example, rng: Array, lengthen: Array
) -> tuple[Evidence, DiagonalGaussian]:
  """L[q], the importance-weighted bound from q, and the Gaussian of its moments."""
  del lengthen
  return _weigh(protocol, target, example.posterior, rng), moments(example.posterior, rng)


def mean_field(
  protocol: Protocol, target: LogDensity, example: Example, rng: Array, lengthen: Array
) -> tuple[Evidence, DiagonalGaussian]:
  """L[q*] of the mean-field Gaussians, and q*; from q and from N(0, I)."""
  prior, rng_search = standard_normal(example.q.mean.size), _purposes(rng)['search']
  if protocol.cremer_stop:
    best = optimum.search_as_cremer(target, prior, rng_search)
  else:
    best = optimum.best_from(protocol.search, target, (example.q, prior), rng_search, lengthen)
  return _weigh(protocol, target, best, rng), best


def flow(
  protocol: Protocol, target: LogDensity, example: Example, rng: Array, lengthen: Array
) -> Evidence:
  """L[q*] of Real NVP with auxiliary variables, all networks the example's own.

  It starts as the best mean-field Gaussian, and as the Gaussian of q's moments.
  """
  rngs = _purposes(rng)
  starts = [
    auxiliary.local(base, rngs['flow'], hidden=protocol.flow_hidden)
    for base in (example.best, example.q)
  ]
  best = optimum.best_from(protocol.flow_search, target, starts, rngs['search'], lengthen)
  return _weigh(protocol, target, best, rng)


def own(
  protocol: Protocol, target: LogDensity, example: Example, rng: Array, lengthen: Array
) -> Evidence:
  """L[q*] of q's family, all leaves of q, also those of shared networks, the example's own."""
  options = protocol.search._replace(max_norm=protocol.flow_search.max_norm)
  best = optimum.search(options, target, example.posterior, _purposes(rng)['search'], lengthen)
  return _weigh(protocol, target, best, rng)


def anneal(
  protocol: Protocol, target: LogDensity, example: Example, rng: Array, lengthen: Array
) -> dict[str, Evidence]:
  """Annealed importance sampling from the Gaussian of q's moments, and from N(0, I); [] each."""
  del lengthen
  starts = {'ais_q': example.q, 'ais_prior': standard_normal(example.q.mean.size)}
  rng_anneal = _purposes(rng)['anneal']
  chains = {
    name: annealing.anneal(protocol.annealing, start, target, rng_anneal)
    for name, start in starts.items()
  }
  return {name: of_log_weights(run.log_weights) for name, run in chains.items()}
