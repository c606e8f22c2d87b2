"""What is lost in inference by each model of Cremer et al.'s experiment, image by image?"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console

from iavae import config as config_lib
from iavae import data
from iavae.experiments import gap_options
from iavae.experiments.cremer_models import Trained
from iavae.experiments.gap_report import measure_subject
from iavae.experiments.subjects import Subject, check_examples, examples

CHECKS: dict[str, config_lib.Check] = {
  f'gaps.{key}': check for key, check in gap_options.CHECKS.items()
} | {
  'gaps.methods': (lambda v: v == (), '(), as --config.models says what is measured'),
}


def check(config: ConfigDict, images: data.Dataset) -> None:
  """Raises ConfigError if there are not as many images: [N, H, W, C] as config.gaps asks for."""
  check_examples(config.gaps, images, '--config.gaps')


def measure(
  config: ConfigDict, trained: Mapping[str, Trained], images: data.Dataset, console: Console
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
  """(what is known of each model, `gap_report.measure_subject` of each by its name).

  What is known: 'name', 'split', 'num_examples', and [N] each in nats 'log_evidence', by the
  estimator of the highest mean, 'elbo_optimal_flow', L[q*] of the best flow, 'elbo_optimal', of the
  best mean-field Gaussian, and 'elbo', of what the encoder infers.

  Raises:
    ConfigError: if a model gives no finite number.
  """
  x, found, told = examples(config.gaps, images, config.seed), [], {}
  for name, one in trained.items():
    console.print(f'measuring {name}', highlight=False)
    subject = Subject(name, one.model, one.method, one.params, x, config.gaps.split)
    told[name], arrays = measure_subject(subject, config.gaps, config.seed)
    levels = {
      'log_evidence': arrays[f'{told[name]["log_evidence_by"]}/log_evidence'],
      'elbo_optimal_flow': arrays.get('optimal_flow/elbo'),
      'elbo_optimal': arrays['optimal/elbo'],
      'elbo': arrays['q/elbo'],
    }
    found.append({'name': name, 'split': config.gaps.split, 'num_examples': len(x)} | levels)
  return found, told
