"""The optimizer of the image experiments: how does a gradient become a step?"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from iavae.types import Array, Params

RUNNING_RATE = 0.1  # of the running moments of batch normalization, PyTorch's momentum
ADAM_EPS = 1e-8


def cosine(num_steps: int) -> Callable[[Array], Array]:
  """schedule(step) -> [], from 1 to 0 along a cosine."""
  return optax.cosine_decay_schedule(1.0, num_steps)


def burda(num_steps: int) -> Callable[[Array], Array]:
  """schedule(step) -> [], 10^(-i / 7) for 3^i of 3,280 parts of the steps, i = 0, ..., 7.

  The parts are the epochs of Burda et al. (arXiv:1509.00519, section 5).
  """
  # Rounded up here, as the product with a step would not fit in 32 bits
  ends = np.array([-(-num_steps * (3**i - 1) // (3**8 - 1)) for i in range(1, 8)])

  def schedule(step: Array) -> Array:
    return 10.0 ** (-jnp.sum(step >= ends) / 7)

  return schedule


SCHEDULES = {'cosine': cosine, 'burda': burda}


def _is_running(path: jax.tree_util.KeyPath) -> bool:
  return str(getattr(path[-1], 'key', '')).startswith('running_')


def _labels(params: Params) -> Params:
  return jax.tree_util.tree_map_with_path(
    lambda path, _: 'running' if _is_running(path) else 'trained', params
  )


def _halves(params: Params) -> Params:
  """The half of params, 'model' or 'inference', that a leaf is in."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key, params)


def masked_step(
  optimizer: optax.GradientTransformation,
  trains: Mapping[str, Array],
  gradient: Params,
  opt_state: optax.OptState,
  params: Params,
) -> tuple[Params, optax.OptState]:
  """A step of those halves of params that `trains`, {'model': [] bool, 'inference': ...}, names.

  The others keep their parameters, their moments and the count of these, and take no part in the
  gradient's norm.
  """

  def choose(new: Params, old: Params) -> Params:
    def leaf(path: jax.tree_util.KeyPath, a: Array, b: Array) -> Array:
      halves = [key.key for key in path if getattr(key, 'key', None) in trains]
      return jnp.where(trains[halves[0]], a, b) if halves else a

    return jax.tree_util.tree_map_with_path(leaf, new, old)

  gradient = choose(gradient, jax.tree.map(jnp.zeros_like, gradient))
  updates, new_state = optimizer.update(gradient, opt_state, params)
  return choose(optax.apply_updates(params, updates), params), choose(new_state, opt_state)


def make_optimizer(
  learning_rates: Mapping[str, float],
  *,
  weight_decay: float = 0.0,
  max_norm: float = 5.0,
  decay_steps: int = 0,
  schedule: str = 'cosine',
  eps: float = ADAM_EPS,
) -> optax.GradientTransformation:
  """Adam with PyTorch's coupled weight decay, as both stages of IA-VAE use it.

  The gradient of all trained leaves is clipped to a global norm, weight_decay * params is added,
  Adam(0.9, 0.999) scales it. The running moments of batch normalization take no part in that: they
  follow the batch by plain gradient steps of rate .1 (see `types.Network.apply_train`).

  Args:
    learning_rates: {'model': of the decoder, 'inference': of all else}.
    decay_steps: the rates fall in so many steps; 0: they are constant.
    schedule: along which of SCHEDULES.
    eps: what Adam adds to the root of the second moment.
  """
  fall = (optax.scale_by_schedule(SCHEDULES[schedule](decay_steps)),) if decay_steps else ()

  def adam(rate: float) -> optax.GradientTransformation:
    decay = optax.add_decayed_weights(weight_decay)
    return optax.chain(decay, optax.scale_by_adam(eps=eps), optax.scale(-rate))

  trained = optax.chain(
    optax.clip_by_global_norm(max_norm),
    # A state for each half, as a step may train one of them only, see `masked_step`
    optax.partition({half: adam(rate) for half, rate in learning_rates.items()}, _halves),
    *fall,
  )
  return optax.partition({'trained': trained, 'running': optax.sgd(RUNNING_RATE)}, _labels)
