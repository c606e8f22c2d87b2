"""How are the results shown: `report.html` and its figures, and the tables in the terminal?

The page is made from `results.json` and `per_example.npz` of a work directory alone, and needs
nothing else: its figures are inside it, it opens offline and on a phone, and it prints.
"""

import base64
import html
import io
import json
import os
import pathlib
import re
import textwrap
import zipfile
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import rich.table
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.text import Text

from iavae import figures, tables
from iavae.errors import ConfigError
from iavae.findings import findings
from iavae.paper import Results
from iavae.tables import FLAG, Table

_TITLE = 'The amortization gap of IA-VAE on the synthetic model'
_COMMAND = 'python launch.py --config=configs/synthetic.py'
_NEEDED = ('table2', 'table3', 'table3_pair', 'references', 'refinement', 'seconds', 'provenance')

_TABLES: tuple[Callable[[Results], Table], ...] = (
  tables.agreement,
  tables.table_2,
  tables.table_3,
  tables.figure_7,
  tables.references,
  tables.controls,
  tables.refinement,
)


class _Shown(NamedTuple):
  below: str  # title of the table that the figure stands below, by the name of its function
  draw: Callable[..., Figure]
  caption: str


_FIGURES = {
  'figure_6': _Shown(
    'table_3',
    figures.figure_6,
    'Figure 6. The exact posterior of two examples, drawn by chance: brighter is denser. Level '
    'sets of its Laplace approximation; the posterior means inferred by VAE and IA-VAE.',
  ),
  'figure_7': _Shown(
    'figure_7',
    figures.figure_7,
    'Figure 7. ELBO by number of encoder parameters. Hollow: the values that the paper prints. A '
    'band that leaves the panel belongs to a width with a dead model among its seeds.',
  ),
  'gaps': _Shown(
    'controls',
    figures.figure_gaps,
    'What each method leaves below log p(x): the approximation gap of any mean-field posterior, '
    'and the amortization gap of the median model.',
  ),
  'gap_histogram': _Shown(
    'references',
    figures.figure_gap_histogram,
    'The amortization gap of every example, pair of Table 3. A few examples hold most of it.',
  ),
  'refinement': _Shown(
    'refinement',
    figures.figure_refinement,
    'What a number of gradient steps on the posterior adds to each encoder. Dotted: IA-VAE without '
    'any.',
  ),
}

_STYLE = """
:root { color-scheme: light dark; --ink: #22262b; --soft: #68707a; --line: #dfe3e8; --page: #fff;
  --tint: #f5f7f9; --good: #00795a; --bad: #b34a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e6ea; --soft: #9aa3ad; --line: #343a41;
  --page: #15181b; --tint: #1d2125; --good: #4fc7a1; --bad: #f0965a; } }
* { box-sizing: border-box; }
body { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.2rem 4rem; background: var(--page);
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, 'Segoe UI', sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; font-weight: 600; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; font-weight: 600; margin: 3rem 0 .7rem; }
.lead, .note, figcaption { color: var(--soft); }
.note, figcaption { font-size: .86rem; max-width: 46rem; margin: .6rem 0 0; }
ul { padding-left: 1.1rem; } li { margin: .45rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .86rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .55rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 500; white-space: normal; vertical-align: bottom;
  border-bottom-color: var(--soft); }
th:first-child { text-align: left; } tbody th { font-weight: 500; }
.flagged { background: var(--tint); color: var(--soft); }
.summary th, .summary td { border-bottom-color: transparent; background: var(--tint); }
.inside { color: var(--good); } .outside { color: var(--bad); font-weight: 600; }
figure { margin: 1.6rem 0 0; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: 4px; }
pre { background: var(--tint); padding: .8rem 1rem; border-radius: 4px; font-size: .8rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; } th, td { padding: .15rem .3rem; } table { font-size: 8pt; } }
"""


class ResultsError(ConfigError, ValueError):
  """The results files of a work directory are missing or damaged."""


def load(workdir: pathlib.Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Reads results.json and per_example.npz (arrays, first axis N).

  Raises:
    ResultsError: if a file is missing, damaged, or lacks an experiment that the report shows.
  """
  again = f'run {_COMMAND} --workdir={workdir} again'
  path = workdir / 'results.json'
  try:
    results = json.loads(path.read_text(encoding='utf8'))
    missing = [key for key in _NEEDED if key not in results]
    path = workdir / 'per_example.npz'
    with np.load(path) as arrays:
      per_example = dict(arrays)
  except FileNotFoundError:
    raise ResultsError(f'there is no {path}; {again}') from None
  except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
    raise ResultsError(f'{path} is damaged ({_one_line(error)}); {again}') from error
  if missing:
    raise ResultsError(f'results.json in {workdir} lacks {", ".join(missing)}; {again}')
  return results, per_example


def write(workdir: pathlib.Path) -> pathlib.Path:
  """Writes figures/*.png and report.html into the work directory; returns the path of the page.

  Every file is written whole or not at all.

  Raises:
    ResultsError: as `load`, or if a number that the report shows is not in the files.
  """
  results, per_example = load(workdir)
  try:
    images = {name: _png(f.draw(results, per_example)) for name, f in _FIGURES.items()}
    page = _page(results, images)
  except KeyError as error:
    text = f'the results in {workdir} lack {error}, as if written by another version'
    raise ResultsError(f'{text}; run {_COMMAND} --workdir={workdir} again') from error
  (workdir / 'figures').mkdir(exist_ok=True)
  for name, image in images.items():
    _replace(workdir / 'figures' / f'{name}.png', image)
  path = workdir / 'report.html'
  _replace(path, page.encode('utf8'))
  return path


def print_tables(results: Results, console: Console) -> None:
  """Prints every table and the findings to the terminal."""
  for make in _TABLES:
    title, columns, rows, note = make(results)
    console.print()
    console.print(Text(title, style='bold'))
    if rows:
      grid = rich.table.Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
      for i, column in enumerate(columns):
        header = textwrap.fill(column, 9, break_long_words=False, break_on_hyphens=False)
        grid.add_column(Text(header), justify='right' if i else 'left')
      for row in rows:
        grid.add_row(*map(Text, row), style='dim' if _kind(row) == 'flagged' else '')
      console.print(grid)
    console.print(Text(note, style='dim'))
  console.print()
  console.print(Text('Findings', style='bold'))
  for finding in findings(results):
    console.print(Text(f'- {finding}'))


def _one_line(error: BaseException) -> str:
  return ' '.join(str(error).split()) or type(error).__name__


def _replace(path: pathlib.Path, content: bytes) -> None:
  temporary = path.with_name(f'.{path.name}.tmp')
  temporary.write_bytes(content)
  os.replace(temporary, path)


def _png(figure: Figure) -> bytes:
  buffer = io.BytesIO()
  # without the name and version of matplotlib the same numbers give the same bytes
  figure.savefig(buffer, format='png', dpi=160, facecolor='white', metadata={'Software': None})
  return buffer.getvalue()


def _typeset(text: str) -> str:
  """Escaped text, a hyphen before a number as the minus that it means."""
  return html.escape(re.sub(r'(?<![\w.)-])-(?=\d)', '\N{MINUS SIGN}', text))


def _page(results: Results, images: dict[str, bytes]) -> str:
  said = ''.join(f'<li>{_typeset(finding)}</li>' for finding in findings(results))
  sections = ''.join(_section(make, results, images) for make in _TABLES)
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{_TITLE}</title><style>{_STYLE}</style></head>\n<body>\n<h1>{_TITLE}</h1>\n'
    '<p class="lead">Instance-Adaptive Parametrization for Amortized Variational Inference '
    '(arXiv:2604.06796), section 5.1, reproduced and controlled. All values in nats.</p>\n'
    f'<ul>{said}</ul>\n{sections}{_protocol(results)}</body></html>\n'
  )


def _section(make: Callable[[Results], Table], results: Results, images: dict[str, bytes]) -> str:
  table = make(results)
  parts = [f'<h2>{_typeset(table.title)}</h2>']
  if table.rows:
    parts.append(_grid(table))
  parts.append(f'<p class="note">{_typeset(table.note)}</p>')
  for name, (below, _, caption) in _FIGURES.items():
    if below == make.__name__ and table.rows:
      source = f'data:image/png;base64,{base64.b64encode(images[name]).decode()}'
      text = _typeset(caption)
      parts.append(
        f'<figure><img alt="{text}" src="{source}"><figcaption>{text}</figcaption></figure>'
      )
  return '<section>' + '\n'.join(parts) + '</section>\n'


def _grid(table: Table) -> str:
  head = ''.join(f'<th scope="col">{_typeset(column)}</th>' for column in table.columns)
  return (
    f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>'
    + '\n'.join(_row(row) for row in table.rows)
    + '</tbody></table></div>'
  )


def _kind(row: tuple[str, ...]) -> str:
  if row[0].startswith('mean') or row[0].endswith(('paper', 'paper, mean')):
    return 'summary'
  return 'flagged' if row[0].endswith(FLAG) else 'plain'


def _row(row: tuple[str, ...]) -> str:
  first, *rest = map(_typeset, row)
  verdicts = ('inside', 'outside')
  cells = ''.join(
    f'<td class="{cell}">{cell}</td>' if cell in verdicts else f'<td>{cell}</td>' for cell in rest
  )
  return f'<tr class="{_kind(row)}"><th scope="row">{first}</th>{cells}</tr>'


def _protocol(results: Results) -> str:
  provenance, seconds = results['provenance'], results['seconds']
  command = provenance.get('command', f'{_COMMAND} --config.seed={provenance["seed"]}')
  entries: Iterable[tuple[str, str]] = (
    ('seed', str(provenance['seed'])),
    ('commit', str(provenance['git_commit'])),
    ('versions', ', '.join(f'{name} {v}' for name, v in provenance['versions'].items())),
    ('device', str(provenance['device'])),
    ('run time', ', '.join(f'{stage} {value:.1f} s' for stage, value in seconds.items())),
  )
  rows = ''.join(f'<dt>{name}</dt><dd>{html.escape(value)}</dd>' for name, value in entries)
  config = html.escape(json.dumps(provenance['config'], indent=2))
  return (
    '<section><h2>Protocol</h2>\n<p class="note">The command that makes these numbers again, with '
    f'the config below:</p><pre>{html.escape(command)}</pre>\n<dl>{rows}</dl>\n'
    f'<pre>{config}</pre></section>\n'
  )
