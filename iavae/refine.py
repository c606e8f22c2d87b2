"""Refinement: how much better does q(z | x) get by gradient ascent on the example itself?

One function serves stochastic variational inference (start at the prior), test-time refinement
(start at an encoder's q) and the search for q* (many steps, a decaying rate).
"""

from collections.abc import Callable

import jax
import optax

from iavae.bounds import elbo
from iavae.types import Array, GenerativeModel, Params, Posterior


def _make_step(
  model: GenerativeModel,
  params: Params,
  x: Array,
  rng: Array,
  optimizer: optax.GradientTransformation,
  bound: Callable[..., Array],
) -> Callable[..., tuple[Posterior, optax.OptState]]:
  def step(carry: tuple[Posterior, optax.OptState], i: Array) -> tuple[Posterior, optax.OptState]:
    posterior, opt_state = carry
    rng_step = jax.random.fold_in(rng, i)
    gradient = jax.grad(lambda q: -bound(model, params, q, x, rng_step))(posterior)
    updates, opt_state = optimizer.update(gradient, opt_state, posterior)
    return optax.apply_updates(posterior, updates), opt_state

  return step


def refine(
  model: GenerativeModel,
  params: Params,
  posterior: Posterior,
  x: Array,
  rng: Array,
  *,
  num_steps: int,
  learning_rate: float | optax.Schedule,
  bound: Callable[..., Array] = elbo,
) -> Posterior:
  """Ascends the bound of one example on the variational parameters of its posterior with Adam.

  With a Monte-Carlo bound and a constant rate the result keeps a noise floor; let the rate decay to
  0 where the optimum is wanted.

  Args:
    params: of the model.
    posterior: the start; zero steps return it.
    x: [H, W, C] or [D].
    learning_rate: a number or an optax schedule.
    bound: (model, params, posterior, x, rng) -> [], nats, maximized.

  Returns:
    A posterior of the same family.
  """
  optimizer = optax.adam(learning_rate)
  step = _make_step(model, params, x, rng, optimizer, bound)
  start = (posterior, optimizer.init(posterior))
  return jax.lax.fori_loop(0, num_steps, lambda i, carry: step(carry, i), start)[0]


def refinement_path(
  model: GenerativeModel,
  params: Params,
  posterior: Posterior,
  x: Array,
  rng: Array,
  *,
  num_steps: int,
  learning_rate: float | optax.Schedule,
  bound: Callable[..., Array] = elbo,
) -> Array:
  """The bound at the start and after each of `num_steps` steps of `refine`, [num_steps + 1], nats.

  Args: as `refine`. The bound is evaluated with a key of its own, independent of the steps'.
  """
  optimizer = optax.adam(learning_rate)
  step = _make_step(model, params, x, rng, optimizer, bound)

  def record(carry: tuple, i: Array) -> tuple[tuple, Array]:
    value = bound(model, params, carry[0], x, jax.random.fold_in(rng, num_steps + 1 + i))
    return step(carry, i), value

  start = (posterior, optimizer.init(posterior))
  return jax.lax.scan(record, start, jax.numpy.arange(num_steps + 1))[1]
