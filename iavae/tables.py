"""What is a table of a report, and how are numbers written in it?"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Results = Mapping[str, Any]  # results.json

FLAG = '†'  # follows the first cell of a row that is set back, such as one of a dead model


class Table(NamedTuple):
  """A table as text: one cell a column in every row; without rows it was skipped."""

  title: str
  columns: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]
  note: str


def number(value: float, digits: int = 2) -> str:
  """The number in fixed notation; what rounds to zero has no sign."""
  return f'{round(value, digits) + 0.0:.{digits}f}'


def signed(value: float, digits: int = 3) -> str:
  """A difference: as `number`, with a sign unless it rounds to zero."""
  text = number(value, digits)
  return f'+{text}' if float(text) > 0 else text


def spread(mean: float, sd: float | None, digits: int = 2) -> str:
  """Mean ± sd, in one unit; the mean alone where there is no sd."""
  return number(mean, digits) + ('' if sd is None else f' ± {number(sd, digits)}')


def probability(p: float) -> str:
  """A p-value to three digits; '< 0.001' below what they can show."""
  return '< 0.001' if p < 0.001 else number(p, 3)


def joined(parts: Sequence[str]) -> str:
  """The parts as a list in a sentence: 'a, b and c'."""
  return ' and '.join(filter(None, (', '.join(parts[:-1]), parts[-1])))


def markdown(table: Table) -> str:
  """The table in Markdown, its title above and its note below."""

  def line(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'

  rule = ('---', *('---:',) * (len(table.columns) - 1))
  grid = '\n'.join(map(line, (table.columns, rule, *table.rows)))
  return '\n\n'.join((f'**{table.title}**', *((grid,) if table.rows else ()), table.note))
