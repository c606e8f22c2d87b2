"""Refinement by Adam: an encoder's posterior, then M steps of Adam, trained apart.

lambda_0 = f(x; phi), lambda_M after M steps of Adam on the ELBO; phi follows the ELBO at lambda_0,
theta that at a fixed lambda_M    (Krishnan et al., arXiv:1710.06085, algorithm 1). The picture of
`semi_amortized`'s variant svi with another inner optimizer and more of its steps.
"""

from iavae.inference import semi_amortized
from iavae.posteriors import gaussian
from iavae.types import GenerativeModel, InferenceMethod, Network, PosteriorFamily

DEFAULTS: dict[str, object] = {
  'num_steps': 100,  # M
  'learning_rate': 1e-2,  # of the inner Adam
}
STEPS = 'ascent'


def make(
  model: GenerativeModel,
  encoder: Network,
  *,
  num_steps: int = 100,
  learning_rate: float = 1e-2,
  family: PosteriorFamily = gaussian.MEAN_FIELD,
) -> InferenceMethod:
  """See `semi_amortized.make`; params['inference'] = {'encoder': phi} and the family's."""
  return semi_amortized.make(
    model,
    encoder,
    variant='svi',
    num_steps=num_steps,
    learning_rate=learning_rate,
    optimizer='adam',
    family=family,
  )
