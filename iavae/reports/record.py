"""What is a report: which words, tables and figures show the results of a kind of experiment?"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from iavae.tables import Results, Table

PerExample = Mapping[str, np.ndarray]  # per_example.npz


class Shown(NamedTuple):
  """A figure and its place on the page; it is left out where the table above it has no rows."""

  below: Callable[[Results], Table]  # the maker of the table that it stands below
  draw: Callable[[Results, PerExample], Figure]
  caption: str


class Report(NamedTuple):
  """Everything that is made from results files; nothing is known beforehand.

  Whatever reads the files raises KeyError for a number that is not in them.
  """

  command: str  # the one that makes such results
  needed: tuple[str, ...]  # keys of results.json without which there is no report
  title: Callable[[Results], str]
  lead: Callable[[Results], str]  # what was done, below the title
  findings: Callable[[Results], list[str]]
  tables: tuple[Callable[[Results], Table], ...]
  summary: tuple[Callable[[Results], Table], ...]  # the tables that go into a Markdown file
  figures: Mapping[str, Shown]  # by file name, without ending
