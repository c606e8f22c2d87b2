"""What do diagnostics say: what do the latents carry, and what does a hypernetwork do?

`diagnostics` of results.json holds one entry a method and seed, see `diagnostics.make_measure`;
results without it have tables without rows.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean, stdev
from typing import Any, NamedTuple

from iavae.reports.labels import Group
from iavae.tables import Results, Table, number, spread

Entry = Mapping[str, Any]
Label = Callable[[Results, str], str]  # (results, method) -> the method in words

COLLAPSED_KL = 0.1  # nats, of all latents together
UNUSED = 0.1  # nats of log p(x | z) that another example's z costs
FEW = 0.25  # of the latents
_CEILING = 0.1  # nats below log N


class Latents(NamedTuple):
  """What a report shows of `diagnostics`: two tables, and sentences; each of results."""

  carried: Callable[[Results], Table]
  modulations: Callable[[Results], Table]
  findings: Callable[[Results], list[str]]


def make(label: Label, where: Callable[[Results], str] = lambda results: '') -> Latents:
  """The parts of a report; `where` ends the titles of its tables."""

  def titled(table: Table, results: Results) -> Table:
    return table._replace(title=f'{table.title}{where(results)}')

  return Latents(
    lambda results: titled(carried(results, label), results),
    lambda results: titled(modulations(results, label), results),
    lambda results: findings(results, label),
  )


def by_method(results: Results, label: Label) -> dict[str, list[Entry]]:
  """The entries of each method, by its name in words, over the seeds."""
  entries = results.get('diagnostics', ())
  groups = dict.fromkeys(_group(entry) for entry in entries)
  found: dict[str, list[Entry]] = {}
  for entry in entries:
    group = _group(entry)
    prefix = f'{Group(*group).name}: ' if len(groups) > 1 else ''
    found.setdefault(prefix + label(results, entry['method']), []).append(entry)
  return found


def carried(results: Results, label: Label) -> Table:
  """What the latents of each method carry, and whether its posteriors are calibrated."""
  rows = tuple(
    (
      name,
      _cell(entry['kl'] for entry in entries),
      _cell((entry['active_units'] for entry in entries), 1),
      _information(entries),
      _aggregate_kl(entries),
      _cell(entry['latent_use'] for entry in entries),
      _cell(_of(entries, 'sbc', 'coverage_active')),
      _cell(_of(entries, 'sbc', 'num_rejected'), 1),
    )
    for name, entries in by_method(results, label).items()
  )
  entries = results.get('diagnostics', ())
  size = _counts(entry['latent_dim'] for entry in entries)
  return Table(
    'What the latents carry',
    (
      *('method', 'KL', f'active units, of {size}', 'mutual information', 'aggregate KL'),
      *('latent use', '90 % intervals cover', f'not calibrated, of {size}'),
    ),
    rows,
    _note(entries) if rows else 'Nothing was measured.',
  )


def modulations(results: Results, label: Label) -> Table:
  """How large the modulations are, and how much of them depends on the example."""
  found = {
    name: [entry['modulation'] for entry in entries]
    for name, entries in by_method(results, label).items()
    if entries[0]['modulation'] is not None
  }
  rows = []
  for name, entries in found.items():
    per_layer = [entry['relative_norm_per_layer'] for entry in entries]
    means = {layer: fmean(norms[layer] for norms in per_layer) for layer in per_layer[0]}
    largest = max(means, key=means.__getitem__)
    rows.append(
      (
        name,
        _cell((entry['relative_norm'] for entry in entries), 3),
        f'{largest}: {number(means[largest], 3)}',
        _cell((100 * entry['share_varying'] for entry in entries), 1),
        _cell((entry['effective_rank'] for entry in entries), 1),
      )
    )
  count = _counts(entry['num_examples'] for entries in found.values() for entry in entries)
  return Table(
    'What the hypernetworks do',
    ('method', 'size of h(x), by that of phi', 'largest layer', 'varying, %', 'effective rank'),
    tuple(rows),
    f'The first {count} examples. Size: mean of ||h(x)|| / ||phi|| over all layers. Varying: '
    'E ||h - E h||^2 / E ||h||^2, 0 if all examples get the same. Effective rank: exp of the '
    'entropy of the shares of variance along the principal directions of h(x).'
    if rows
    else 'No hypernetwork was diagnosed.',
  )


def findings(results: Results, label: Label) -> list[str]:
  """Collapse in words: of the first method, and of others where theirs is another."""
  config, said, of_first = results['provenance']['config'], [], None
  option = _option(results)
  for name, entries in by_method(results, label).items():
    found = collapse(_mean(entries), config, option)
    of_first = found if of_first is None else of_first
    if found is of_first or found.keys() != of_first.keys():
      said += [f'{name}: {sentence}' for sentence in found.values()]
  return said


def collapse(measured: Entry, config: Mapping[str, Any], option: str = '') -> dict[str, str]:
  """What is wrong with latents, by its name, in a sentence with what to try; {} if nothing is.

  'collapsed': KL below .1 nats or no active unit; else 'few': active units, under a quarter;
  'unused': another example's z costs less than .1 nats; 'ceiling': the mutual information is at
  log N and says no more.

  Args:
    measured: an entry of `diagnostics`, or a mean of some.
    config: provenance['config'], which tells what there is to change.
    option: the flag that says how many examples are looked at; '': there is none.
  """
  kl, active, size = (measured[key] for key in ('kl', 'active_units', 'latent_dim'))
  remedies, said = _remedies(config), {}
  if kl < COLLAPSED_KL or active < 0.5:
    said['collapsed'] = (
      f'posterior collapse: the KL is {number(kl)} nats and {number(active, 0)} of {size} latents '
      f'are active, so z says next to nothing of x{remedies}.'
    )
  elif active < FEW * size:
    said['few'] = (
      f'partial posterior collapse: {number(active, 0)} of {size} latents are active{remedies}.'
    )
  if measured['latent_use'] < UNUSED:
    said['unused'] = (
      f"the decoder hardly reads z: another example's costs {number(measured['latent_use'])} nats "
      f'of log p(x given z){"" if said else _weaker(config)}.'
    )
  if _at_ceiling(measured):
    more = f'; more ({option}) could show more' if option else ''
    said['ceiling'] = (
      f'the mutual information is at log {measured["num_examples"]}, the most that so many '
      f'examples can show: z tells them apart{more}.'
    )
  return said


def _remedies(config: Mapping[str, Any]) -> str:
  model, tried = config.get('model'), []
  if model is None:  # the decoder is the truth
    return ''
  if 'annealing_epochs' in config.get('training', {}):  # of Cremer et al.
    epochs = config['training']['annealing_epochs']
    return f'. Try a longer annealing (--config.training.annealing_epochs, now {epochs})'
  if config['pretrain']['num_epochs']:
    epochs = config['pretrain']['warmup_epochs']
    tried.append(f'a longer warm-up of the KL (--config.pretrain.warmup_epochs, now {epochs})')
  if model['decoder'] == 'pixelcnn':
    tried.append(_SMALLER)
  if 'mlp' in (model['encoder'], model['decoder']) and model['initialization'] != 'lecun':
    tried.append('--config.model.initialization=lecun')
  if model['encoder'] == 'mlp':
    tried.append('training by the method aggressive from scratch (--config.pretrain.num_epochs=0)')
  return f'. Try {", or ".join(tried)}' if tried else ''


_SMALLER = (
  'a decoder that sees fewer pixels (a shorter --config.model.kernel_sizes, or '
  '--config.model.decoder=mlp)'
)


def _option(results: Results) -> str:
  if results.get('report') == 'gaps':
    return '--gaps.num_examples'
  options = {'evaluation': 'diagnostic_examples', 'gaps': 'num_examples'}
  sections = [section for section in options if section in results['provenance']['config']]
  return f'--config.{sections[0]}.{options[sections[0]]}' if sections else ''


def _weaker(config: Mapping[str, Any]) -> str:
  is_pixelcnn = config.get('model', {}).get('decoder') == 'pixelcnn'
  return f'. Try {_SMALLER}' if is_pixelcnn else _remedies(config)


def _at_ceiling(measured: Entry) -> bool:
  information = measured['mutual_information']
  return information is not None and information > math.log(measured['num_examples']) - _CEILING


def _mean(entries: list[Entry]) -> Entry:
  """Means over the seeds of what `collapse` reads."""
  keys = ('kl', 'active_units', 'latent_use', 'mutual_information')
  known = {key: [entry[key] for entry in entries] for key in keys}
  means = {key: None if None in values else fmean(values) for key, values in known.items()}
  return {key: entries[0][key] for key in ('latent_dim', 'num_examples')} | means


def _group(entry: Entry) -> tuple[Any, ...]:
  return tuple(entry.get(field) for field in Group._fields)


def _counts(values: Iterable[int]) -> str:
  return ', '.join(map(str, sorted(set(values))))


def _of(entries: list[Entry], part: str, key: str) -> list[float | None]:
  return [entry[part] and entry[part][key] for entry in entries]


def _cell(values: Iterable[float | None], digits: int = 2) -> str:
  known = [value for value in values if value is not None]
  if not known:
    return ''
  return spread(fmean(known), stdev(known) if len(known) > 1 else None, digits)


def _information(entries: list[Entry]) -> str:
  cell = _cell(entry['mutual_information'] for entry in entries)
  return f'≥ {cell}' if _at_ceiling(_mean(entries)) else cell


def _aggregate_kl(entries: list[Entry]) -> str:
  cell = _cell(entry['aggregate_kl'] for entry in entries)
  return f'≤ {cell}' if cell and _at_ceiling(_mean(entries)) else cell


def _note(entries: list[Entry]) -> str:
  count = _counts(entry['num_examples'] for entry in entries)
  simulated = _counts(entry['sbc']['num_simulations'] for entry in entries if entry['sbc'])
  return (
    f'The first {count} of the examples that are evaluated, nats; ±: sd over seeds. Active: the '
    'posterior mean '
    'varies by more than .01 between examples. Mutual information: of z and which of the examples '
    'it is from, at most the log of their number; the rest of the KL is that of the aggregated '
    'posterior to the prior; neither is known for families that cannot evaluate any z. Latent use: '
    "log p(x given z) minus the same with another example's z. Intervals and calibration: of "
    f'{simulated or "no"} z and x drawn from the model itself: exact posteriors cover .90 (given '
    'of the active latents), and their ranks of z are uniform (chi-square, p < .05 by Holm).'
  )
