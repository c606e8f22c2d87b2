"""Do the validation curves of an image experiment allow its methods to be compared at all?

A base that still rises lets every method gain that trains on; a rate that starts again can cost
more than a short second stage earns.
"""

from collections.abc import Sequence
from statistics import fmean

from iavae.reports import labels
from iavae.tables import Results, number, signed

MUCH = 0.1  # nats of validation ELBO that decide nothing
_LATE = 10  # the last tenth of the epochs shows whether a curve still rises
_TRAINED_ON = ('continued', 'amortized')  # the plain VAE from the base's checkpoint


def findings(results: Results) -> list[str]:
  """What the curves warn of, validation ELBO in nats, means over seeds; often nothing."""
  return [told for told in (_rising(results), _restarting(results)) if told]


def _mean(curves: Sequence[Sequence[float]]) -> list[float]:
  """Mean over seeds by epoch, as far as all go; the first value is from before training."""
  return [fmean(values) for values in zip(*curves, strict=False)]


def _rising(results: Results) -> str | None:
  curves = results['curves'].get(labels.BASE, [])
  mean = _mean(curves)
  count = len(mean) - 1
  late = -(-count // _LATE)
  rise = mean[-1] - mean[-1 - late] if count > 0 else 0.0
  if labels.is_joint(results) or rise <= MUCH:
    return None
  last = sum(max(curve) == curve[-1] for curve in curves)
  told = (
    f'The base VAE is not converged: in the last {late} of {count} epochs its validation ELBO '
    f'rises by {number(rise)} nats, and the last epoch is the best in {last} of {len(curves)} seeds'
  )
  if not results['curves'].keys() - {labels.BASE}:
    return f'{told}.'
  return (
    f'{told}: whatever trains on from it gains, so that what a method is worth beside plain '
    'training on cannot be told until they start from a converged base.'
  )


def _restarting(results: Results) -> str | None:
  name = next((name for name in _TRAINED_ON if name in results['curves']), None)
  mean = _mean(results['curves'].get(name, []))
  if labels.is_joint(results) or len(mean) < 2:
    return None
  start, lowest, end = mean[0], min(mean), mean[-1]
  if start - lowest <= MUCH or end - start > MUCH:
    return None
  return (
    f'The second stage repairs its own restart: the plain VAE trained on goes from {number(start)} '
    f'to {number(lowest)} and ends at {number(end)} ({signed(end - start, 2)} nats of validation '
    'ELBO), so that a method which gains about as little cannot be told from nothing.'
  )
