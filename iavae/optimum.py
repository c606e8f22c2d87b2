"""The optimum: which posterior of a family is the best for one example?

q* = argmax_q L[q], the ELBO ascended on all parameters of q for this example alone, by Adam with a
decaying rate and many draws of z a step, the last iterates averaged.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from iavae.evidence import LogDensity
from iavae.refine import ascent_step
from iavae.types import Array, Posterior

Q = TypeVar('Q', bound=Posterior)


class Search(NamedTuple):
  """How to search.

  Attributes:
    num_samples: draws of z a step, an even number; those of a Gaussian are antithetic.
    learning_rate: of Adam in the first step; it falls along a cosine to `final_rate`.
    num_averaged: the result is the mean of so many last iterates, at least 1.
    max_norm: of a gradient; a flow's path derivative may meet a z whose noise it cannot tell.
  """

  num_steps: int = 3000
  num_samples: int = 16
  learning_rate: float = 1e-2
  final_rate: float = 1e-4
  num_averaged: int = 500
  max_norm: float = jnp.inf

  def scout(self) -> 'Search':
    """A short search of a fifth of the steps, with two draws each."""
    num_steps = max(self.num_steps // 5, 1)
    num_averaged = max(self.num_averaged // 5, 1)
    return self._replace(num_steps=num_steps, num_samples=2, num_averaged=num_averaged)


_COMPARED = 200  # draws by which two candidates are compared


def elbo(target: LogDensity, posterior: Posterior, rng: Array, num_samples: int) -> Array:
  """E_q [log p(x, z) - log q(z)] of one example by Monte Carlo, [] in nats.

  A family with `mirrored_draws` has them in pairs. Where it can evaluate any z, the gradient is the
  path derivative, whose noise vanishes as q nears p(z | x) (Roeder et al., arXiv:1703.09194).

  Args:
    target: log p(x, z).
    num_samples: an even number.
  """
  z, log_prob = _draws(posterior, rng, num_samples)
  return jnp.mean(jax.vmap(target)(z) - log_prob)


def _draws(posterior: Posterior, rng: Array, num_samples: int) -> tuple[Array, Array]:
  """[num_samples, Z] draws, and log q(z) of each."""
  if num_samples % 2:
    raise ValueError(f'draws are mirrored in pairs: num_samples={num_samples} is not even')
  if hasattr(posterior, 'mirrored_draws'):
    z, log_prob = jax.vmap(posterior.mirrored_draws)(jax.random.split(rng, num_samples // 2))
    return z.reshape(num_samples, -1), log_prob.ravel()
  z, log_prob = jax.vmap(posterior.sample_and_log_prob)(jax.random.split(rng, num_samples))
  if hasattr(posterior, 'log_prob'):
    log_prob = jax.vmap(jax.lax.stop_gradient(posterior).log_prob)(z)
  return z, log_prob


def search(
  options: Search, target: LogDensity, start: Q, rng: Array, lengthen: Array | int = 1
) -> Q:
  """The best posterior near a start, of its family, all of its leaves being this example's own.

  A search that ends below its start, or in no number at all, counts as none.

  Args:
    lengthen: times as many steps, also of those that are averaged; what more of them add tells
      whether the search has converged. Traced, it shares one compiled program with 1.
  """
  num_steps = options.num_steps * lengthen
  num_averaged = min(options.num_averaged, options.num_steps) * lengthen
  optimizer = optax.chain(
    optax.clip_by_global_norm(options.max_norm),
    optax.adam(lambda i: _rate(options, i / num_steps)),
    _paced(start),
  )
  step = ascent_step(optimizer, lambda q, rng: elbo(target, q, rng, options.num_samples), rng)

  def step_and_add(i: Array, carry: tuple) -> tuple:
    state, total = step(carry[0], i)[0], carry[1]
    counts = i >= num_steps - num_averaged
    return state, jax.tree.map(lambda t, leaf: t + jnp.where(counts, leaf, 0), total, state[0])

  carry = (start, optimizer.init(start)), jax.tree.map(jnp.zeros_like, start)
  total = jax.lax.fori_loop(0, num_steps, step_and_add, carry)[1]
  found = jax.tree.map(lambda leaf: leaf / num_averaged, total)
  return better(target, found, start, jax.random.fold_in(rng, num_steps))


def _rate(options: Search, done: Array) -> Array:
  """The learning rate when a share of the steps is done, along a cosine."""
  cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(done, 1)))
  return options.final_rate + (options.learning_rate - options.final_rate) * cosine


def _paced(posterior: Posterior) -> optax.GradientTransformation:
  """Each leaf at its own rate, for a family that has `rates`."""
  if not hasattr(posterior, 'rates'):
    return optax.identity()
  return optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, posterior.rates()))


def better(target: LogDensity, a: Q, b: Q, rng: Array) -> Q:
  """The one of higher ELBO, by the same draws; the other if one's is no number, b if both are."""
  of_a, of_b = (jnp.nan_to_num(elbo(target, q, rng, _COMPARED), nan=-jnp.inf) for q in (a, b))
  return jax.tree.map(lambda a, b: jnp.where(of_a > of_b, a, b), a, b)


def best_from(
  options: Search,
  target: LogDensity,
  starts: Sequence[Q],
  rng: Array,
  lengthen: Array | int = 1,
) -> Q:
  """The best posterior of a family: short searches from all starts, a long one from the best end.

  Args:
    starts: of one family, e.g. the encoder's posterior and the prior.
    lengthen: see `search`; of all searches.
  """
  rng_scout, rng_compare, rng_search = jax.random.split(rng, 3)
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
  found = jax.vmap(lambda start: search(options.scout(), target, start, rng_scout, lengthen))(
    stacked
  )
  values = jax.vmap(lambda q: elbo(target, q, rng_compare, _COMPARED))(found)
  best = jnp.argmax(jnp.nan_to_num(values, nan=-jnp.inf))
  return search(options, target, jax.tree.map(lambda leaf: leaf[best], found), rng_search, lengthen)


class _Blocks(NamedTuple):
  """Of `search_as_cremer`: where it is, the best mean loss of a block, blocks since, blocks."""

  carry: tuple[Posterior, optax.OptState]
  best: Array
  misses: Array
  count: Array


def search_as_cremer(target: LogDensity, start: Q, rng: Array, max_blocks: int = 500) -> Q:
  """Cremer et al.'s own search, to see what it misses beside `search`.

  Adam at a constant rate of 1e-3 with 50 draws a step, log q(z) by its density, until more than ten
  blocks of 100 steps in a row have a mean loss no better than the best (their optimize_local_q).
  """
  optimizer, block_size, patience, num_samples = optax.adam(1e-3), 100, 10, 50

  def loss(q: Q, rng: Array) -> Array:
    z, log_prob = jax.vmap(q.sample_and_log_prob)(jax.random.split(rng, num_samples))
    return jnp.mean(log_prob - jax.vmap(target)(z))

  def step(carry: tuple, rng: Array) -> tuple[tuple, Array]:
    q, opt_state = carry
    value, gradient = jax.value_and_grad(loss)(q, rng)
    updates, opt_state = optimizer.update(gradient, opt_state, q)
    return (optax.apply_updates(q, updates), opt_state), value

  def block(state: _Blocks) -> _Blocks:
    rngs = jax.random.split(jax.random.fold_in(rng, state.count), block_size)
    carry, losses = jax.lax.scan(step, state.carry, rngs)
    is_better = jnp.mean(losses) < state.best
    return _Blocks(
      carry,
      jnp.where(is_better, jnp.mean(losses), state.best),
      jnp.where(is_better, 0, state.misses + 1),
      state.count + 1,
    )

  def goes_on(state: _Blocks) -> Array:
    return (state.misses <= patience) & (state.count < max_blocks)

  first = _Blocks((start, optimizer.init(start)), jnp.asarray(jnp.inf), jnp.zeros((), int), 0)
  return jax.lax.while_loop(goes_on, block, first).carry[0]
