"""Cremer et al.'s levels and gaps as they are printed, and what they are called."""

from collections.abc import Mapping

import numpy as np

from iavae.gap_words import adding_up
from iavae.tables import Results

MODELS = {
  'regular_ffg': 'Regular, FFG',
  'regular_flow': 'Regular, Flow',
  'large_ffg': 'Large, FFG',
  'large_flow': 'Large, Flow',
  'noanneal_ffg': 'No Anneal, FFG',
  'noanneal_flow': 'No Anneal, Flow',
}
LEVELS = {
  'log_evidence': 'log p-hat(x)',
  'elbo_optimal_flow': 'L[q*_Flow]',
  'elbo_optimal': 'L[q*_FFG]',
  'elbo': 'L[q]',
}
GAPS = {
  'approximation_gap': 'Approximation',
  'amortization_gap': 'Amortization',
  'inference_gap': 'Inference gap',
}

FLOW_GAIN = 'flow_gain'  # L[q*_Flow] - L[q*_FFG]

Levels = Mapping[str, float | None]


def rounded(column: Results) -> dict[str, float | None]:
  """The levels of a column of results.json as the table prints them, nats."""
  found = {level: column[level] for level in LEVELS}
  return {k: None if value is None else round(value['mean'], 2) for k, value in found.items()}


def gaps(model: str, levels: Levels) -> dict[str, float | None]:
  """Gaps and flow gain of rounded levels, so that they add up; None where a level is missing."""
  known = {key: np.nan if value is None else value for key, value in levels.items()}
  optimal = known['elbo_optimal_flow' if model.endswith('_flow') else 'elbo_optimal']
  found = dict(zip(GAPS, adding_up(known['log_evidence'], optimal, known['elbo']), strict=True))
  found[FLOW_GAIN] = round(known['elbo_optimal_flow'] - known['elbo_optimal'], 2)
  return {key: None if np.isnan(gap) else gap for key, gap in found.items()}
