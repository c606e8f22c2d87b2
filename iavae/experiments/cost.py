"""The cost-accuracy picture: what ELBO does inference reach for which time, on one decoder?

A base VAE is trained, then every method of config.cost.methods with its decoder frozen. The
posterior of each is refined at test time by T steps of Adam (with svi, from the prior); iterative
inference takes T of its own, learned steps instead. For each T: the test ELBO, milliseconds and
floating-point operations an example. The rate of Adam is the best of a few for the validation ELBO.
"""

import json
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from iavae import data, inference, provenance
from iavae.bounds import elbo
from iavae.errors import ConfigError
from iavae.evaluate import over_examples
from iavae.experiments import image_checks, image_models, image_rows
from iavae.experiments.cost_measures import Subject, measure, start_refining
from iavae.experiments.image_checks import CHECKS
from iavae.experiments.image_models import Images
from iavae.rng import purpose_rng
from iavae.statistics import mean_and_error
from iavae.types import Array, GenerativeModel, InferenceMethod, Metrics, Params, Posterior
from iavae.workdir import write_arrays, write_text

__all__ = ['CHECKS', 'check', 'run']

LEARNING_RATES = (0.01, 0.02, 0.04, 0.08)
EVALUATION_SAMPLES = 50
AT_ONCE = 100  # examples


def frozen_decoder(config: ConfigDict) -> ConfigDict:
  """The same with the decoder left as the base VAE has it."""
  config = ConfigDict(config.to_dict())
  config.adapt.train_decoder = False
  return config


def check(config: ConfigDict) -> dict[str, str]:
  """The digests of the images; raises ConfigError as `image_checks.check`, and for a hybrid."""
  images = image_checks.load_data(config, config.seed)
  image_checks.check_rows(frozen_decoder(config), images)
  if len(images.test) < 2:
    raise ConfigError('a standard error takes two test images; see --config.data.num_test')
  if 'hybrid' in (config.method, *config.cost.methods):
    raise ConfigError('every method of --config.experiment=cost is made a hybrid: leave hybrid out')
  return images.digests


def _subjects(rows: dict[str, image_rows.Row], params: dict, images: Images) -> dict[str, Subject]:
  found = {}
  for name, row in rows.items():

    def own(num_steps: int, name: str = name) -> InferenceMethod:
      make = inference.find(name).make
      return make(images.model, images.encoder, num_steps=num_steps, family=images.family)

    def same(num_steps: int, method: InferenceMethod = row.variant.method) -> InferenceMethod:
      return method

    known = inference.find(name).DEFAULTS if name in inference.names() else {}
    steps = inference.steps(name) if 'num_steps' in known else ''
    # Steps of ascent are taken over by Adam, from the posterior that they start with
    found[name] = Subject(own if steps else same, steps != 'learned', params[name])
  return found


def _value(model: GenerativeModel, params: Params, q: Posterior, x: Array, rng: Array) -> Array:
  return elbo(model, params['model'], q, x, jax.random.fold_in(rng, 2), EVALUATION_SAMPLES)


def _make_path(
  model: GenerativeModel, subject: Subject, steps: tuple[int, ...], rate: float
) -> Callable[..., dict[str, np.ndarray]]:
  """ELBO of each example after each number of steps, by one pass through all of them."""

  def one(params: Params, x: Array, rng: Array) -> Metrics:
    state, step = start_refining(model, subject, rate, params, x, rng)
    values = {}
    for first, last in zip((0, *steps), steps, strict=False):
      state = jax.lax.scan(step, state, jnp.arange(first, last))[0]
      values[str(last)] = _value(model, params, state[0], x, rng)
    return values

  return over_examples(one, AT_ONCE)


def _make_own(
  model: GenerativeModel, subject: Subject, num_steps: int
) -> Callable[..., dict[str, np.ndarray]]:
  method = subject.method(num_steps)

  def one(params: Params, x: Array, rng: Array) -> Metrics:
    return {str(num_steps): _value(model, params, method.infer(params, x, rng), x, rng)}

  return over_examples(one, AT_ONCE)


def _accuracy(
  model: GenerativeModel, subject: Subject, images: data.Dataset, config: ConfigDict
) -> dict[int, tuple[np.ndarray, float | None]]:
  """{T: (test ELBO of every example, the rate of Adam that validation data chose)}."""
  steps, count = config.cost.num_steps, config.cost.num_examples
  rng, test = purpose_rng(config.seed, 'cost'), images.test[:count]
  if not subject.refined:
    found = [_make_own(model, subject, t)(subject.params, test, rng) for t in steps]
    return {t: (values[str(t)], None) for t, values in zip(steps, found, strict=True)}
  held, tested = [], []
  for rate in LEARNING_RATES:
    path = _make_path(model, subject, steps, rate)
    held.append(path(subject.params, images.validation[:count], rng))
    tested.append(path(subject.params, test, rng))
  best = {t: int(np.argmax([values[str(t)].mean() for values in held])) for t in steps}
  return {t: (tested[best[t]][str(t)], LEARNING_RATES[best[t]] if t else None) for t in steps}


def _point(values: np.ndarray) -> dict[str, float]:
  found = mean_and_error(values)
  return {'elbo': found['mean'], 'standard_error': found['standard_error']}


def run(config: ConfigDict, workdir: pathlib.Path, console: Console) -> dict:
  """Trains, measures, and leaves results.json and per_example.npz in `workdir`.

  Raises:
    IavaeError: see `fit.fit` and `image_checks.load_data`.
  """
  config = frozen_decoder(config)
  images = image_checks.load_data(config, config.seed)
  made = image_models.make_images(config, images.train.shape[1:])
  rows = image_rows.make_rows(config, made, num_train=len(images.train), resample=images.resample)
  fitted = image_rows.train_seed(rows, images, config.seed, workdir, console)
  params = {name: trained.params for name, trained in fitted.items()}
  subjects = _subjects(rows, params, made)
  costs = measure(made.model, subjects, images.test[:AT_ONCE], config.cost.num_steps)
  points, arrays = [], {}
  for name, subject in subjects.items():
    console.print(f'measuring {name}', highlight=False)
    for t, (values, rate) in _accuracy(made.model, subject, images, config).items():
      labels = {'method': name, 'num_steps': t, 'learning_rate': rate}
      points.append(labels | _point(values) | costs[name, t])
      arrays[f'elbo_{name}_{t}'] = values
  results = {
    'points': points,
    'dataset': images.name,
    'protocol': images.protocol,
    'preset': image_models.preset_label(config),
    'diagnostics': image_rows.diagnose(config, rows, params, images, config.seed),
    'num_examples': len(images.test[: config.cost.num_examples]),
    'batch_size': len(images.test[:AT_ONCE]),
    'seconds': {name: trained.seconds for name, trained in fitted.items()},
    'data': {f'num_{s}': len(getattr(images, s)) for s in ('train', 'validation', 'test')}
    | {'digests': images.digests},
    'provenance': provenance.describe(config),
  }
  write_arrays(workdir / 'per_example.npz', arrays)
  write_text(workdir / 'results.json', json.dumps(results, indent=2, allow_nan=False) + '\n')
  return results
