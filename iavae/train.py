"""Stages: how is an ensemble trained so that a kill at any moment costs at most one call?

A stage lives in <workdir>/checkpoints/<name>. Running it again resumes it, or returns at once if it
is finished; either way the caller gets what the checkpoint holds, verified. Metrics go to
<workdir>/metrics.jsonl, one line a call.
"""

import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax
from rich.console import Console

from iavae import ensemble, metrics_log
from iavae.checkpoint import Checkpoints, require_finished
from iavae.errors import NonFiniteError
from iavae.freezing import merge, partition
from iavae.rng import model_rngs, purpose_rng
from iavae.terminal import stage_progress
from iavae.types import Array, InferenceMethod, Params


class Stage(NamedTuple):
  """M models of one method to train.

  Attributes:
    name: of the checkpoint directory, and of the randomness.
    params: the start, leading axis M.
    frozen: paths that stay as they are.
  """

  name: str
  method: InferenceMethod
  params: Params
  frozen: tuple[str, ...]
  max_epochs: int

  def num_models(self) -> int:
    """M."""
    return jax.tree.leaves(self.params)[0].shape[0]


class Hyperparameters(NamedTuple):
  """How every stage of a run trains; see configs/synthetic.py."""

  learning_rate: float
  batch_size: int
  max_epochs: int
  patience: int
  epochs_per_call: int
  schedule: str = 'constant'
  max_norm: float = 0.0


class Trained(NamedTuple):
  """What a stage leaves: params with leading axis M, epochs trained [M], seconds of training."""

  params: Params
  epochs: np.ndarray
  seconds: float


def _make_optimizer(
  hyperparameters: Hyperparameters, max_epochs: int, num_examples: int
) -> optax.GradientTransformation:
  rate = hyperparameters.learning_rate
  if hyperparameters.schedule == 'cosine':
    num_batches = -(-num_examples // hyperparameters.batch_size)
    rate = optax.cosine_decay_schedule(rate, max_epochs * num_batches)
  if not hyperparameters.max_norm:
    return optax.adam(rate)
  return optax.chain(optax.clip_by_global_norm(hyperparameters.max_norm), optax.adam(rate))


def run(
  stage: Stage,
  x: Array,
  hyperparameters: Hyperparameters,
  *,
  seed: int,
  workdir: pathlib.Path,
  console: Console,
  trains: bool = True,
) -> Trained:
  """Trains a stage, or the rest of it.

  Args:
    x: [N, ...], the training set.
    trains: False: what is not finished is refused.

  Raises:
    NonFiniteError: if a model meets a NaN or an infinity; the last good checkpoint is kept.
    ConfigError: if the checkpoint is of another model, or not finished and `trains` is False.
  """
  trained, frozen = partition(stage.params, stage.frozen)
  program = ensemble.make_program(
    stage.method,
    _make_optimizer(hyperparameters, stage.max_epochs, len(x)),
    batch_size=hyperparameters.batch_size,
    max_epochs=stage.max_epochs,
    patience=hyperparameters.patience,
    epochs_per_call=hyperparameters.epochs_per_call,
  )
  rngs = model_rngs(purpose_rng(seed, stage.name, 'train'), stage.num_models())
  shared_rng = purpose_rng(seed, stage.name, 'shuffle')

  def call(state: ensemble.EnsembleState) -> ensemble.EnsembleState:
    return ensemble.train_call(program, state, frozen, rngs, shared_rng, x)

  start = program.init(trained)
  with Checkpoints(workdir / 'checkpoints' / stage.name) as checkpoints:
    state = checkpoints.restore(start) or start
    if not trains:
      require_finished(bool(np.all(np.asarray(state.stopped))), stage.name, workdir)
    _train(stage, call, state, checkpoints, workdir, console)
  # What later stages see is what the checkpoint holds
  with Checkpoints(workdir / 'checkpoints' / stage.name) as checkpoints:
    state = checkpoints.restore(start)
  params = merge(state.params, frozen)
  return Trained(params, np.asarray(state.epoch), metrics_log.seconds(workdir, stage.name))


def _train(
  stage: Stage,
  call: Callable[[ensemble.EnsembleState], ensemble.EnsembleState],
  state: ensemble.EnsembleState,
  checkpoints: Checkpoints,
  workdir: pathlib.Path,
  console: Console,
) -> None:
  """Calls until all models have stopped; after each, a line of metrics and a checkpoint."""
  label = f'{stage.name:<10} {stage.num_models():>3} models'
  with stage_progress(console, label, stage.max_epochs) as report:
    while True:
      epoch, active = int(np.max(state.epoch)), int(np.sum(~np.asarray(state.stopped)))
      report(epoch, float(np.mean(state.elbo)), f'{active} training')
      if not active:
        return
      began = time.perf_counter()
      state = call(state)
      _raise_if_failed(state, stage.name)
      _log(workdir, stage.name, state, time.perf_counter() - began)
      checkpoints.save(int(np.max(state.epoch)), state)


def _raise_if_failed(state: ensemble.EnsembleState, name: str) -> None:
  failed = np.flatnonzero(np.asarray(state.failed))
  if len(failed):
    epochs = sorted({int(state.epoch[m]) + 1 for m in failed})
    raise NonFiniteError(
      f'stage {name}: NaN or infinity in model {", ".join(map(str, failed))} in epoch '
      f'{", ".join(map(str, epochs))}; the last good checkpoint is kept. Look at the data, or try '
      'a smaller --config.training.learning_rate with another --workdir.'
    )


def _log(workdir: pathlib.Path, name: str, state: ensemble.EnsembleState, seconds: float) -> None:
  line = {
    'stage': name,
    'epoch': int(np.max(state.epoch)),
    'elbo_mean': float(np.mean(state.elbo)),
    'num_training': int(np.sum(~np.asarray(state.stopped))),
    'seconds': seconds,
  }
  metrics_log.append(workdir, line)
