"""What do the results of an image experiment say, in plain sentences?

They come out right whichever way the numbers fall, and claim no more than the tests allow: a method
'beats' another only where p < .05, adjusted by Holm's method where there are several controls.
"""

from collections.abc import Mapping
from typing import Any

from iavae import paper
from iavae.reports import image_numbers as numbers
from iavae.reports import labels
from iavae.reports.image_numbers import SIGNIFICANT
from iavae.reports.labels import BASE, Group
from iavae.tables import Results, joined, number, probability, signed

_WITHOUT_X = ('continued', 'decoder_only', 'encoder_only', 'static', 'wider')

# What it means if IA-VAE beats the control, and if that is not shown.
_MEANINGS = {
  'continued': (
    'further training does not explain all of the gain',
    'no gain beyond that of further training is shown',
  ),
  'decoder_only': (
    'training the decoder does not explain all of the gain',
    'no gain beyond that of training the decoder is shown',
  ),
  'encoder_only': (
    'fine-tuning the encoder does not explain all of the gain',
    'no gain beyond that of fine-tuning the encoder is shown',
  ),
  'static': ('reading x is worth something', 'no use of reading x is shown'),
  'shuffled': ('which x it reads matters', 'that it matters which x it reads is not shown'),
  'wider': (
    'the number of parameters does not explain all of the gain',
    'no gain beyond that of as many plain parameters is shown',
  ),
}


def findings(results: Results) -> list[str]:
  """What the numbers say in plain sentences, test data, nats; absent methods are left out."""
  said = [_reduced(results), _stand_in(results)]
  for group in numbers.groups(results):
    said += [
      _gain(results, group),
      _published(results, group),
      _verdict(results, group),
      *(_control(results, group, other) for other in _MEANINGS),
      _inference_alone(results, group),
      _iwae(results, group),
    ]
  return [sentence for sentence in said if sentence]


def outcome(entry: Mapping[str, Any], p_value: float | None) -> str:
  """'beats', 'misses', 'open' or 'untested': what a comparison of a with b allows to say of a."""
  if p_value is None:
    return 'untested'
  if p_value < SIGNIFICANT:
    return 'beats'
  return 'misses' if entry['ci95'][1] < 0 else 'open'


def _told(entry: Mapping[str, Any], other: str, p_value: float | None, adjusted: str = '') -> str:
  """What a does to b, with the numbers that say so; a is the subject of the sentence."""
  lead, verdict = entry['mean_difference'], outcome(entry, p_value)
  if verdict == 'untested':
    seeds = 'one seed' if entry['num_seeds'] == 1 else f'{entry["num_seeds"]} equal differences'
    return f'is at {signed(lead)} nats from {other}, which {seeds} cannot test'
  low, high = map(signed, entry['ci95'])
  sign = '' if p_value < 0.001 else '= '
  sure = f'95% CI {low} to {high}, p {sign}{probability(p_value)}{adjusted}'
  if verdict == 'open':
    return f'is not shown to beat {other} ({signed(lead)} nats, {sure})'
  verb = 'beats' if verdict == 'beats' else 'falls short of'
  return f'{verb} {other} by {number(abs(lead), 3)} nats ({sure})'


def _reduced(results: Results) -> str | None:
  if not numbers.reduced(results):
    return None
  return (
    f"Not the paper's protocol{numbers.reduced(results)}: the values say nothing about those of "
    'its Table 4.'
  )


def _stand_in(results: Results) -> str | None:
  if labels.is_papers(results):
    return None
  name = labels.label(results, labels.adapted(results))
  return f"The method under test is {name}, not the paper's."


def _gain(results: Results, group: Group) -> str | None:
  entry = numbers.gains(results, group).get(labels.adapted(results))
  if entry is None:
    return None
  count = entry['num_seeds']
  over = f'over {count} seeds' if count > 1 else 'with one seed'
  name = labels.label(results, labels.adapted(results))
  told = _told(entry, 'that of its base VAE', entry['p_value'])
  return f'On {group.name}, {over}, the test ELBO of {name} {told}.'


def _published(results: Results, group: Group) -> str | None:
  if paper.table_4_obstacles(*group) or not labels.is_papers(results):
    return None
  means = [
    numbers.summary(results, group, method, 'elbo') for method in (BASE, labels.adapted(results))
  ]
  if None in means:
    return None
  (base, _), (main, _) = means
  (base_paper, _), (main_paper, _) = paper.TABLE4[group.dataset].values()
  return (
    f'The paper reports {number(base_paper)} and {number(main_paper)}, a gain of '
    f'{number(main_paper - base_paper)} nats; here it is {number(base)} and {number(main)}, '
    f'{signed(main - base)}.'
  )


def _verdict(results: Results, group: Group) -> str | None:
  main = labels.adapted(results)
  entries, others = numbers.gains(results, group), numbers.against_others(results, group)
  tried = [m for m in _WITHOUT_X if m in others and m in entries]
  if main not in entries or not tried:
    return None
  verdict = outcome(entries[main], entries[main]['p_value'])
  if verdict != 'beats':
    why = 'nothing is tested' if verdict == 'untested' else 'no gain is shown'
    return f'Whether a gain is instance-adaptive remains open: {why}.'
  named = {m: labels.label(results, m) for m in tried}
  rivals = [named[m] for m in tried if outcome(others[m], others[m]['p_holm']) != 'beats']
  if rivals:
    return (
      f'The gain is not shown to be instance-adaptive: {labels.label(results, main)} is not shown '
      f'to beat {joined(rivals)}.'
    )
  best = max(tried, key=lambda m: entries[m]['mean_difference'])
  share = max(0.0, entries[best]['mean_difference'] / entries[main]['mean_difference'])
  degree = 'mostly' if share < 0.5 else 'only partly'
  reached = f'the best method that reads no x, {named[best]}, reaches {share:.0%} of it'
  return f'The gain is {degree} instance-adaptive: {reached}.'


def _control(results: Results, group: Group, other: str) -> str | None:
  entry = numbers.against_others(results, group).get(other)
  if entry is None:
    return None
  gain = numbers.gains(results, group).get(other)
  moved = '' if gain is None else f' ({signed(gain["mean_difference"])} nats on the base)'
  name = labels.label(results, labels.adapted(results))
  told = _told(entry, f'{_article(results, other)}{moved}', entry['p_holm'], ' after Holm')
  explains = {'beats': 0, 'misses': 1, 'open': 1}.get(outcome(entry, entry['p_holm']))
  meaning = '' if explains is None else f': {_MEANINGS[other][explains]}'
  return f'{name} {told}{meaning}.'


def _article(results: Results, method: str) -> str:
  text = labels.label(results, method)
  return text if text.startswith('IA-VAE') else f'the {text}'


def _inference_alone(results: Results, group: Group) -> str | None:
  entry = numbers.gains(results, group).get('frozen_decoder')
  if entry is None:
    return None
  told = _told(entry, 'its base VAE', entry['p_value'])
  return f'With the decoder frozen, where all gain is one of inference, it {told}.'


def _iwae(results: Results, group: Group) -> str | None:
  main = labels.adapted(results)
  elbo, iwae = (numbers.gains(results, group, metric).get(main) for metric in ('elbo', 'iwae'))
  if elbo is None or iwae is None:
    return None
  told = _told(iwae, 'its base VAE', iwae['p_value'])
  sentence = f'By IWAE, the closer bound on log p(x), {labels.label(results, main)} {told}'
  if outcome(elbo, elbo['p_value']) != 'beats' or iwae['p_value'] is None:
    return f'{sentence}.'
  if outcome(iwae, iwae['p_value']) != 'beats':
    return f'{sentence}: the gain is not shown to be more than a closer posterior.'
  if not results['provenance']['config'].get('adapt', {}).get('train_decoder', True):
    return f'{sentence}: with the decoder of the base, all of it is a closer posterior.'
  rest = elbo['mean_difference'] - iwae['mean_difference']
  if rest < 0:
    return f'{sentence}: the model is better, its posterior no closer.'
  return (
    f'{sentence}: the model is better, and about {number(rest, 3)} nats are a closer posterior.'
  )
