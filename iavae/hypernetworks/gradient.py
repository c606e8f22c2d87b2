"""FiLM that reads the ELBO's gradient: does a modulation do better when told where q falls short?

  c = [f; lambda; log(|grad L| + 1e-5); sign(grad L)],   lambda: the heads, grad L: at lambda

f are the base encoder's features of x, lambda its heads in the first step and those of the step
before in the next; each step modulates the base anew by a `film` of its own (the reading is Marino
et al.'s, arXiv:1807.09356, whose network moves lambda directly). Between IA-VAE, which reads x
once, and iterative inference: a step costs a forward and a backward pass of the decoder.
"""

from iavae import trunks
from iavae.by_name import check_sizes
from iavae.hypernetworks import film
from iavae.types import Hypernetwork

DEFAULTS: dict[str, object] = trunks.DEFAULTS | {
  'num_steps': 1  # how often the gradient is read
}


def make(trunk_dim: int = 32, early_layers: bool = False, num_steps: int = 1) -> Hypernetwork:
  """See DEFAULTS; psi of each step as that of `film`."""
  check_sizes(num_steps=num_steps)
  return film.make(trunk_dim, early_layers)._replace(reads='gradient', num_steps=num_steps)
