"""The options of a gap report: are they sensible, and which protocol do they name?"""

from collections.abc import Mapping
from typing import Any

from iavae import config as config_lib
from iavae import parallel
from iavae.annealing import Annealing
from iavae.gap_parts import Protocol
from iavae.optimum import Search

_COUNT = (
  lambda v: config_lib.is_int(v) and v != 1 and 0 <= v < 10**9,
  'a whole number, 0 for none, or above 1',
)
_CHUNK = (
  lambda v: config_lib.is_int(v) and v >= 0,
  'a whole number, 0 for what suits the decoder',
)
_SEARCH = Search()
_MAX_NORM = 10.0  # of a gradient of a flow, see `optimum.Search`
_MIN_STEPS = 10  # of a search

CHECKS: dict[str, config_lib.Check] = {
  'methods': (
    lambda v: isinstance(v, tuple) and all(isinstance(name, str) for name in v),
    'a tuple of names',
  ),
  'split': config_lib.one_of('train', 'validation', 'test'),
  'num_examples': (lambda v: config_lib.is_int(v) and v > 1, 'a whole number above 1'),
  'num_samples': (lambda v: config_lib.is_int(v) and v >= 100, 'a whole number, 100 or more'),
  'num_steps': (
    lambda v: config_lib.is_int(v) and v >= _MIN_STEPS,
    f'a whole number, {_MIN_STEPS} or more',
  ),
  'cremer_stop': config_lib.FLAG,
  'flow_steps': (
    lambda v: config_lib.is_int(v) and (v == 0 or v >= _MIN_STEPS),
    f'a whole number, {_MIN_STEPS} or more, or 0 for no flow',
  ),
  'draws_a_step': (
    lambda v: config_lib.is_int(v) and v >= 2 and v % 2 == 0,
    'an even number above 0',
  ),
  'learning_rate': config_lib.POSITIVE,
  'flow_hidden': config_lib.NATURAL,
  'num_annealed': _COUNT,
  'num_chains': (lambda v: config_lib.is_int(v) and v > 1, 'a whole number above 1'),
  'num_temperatures': (lambda v: config_lib.is_int(v) and v > 1, 'a whole number above 1'),
  'num_leapfrog': config_lib.NATURAL,
  'num_doubled': _COUNT,
  'num_simulated': _COUNT,
  'at_once': _CHUNK,
  'draws_at_once': _CHUNK,
}


def protocol(options: Mapping[str, Any], convolutional: bool = False) -> Protocol:
  """What the options say of a decoder that is convolutional or not; see configs/gaps.py."""
  rate, (examples, draws) = options['learning_rate'], parallel.evaluation_chunk(convolutional)

  def search(num_steps: int, max_norm: float) -> Search:
    return Search(
      num_steps=num_steps,
      num_samples=options['draws_a_step'],
      learning_rate=rate,
      final_rate=rate / 100,
      num_averaged=num_steps // 6,
      max_norm=max_norm,
    )

  return Protocol(
    num_samples=options['num_samples'],
    search=search(options['num_steps'], _SEARCH.max_norm),
    cremer_stop=options['cremer_stop'],
    flow_search=search(options['flow_steps'], _MAX_NORM),
    flow_hidden=options['flow_hidden'],
    annealing=Annealing(
      num_chains=options['num_chains'],
      num_temperatures=options['num_temperatures'],
      num_leapfrog=options['num_leapfrog'],
    ),
    num_annealed=options['num_annealed'],
    num_doubled=options['num_doubled'],
    num_simulated=options['num_simulated'],
    at_once=options['at_once'] or examples,
    samples_at_once=options['draws_at_once'] or draws,
  )
