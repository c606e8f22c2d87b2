"""--mode=gaps: what is lost in inference by the models that a work directory holds?

Leaves results.json, per_example.npz and the report in <workdir>/gaps.
"""

import functools
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from iavae import calibration, diagnostics, gap_checks, gap_words, gaps, provenance
from iavae.errors import ConfigError
from iavae.experiments import gap_options, subjects
from iavae.experiments.subjects import Source, Subject
from iavae.gap_parts import Problem, Protocol
from iavae.gap_summary import Summary
from iavae.rng import purpose_rng
from iavae.types import Array, Params
from iavae.workdir import write_arrays, write_text


def measure_run(
  config: ConfigDict, options: ConfigDict, workdir: pathlib.Path, console: Console
) -> pathlib.Path:
  """Measures the gaps of a finished run; returns the directory of the results.

  Raises:
    IavaeError: see `subjects.load`; and if a model gives no finite number.
  """
  began = time.perf_counter()
  measured, described = subjects.load(Source(config, workdir, console), options)
  found, arrays = [], {}
  for subject in measured:
    console.print(f'measuring {subject.name}', highlight=False)
    summary, per_example = measure_subject(subject, options, config.seed)
    found.append(summary)
    arrays |= {f'{subject.name}/{key}': values for key, values in per_example.items()}
  jax.clear_caches()  # the programs are not called again, and hold memory
  results = {
    'report': 'gaps',
    'subjects': found,
    'diagnostics': [{'method': s['name']} | s.pop('diagnostics') for s in found],
    'data': described,
    'seconds': {'total': time.perf_counter() - began},
    'provenance': provenance.describe(config) | {'gaps': options.to_dict()},
  }
  directory = workdir / 'gaps'
  directory.mkdir(exist_ok=True)
  write_arrays(directory / 'per_example.npz', arrays)
  write_text(directory / 'results.json', json.dumps(results, indent=2, allow_nan=False) + '\n')
  return directory


def measure_subject(
  subject: Subject, options: ConfigDict, seed: int
) -> tuple[Summary, dict[str, np.ndarray]]:
  """What `gaps.measure` says, with the noise floor, the bounds on log p(x) of simulated data, and
  'diagnostics', what the latents carry.

  Raises:
    ConfigError: as `gaps.measure`, if a model gives no finite number.
  """
  problem = gaps.problem_of(subject.model, subject.method)
  # The same keys for all subjects: their differences are paired
  rngs = [purpose_rng(seed, 'gaps', purpose) for purpose in ('measure', 'simulate', 'diagnose')]
  protocol = gap_options.protocol(options, subject.convolutional)
  try:
    sandwich = _sandwich(subject, problem, rngs[1], protocol)  # first, as it can fail
    found = gaps.measure(
      problem, subject.params, subject.x, rngs[0], protocol, subject.log_evidence
    )
  except ValueError as error:
    raise ConfigError(f'{subject.name}: {error}') from None
  carried = diagnostics.measure(
    subject.model, subject.method, subject.params, subject.x, rngs[2], at_once=protocol.at_once
  )
  checked = gap_words.with_checks(
    found.summary,
    floor=_noise_floor(carried['latent_dim'], protocol, seed),
    sandwich=sandwich,
  )
  summary = {'name': subject.name, 'split': subject.split, 'diagnostics': carried} | checked
  arrays = dict(found.per_example)
  if subject.x.ndim == 4:
    arrays['worst'] = subject.x[summary['worst']]
  return summary, arrays


@functools.cache
def _noise_floor(latent_dim: int, protocol: Protocol, seed: int) -> dict[str, Any]:
  return gap_checks.noise_floor(latent_dim, protocol, purpose_rng(seed, 'gaps', 'floor'))


def _sandwich(
  subject: Subject, problem: Problem, rng: Array, protocol: Protocol
) -> dict[str, Any] | None:
  if not protocol.num_simulated:
    return None

  def simulate(params: Params, rng: Array) -> tuple[Array, Array]:
    return calibration.simulate(subject.model, params['model'], rng)[::-1]

  return gap_checks.sandwich(problem, simulate, subject.params, rng, protocol)
