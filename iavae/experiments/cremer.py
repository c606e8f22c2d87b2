"""Inference suboptimality: is the ELBO lost to the family of posteriors, or to the encoder?

Table 1 of Cremer, Li & Duvenaud (arXiv:1801.03558). VAEs are trained from scratch with a mean-field
Gaussian (FFG) or with a flow, with a regular or a large encoder, and with the entropy of q annealed
or not, see `bounds.entropy_loss`; `cremer_gaps` then measures their gaps on the same images.

Differs from the paper: what is kept of a model is its epoch of best validation ELBO out of all, not
the one at which ten checks in a row, ten epochs apart, found none better; the weight of the entropy
rises by the step, not by the epoch; gradients are clipped to a norm of 5. All models see the same
batches, and those of the same shape start alike.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from iavae import config as config_lib
from iavae import data, decoders, fit, networks, optimizers, posteriors, provenance
from iavae.experiments import cremer_claims, cremer_gaps, image_checks, image_models
from iavae.inference import amortized
from iavae.models import vae
from iavae.rng import purpose_rng
from iavae.types import GenerativeModel, InferenceMethod, Params
from iavae.workdir import write_arrays, write_text


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

_SHARED = (
  *('preset', 'changed', 'seed', 'data.name', 'data.protocol', 'data.path', 'data.directory'),
  *('data.num_train', 'data.num_validation', 'data.num_test', 'model.latent_dim'),
  *('model.activation', 'model.initialization', 'training.batch_size', 'training.precision'),
)
_SOME_MODELS = config_lib.some_of(*MODELS)

CHECKS: dict[str, config_lib.Check] = {
  'experiment': config_lib.one_of('cremer'),
  'models': (lambda v: v != () and _SOME_MODELS[0](v), _SOME_MODELS[1]),
  **{key: image_checks.CHECKS[key] for key in _SHARED},
  'model.regular_hidden': image_checks.CHECKS['model.hidden'],
  'model.large_hidden': image_checks.CHECKS['model.hidden'],
  'model.decoder_hidden': image_checks.CHECKS['model.hidden'],
  'flow.num_steps': config_lib.NATURAL,
  'flow.hidden': config_lib.NATURAL,
  'flow.context_dim': config_lib.NATURAL,
  'training.num_epochs': config_lib.NATURAL,
  'training.learning_rate': config_lib.POSITIVE,
  'training.schedule': config_lib.one_of('constant', *optimizers.SCHEDULES),
  'training.adam_eps': config_lib.POSITIVE,
  'training.annealing_epochs': config_lib.NATURAL,
  **cremer_gaps.CHECKS,
}


class Trained(NamedTuple):
  """A model that is trained, and how that went: validation ELBO by epoch, seconds."""

  name: str
  model: GenerativeModel
  method: InferenceMethod
  params: Params
  validation_elbo: np.ndarray
  seconds: float


def check(config: ConfigDict) -> None:
  """Raises ConfigError as `image_checks.load_images` and `cremer_gaps.check` do."""
  cremer_gaps.check(config, image_checks.load_images(config, config.seed))


def make_method(
  config: ConfigDict, variant: Variant, shape: tuple[int, ...]
) -> tuple[GenerativeModel, InferenceMethod]:
  """A VAE for images of a shape [H, W, C], and how it infers z."""
  options = config.model
  form = options.activation, options.initialization
  decoder = decoders.mlp_decoder(options.latent_dim, shape, options.decoder_hidden, *form)
  model = vae.make(decoder, options.latent_dim)
  flow = config.flow.to_dict() if variant.posterior == 'auxiliary' else {}
  family = posteriors.make(variant.posterior, **flow)
  hidden = options[f'{variant.encoder}_hidden']
  encoder = networks.mlp(hidden, family.heads(options.latent_dim), *form)
  return model, amortized.make(model, encoder, estimator='entropy', family=family)


def _hyperparameters(config: ConfigDict, variant: Variant, num_train: int) -> fit.Hyperparameters:
  options = config.training
  num_steps = options.num_epochs * (num_train // options.batch_size)
  is_constant = options.schedule == 'constant'
  return fit.Hyperparameters(
    num_epochs=options.num_epochs,
    batch_size=options.batch_size,
    learning_rates=dict.fromkeys(('model', 'inference'), options.learning_rate),
    weight_decay=0.0,
    warmup_epochs=options.annealing_epochs if variant.is_annealed else 0,
    precision=options.precision,
    micro_batch=options.batch_size,
    decay_steps=0 if is_constant else num_steps,
    schedule='cosine' if is_constant else options.schedule,
    eps=options.adam_eps,
    warmup_start=0.0,
  )


def train(
  config: ConfigDict, images: data.Dataset, workdir: pathlib.Path, console: Console
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
    )
    found[name] = Trained(name, model, method, *fitted)
  return found


def _costs(trained: Mapping[str, Trained]) -> dict[str, dict]:
  """Parameters, seconds of training, and the validation ELBO after every epoch."""
  seconds = {name: one.seconds for name, one in trained.items()}
  return {
    'num_parameters': {n: image_models.num_parameters(one.params) for n, one in trained.items()},
    'seconds': seconds | {'total': sum(seconds.values())},
    'curves': {name: one.validation_elbo.tolist() for name, one in trained.items()},
  }


def run(config: ConfigDict, workdir: pathlib.Path, console: Console) -> dict:
  """Trains, measures, and leaves results.json and per_example.npz in `workdir`.

  Raises:
    IavaeError: see `train` and `image_checks.load_images`.
  """
  images = image_checks.load_images(config, config.seed)
  trained = train(config, images, workdir, console)
  measured = cremer_gaps.measure(config, trained, images, workdir, console)
  found = [one | cremer_claims.gaps(one, MODELS[one['name']].posterior) for one in measured]
  results = {
    'columns': [cremer_claims.summarize(one) for one in found],
    'contrasts': cremer_claims.contrasts({one['name']: one for one in found}),
    'dataset': images.name,
    'protocol': images.protocol,
    'preset': image_models.preset_label(config),
    **_costs(trained),
    'data': {f'num_{s}': len(getattr(images, s)) for s in ('train', 'validation', 'test')}
    | {'digests': images.digests},
    'provenance': provenance.describe(config),
  }
  per_example = {
    f'{one["name"]}/{key}': values
    for one in found
    for key, values in one.items()
    if isinstance(values, np.ndarray)
  }
  write_arrays(workdir / 'per_example.npz', per_example)
  write_text(workdir / 'results.json', json.dumps(results, indent=2, allow_nan=False) + '\n')
  return results
