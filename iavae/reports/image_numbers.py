"""What is in the results of an image experiment: which methods, over which seeds, how far apart?

`rows` holds one entry a method, seed and split, means over examples in nats; `comparisons` holds
`statistics.paired_comparison` of pairs of methods over the seeds.
"""

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

from iavae.reports.labels import BASE, CONTROLS, Group, adapted
from iavae.statistics import holm, p_values
from iavae.tables import Results

SIGNIFICANT = 0.05


def groups(results: Results) -> list[Group]:
  """Every data set, protocol and preset of the rows, in their order."""
  return list(dict.fromkeys(_group(row) for row in results['rows']))


def reduced(results: Results) -> str:
  """' (reduced preset)' if any row is of a preset that is not the full one, else ''."""
  names = dict.fromkeys(row['preset'] for row in results['rows'] if row['preset'] != 'full')
  return f' ({", ".join(names)} preset)' if names else ''


def methods(results: Results) -> list[str]:
  """Base, the method under test, the controls, then any other; only what is in the rows."""
  found = dict.fromkeys(row['method'] for row in results['rows'])
  known = (BASE, adapted(results), *CONTROLS)
  return [m for m in dict.fromkeys((*known, *found)) if m in found]


def by_seed(
  results: Results, group: Group, method: str, key: str, split: str = 'test'
) -> dict[int, float]:
  """One value a seed, in the order of the seeds; empty if there is none."""
  entries = {
    row['seed']: row[key]
    for row in results['rows']
    if _group(row) == group and (row['method'], row['split']) == (method, split)
  }
  return {seed: entries[seed] for seed in sorted(entries) if entries[seed] is not None}


def summary(
  results: Results, group: Group, method: str, key: str, split: str = 'test'
) -> tuple[float, float | None] | None:
  """(mean, sd) over seeds; sd is None with one seed; None without any value."""
  values = list(by_seed(results, group, method, key, split).values())
  return mean_and_sd(values) if values else None


def mean_and_sd(values: list[float]) -> tuple[float, float | None]:
  """Mean, and sd or None with one value."""
  return fmean(values), stdev(values) if len(values) > 1 else None


def gaps(results: Results, group: Group, method: str) -> dict[int, Mapping[str, Any]]:
  """The entries of `gaps` of a method by seed; empty where none was measured."""
  found = (g for g in results.get('gaps', ()) if _group(g) == group and g['method'] == method)
  return {entry['seed']: entry for entry in found}


def comparison(
  results: Results, group: Group, a: str, b: str, metric: str = 'elbo', split: str = 'test'
) -> Mapping[str, Any] | None:
  """The entry of `comparisons` for a against b; None if there is none."""
  wanted = {'dataset': group.dataset, 'split': split, 'metric': metric, 'a': a, 'b': b}
  found = (c for c in results['comparisons'] if wanted.items() <= c.items())
  return next(found, None)


def against_others(
  results: Results, group: Group, metric: str = 'elbo'
) -> dict[str, Mapping[str, Any]]:
  """The method under test against each other one on test data, by the name of the other.

  Each is an entry of `comparisons` and `p_holm`: its p-value, adjusted by Holm's method for all of
  these tests together.
  """
  main = adapted(results)
  found = {
    other: comparison(results, group, main, other, metric)
    for other in methods(results)
    if other != main
  }
  tested = {other: entry for other, entry in found.items() if entry is not None}
  adjusted = holm([entry['p_value'] for entry in tested.values()])
  return {
    other: {**entry, 'p_holm': p}
    for (other, entry), p in zip(tested.items(), adjusted, strict=True)
  }


def gains(
  results: Results, group: Group, metric: str = 'elbo', split: str = 'test'
) -> dict[str, Mapping[str, Any]]:
  """What each method gains on the base: entries of `comparisons`, by the name of the method."""
  found = {m: comparison(results, group, m, BASE, metric, split) for m in methods(results)}
  return {method: entry for method, entry in found.items() if entry is not None}


def each_p_value(results: Results, group: Group, entry: Mapping[str, Any]) -> dict[str, float]:
  """`statistics.p_values` of an entry of `comparisons`, from the rows; empty without a test."""
  if entry['p_value'] is None:
    return {}
  a, b = (by_seed(results, group, entry[side], entry['metric'], entry['split']) for side in 'ab')
  return p_values([value - b[seed] for seed, value in a.items()])


def shares(entries: Mapping[str, Mapping[str, Any]], main: str) -> dict[str, float]:
  """Each gain by that of the method under test; empty if that one may be none."""
  whole = entries.get(main)
  if whole is None or (whole['ci95'] or [whole['mean_difference']])[0] <= 0:
    return {}
  return {m: e['mean_difference'] / whole['mean_difference'] for m, e in entries.items()}


def _group(row: Mapping[str, Any]) -> Group:
  return Group(row['dataset'], row['protocol'], row['preset'])
