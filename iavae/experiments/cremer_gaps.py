"""What is lost in inference by each model of Cremer et al.'s experiment, image by image?"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console

from iavae import config as config_lib
from iavae import data, gap_checks, gaps
from iavae.errors import ConfigError
from iavae.experiments import gap_options
from iavae.experiments.cremer_models import Trained
from iavae.experiments.subjects import check_examples, examples
from iavae.rng import purpose_rng

CHECKS: dict[str, config_lib.Check] = {
  f'gaps.{key}': check for key, check in gap_options.CHECKS.items()
} | {
  'gaps.methods': (lambda v: v == (), '(), as --config.models says what is measured'),
  'gaps.num_simulated': (lambda v: v == 0, '0, as nothing is simulated here; see --mode=gaps'),
}


def check(config: ConfigDict, images: data.Dataset) -> None:
  """Raises ConfigError if there are not as many images as config.gaps asks for."""
  check_examples(config.gaps, images, '--config.gaps')


def noise_floor(config: ConfigDict) -> dict[str, Any]:
  """What the searches miss where the best posterior is known; see `gap_checks.noise_floor`."""
  rng = purpose_rng(config.seed, 'measure', 'floor')
  protocol = gap_options.protocol(config.gaps)
  return gap_checks.noise_floor(config.model.latent_dim, protocol, rng)


def measure(
  config: ConfigDict, trained: Mapping[str, Trained], images: data.Dataset, console: Console
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
  """(what is known of each model, summaries of `gaps.measure` by its name).

  What is known: 'name', 'split', 'num_examples', and [N] each in nats 'log_evidence', by the
  estimator of the highest mean, 'elbo_optimal_flow', L[q*] of the best flow, 'elbo_optimal', of the
  best mean-field Gaussian, and 'elbo', of what the encoder infers.
  """
  x, found, told = examples(config.gaps, images, config.seed), [], {}
  protocol = gap_options.protocol(config.gaps)
  for name, one in trained.items():
    console.print(f'measuring {name}', highlight=False)
    # The same noise for all models: differences between them are paired
    rng = purpose_rng(config.seed, 'measure', config.gaps.split)
    problem = gaps.problem_of(one.model, one.method)
    try:
      measured = gaps.measure(problem, one.params, x, rng, protocol)
    except ValueError as error:
      raise ConfigError(f'{name}: {error}') from None
    told[name], arrays = measured.summary, measured.per_example
    levels = {
      'log_evidence': arrays[f'{measured.summary["log_evidence_by"]}/log_evidence'],
      'elbo_optimal_flow': arrays.get('optimal_flow/elbo'),
      'elbo_optimal': arrays['optimal/elbo'],
      'elbo': arrays['q/elbo'],
    }
    found.append({'name': name, 'split': config.gaps.split, 'num_examples': len(x)} | levels)
  return found, told
