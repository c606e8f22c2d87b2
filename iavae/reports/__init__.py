"""Reports: which one shows the results of which experiment?

A new kind of experiment is one record `REPORT` in a file here, and a line below.
"""

from iavae import figures  # noqa: F401  before any of matplotlib, see there
from iavae.reports import cost, cremer, gaps, images, synthetic, synthetic_methods
from iavae.reports.record import Report

_REPORTS = {
  'synthetic': synthetic.REPORT,
  'synthetic_methods': synthetic_methods.REPORT,
  'cost': cost.REPORT,
  'cremer': cremer.REPORT,
  'gaps': gaps.REPORT,
} | dict.fromkeys(('images', 'controls', 'methods'), images.REPORT)


def find(experiment: str | None) -> Report:
  """The report of an experiment, by its name in the config; None is the synthetic one.

  Raises:
    ValueError: for an experiment without a report.
  """
  if experiment is None:
    return synthetic.REPORT
  if experiment not in _REPORTS:
    raise ValueError(f'there is no report of an experiment {experiment!r}')
  return _REPORTS[experiment]
