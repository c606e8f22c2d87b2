"""Every method on the synthetic model: how near does each come where the best answer is known?

The base VAEs of the synthetic experiment, then from each of them one model a row of config.methods,
see `synthetic_rows`. Mean-field posteriors are evaluated exactly, others by draws of z, and those
that take random steps with one key an example.
"""

import itertools
import json
import pathlib
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from iavae import provenance, train
from iavae.bounds import elbo
from iavae.experiments import synthetic as protocol
from iavae.experiments import synthetic_evaluation as evaluation
from iavae.experiments import synthetic_rows
from iavae.models import synthetic
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.rng import model_rngs, purpose_rng
from iavae.types import BATCH, Array, InferenceMethod, Params
from iavae.workdir import write_arrays, write_text

CHECKS = protocol.CHECKS
BASE = 'base'
NUM_SAMPLES = 100  # draws of z of a posterior without exact ELBO


def check(config: ConfigDict) -> None:
  """Raises ConfigError for a row that is not one."""
  synthetic_rows.check(config, config.methods)


def _elbos(method: InferenceMethod, params: Params, x: Array, config: ConfigDict) -> np.ndarray:
  """Mean ELBO of each model over the examples, [M], in float64."""
  model, rng = synthetic.make(config.data.noise_scale), purpose_rng(config.seed, 'evaluate')

  def of_example(params: Params, x: Array, rng: Array) -> Array:
    rng_infer, rng_elbo = jax.random.split(rng)
    q = method.infer(params, x, rng_infer)
    if isinstance(q, DiagonalGaussian):
      return synthetic.elbo(q, x, config.data.noise_scale)
    return elbo(model, params['model'], q, x, rng_elbo, NUM_SAMPLES)

  size = max(d for d in range(1, evaluation.CHUNK + 1) if len(x) % d == 0)
  pieces = x.reshape(-1, size, x.shape[1]), model_rngs(rng, len(x)).reshape(-1, size)

  def of_model(inputs: tuple[Params, Array]) -> Array:
    chunk = jax.vmap(of_example, in_axes=(None, 0, 0), axis_name=BATCH)
    return jnp.mean(jax.lax.map(lambda piece: chunk(inputs[0], *piece), pieces))

  models = params, jnp.arange(config.num_bases)  # a method may have no params at all
  return np.asarray(jax.jit(lambda models: jax.lax.map(of_model, models))(models))


def _row(
  name: str, stage: train.Stage, trained: train.Trained, elbos: np.ndarray, live: np.ndarray
) -> dict:
  """Means over the models of bases without a dead unit, of which nothing comes; live: [M]."""
  values = elbos[live] if live.any() else elbos
  return {
    'method': name,
    'num_models': len(elbos),
    'num_dead': len(elbos) - len(values),
    'num_parameters': evaluation.num_inference_parameters(stage.params),
    'elbo_mean': float(values.mean()),
    'elbo_sd': float(values.std(ddof=1)) if len(values) > 1 else 0.0,
    'elbos': values.tolist(),
    'epochs_mean': float(trained.epochs.mean()) if len(trained.epochs) else 0.0,
    'seconds': trained.seconds,
    'decoder_gradients': synthetic_rows.decoder_gradients(name),
  }


def stages(config: ConfigDict, x: Array, bases: Params) -> Iterator[tuple[str, train.Stage]]:
  """A stage for every row of config.methods; bases: params with leading axis [num_bases]."""
  for name in config.methods:
    stage = f'methods_{name}'.replace(':', '_')
    yield name, synthetic_rows.make_stage(config, name, stage, x, bases, config.num_bases)


def run(config: ConfigDict, workdir: pathlib.Path, console: Console) -> dict:
  """Trains and evaluates every row, then results.json and per_example.npz in `workdir`.

  Raises:
    IavaeError: see `train.run`.
  """
  _, x = protocol.make_data(config.seed, config.data.num_examples, config.data.noise_scale)
  base = protocol.pretrain_stage(config, x)
  bases = synthetic_rows.train_stage(config, base, x, workdir, console)
  with jax.enable_x64(True):
    live = evaluation.dead_units(config, bases.params, evaluation.to_float64(x)) == 0
  rows, diagnosed, training = [], [], 0.0
  began = time.perf_counter()
  for name, stage in itertools.chain([(BASE, base)], stages(config, x, bases.params)):
    before = time.perf_counter()
    if name == BASE:
      trained = bases
    else:
      trained = synthetic_rows.train_stage(config, stage, x, workdir, console)
    training += time.perf_counter() - before
    with jax.enable_x64(True):
      elbos = _elbos(stage.method, *evaluation.to_float64((trained.params, x)), config)
    rows.append(_row(name, stage, trained, elbos, live))
    median = evaluation.median_index(elbos)
    diagnosed.append(synthetic_rows.diagnose(config, name, stage, trained, median, x))
    console.print(f'{name:<18} ELBO {rows[-1]["elbo_mean"]:.3f}', highlight=False)
    jax.clear_caches()
  with jax.enable_x64(True):
    exact = evaluation.exact_references(evaluation.to_float64(x), config.data.noise_scale)
  per_example = {name: np.asarray(exact[name]) for name in ('log_evidence', 'elbo_optimal')}
  evaluating = time.perf_counter() - began - training
  results = {
    'rows': rows,
    'diagnostics': diagnosed,
    'references': {name: float(values.mean()) for name, values in per_example.items()},
    # Of the training of a run that was resumed, too
    'seconds': {'total': evaluating + sum(row['seconds'] for row in rows)},
    'provenance': provenance.describe(config),
  }
  write_arrays(workdir / 'per_example.npz', {'x': np.asarray(x)} | per_example)
  write_text(workdir / 'results.json', json.dumps(results, indent=1, allow_nan=False) + '\n')
  return results
