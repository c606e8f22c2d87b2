"""Many models in one compiled program: how are M models of one method trained side by side?

Every array of an `EnsembleState` has a leading model axis M. One call of `run_epochs` trains all of
them for several epochs in a single compiled loop, sharded over the devices at hand; each model
stops early on its own, and gets the numbers it would get alone with the same key, to float error.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from iavae.freezing import merge
from iavae.types import BATCH, Array, InferenceMethod, Params

MAX_EXAMPLES = 46_340  # so that products of two indices fit in int32


class EnsembleState(NamedTuple):
  """What the next epoch needs; leading axis M.

  Attributes:
    params: the trained leaves (a frozen leaf is None here).
    opt_state: of the optimizer.
    epoch: [M], epochs trained.
    elbo: [M], training ELBO of the last epoch, nats.
    best_elbo: [M], the highest so far, nats.
    best_epoch: [M], when that was.
    stopped: [M], by patience or by the maximum of epochs.
    failed: [M], met a NaN or infinity; its parameters are those before that epoch.
  """

  params: Params
  opt_state: optax.OptState
  epoch: Array
  elbo: Array
  best_elbo: Array
  best_epoch: Array
  stopped: Array
  failed: Array


class Program(NamedTuple):
  """init(params) -> state; run_epochs(state, frozen, rngs, shared_rng, x) -> state."""

  init: Callable[[Params], EnsembleState]
  run_epochs: Callable[..., EnsembleState]


def _shuffle(rng: Array, order: Array) -> Array:
  """A uniformly random order of the examples for one model from one that all models share, [N].

  A sort per model and epoch would cost more than the training. j -> a j + c mod N with a invertible
  is a bijection, so composed with a uniformly random shared `order` it is uniformly random too.
  """
  num_examples = order.shape[0]
  units = np.array([a for a in range(1, num_examples + 1) if math.gcd(a, num_examples) == 1])
  bits = jax.random.bits(rng, (2,))  # taken modulo at most MAX_EXAMPLES: uniform to 1e-5
  factor = jnp.asarray(units, jnp.int32)[bits[0] % len(units)]
  shift = (bits[1] % num_examples).astype(jnp.int32)
  return order[(factor * jnp.arange(num_examples) + shift) % num_examples]


def _make_epoch(
  method: InferenceMethod, optimizer: optax.GradientTransformation, batch_size: int
) -> Callable[..., tuple[Params, optax.OptState, Array]]:
  """epoch(params, opt_state, frozen, rng, order, x) of ONE model -> (params, opt_state, elbo)."""

  def batch_loss(
    params: Params, frozen: Params, x: Array, rngs: Array, weight: Array
  ) -> tuple[Array, Array]:
    full = merge(params, frozen)
    loss = jax.vmap(method.loss, in_axes=(None, 0, 0, None), axis_name=BATCH)
    losses, metrics = loss(full, x, rngs, 1.0)
    return weight @ losses / jnp.sum(weight), weight @ metrics['elbo']

  def epoch(
    params: Params, opt_state: optax.OptState, frozen: Params, rng: Array, order: Array, x: Array
  ) -> tuple[Params, optax.OptState, Array]:
    num_examples = order.shape[0]
    size = min(batch_size, num_examples)
    num_steps = -(-num_examples // size)
    padding = num_steps * size - num_examples  # the last batch may be short: weight 0
    rng_order, rng_noise = jax.random.split(rng)
    index = jnp.pad(_shuffle(rng_order, order), (0, padding)).reshape(num_steps, size)
    weight = np.pad(np.ones(num_examples, np.float32), (0, padding)).reshape(index.shape)
    rngs = jax.random.split(rng_noise, index.shape)

    def step(carry: tuple, batch: tuple) -> tuple[tuple, Array]:
      params, opt_state = carry
      index, weight, rngs = batch
      gradient, elbo = jax.grad(batch_loss, has_aux=True)(params, frozen, x[index], rngs, weight)
      updates, opt_state = optimizer.update(gradient, opt_state, params)
      return (optax.apply_updates(params, updates), opt_state), elbo

    (params, opt_state), elbos = jax.lax.scan(step, (params, opt_state), (index, weight, rngs))
    return params, opt_state, jnp.sum(elbos) / num_examples

  return epoch


def _all_finite(tree: Params) -> Array:
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _make_model_epoch(
  method: InferenceMethod,
  optimizer: optax.GradientTransformation,
  batch_size: int,
  max_epochs: int,
  patience: int,
) -> Callable[..., EnsembleState]:
  """One epoch of ONE model with its early stopping; a stopped or failed model does not change."""
  train_epoch = _make_epoch(method, optimizer, batch_size)

  def model_epoch(
    state: EnsembleState, frozen: Params, rng: Array, order: Array, x: Array
  ) -> EnsembleState:
    rng = jax.random.fold_in(rng, state.epoch)
    params, opt_state, elbo = train_epoch(state.params, state.opt_state, frozen, rng, order, x)
    epoch = state.epoch + 1
    improved = elbo > state.best_elbo
    best_epoch = jnp.where(improved, epoch, state.best_epoch)
    stopped = (epoch >= max_epochs) | (epoch - best_epoch >= patience)
    best_elbo = jnp.maximum(elbo, state.best_elbo)
    new = EnsembleState(
      params, opt_state, epoch, elbo, best_elbo, best_epoch, stopped, jnp.zeros((), bool)
    )
    ok = jnp.isfinite(elbo) & _all_finite(params)
    unchanged = state._replace(failed=~ok & ~state.stopped)
    return jax.tree.map(lambda a, b: jnp.where(ok & ~state.stopped, a, b), new, unchanged)

  return model_epoch


def make_program(
  method: InferenceMethod,
  optimizer: optax.GradientTransformation,
  *,
  batch_size: int,
  max_epochs: int,
  patience: int,
  epochs_per_call: int,
) -> Program:
  """Training of M models of one method.

  Args:
    max_epochs: no model trains longer.
    patience: a model stops after so many epochs without a new best training ELBO, and keeps its
      last parameters (the paper monitors the training ELBO: it has no other data set).
    epochs_per_call: `run_epochs` returns after so many, or when all have stopped or one has failed.
  """
  model_epoch = _make_model_epoch(method, optimizer, batch_size, max_epochs, patience)

  @jax.jit
  def init(params: Params) -> EnsembleState:
    num_models = jax.tree.leaves(params)[0].shape[0]
    zeros = jnp.zeros(num_models, jnp.int32)
    lowest = jnp.full(num_models, -jnp.inf)
    false = jnp.zeros(num_models, bool)
    opt_state = jax.vmap(optimizer.init)(params)
    return EnsembleState(params, opt_state, zeros, lowest, lowest, zeros, false, false)

  @jax.jit
  def run_epochs(
    state: EnsembleState, frozen: Params, rngs: Array, shared_rng: Array, x: Array
  ) -> EnsembleState:
    def unfinished(carry: tuple[Array, EnsembleState]) -> Array:
      calls, state = carry
      return (calls < epochs_per_call) & ~jnp.all(state.stopped) & ~jnp.any(state.failed)

    def body(carry: tuple[Array, EnsembleState]) -> tuple[Array, EnsembleState]:
      calls, state = carry
      epoch = jnp.max(jnp.where(state.stopped, 0, state.epoch))  # all active models agree on it
      order = jax.random.permutation(jax.random.fold_in(shared_rng, epoch), x.shape[0])
      models = jax.vmap(model_epoch, in_axes=(0, 0, 0, None, None))
      return calls + 1, models(state, frozen, rngs, order, x)

    return jax.lax.while_loop(unfinished, body, (jnp.zeros((), jnp.int32), state))[1]

  return Program(init=init, run_epochs=run_epochs)


def _rows_to_train(stopped: np.ndarray, num_devices: int, smallest: int = 24) -> np.ndarray:
  """Indices of the models of the next call: the active ones, padded with stopped ones.

  Sizes are M, M/2, M/4, ... so that a run compiles a handful of programs and still does not pay for
  models that stopped long ago. Padding models do not change: they have stopped.
  """
  size, active = len(stopped), np.flatnonzero(~stopped)
  while size // 2 >= max(len(active), smallest):
    size = -(-size // 2)
  size = min(-(-size // num_devices) * num_devices, len(stopped))
  return np.concatenate([active, np.flatnonzero(stopped)])[:size]


def _shard(tree: Params, num_models: int) -> Params:
  """Splits the model axis over as many devices as divide it."""
  devices = jax.devices()
  count = max(d for d in range(1, len(devices) + 1) if num_models % d == 0)
  mesh = jax.sharding.Mesh(np.array(devices[:count]), ('models',))
  spec = jax.sharding.PartitionSpec('models')
  return jax.device_put(tree, jax.sharding.NamedSharding(mesh, spec))


def train_call(
  program: Program, state: EnsembleState, frozen: Params, rngs: Array, shared_rng: Array, x: Array
) -> EnsembleState:
  """One call of the program on the models that have not stopped; returns the state of all M.

  Args:
    frozen: the frozen leaves, leading axis M.
    rngs: [M], one key a model.
    shared_rng: the key of the shuffles that all models share.
    x: [N, ...], the whole data set.

  Raises:
    ValueError: for more than MAX_EXAMPLES examples.
  """
  if x.shape[0] > MAX_EXAMPLES:
    raise ValueError(f'{x.shape[0]} examples; an ensemble shuffles at most {MAX_EXAMPLES}')
  rows = _rows_to_train(np.asarray(state.stopped), len(jax.devices()))
  # On the host: a small gather or scatter for every leaf would be a program for every leaf
  state, frozen = jax.device_get((state, frozen))
  take = functools.partial(jax.tree.map, lambda leaf: leaf[rows])
  part = _shard((take(state), take(frozen), rngs[rows]), len(rows))
  trained = jax.device_get(program.run_epochs(*part, shared_rng, x))

  def put(leaf: np.ndarray, part: np.ndarray) -> np.ndarray:
    whole = leaf.copy()
    whole[rows] = part
    return whole

  return jax.tree.map(put, state, trained)
