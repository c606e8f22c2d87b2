"""What do the numbers of all examples say: means, standard errors, how far to trust them?"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from iavae import gap_words
from iavae.evidence import MIN_TAIL, Evidence, max_pareto_k, tail_size
from iavae.gap_parts import Protocol
from iavae.statistics import mean_and_error

NUM_WORST = 16
_TENTH = 0.1
_ESTIMATORS = {
  'q': 'IWAE from q',
  'optimal': 'IWAE from the best mean-field q',
  'optimal_flow': 'IWAE from the best flow',
  'optimal_own': "IWAE from the best of q's family",
  'ais_q': 'AIS from q',
  'ais_prior': 'AIS from N(0, I)',
}

Summary = dict[str, Any]
Found = Mapping[str, Evidence]  # by estimator, each field [N] or [the first few]


def arrays(found: Found, exact: np.ndarray | None) -> dict[str, np.ndarray]:
  """{'<estimator>/<quantity>': [N]}, and 'exact/log_evidence' where it is known."""
  all_of = {f'{name}/{key}': v for name, e in found.items() for key, v in e._asdict().items()}
  return all_of | ({} if exact is None else {'exact/log_evidence': exact})


def summarize(found: Found, exact: np.ndarray | None, family: str, protocol: Protocol) -> Summary:
  """Everything a report shows, ready for JSON; nats.

  log p(x) is the exact one if known, else the estimator of the highest MEAN over all examples: each
  is below log p(x) in expectation, a maximum for every example would not be.

  Args:
    exact: log p(x), [N], or None.
    family: of q, 'mean_field', 'flow' or 'own'; the gaps of that family are q's.

  Returns:
    num_examples, family; 'levels': log_evidence, elbo, elbo_optimal, ..; 'gaps': family ->
    approximation, amortization, inference; 'estimators'; 'log_evidence_by'; 'concentration';
    'convergence': family -> what twice the steps add; 'worst': numbers of the examples of the
    largest gaps; 'warnings', 'verdict': sentences.
  """
  best, evidence = _log_evidence(found, exact)
  gaps = {
    name: _gaps(evidence, found[key].elbo, found['q'].elbo)
    for name, key in gap_words.OPTIMAL.items()
    if key in found
  }
  levels = {'log_evidence': evidence, 'elbo': found['q'].elbo} | {
    f'elbo_{key}': found[key].elbo for key in gap_words.OPTIMAL.values() if key in found
  }
  known = family if family in gaps else 'own'
  lost = found[gap_words.OPTIMAL[known]].elbo - found['q'].elbo
  summary = {
    'num_examples': len(evidence),
    'family': known,
    'log_evidence_by': best,
    'levels': {name: mean_and_error(values) for name, values in levels.items()},
    'gaps': gaps,
    'estimators': [
      {'label': _label(name, family)} | _estimator(name, found, evidence, protocol)
      for name in _ESTIMATORS
      if name in found
    ],
    'concentration': _concentration(lost),
    'convergence': {
      name: _convergence(found[key].elbo, found[f'{key}_doubled'].elbo)
      for name, key in gap_words.OPTIMAL.items()
      if f'{key}_doubled' in found
    },
    'worst': np.argsort(-lost, kind='stable')[:NUM_WORST].tolist(),
  }
  summary['warnings'] = gap_words.warnings(summary)
  return summary | {'verdict': gap_words.verdict(summary)}


def _log_evidence(found: Found, exact: np.ndarray | None) -> tuple[str, np.ndarray]:
  """Which estimator gives log p(x), and its values, [N]."""
  if exact is not None:
    return 'exact', exact
  count = len(found['q'].elbo)
  values = {name: found[name].log_evidence for name in _ESTIMATORS if name in found}
  whole = {name: v for name, v in values.items() if len(v) == count}
  best = max(whole, key=lambda name: whole[name].mean(dtype=np.float64))
  return best, whole[best]


def _gaps(evidence: np.ndarray, optimal: np.ndarray, elbo: np.ndarray) -> Summary:
  """Standard errors are those of the differences of each example."""
  return {
    'approximation': mean_and_error(evidence - optimal),
    'amortization': mean_and_error(optimal - elbo),
    'inference': mean_and_error(evidence - elbo),
  }


def _label(name: str, family: str) -> str:
  if name == 'ais_q' and family != 'mean_field':
    return "AIS from a Gaussian of q's moments"
  return _ESTIMATORS[name]


def _estimator(name: str, found: Found, evidence: np.ndarray, protocol: Protocol) -> Summary:
  """One estimate of log p(x), beside the one that is taken, on the examples that it was run for.

  'share_bad_k' is None where k is unknown, of too few draws; 'pareto_k' also where it is infinite.
  """
  own, is_annealed = found[name], name.startswith('ais')
  num_draws = protocol.annealing.num_chains if is_annealed else protocol.num_samples
  count, has_tail = len(own.elbo), tail_size(num_draws) >= MIN_TAIL
  # Where all but a few weights vanish beside the largest there is no k, and nothing is worse
  k = np.where(np.isnan(own.pareto_k), np.inf, own.pareto_k)
  noise = np.sqrt(np.sum(own.standard_error.astype(np.float64) ** 2)) / count
  return {
    'name': name,
    'num_examples': count,
    'num_draws': num_draws,
    **mean_and_error(own.log_evidence),
    'monte_carlo_error': float(noise),
    'below_taken': mean_and_error(evidence[:count] - own.log_evidence),
    'effective_samples': float(np.median(own.effective_samples)),
    'pareto_k': float(np.median(k)) if has_tail and np.isfinite(np.median(k)) else None,
    'share_bad_k': float(np.mean(k > max_pareto_k(num_draws))) if has_tail else None,
  }


def _concentration(lost: np.ndarray) -> Summary:
  """How few examples hold the gap: the share of the worst tenth, and how many hold half of it."""
  ordered = np.sort(np.maximum(lost, 0).astype(np.float64))[::-1]
  total = ordered.sum()
  if not total:
    return {'share_of_worst_tenth': None, 'share_that_holds_half': None}
  tenth = max(1, round(_TENTH * len(ordered)))
  half = int(np.searchsorted(np.cumsum(ordered), total / 2)) + 1
  return {
    'share_of_worst_tenth': float(ordered[:tenth].sum() / total),
    'share_that_holds_half': half / len(ordered),
  }


def _convergence(optimal: np.ndarray, doubled: np.ndarray) -> Summary:
  """What twice the steps add to L[q*] of the first examples, by the same draws."""
  count = len(doubled)
  added = mean_and_error(doubled - optimal[:count])
  return added | {
    'num_examples': count,
    'converged': bool(abs(added['mean']) < gap_words.CONVERGED),
  }
