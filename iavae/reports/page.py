"""How does a report look as one HTML page, which opens offline, on a phone, and prints?"""

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Mapping

from iavae.reports.record import Report
from iavae.tables import FLAG, Results, Table

_STYLE = """
:root { color-scheme: light dark; --ink: #22262b; --soft: #68707a; --line: #dfe3e8; --page: #fff;
  --tint: #f5f7f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e6ea; --soft: #9aa3ad; --line: #343a41;
  --page: #15181b; --tint: #1d2125; } }
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
th:first-child { text-align: left; }
tbody th { font-weight: 500; white-space: normal; min-width: 7.5rem; }
.flagged { background: var(--tint); color: var(--soft); }
.summary th, .summary td { border-bottom-color: transparent; background: var(--tint); }
figure { margin: 1.6rem 0 0; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: 4px; }
pre { background: var(--tint); padding: .8rem 1rem; border-radius: 4px; font-size: .8rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; } th, td { padding: .15rem .3rem; } table { font-size: 8pt; } }
"""


def render(report: Report, results: Results, images: Mapping[str, bytes]) -> str:
  """The whole page; `images` are PNG files by the names of `report.figures`."""
  title = _typeset(report.title(results))
  said = ''.join(f'<li>{_typeset(finding)}</li>' for finding in report.findings(results))
  sections = ''.join(_section(report, make, results, images) for make in report.tables)
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n'
    f'<p class="lead">{_typeset(report.lead(results))}</p>\n'
    f'<ul>{said}</ul>\n{sections}{_protocol(report, results)}</body></html>\n'
  )


def kind(row: tuple[str, ...]) -> str:
  """'summary', 'flagged' or 'plain': how a row of a table is set, by its first cell."""
  if row[0].startswith('mean') or row[0].endswith(('paper', 'paper, mean')):
    return 'summary'
  return 'flagged' if row[0].endswith(FLAG) else 'plain'


def _typeset(text: str) -> str:
  """Escaped text, a hyphen before a number as the minus that it means."""
  return html.escape(re.sub(r'(?<![\w.)-])-(?=\d)', '\N{MINUS SIGN}', text))


def _section(
  report: Report, make: Callable[[Results], Table], results: Results, images: Mapping[str, bytes]
) -> str:
  table = make(results)
  parts = [f'<h2>{_typeset(table.title)}</h2>']
  if table.rows:
    parts.append(_grid(table))
  parts.append(f'<p class="note">{_typeset(table.note)}</p>')
  for name, shown in report.figures.items():
    if shown.below == make and table.rows:
      source = f'data:image/png;base64,{base64.b64encode(images[name]).decode()}'
      text = _typeset(shown.caption)
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


def _row(row: tuple[str, ...]) -> str:
  first, *rest = map(_typeset, row)
  cells = ''.join(f'<td>{cell}</td>' for cell in rest)
  return f'<tr class="{kind(row)}"><th scope="row">{first}</th>{cells}</tr>'


def _protocol(report: Report, results: Results) -> str:
  provenance, seconds = results['provenance'], results['seconds']
  command = provenance.get('command', f'{report.command} --config.seed={provenance["seed"]}')
  entries: Iterable[tuple[str, str]] = (
    ('seed', str(provenance['seed'])),
    ('commit', str(provenance['git_commit'])),
    ('versions', ', '.join(f'{name} {v}' for name, v in provenance['versions'].items())),
    ('device', str(provenance['device'])),
    *((('data', json.dumps(results['data'])),) if 'data' in results else ()),
    ('run time', ', '.join(f'{stage} {value:.1f} s' for stage, value in seconds.items())),
  )
  rows = ''.join(f'<dt>{name}</dt><dd>{html.escape(value)}</dd>' for name, value in entries)
  config = html.escape(json.dumps(provenance['config'], indent=2))
  return (
    '<section><h2>Protocol</h2>\n<p class="note">The command that makes these numbers again, with '
    f'the config below:</p><pre>{html.escape(command)}</pre>\n<dl>{rows}</dl>\n'
    f'<pre>{config}</pre></section>\n'
  )
