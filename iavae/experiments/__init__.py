"""Experiments: the protocols of papers.

Each module has CHECKS, a check for every key of its config, and `run(config, workdir, console)`,
which leaves results.json and per_example.npz in the work directory. It may have `check(config)`,
which raises ConfigError for what only the data can tell, before anything is written, and returns
the digests of the data, if it reads any; and GROWS, keys whose values may grow in a directory.
"""

import importlib
import pathlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType

from ml_collections import ConfigDict
from rich.console import Console

from iavae import config as config_lib
from iavae import workdir
from iavae.errors import ConfigError


def find(name: str) -> ModuleType:
  """The module of an experiment.

  Raises:
    ConfigError: for an unknown name, with the nearest known one.
  """
  files = [module.name for module in pkgutil.iter_modules(__path__)]
  module = importlib.import_module(f'{__name__}.{name}') if name in files else None
  if hasattr(module, 'run'):
    return module
  modules = {file: importlib.import_module(f'{__name__}.{file}') for file in files}
  known = [file for file in files if hasattr(modules[file], 'run')]
  raise ConfigError(
    f'--config.experiment={name!r} is not one of {", ".join(known)}.'
    + config_lib.suggestion(name, known)
  )


def run(config: ConfigDict, directory: pathlib.Path) -> None:
  """Validates the config, claims the work directory, runs the experiment, writes the report.

  Raises:
    IavaeError: with one line for the user.
  """
  experiment = find(str(config.get('experiment')))
  config_lib.validate(config, experiment.CHECKS)
  digests, grows = _check(experiment, config), getattr(experiment, 'GROWS', ())
  console = Console()
  with workdir.claim(directory, config.to_dict(), digests, grows=grows):
    experiment.run(config, directory, console)
    _report(directory, console)


def run_gaps(config: ConfigDict, options: ConfigDict, directory: pathlib.Path) -> None:
  """The gap report of a finished run; options as in configs/gaps.py.

  Raises:
    IavaeError: with one line for the user.
  """
  experiment = find(str(config.get('experiment')))
  try:
    config_lib.validate(config, experiment.CHECKS)
  except ConfigError as error:
    if workdir.holds(directory, config.to_dict()):  # it was valid when it was written
      raise workdir.other_version(directory, str(error)) from None
    raise
  from iavae.experiments import gap_options, gap_report  # late, as they import all experiments

  config_lib.check_values(options, gap_options.CHECKS, '--gaps')
  digests, console = _check(experiment, config), Console()
  with workdir.claim(directory, config.to_dict(), digests):
    _report(gap_report.measure_run(config, options, directory, console), console)


def _check(experiment: ModuleType, config: ConfigDict) -> Mapping[str, str] | None:
  return experiment.check(config) if hasattr(experiment, 'check') else None


def _report(directory: pathlib.Path, console: Console) -> None:
  """Writes the report of the results in a directory, and prints its tables."""
  from iavae import report  # late: drawing takes a while to import and is not needed to start

  page = report.write(directory)
  report.print_tables(report.load(directory)[0], console)
  console.print(f'Report: {page}', highlight=False, soft_wrap=True)
