"""Every method on the synthetic model: how near does each come where the best answer is known?

The base VAEs of the synthetic experiment, then from each of them one model a row of config.methods:
an inference method, plain amortized inference with another posterior family, or IA-VAE with another
modulation. The decoder is the truth and stays. Mean-field posteriors are evaluated exactly, others
by draws of z, and those that take random steps with one key an example.

Inner steps are Adam's: these posteriors are a tenth as wide as those of images, and the rate of
plain gradient steps would have to be as small.
"""

import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from iavae import config as config_lib
from iavae import hypernetworks, inference, posteriors, provenance, train
from iavae.bounds import elbo
from iavae.errors import ConfigError
from iavae.experiments import synthetic as protocol
from iavae.experiments import synthetic_evaluation as evaluation
from iavae.models import synthetic
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.rng import model_rngs, purpose_rng
from iavae.types import BATCH, Array, InferenceMethod, Network, Params
from iavae.workdir import write_arrays, write_text

CHECKS = protocol.CHECKS
BASE = 'base'
NUM_SAMPLES = 100  # draws of z of a posterior without exact ELBO

# Of the size of this problem: 20 parameters in the base, latents a tenth wide
OPTIONS: dict[str, dict[str, Any]] = {
  'svi': {'num_steps': 100},  # 20 do not lead from the prior to a posterior so narrow
  'semi_amortized': {'optimizer': 'adam', 'learning_rate': 0.05, 'num_steps': 10},
  'adam_refined': {'learning_rate': 0.05, 'num_steps': 20},
  'hybrid': {'learning_rate': 0.05},
  'iterative': {'hidden': 8},
  'denoising': {'noise_scale': 0.1},
}
FLOW = {'hidden': 8, 'context_dim': 4, 'num_steps': 4}
TRUNK = {'trunk_dim': 4, 'early_layers': True, 'rank': 2, 'num_experts': 2, 'num_steps': 1}
CONDITIONS = {'': 'x', 'static': 'zeros', 'shuffled': 'other'}
MODULATIONS = tuple(name for name in hypernetworks.names() if name != 'layerwise')


def known_rows() -> tuple[str, ...]:
  """Everything that config.methods may name: a modulation with its controls, too."""
  controls = [
    f'{name}:{condition}' for name in MODULATIONS for condition in CONDITIONS if condition
  ]
  return (*inference.names(), *posteriors.names(), *MODULATIONS, *controls)


def check(config: ConfigDict) -> None:
  """Raises ConfigError for a row that is not one."""
  unknown = [name for name in config.methods if name not in known_rows()]
  if unknown:
    hint = config_lib.suggestion(unknown[0], list(known_rows()))
    raise ConfigError(f'--config.methods: {unknown[0]!r} is not a row.{hint}')


def make_method(config: ConfigDict, name: str) -> tuple[InferenceMethod, tuple[str, ...]]:
  """A row, and what of it is frozen."""
  model = synthetic.make(config.data.noise_scale)
  family, options = posteriors.make('gaussian'), dict(OPTIONS.get(name, {}))
  method, frozen = name, ()
  modulation, _, condition = name.partition(':')
  if name in posteriors.names():
    known = posteriors.defaults(name)
    family = posteriors.make(name, **{k: v for k, v in FLOW.items() if k in known})
    method = 'amortized'
  elif modulation in MODULATIONS:
    known = hypernetworks.defaults(modulation)
    sizes = {k: v for k, v in TRUNK.items() if k in known and modulation != 'energy'}
    method = 'instance_adaptive'
    options = {'hypernetwork': modulation, 'condition': CONDITIONS[condition]} | sizes
  if name in inference.names() or not config.train_base:
    frozen = inference.frozen(method, options.get('of'))
  encoder = _make_encoder(config, family.heads(synthetic.LATENT_DIM))
  return inference.find(method).make(model, encoder, family=family, **options), frozen


def _make_encoder(config: ConfigDict, heads: dict[str, int]) -> Network:
  return protocol.networks.mlp((config.encoder.hidden,), heads, config.encoder.activation)


def _stage(config: ConfigDict, x: Array, bases: Params, name: str) -> train.Stage:
  """One model from every base; heads that a base does not have start at zero."""
  method, frozen = make_method(config, name)
  stage = f'methods_{name}'.replace(':', '_')
  params = protocol.init_models(method, config.seed, stage, config.num_bases, x)
  inference_params = dict(params['inference'])
  if 'encoder' in inference_params:
    fresh, trained = inference_params['encoder'], bases['inference']['encoder']
    zeros = jax.tree.map(jnp.zeros_like, fresh)
    inference_params['encoder'] = {layer: trained.get(layer, zeros[layer]) for layer in fresh}
  params = {**params, 'inference': inference_params}
  return train.Stage(stage, method, params, frozen, config.training.max_epochs)


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


def _live(config: ConfigDict, bases: Params, x: Array) -> np.ndarray:
  """Which bases have no dead unit, [M]."""
  return np.asarray(evaluation.dead_units(config, bases, x)) == 0


def _decoder_gradients(name: str) -> int:
  """How often inference reads the gradient of the ELBO of an example."""
  if name == 'gradient':
    return int(TRUNK['num_steps'])
  if name not in inference.names():
    return 0
  defaults = inference.find(name).DEFAULTS | OPTIONS.get(name, {})
  return int(defaults.get('num_steps', 0))


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
    'decoder_gradients': _decoder_gradients(name),
  }


def run(config: ConfigDict, workdir: pathlib.Path, console: Console) -> dict:
  """Trains and evaluates every row, then results.json and per_example.npz in `workdir`.

  Raises:
    IavaeError: see `train.run`.
  """
  began = time.perf_counter()
  _, x = protocol.make_data(config.seed, config.data.num_examples, config.data.noise_scale)
  hyperparameters = train.Hyperparameters(**config.training)
  rows: list[dict] = []
  live: list[np.ndarray] = []  # of the bases

  def run_stage(name: str, stage: train.Stage) -> Params:
    if jax.tree.leaves(stage.params['inference']):
      trained = train.run(
        stage, x, hyperparameters, seed=config.seed, workdir=workdir, console=console
      )
    else:  # nothing to train: SVI with a decoder that is known
      trained = train.Trained(stage.params, np.zeros(0), 0.0)
    with jax.enable_x64(True):
      doubled = evaluation.to_float64((trained.params, x))
      elbos = _elbos(stage.method, *doubled, config)
      live.append(_live(config, trained.params, doubled[1]) if name == BASE else live[0])
    rows.append(_row(name, stage, trained, elbos, live[0]))
    console.print(f'{name:<18} ELBO {rows[-1]["elbo_mean"]:.3f}', highlight=False)
    jax.clear_caches()
    return trained.params

  bases = run_stage(BASE, protocol.pretrain_stage(config, x))
  for name in config.methods:
    run_stage(name, _stage(config, x, bases, name))
  with jax.enable_x64(True):
    exact = evaluation.exact_references(evaluation.to_float64(x), config.data.noise_scale)
  per_example = {name: np.asarray(exact[name]) for name in ('log_evidence', 'elbo_optimal')}
  results = {
    'rows': rows,
    'references': {name: float(values.mean()) for name, values in per_example.items()},
    'seconds': {'total': time.perf_counter() - began},
    'provenance': provenance.describe(config),
  }
  write_arrays(workdir / 'per_example.npz', {'x': np.asarray(x)} | per_example)
  write_text(workdir / 'results.json', json.dumps(results, indent=1, allow_nan=False) + '\n')
  return results
