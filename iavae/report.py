"""How are the results shown: `report.html` and its figures, and the tables in the terminal?

All is made from `results.json` and `per_example.npz` of a work directory alone; what is shown
depends on the experiment that wrote them, see `reports`.
"""

import json
import os
import pathlib
import textwrap
import zipfile
from typing import Any

import numpy as np
import rich.table
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.text import Text

from iavae import figures, reports, tables
from iavae.errors import ConfigError
from iavae.reports import page
from iavae.reports.record import Report
from iavae.tables import Results, Table


class ResultsError(ConfigError, ValueError):
  """The results files of a work directory are missing or damaged."""


def load(workdir: pathlib.Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Reads results.json and per_example.npz (arrays, first axis N).

  Raises:
    ResultsError: if a file is missing, damaged, or lacks something that the report shows.
  """
  again = f'run python launch.py with the same config and --workdir={workdir} again'
  path = workdir / 'results.json'
  try:
    results = json.loads(path.read_text(encoding='utf8'))
    missing = [key for key in _report(results).needed if key not in results]
    path = workdir / 'per_example.npz'
    with np.load(path) as arrays:
      per_example = dict(arrays)
  except FileNotFoundError:
    raise ResultsError(f'there is no {path}; {again}') from None
  except (AttributeError, OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
    raise ResultsError(f'{path} is damaged ({_one_line(error)}); {again}') from error
  if missing:
    raise ResultsError(f'results.json in {workdir} lacks {", ".join(missing)}; {again}')
  return results, per_example


def write(workdir: pathlib.Path) -> pathlib.Path:
  """Writes figures/*.png, tables.md and report.html into the work directory; returns its path.

  Every file is written whole or not at all.

  Raises:
    ResultsError: as `load`, or if a number that the report shows is not in the files.
  """
  results, per_example = load(workdir)
  report = _report(results)
  try:
    drawn = {name: shown.draw(results, per_example) for name, shown in report.figures.items()}
    images = {name: figures.png(figure) for name, figure in drawn.items()}
    text, summary = page.render(report, results, images), markdown(results)
  except KeyError as error:
    reason = f'the results in {workdir} lack {error}, as if written by another version'
    raise ResultsError(f'{reason}; run {report.command} --workdir={workdir} again') from error
  (workdir / 'figures').mkdir(exist_ok=True)
  for name, image in images.items():
    _replace(workdir / 'figures' / f'{name}.png', image)
  _replace(workdir / 'tables.md', summary.encode('utf8'))
  path = workdir / 'report.html'
  _replace(path, text.encode('utf8'))
  return path


def print_tables(results: Results, console: Console) -> None:
  """Prints every table and the findings to the terminal."""
  report = _report(results)
  for make in report.tables:
    _print_table(make(results), console)
  console.print()
  console.print(Text('Findings', style='bold'))
  for finding in report.findings(results):
    console.print(Text(f'- {finding}'))


def markdown(results: Results) -> str:
  """The tables that sum the results up, in Markdown, for a file beside a committed results.json."""
  report = _report(results)
  made = [make(results) for make in report.summary]
  shown = [tables.markdown(table) for table in made if table.rows]
  return '\n\n'.join((f'# {report.title(results)}', report.lead(results), *shown)) + '\n'


def _report(results: Results) -> Report:
  experiment = results.get('provenance', {}).get('config', {}).get('experiment')
  return reports.find(results.get('report', experiment))


def _print_table(table: Table, console: Console) -> None:
  console.print()
  console.print(Text(table.title, style='bold'))
  if table.rows:
    grid = rich.table.Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for i, column in enumerate(table.columns):
      header = textwrap.fill(column, 9, break_long_words=False, break_on_hyphens=False)
      grid.add_column(Text(header), justify='right' if i else 'left')
    for row in table.rows:
      grid.add_row(*map(Text, row), style='dim' if page.kind(row) == 'flagged' else '')
    console.print(grid)
  console.print(Text(table.note, style='dim'))


def _one_line(error: BaseException) -> str:
  return ' '.join(str(error).split()) or type(error).__name__


def _replace(path: pathlib.Path, content: bytes) -> None:
  temporary = path.with_name(f'.{path.name}.tmp')
  temporary.write_bytes(content)
  os.replace(temporary, path)
