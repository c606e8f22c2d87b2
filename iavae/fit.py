"""Stages of the image experiments: how is a model trained, chosen and resumed?

A stage lives in <workdir>/checkpoints/<name>, one step an epoch. Running it again resumes it, or
returns at once if it is finished; either way the caller gets what the checkpoint holds, verified.
Metrics go to <workdir>/metrics.jsonl, one line an epoch.
"""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from iavae import epochs, metrics_log
from iavae.checkpoint import Checkpoints, require_finished
from iavae.data import Dataset
from iavae.errors import NonFiniteError
from iavae.evaluate import make_evaluate
from iavae.freezing import merge, partition
from iavae.gradients import make_gradient
from iavae.optimizers import ADAM_EPS, make_optimizer
from iavae.parallel import replicate
from iavae.rng import purpose_rng
from iavae.terminal import stage_progress
from iavae.types import Array, GenerativeModel, InferenceMethod, Params


class Hyperparameters(NamedTuple):
  """How a stage trains; see configs/default.py, `make_optimizer` and `epochs.make_epoch`."""

  num_epochs: int
  batch_size: int
  learning_rates: Mapping[str, float]
  weight_decay: float
  warmup_epochs: int
  precision: str
  micro_batch: int
  decay_steps: int = 0
  schedule: str = 'cosine'
  eps: float = ADAM_EPS
  warmup_start: float = epochs.WARMUP_START


class Program(NamedTuple):
  """The compiled functions of a stage, the same for all seeds."""

  method: InferenceMethod
  optimizer: optax.GradientTransformation
  run_epoch: Callable[..., tuple]
  validate: Callable[..., dict[str, np.ndarray]]
  hyperparameters: Hyperparameters


class TrainState(NamedTuple):
  """What the next epoch needs.

  Attributes:
    params: the trained leaves (a frozen leaf is None here).
    opt_state: of the optimizer.
    epoch: [], epochs trained.
    validation_elbo: [num_epochs + 1], nats; entry e after e epochs, NaN for those to come.
    best_params: the trained leaves after the epoch, from 1, of the best validation ELBO.
  """

  params: Params
  opt_state: optax.OptState
  epoch: Array
  validation_elbo: Array
  best_params: Params


class Fitted(NamedTuple):
  """What a stage leaves: params of its best epoch, validation ELBO by epoch, seconds trained."""

  params: Params
  validation_elbo: np.ndarray
  seconds: float


def make_program(
  model: GenerativeModel,
  method: InferenceMethod,
  hyperparameters: Hyperparameters,
  *,
  resample: bool,
) -> Program:
  """Compiles nothing yet. resample: see `epochs.make_epoch`."""
  optimizer = make_optimizer(
    hyperparameters.learning_rates,
    weight_decay=hyperparameters.weight_decay,
    decay_steps=hyperparameters.decay_steps,
    schedule=hyperparameters.schedule,
    eps=hyperparameters.eps,
  )
  gradient = make_gradient(
    model,
    method,
    micro_batch=hyperparameters.micro_batch,
    precision=hyperparameters.precision,
  )
  run_epoch = epochs.make_epoch(
    gradient,
    optimizer,
    batch_size=hyperparameters.batch_size,
    resample=resample,
    warmup_epochs=hyperparameters.warmup_epochs,
    warmup_start=hyperparameters.warmup_start,
    num_epochs=hyperparameters.num_epochs,
    trains=method.trains,
  )
  validate = make_evaluate(model, method, num_samples=1, at_once=hyperparameters.micro_batch)
  return Program(method, optimizer, run_epoch, validate, hyperparameters)


def fit(
  program: Program,
  start: Params,
  frozen_paths: tuple[str, ...],
  data: Dataset,
  *,
  name: str,
  seed: int,
  workdir: pathlib.Path,
  console: Console,
  trains: bool = True,
) -> Fitted:
  """Trains a stage, or the rest of it.

  Args:
    start: params of the method.
    frozen_paths: prefixes of the leaves that stay as they are.
    name: of the checkpoint directory, e.g. 'seed0/pretrain'.
    seed: the order and the noise are a function of (seed, epoch): the same for all stages, so that
      methods that start from one base see the same batches.
    trains: False: what is not finished is refused.

  Raises:
    NonFiniteError: at a NaN or an infinity; the last good checkpoint is kept.
    ConfigError: if the checkpoint is of another model, or not finished and `trains` is False.
  """
  trained, frozen = partition(start, frozen_paths)
  num_epochs = program.hyperparameters.num_epochs
  if num_epochs == 0 or not jax.tree.leaves(trained):  # e.g. SVI of a decoder that is frozen
    rng = purpose_rng(seed, 'validate')
    elbo = program.validate(start, data.validation, rng)['elbo'].mean()
    return Fitted(jax.device_get(start), np.asarray([elbo]), 0.0)
  state = TrainState(
    trained,
    program.optimizer.init(trained),
    np.zeros((), np.int32),
    np.full(num_epochs + 1, np.nan, np.float32),
    trained,
  )
  with Checkpoints(workdir / 'checkpoints' / name) as checkpoints:
    restored = checkpoints.restore(state)
    if not trains:
      require_finished(restored is not None and int(restored.epoch) == num_epochs, name, workdir)
    state = replicate(state if restored is None else restored)
    _train(program, state, replicate(frozen), data, name, seed, checkpoints, workdir, console)
  # What later stages see is what the checkpoint holds
  with Checkpoints(workdir / 'checkpoints' / name) as checkpoints:
    state = checkpoints.restore(state)
  params = merge(state.best_params, jax.device_get(frozen))
  return Fitted(params, np.asarray(state.validation_elbo), metrics_log.seconds(workdir, name))


def _train(
  program: Program,
  state: TrainState,
  frozen: Params,
  data: Dataset,
  name: str,
  seed: int,
  checkpoints: Checkpoints,
  workdir: pathlib.Path,
  console: Console,
) -> None:
  """The epochs that are left; after each a line of metrics and a checkpoint."""
  num_epochs = program.hyperparameters.num_epochs
  images = replicate(data.train)
  with stage_progress(console, f'{name:<24}', num_epochs) as report:
    while int(state.epoch) < num_epochs:
      began = time.perf_counter()
      state, metrics = _epoch(program, state, frozen, images, data.validation, seed)
      metrics |= {'stage': name, 'seconds': time.perf_counter() - began}
      _raise_if_not_finite(metrics, name)
      metrics_log.append(workdir, metrics)
      checkpoints.save(int(state.epoch), state)
      report(metrics['epoch'], metrics['validation_elbo'], f'KL {metrics["kl"]:.2f}')
    report(int(state.epoch), float(np.nanmax(state.validation_elbo[1:])), 'best validation')


def _epoch(
  program: Program,
  state: TrainState,
  frozen: Params,
  images: Array,
  validation: Array,
  seed: int,
) -> tuple[TrainState, dict]:
  """One epoch and its validation, with the same noise every time."""

  def validate(params: Params) -> Array:
    rng = purpose_rng(seed, 'validate')
    return program.validate(merge(params, frozen), validation, rng)['elbo'].mean()

  history = np.array(state.validation_elbo)
  number = int(state.epoch)
  if number == 0:
    history[0] = validate(state.params)
  params, opt_state, metrics = program.run_epoch(
    state.params,
    state.opt_state,
    frozen,
    images,
    jax.random.fold_in(purpose_rng(seed, 'epochs'), number),
    jnp.asarray(number, jnp.int32),
  )
  history[number + 1] = validate(params)
  is_best = number == 0 or history[number + 1] > np.max(history[1 : number + 1])
  state = TrainState(
    params,
    opt_state,
    replicate(np.asarray(number + 1, np.int32)),
    replicate(history),
    params if is_best else state.best_params,
  )
  metrics = {key: float(value) for key, value in metrics.items()}
  return state, metrics | {'epoch': number + 1, 'validation_elbo': float(history[number + 1])}


def _raise_if_not_finite(metrics: dict, name: str) -> None:
  bad = [key for key in ('elbo', 'kl', 'validation_elbo') if not np.isfinite(metrics[key])]
  if bad:
    raise NonFiniteError(
      f'stage {name}: NaN or infinity in {", ".join(bad)} in epoch {metrics["epoch"]}; the last '
      'good checkpoint is kept. Look at the data, or try smaller learning rates with another '
      '--workdir.'
    )
