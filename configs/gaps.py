"""Every key of a gap report, with its unit: --gaps.<key>=<value> beside --mode=gaps.

python launch.py --mode=gaps --workdir=runs/digits --gaps.num_examples=200
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Minutes on 2 CPU cores for a small decoder of independent pixels.

  Of a PixelCNN of 28 x 28 pixels (configs/mnist.py:reduced) each search takes 2 minutes an example
  there, as 60 of its steps tell: take fewer examples and steps and no flow, or an accelerator.
  """
  config = ConfigDict()
  config.methods = ()  # rows of the experiment, of its first seed or model; () are those that are
  # compared: of images the base, where it is trained, and the method under test, elsewhere all
  config.split = 'test'  # whose first images are measured, or 'train', 'validation'; synthetic
  # data are not split
  config.num_examples = 100
  config.num_samples = 5000  # draws of z in an ELBO and in an importance-weighted bound
  config.num_steps = 3000  # of Adam, towards the best mean-field posterior of an example
  config.cremer_stop = False  # True: Cremer et al.'s own search instead, see iavae/optimum.py
  config.flow_steps = 3000  # towards the best flow of an example's own; 0 leaves it out
  config.draws_a_step = 16  # of z, an even number
  config.learning_rate = 1e-2  # of Adam; falls to a hundredth along a cosine
  config.flow_hidden = 50  # units of each network of the flow
  config.num_annealed = 50  # examples that annealed importance sampling is run for; 0 for none
  config.num_chains = 16  # from q, and as many from N(0, I)
  config.num_temperatures = 200
  config.num_leapfrog = 10  # steps of a transition
  config.num_doubled = 20  # examples searched again with twice the steps; 0 for none
  config.num_simulated = 20  # examples drawn from the model, whose log p(x) has two-sided bounds
  config.at_once = 0  # examples in memory; 0: 100, or on a CPU 10 of a convolutional decoder
  config.draws_at_once = 0  # of z of each of them in a bound; 0: 50, or 1
  config.lock()
  return config
