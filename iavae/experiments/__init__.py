"""Experiments: the protocols of papers.

Each module has CHECKS, a check for every key of its config, and `run(config, workdir, console)`,
which leaves results.json and per_example.npz in the work directory.
"""

import importlib
import pathlib
import pkgutil

from ml_collections import ConfigDict
from rich.console import Console

from iavae import config as config_lib
from iavae import report, workdir
from iavae.errors import ConfigError


def run(config: ConfigDict, directory: pathlib.Path) -> None:
  """Validates the config, claims the work directory, runs the experiment, writes the report.

  Raises:
    IavaeError: with one line for the user.
  """
  names = [module.name for module in pkgutil.iter_modules(__path__)]
  if config.get('experiment') not in names:
    raise ConfigError(f'--config.experiment={config.get("experiment")!r} is not one of {names}')
  experiment = importlib.import_module(f'{__name__}.{config.experiment}')
  config_lib.validate(config, experiment.CHECKS)
  console = Console()
  with workdir.claim(directory, config.to_dict()):
    results = experiment.run(config, directory, console)
    page = report.write(directory)
    report.print_tables(results, console)
  console.print(f'Report: {page}', highlight=False, soft_wrap=True)
