"""The paper's synthetic experiment: Tables 2 and 3, Figures 6 and 7 (arXiv:2604.06796, 4.1, 5.1).

  python launch.py --config=configs/synthetic.py

Any key below is overridden by --config.<key>=<value>. A quick look with every stage in it:

  python launch.py --config=configs/synthetic.py --workdir=runs/quick \\
      --config.num_bases=2 --config.num_seeds=2 --config.training.max_epochs=20
"""

from ml_collections import ConfigDict


def get_config(method: str = 'instance_adaptive') -> ConfigDict:
  """The paper's values; `--config=configs/synthetic.py:<method>` adapts by another method."""
  config = ConfigDict()
  config.experiment = 'synthetic'
  config.method = method  # what the stage `adapt` trains from the base VAEs
  config.seed = 0
  config.num_bases = 10  # base VAEs: rows of Table 2, seeds of every control and width
  config.num_seeds = 10  # adapted models a base VAE

  config.data = ConfigDict()
  config.data.num_examples = 5000
  config.data.noise_scale = 0.1  # standard deviation of the observation noise

  config.encoder = ConfigDict()
  config.encoder.hidden = 2  # units; 8 hidden + 4 parameters
  config.encoder.activation = 'relu'

  config.hypernetwork = ConfigDict()
  config.hypernetwork.embedding_dim = 2  # entries of a block embedding
  config.hypernetwork.init_scale = 1e-2  # standard deviation of its initial weights
  config.hypernetwork.layout = 'tensor'  # blocks: 'tensor' (six, as the paper) or 'layer' (three)

  config.training = ConfigDict()
  config.training.learning_rate = 1e-4  # of Adam
  config.training.batch_size = 32  # examples
  config.training.max_epochs = 1000  # of each of the two stages
  config.training.schedule = 'constant'  # or 'cosine': the rate falls to 0 in max_epochs
  config.training.max_norm = 0.0  # gradients are clipped to this norm; 0: they are not
  config.training.patience = 100  # epochs without a better training ELBO
  config.training.epochs_per_call = 50  # between two checkpoints

  # Controls, by name; () skips them
  config.controls = ('static', 'continued', 'unfrozen', 'relu', 'silu', 'glu')
  config.widths = (2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20)  # Figure 7, hidden units; () skips it
  config.refinement_steps = (0, 1, 2, 5, 10, 20, 50)  # test-time steps of Adam; () skips them

  config.train_base = False  # True: the base encoder is trained along with a modulation
  # Rows of --config.experiment=synthetic_methods: methods, posterior families, modulations
  config.methods = (
    *('amortized', 'instance_adaptive', 'denoising', 'hybrid', 'semi_amortized', 'adam_refined'),
    *('svi', 'iterative', 'full_covariance', 'autoregressive', 'planar', 'radial', 'realnvp'),
    *('auxiliary', 'iaf', 'maf', 'film', 'lora', 'expert_kernels', 'trunk', 'gradient'),
    *('linear', 'energy', 'energy:static', 'energy:shuffled'),
  )
  config.lock()
  return config
