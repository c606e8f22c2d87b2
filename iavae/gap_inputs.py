"""Can the gaps of what a user gives be measured? If not, one line says why, before any search."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np

from iavae.evidence import Evidence
from iavae.gap_parts import Problem, Protocol
from iavae.optimum import Search
from iavae.posteriors.auxiliary import AuxiliaryFlow
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.types import BATCH, Array, Params, Posterior


def as_examples(x: Any) -> np.ndarray:
  """x as one array of numbers, [N, ...].

  Raises:
    ValueError: for anything else, in a line that says what to give.
  """
  for dense in ('toarray', 'todense'):  # of scipy, of JAX
    if hasattr(x, dense):
      raise ValueError(f'x is a sparse {type(x).__name__}; give x.{dense}()')
  if not hasattr(x, '__len__') and not hasattr(x, '__array__'):
    raise ValueError(f'x has the type {type(x).__name__}; give one array of examples, [N, ...]')
  if isinstance(x, (tuple, Mapping)):
    first = repr(next(iter(x), '')) if isinstance(x, Mapping) else 0
    raise ValueError(f'x is a {type(x).__name__}; give one array of examples, such as x[{first}]')
  try:
    array = np.asarray(x)
  except ValueError:
    raise ValueError('x is a list of examples of different shapes; make them alike') from None
  if array.dtype == object:
    raise ValueError('x is an array of objects; give one of numbers, such as np.stack(list(x))')
  is_real = jnp.issubdtype(array.dtype, jnp.number) and not jnp.iscomplexobj(array)
  if not is_real and array.dtype != bool:
    raise ValueError(f'x has the dtype {array.dtype}; give real numbers')
  return array


def as_posterior(returned: Any) -> Posterior:
  """What `gaps.inference_gaps` lets `posterior` return, in float32 or more.

  Sums over the latents of log-densities in half precision would be off by tenths of a nat.
  """
  if not _takes_a_key(returned):
    is_distribution = any(hasattr(returned, n) for n in ('log_prob', 'sample_and_log_prob'))
    return _gaussian(_mean_and_scale(returned) if is_distribution else returned)
  for leaf in jax.tree.leaves(returned):
    if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, float)):
      raise ValueError(
        f'posterior(x) returned {type(returned).__name__}, whose leaf {type(leaf).__name__} is no '
        'array of floats; make it a pytree of such, e.g. a NamedTuple'
      )
    if not jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating):
      raise ValueError(
        f'posterior(x) returned {type(returned).__name__} with a leaf of {leaf.dtype}; all leaves '
        'are searched, so that they are to be floats; what is fixed is no leaf'
      )
  return jax.tree.map(_widen, returned)


def _takes_a_key(q: Any) -> bool:
  """Whether q.sample_and_log_prob may be called with a key; distrax and tfp name it `seed`."""
  if not hasattr(q, 'sample_and_log_prob'):
    return False
  try:
    inspect.signature(q.sample_and_log_prob).bind(None)
  except TypeError:
    return not callable(q.sample_and_log_prob)  # which the check of its leaves refuses
  return True


def _mean_and_scale(q: Any) -> tuple[Array, Array]:
  """Of a mean-field Gaussian of distrax, numpyro or tfp.

  Its scale is no leaf that a search may move to any value, so that other families cannot be taken.
  """
  given = type(q).__name__
  while type(q).__name__ == 'Independent':
    q = q.base_dist if hasattr(q, 'base_dist') else q.distribution
  if type(q).__name__ not in ('Normal', 'MultivariateNormalDiag'):
    raise ValueError(
      f'posterior(x) returned {given} of another library, and no mean-field Gaussian; give '
      '(mean, scale), or a pytree with sample_and_log_prob(rng) -> (z, log q(z)) whose leaves make '
      'sense at any value'
    )
  if callable(getattr(q, 'stddev', None)):  # of distrax and tfp, whose scale may be an operator
    return tuple(jnp.broadcast_arrays(q.mean(), q.stddev()))
  return tuple(jnp.broadcast_arrays(q.loc, q.scale))


def _gaussian(returned: Any) -> DiagonalGaussian:
  if not isinstance(returned, (tuple, list)) or len(returned) != 2:
    raise ValueError(
      f'posterior(x) returned {type(returned).__name__}, not (mean, scale) or something with '
      'sample_and_log_prob'
    )
  mean, scale = map(_widen, returned)
  if mean.ndim != 1 or mean.shape != scale.shape:
    raise ValueError(f'posterior(x) returned (mean, scale) of {mean.shape}, {scale.shape}, not [Z]')
  return DiagonalGaussian(mean, jnp.log(scale))


def _widen(leaf: Any) -> Array:
  leaf = jnp.asarray(leaf)
  return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def describe(problem: Problem, params: Params, x: np.ndarray, rng: Array) -> tuple[str, int]:
  """(q's family: 'mean_field', 'flow' or 'own', any other; Z), by shapes alone; x: [N, ...].

  Raises:
    ValueError: for fewer than two examples, and for what is not a z: [Z] and log-densities [].
  """
  if x.ndim < 1 or len(x) < 2:
    raise ValueError(f'a standard error takes two examples, not {len(x) if x.ndim else "one"}')

  def one(x: Array) -> tuple[Posterior, Array, Array, Array]:
    q = problem.posterior(params, x, rng)
    z, log_prob = q.sample_and_log_prob(rng)
    if getattr(z, 'ndim', None) != 1:
      raise ValueError(f'a draw z has the shape {getattr(z, "shape", type(z))}, not [Z]')
    return q, z, problem.log_joint(params['model'], x, z), log_prob

  first = jnp.asarray(x[:1], jnp.float32)
  try:
    q, z, log_joint, log_prob = jax.eval_shape(jax.vmap(one, axis_name=BATCH), first)
  except flax.errors.FlaxError as error:  # of NNX or of linen
    raise ValueError(
      'a Flax module changes its state when it is called, as in training mode; call its .eval() '
      'first, or apply it as in evaluation'
    ) from error
  for name, value in (('log_joint', log_joint), ('log q(z)', log_prob)):
    if value.shape != (1,):
      raise ValueError(f'{name} of one example has the shape {value.shape[1:]}, not ()')
  families = {DiagonalGaussian: 'mean_field', AuxiliaryFlow: 'flow'}
  return families.get(type(q), 'own'), z.shape[-1]


def check_simulate(
  simulate: Callable[[Array], tuple[Array, Array]], x: np.ndarray, latent_dim: int, rng: Array
) -> None:
  """Raises ValueError if `simulate` does not return (x, z), like x: [N, ...] and a z: [Z]."""
  found = tuple(leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(simulate, rng)))
  if found != (x.shape[1:], (latent_dim,)):
    raise ValueError(
      f'simulate(rng) returned the shapes {found}, not (x, z) of {x.shape[1:]} and ({latent_dim},)'
    )


def check_protocol(protocol: Protocol) -> None:
  """Raises ValueError for counts that tell nothing; of one example there is no standard error."""
  for name in ('num_annealed', 'num_doubled', 'num_oracle', 'num_simulated'):
    count = getattr(protocol, name)
    if count == 1 or count < 0:
      raise ValueError(
        f'{name}={count} has no standard error; take two examples or more, or 0 for none'
      )
  for name in ('num_samples', 'at_once', 'samples_at_once'):
    if getattr(protocol, name) < 1:
      raise ValueError(f'{name}={getattr(protocol, name)} is not above 0')
  _check_search('search', protocol.search)
  if protocol.flow_search.num_steps:
    _check_search('flow_search', protocol.flow_search)


def _check_search(name: str, search: Search) -> None:
  if search.num_steps < 1 or search.num_averaged < 1:
    raise ValueError(f'{name} takes a step or more, and averages one or more')
  if search.num_samples < 2 or search.num_samples % 2:
    raise ValueError(f'{name} mirrors its draws: num_samples={search.num_samples} is not even')


_WHERE = {
  'q': 'at draws of q',
  'optimal': 'at draws of the best mean-field posterior',
  'optimal_flow': 'at draws of the best flow',
  'optimal_own': "at draws of the best of q's family",
  'ais_q': 'where annealing from q leads',
  'ais_prior': 'where annealing from N(0, I) leads; num_annealed=0 leaves it out',
}


def check_x(x: np.ndarray, number: int) -> None:
  """Raises ValueError if the x: [N, ...] of an example is not finite in float32, and says so."""
  finite = np.isfinite(np.asarray(x, np.float32)).reshape(len(x), -1).all(axis=1)
  if not finite[number]:
    raise ValueError(
      f'x is not finite in {np.sum(~finite)} of {len(x)} examples, the first being number '
      f'{np.argmin(finite)}; leave them out, or fill them in'
    )


def check_finite(found: dict[str, Evidence], x: np.ndarray) -> None:
  """Raises ValueError if what an estimator found for the first of x: [N, ...] is no number."""
  for name, of in found.items():
    values = of.log_evidence if name.startswith('ais') else of.elbo  # a weight of 0 is no harm
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
      check_x(x, bad[0])
      raise ValueError(
        f'log p(x, z) - log q(z) is not finite for {len(bad)} of {len(values)} examples, the first '
        f'being number {bad[0]}, {_WHERE[name.removesuffix("_doubled")]}; is every scale above 0, '
        'and log_joint finite at every z?'
      )
