"""Refinement: how much better does q(z | x) get by gradient ascent on the example itself?

One function serves stochastic variational inference (start at the prior), SA-VAE (start at an
encoder's q and differentiate through), test-time refinement, and the search for q* (many steps, a
decaying rate).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from iavae.bounds import elbo, elbo_terms, posterior_loss
from iavae.types import (
  Array,
  GenerativeModel,
  Metrics,
  Network,
  Params,
  Posterior,
  PosteriorFamily,
)

Heads = dict[str, Array]
Bound = Callable[..., Array]  # (model, params, posterior, x, rng) -> [], nats, maximized


class Refinement(NamedTuple):
  """How to ascend: see `refine`."""

  num_steps: int
  optimizer: optax.GradientTransformation
  bound: Bound = elbo


def ascent_step(
  optimizer: optax.GradientTransformation, bound: Callable[[Posterior, Array], Array], rng: Array
) -> Callable[..., tuple[tuple[Posterior, optax.OptState], None]]:
  """A step as the body of a scan over i = 0, 1, ... with a carry (posterior, opt_state).

  Args:
    bound: (posterior, rng) -> [], ascended on the leaves of the posterior.
  """

  def step(carry: tuple[Posterior, optax.OptState], i: Array) -> tuple[tuple, None]:
    posterior, opt_state = carry
    rng_step = jax.random.fold_in(rng, i)
    gradient = jax.grad(lambda q: -bound(q, rng_step))(posterior)
    updates, opt_state = optimizer.update(gradient, opt_state, posterior)
    return (optax.apply_updates(posterior, updates), opt_state), None

  return step


def make_step(
  refinement: Refinement, model: GenerativeModel, params: Params, x: Array, rng: Array
) -> Callable[..., tuple[tuple[Posterior, optax.OptState], None]]:
  """`ascent_step` of a refinement; args as `refine`, of one example x: [H, W, C] or [D]."""

  def bound(posterior: Posterior, rng: Array) -> Array:
    return refinement.bound(model, params, posterior, x, rng)

  return ascent_step(refinement.optimizer, bound, rng)


def refine(
  refinement: Refinement,
  model: GenerativeModel,
  params: Params,
  posterior: Posterior,
  x: Array,
  rng: Array,
) -> Posterior:
  """Ascends the bound of one example on the variational parameters, the leaves, of its posterior.

  With a Monte-Carlo bound and a constant rate the result keeps a noise floor; let the rate decay to
  0 where the optimum is wanted. Differentiable, exactly where the bound's own gradient is one (see
  `bounds.elbo_terms`): the backward pass computes each step again from the variational parameters
  before it, so its memory hardly grows with the steps.

  Args:
    refinement: zero steps return `posterior`.
    params: of the model.
    x: [H, W, C] or [D].

  Returns:
    A posterior of the same family.

  Raises:
    ValueError: for a negative number of steps.
  """
  if refinement.num_steps < 0:
    raise ValueError(f'num_steps={refinement.num_steps} is below 0')
  step = jax.checkpoint(make_step(refinement, model, params, x, rng))
  start = (posterior, refinement.optimizer.init(posterior))
  return jax.lax.scan(step, start, jnp.arange(refinement.num_steps))[0][0]


def refinement_path(
  refinement: Refinement,
  model: GenerativeModel,
  params: Params,
  posterior: Posterior,
  x: Array,
  rng: Array,
) -> Array:
  """The bound at the start and after each step of `refine`, [num_steps + 1], nats.

  Args: as `refine`. The bound is evaluated with a key of its own, independent of the steps'; one
    step more than shown is computed.
  """
  step = make_step(refinement, model, params, x, rng)
  num_steps, bound = refinement.num_steps, refinement.bound

  def record(carry: tuple, i: Array) -> tuple[tuple, Array]:
    value = bound(model, params, carry[0], x, jax.random.fold_in(rng, num_steps + 1 + i))
    return step(carry, i)[0], value

  start = (posterior, refinement.optimizer.init(posterior))
  return jax.lax.scan(record, start, jnp.arange(num_steps + 1))[1]


def local_only(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """The same for the leaves of a posterior but its `flow`, networks that all examples share."""

  def is_shared(posterior: Posterior) -> Posterior:
    return jax.tree_util.tree_map_with_path(
      lambda path, _: getattr(path[0], 'name', '') == 'flow', posterior
    )

  return optax.chain(optimizer, optax.masked(optax.set_to_zero(), is_shared))


def heads_bound(
  family: PosteriorFamily,
  params: Params,
  beta: Array | float = 1.0,
  path_derivative: bool = True,
) -> Callable[..., Array]:
  """The ELBO, its KL weighted by beta, as a function of an encoder's heads: a `Refinement.bound`.

  Args:
    params: params['inference'] of the method, for what the family shares.
    path_derivative: see `bounds.elbo_terms`.
  """

  def bound(
    model: GenerativeModel, model_params: Params, heads: Heads, x: Array, rng: Array
  ) -> Array:
    posterior = family.posterior(params, heads)
    log_likelihood, kl = elbo_terms(model, model_params, posterior, x, rng, path_derivative)
    return log_likelihood - beta * kl

  return bound


def zero_heads(encoder: Network, x: Array) -> Heads:
  """Zeros {name: [size]} as an encoder's heads for x: where refinement from scratch starts."""
  heads = jax.eval_shape(lambda x: encoder.apply(encoder.init(jax.random.key(0), x), x), x)
  return jax.tree.map(lambda head: jnp.zeros(head.shape, head.dtype), heads)


def bound_gradient(
  bound: Bound, model: GenerativeModel, params: Params, heads: Heads, x: Array, rng: Array
) -> Heads:
  """The gradient of a bound at heads {name: [size]}, through which nothing flows back.

  Args:
    params: of the model.
  """
  params, heads = jax.lax.stop_gradient((params, heads))
  gradient = jax.grad(lambda heads: bound(model, params, heads, x, rng))(heads)
  return jax.lax.stop_gradient(gradient)


def describe(heads: Heads, gradient: Heads) -> Array:
  """What a network that learns to refine reads: fixed heads, and the bound's gradient g there.

  As g spans orders of magnitude it is told as log(|g| + 1e-5) and sign(g) (Marino et al.,
  arXiv:1807.09356, in their code).

  Returns:
    [3 * sizes]: heads, log-magnitudes, signs.
  """
  values, g = (jnp.concatenate(jax.tree.leaves(tree)) for tree in (heads, gradient))
  told = jnp.concatenate([values, jnp.log(jnp.abs(g) + 1e-5), jnp.sign(g)])
  return jax.lax.stop_gradient(told)


def loss_of_last(
  model: GenerativeModel,
  family: PosteriorFamily,
  params: Params,
  trajectory: tuple[Heads, Array, int],
  x: Array,
  rng: Array,
  beta: Array | float,
) -> tuple[Array, Metrics]:
  """`posterior_loss` after the last of T learned steps, the others trained along.

  theta follows the last ELBO, what made the steps the mean of the ELBOs after each of them (Marino
  et al., arXiv:1807.09356, algorithm 1).

  Args:
    params: of the method.
    trajectory: the last heads {name: [size]}, the sum, [], of <g_t, heads_t> over the steps before
      with g_t the fixed gradient of the ELBO at heads_t, and T.
    x: [H, W, C] or [D].
  """
  heads, total, num_steps = trajectory
  fixed, share = jax.lax.stop_gradient, 1 / max(num_steps, 1)
  shared = jax.tree.map(lambda h: fixed(h) + share * (h - fixed(h)), heads)
  posterior = family.posterior(params['inference'], shared)
  value, metrics = posterior_loss(model, params['model'], posterior, x, rng, beta)
  return value - share * (total - fixed(total)), metrics


def make_optimizer(
  name: str, learning_rate: float, decay_steps: int = 0
) -> optax.GradientTransformation:
  """An inner optimizer by its name, 'momentum' or 'adam'.

  Args:
    decay_steps: the rate of 'adam' falls to 0 along a cosine in so many steps; 0: it is constant.

  Raises:
    ValueError: for another name, a rate that is not above 0, or a decay of 'momentum'.
  """
  if name not in ('momentum', 'adam'):
    raise ValueError(f'unknown optimizer {name!r}; momentum or adam')
  if not learning_rate > 0:
    raise ValueError(f'learning_rate={learning_rate} is not above 0')
  if name == 'momentum':
    if decay_steps:
      raise ValueError("the rate of the optimizer 'momentum' is constant")
    return kim_momentum(learning_rate)
  rate = optax.cosine_decay_schedule(learning_rate, decay_steps) if decay_steps else learning_rate
  return optax.adam(rate, eps_root=1e-16)  # where a gradient is 0 its root has a slope, too


def kim_momentum(learning_rate: float, max_norm: float = 5.0) -> optax.GradientTransformation:
  """Kim et al.'s inner optimizer, for one example (arXiv:1802.02550, algorithm 2 and section 4.1).

  v <- v / 2 - g,  lambda <- lambda + learning_rate v, the gradient of every leaf (the means, the
  scales) clipped to a norm of its own.

  Differs from the paper: there the gradient is that of a batch's mean, so that a rate of 1 and a
  batch of 50 are a rate of .02 here, and a clipped norm is that of the whole batch.
  """

  def clip(updates: Posterior, _: Posterior) -> Posterior:
    # Of the square, as a norm has no derivative at 0
    scale = lambda g: jax.lax.rsqrt(jnp.maximum(1.0, jnp.sum(g**2) / max_norm**2))  # noqa: E731
    return jax.tree.map(lambda g: g * scale(g), updates)

  return optax.chain(optax.stateless(clip), optax.sgd(learning_rate, momentum=0.5))
