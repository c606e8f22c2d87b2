"""Rows of the synthetic experiments: how does a method look on a problem of this size?

A row is an inference method, plain amortized inference with another posterior family, or IA-VAE
with another modulation or a control of it; each is called by one name. The decoder is the truth and
stays.

Inner steps are Adam's: these posteriors are a tenth as wide as those of images, and the rate of
plain gradient steps would have to be as small.
"""

import pathlib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from iavae import config as config_lib
from iavae import diagnostics, hypernetworks, inference, layers, networks, posteriors, train
from iavae.errors import ConfigError
from iavae.models import synthetic
from iavae.rng import model_rngs, purpose_rng
from iavae.types import Array, InferenceMethod, Network, Params

# 20 parameters in the base, latents a tenth wide
OPTIONS: dict[str, dict[str, Any]] = {
  # From the prior to a posterior so narrow is a long way. The rate is the best of .05, .1, .2, .3,
  # .5, .7, 1 and 1.5 for 2,000 examples of another seed, 100; a constant one is worse by .45
  'svi': {'num_steps': 100, 'learning_rate': 0.7, 'decays': True},
  'semi_amortized': {'optimizer': 'adam', 'learning_rate': 0.05, 'num_steps': 10},
  'adam_refined': {'learning_rate': 0.05, 'num_steps': 20},
  'hybrid': {'learning_rate': 0.05},
  'iterative': {'hidden': 8},
  'denoising': {'noise_scale': 0.1},
}
FLOW = {'hidden': 8, 'context_dim': 4, 'num_steps': 4}
_TRUNK = {'trunk_dim': 4, 'early_layers': True}
SIZES: dict[str, dict[str, Any]] = {
  'film': _TRUNK,
  'lora': _TRUNK | {'rank': 2},
  'expert_kernels': _TRUNK | {'num_experts': 2},
  'trunk': {'trunk_dim': 4},
  'gates': _TRUNK,
  'gradient': _TRUNK | {'num_steps': 1},
}
NUM_DIAGNOSED = 500  # examples
CONDITIONS = {'': 'x', 'static': 'zeros', 'shuffled': 'other'}
MODULATIONS = tuple(name for name in hypernetworks.names() if name != 'layerwise')


def known_rows() -> tuple[str, ...]:
  """Everything that config.methods may name: a modulation with its controls, too."""
  controls = [
    f'{name}:{condition}' for name in MODULATIONS for condition in CONDITIONS if condition
  ]
  return (*inference.names(), *posteriors.names(), *MODULATIONS, *controls)


def make_encoder(hidden: int, heads: dict[str, int], activation: str) -> Network:
  """The encoders of this experiment: one hidden layer."""
  return networks.mlp((hidden,), heads, activation)


def init_models(
  method: InferenceMethod, seed: int, stage: str, num_models: int, x: Array
) -> Params:
  """Fresh params of so many models, leading axis [M]; x: [N, 3]."""

  def init(rng: Array, x: Array) -> Params:
    return jax.vmap(method.init, in_axes=(0, None))(model_rngs(rng, num_models), x[0])

  return jax.jit(init)(purpose_rng(seed, stage, 'init'), x)


def make_method(config: ConfigDict, name: str) -> tuple[InferenceMethod, tuple[str, ...]]:
  """A row, and what of it is frozen."""
  family, options = posteriors.make('gaussian'), OPTIONS.get(name, {})
  method, frozen = name, ()
  modulation, _, condition = name.partition(':')
  if name in posteriors.names():
    known = posteriors.defaults(name)
    family = posteriors.make(name, **{k: v for k, v in FLOW.items() if k in known})
    method = 'amortized'
  elif modulation in MODULATIONS:
    method, condition = 'instance_adaptive', CONDITIONS[condition]
    options = {'hypernetwork': modulation, 'condition': condition} | SIZES.get(modulation, {})
  if name in inference.names() or not config.train_base:
    frozen = inference.frozen(method, options.get('of'))
  heads = family.heads(synthetic.LATENT_DIM)
  encoder = make_encoder(config.encoder.hidden, heads, config.encoder.activation)
  model = synthetic.make(config.data.noise_scale)
  return inference.find(method).make(model, encoder, family=family, **options), frozen


def check(config: ConfigDict, names: tuple[str, ...]) -> None:
  """Raises ConfigError for a name that is no row, or none where the decoder is known."""
  for name in names:
    if name not in known_rows():
      hint = config_lib.suggestion(name, list(known_rows()))
      raise ConfigError(f'--config.methods: {name!r} is not a row.{hint}')
    if make_method(config, name)[0].trains:
      raise ConfigError(f'{name!r} trains encoder and decoder by turns, and this decoder is known')


def decoder_gradients(name: str) -> int:
  """How often inference of a row reads the gradient of the ELBO of an example."""
  if name not in inference.names():
    return int(SIZES.get(name, {}).get('num_steps', 0))
  defaults = inference.find(name).DEFAULTS | OPTIONS.get(name, {})
  return int(defaults.get('num_steps', 1)) if inference.steps(name) else 0


def make_stage(
  config: ConfigDict, name: str, stage: str, x: Array, bases: Params, num_models: int
) -> train.Stage:
  """A row's models, each from its base VAE, where it has an encoder; x: [N, 3].

  Args:
    stage: its name in checkpoints and keys.
    bases: params of the base VAEs, leading axis [num_models].
  """
  method, frozen = make_method(config, name)
  params = init_models(method, config.seed, stage, num_models, x)
  own = dict(params['inference'])
  if 'encoder' in own:
    own['encoder'] = layers.grown(bases['inference']['encoder'], own['encoder'])
  params = {**params, 'inference': own}
  return train.Stage(stage, method, params, frozen, config.training.max_epochs)


def train_stage(
  config: ConfigDict,
  stage: train.Stage,
  x: Array,
  workdir: pathlib.Path,
  console: Console,
  trains: bool = True,
) -> train.Trained:
  """What a stage leaves, trained or read back; x: [N, 3].

  Raises:
    IavaeError: see `train.run`.
  """
  if not jax.tree.leaves(stage.params['inference']):  # SVI, with a decoder that is known
    return train.Trained(stage.params, np.zeros(0), 0.0)
  # Posteriors are narrow here: products in TF32 or bfloat16, an accelerator's default, would show
  precision = None if jax.default_backend() == 'cpu' else 'highest'
  with jax.default_matmul_precision(precision):
    return train.run(
      stage,
      x,
      train.Hyperparameters(**config.training),
      seed=config.seed,
      workdir=workdir,
      console=console,
      trains=trains,
    )


def diagnose(
  config: ConfigDict, name: str, stage: train.Stage, trained: train.Trained, index: int, x: Array
) -> dict[str, Any]:
  """`diagnostics.measure` of one of a row's models, on the first examples of x: [N, 3]."""
  params = jax.tree.map(lambda leaf: leaf[index], trained.params)
  model, rng = synthetic.make(config.data.noise_scale), purpose_rng(config.seed, 'diagnostics')
  found = diagnostics.measure(model, stage.method, params, x[:NUM_DIAGNOSED], rng)
  return {'method': name, 'seed': config.seed, 'model': index} | found
