"""Inference suboptimality: is the ELBO lost to the family of posteriors, or to the encoder?

Table 1 of Cremer, Li & Duvenaud (arXiv:1801.03558). VAEs are trained from scratch with a mean-field
Gaussian (FFG) or with a flow, with a regular or a large encoder, and with the entropy of q annealed
or not, see `cremer_models` and `bounds.entropy_loss`; `cremer_gaps` then measures what each loses,
all on the same images.
"""

import json
import pathlib
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from iavae import config as config_lib
from iavae import optimizers, provenance
from iavae.experiments import cremer_claims, cremer_gaps, image_checks, image_models
from iavae.experiments.cremer_models import MODELS, Trained, train
from iavae.workdir import write_arrays, write_text

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
  'training.schedule': config_lib.one_of(*optimizers.SCHEDULES),
  'training.adam_eps': config_lib.POSITIVE,
  'training.annealing_epochs': config_lib.NATURAL,
  **cremer_gaps.CHECKS,
}


def check(config: ConfigDict) -> dict[str, str]:
  """The digests of the images.

  Raises:
    ConfigError: as `image_checks.load_images` and `cremer_gaps.check` do.
  """
  images = image_checks.load_images(config, config.seed)
  cremer_gaps.check(config, images)
  return images.digests


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
  measured, told = cremer_gaps.measure(config, trained, images, console)
  found = [one | cremer_claims.gaps(one, MODELS[one['name']].posterior) for one in measured]
  results = {
    'columns': [cremer_claims.summarize(one) for one in found],
    'measurements': told,
    'diagnostics': [{'method': name} | one.pop('diagnostics') for name, one in told.items()],
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
    if isinstance(values, np.ndarray) and not np.isnan(values).any()
  }
  write_arrays(workdir / 'per_example.npz', per_example)
  write_text(workdir / 'results.json', json.dumps(results, indent=2, allow_nan=False) + '\n')
  return results
