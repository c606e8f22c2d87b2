"""The models of Cremer et al.'s experiment: how is each made, and trained from scratch?

Differs from the paper: what is kept of a model is its epoch of best validation ELBO out of all, not
the one at which ten checks in a row, ten epochs apart, found none better; the weight of the entropy
rises by the step, not by the epoch; gradients are clipped to a norm of 5. All models see the same
batches, and those of the same shape start alike.
"""

import functools
import pathlib
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from iavae import data, decoders, fit, networks, posteriors
from iavae.inference import amortized
from iavae.models import vae
from iavae.rng import purpose_rng
from iavae.types import GenerativeModel, InferenceMethod, Params


class Variant(NamedTuple):
  """One column of the table."""

  encoder: str  # 'regular' or 'large': config.model.<that>_hidden
  posterior: str  # the family that it is trained with
  is_annealed: bool


MODELS = {
  'regular_ffg': Variant('regular', 'gaussian', True),
  'regular_flow': Variant('regular', 'auxiliary', True),
  'large_ffg': Variant('large', 'gaussian', True),
  'large_flow': Variant('large', 'auxiliary', True),
  'noanneal_ffg': Variant('regular', 'gaussian', False),
  'noanneal_flow': Variant('regular', 'auxiliary', False),
}


class Trained(NamedTuple):
  """A model that is trained, and how that went: validation ELBO by epoch, seconds."""

  name: str
  model: GenerativeModel
  method: InferenceMethod
  params: Params
  validation_elbo: np.ndarray
  seconds: float


@functools.cache
def _make_model(
  latent_dim: int, shape: tuple[int, ...], hidden: tuple[int, ...], *form: str
) -> GenerativeModel:
  """One model for all variants, which then share the compiled programs of their measurement."""
  return vae.make(decoders.mlp_decoder(latent_dim, shape, hidden, *form), latent_dim)


def make_method(
  config: ConfigDict, variant: Variant, shape: tuple[int, ...]
) -> tuple[GenerativeModel, InferenceMethod]:
  """A VAE for images of a shape [H, W, C], and how it infers z."""
  options = config.model
  form = options.activation, options.initialization
  model = _make_model(options.latent_dim, shape, options.decoder_hidden, *form)
  flow = config.flow.to_dict() if variant.posterior == 'auxiliary' else {}
  family = posteriors.make(variant.posterior, **flow)
  hidden = options[f'{variant.encoder}_hidden']
  encoder = networks.mlp(hidden, family.heads(options.latent_dim), *form)
  return model, amortized.make(model, encoder, estimator='entropy', family=family)


def _hyperparameters(config: ConfigDict, variant: Variant, num_train: int) -> fit.Hyperparameters:
  options = config.training
  num_steps = options.num_epochs * (num_train // options.batch_size)
  return fit.Hyperparameters(
    num_epochs=options.num_epochs,
    batch_size=options.batch_size,
    learning_rates=dict.fromkeys(('model', 'inference'), options.learning_rate),
    weight_decay=0.0,
    warmup_epochs=options.annealing_epochs if variant.is_annealed else 0,
    precision=options.precision,
    micro_batch=options.batch_size,
    decay_steps=num_steps,
    schedule=options.schedule,
    eps=options.adam_eps,
    warmup_start=0.0,
  )


def train(
  config: ConfigDict,
  images: data.Dataset,
  workdir: pathlib.Path,
  console: Console,
  trains: bool = True,
) -> dict[str, Trained]:
  """{name: the model}, in the order of config.models; what is finished in `workdir` is read there.

  Raises:
    IavaeError: see `fit.fit`.
  """
  shape, found = images.train.shape[1:], {}
  for name in config.models:
    variant = MODELS[name]
    model, method = make_method(config, variant, shape)
    hyperparameters = _hyperparameters(config, variant, len(images.train))
    program = fit.make_program(model, method, hyperparameters, resample=images.resample)
    fitted = fit.fit(
      program,
      method.init(purpose_rng(config.seed, 'init'), jnp.zeros(shape)),
      (),
      images,
      name=f'seed{config.seed}/{name}',
      seed=config.seed,
      workdir=workdir,
      console=console,
      trains=trains,
    )
    found[name] = Trained(name, model, method, *fitted)
  return found
