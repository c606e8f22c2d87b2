"""Every key of the image experiments, with its unit, at the paper's values (arXiv:2604.06796, 4.2).

Not a config to run: configs/{digits,mnist,fashion_mnist,omniglot}.py override what differs.
"""

import difflib

from ml_collections import ConfigDict

from iavae import hypernetworks, inference, posteriors
from iavae.errors import ConfigError

CONTROLS = (
  'continued',  # C1: encoder and decoder trained on
  'decoder_only',  # C2: the decoder trained on
  'encoder_only',  # C3: the encoder trained on
  'static',  # C4: IA-VAE whose hypernetwork does not read x
  'shuffled',  # C5: IA-VAE whose hypernetwork reads another example
  'frozen_decoder',  # C6: IA-VAE with the base's decoder
  'wider',  # C7: a plain encoder with as many parameters as encoder and hypernetwork
)

# Both stages in minutes a seed on 2 CPU cores: fewer images, a narrower encoder, and a decoder that
# sees a few pixels around, so that it needs z
REDUCED = {
  'num_seeds': 5,
  'data.num_train': 5000,
  'data.num_validation': 500,
  'data.num_test': 1000,
  'model.encoder_width': 16,
  'model.decoder_width': 16,
  'model.kernel_sizes': (3, 3),
  'hypernetwork.slice_dim': 8,
  'pretrain.num_epochs': 15,
  'pretrain.warmup_epochs': 5,
  'adapt.num_epochs': 4,
  'adapt.learning_rate': 5e-4,  # five times the paper's, for a twentieth of its epochs
  'adapt.decoder_learning_rate': 2.5e-4,
  'evaluation.iwae_samples': 20,
}
# The plain VAE of many papers, 784-200-200-50 and back, with pixels independent given z
MLP = {
  'model.encoder': 'mlp',
  'model.decoder': 'mlp',
  'model.latent_dim': 50,
  'model.activation': 'elu',
  'hypernetwork.normalized': True,
}

# The same in small, with the amortization gap measured: all methods in minutes a seed on 2 cores
MLP_REDUCED = MLP | {
  'num_seeds': 3,
  'data.num_train': 20000,
  'data.num_validation': 2000,
  'data.num_test': 1000,
  'pretrain.num_epochs': 60,
  'pretrain.schedule': 'cosine',
  'adapt.num_epochs': 5,
  'adapt.learning_rate': 5e-4,
  'adapt.decoder_learning_rate': 2.5e-4,
  'adapt.weight_decay': 0.0,
  'adapt.schedule': 'cosine',
  'training.batch_size': 100,
  'evaluation.iwae_samples': 20,
  'evaluation.gap_examples': 100,
}


# Ours, not the paper's: gated hidden layers, trained with the base encoder on a decoder that stays.
# The rate of the control without hypernetwork is the best of 5e-4, 2e-3, 4e-3 and 8e-3 for it
GATED = MLP | {
  'model.initialization': 'lecun',
  'experiment': 'controls',
  'controls': ('encoder_only', 'static', 'shuffled'),
  'modulation': 'gates',
  'num_seeds': 5,
  'hypernetwork.trunk_dim': 72,
  'training.batch_size': 128,
  'pretrain.num_epochs': 60,
  'pretrain.warmup_epochs': 5,
  'pretrain.schedule': 'cosine',
  'adapt.num_epochs': 32,
  'adapt.learning_rate': 3e-3,
  'adapt.plain_learning_rate': 4e-3,
  'adapt.weight_decay': 0.0,
  'adapt.schedule': 'cosine',
  'adapt.estimator': 'antithetic',
  'adapt.train_base': True,
  'adapt.train_decoder': False,
  'evaluation.iwae_samples': 20,
  'evaluation.gap_examples': 500,
}


# What --config.experiment=methods compares: methods, posterior families, modulations
METHODS = (
  *('amortized', 'denoising', 'aggressive', 'semi_amortized', 'adam_refined', 'svi', 'iterative'),
  *('hybrid', 'full_covariance', 'autoregressive', 'planar', 'radial', 'realnvp', 'auxiliary'),
  *('iaf', 'maf', 'film', 'lora', 'expert_kernels', 'trunk', 'gates', 'gradient'),
)


def _inference_options(method: str) -> ConfigDict:
  if method not in inference.names():
    return ConfigDict()  # the name is checked later, with all else
  options = inference.find(method).DEFAULTS
  # Given by config.modulation, config.adapt and by the controls
  return ConfigDict(
    {k: v for k, v in options.items() if k not in ('hypernetwork', 'condition', 'estimator')}
  )


def data_section() -> ConfigDict:
  """Which images."""
  config = ConfigDict()
  config.name = ''
  config.protocol = ''  # '' is the first of the data set's protocols
  config.path = ''  # your own .npz with an array x, instead of the data set of that name
  config.directory = ''  # the manual folder; '' is $IAVAE_DATA or ~/.cache/iavae/data
  config.num_train = 0  # images; 0 takes all
  config.num_validation = 0
  config.num_test = 0
  return config


def _model() -> ConfigDict:
  """The base VAE."""
  config = ConfigDict()
  config.latent_dim = 32
  config.encoder = 'resnet'  # or 'mlp'
  config.encoder_width = 64  # channels of the ResNet
  config.encoder_blocks = 3  # residual blocks, each of which halves the image
  config.decoder = 'pixelcnn'  # or 'mlp'
  config.decoder_width = 32  # features of the PixelCNN
  config.kernel_sizes = (9, 9, 9, 7, 7, 7, 5, 5, 5, 3, 3, 3)  # of its layers, pixels
  config.latent_maps = 4  # planes that z adds to the image
  config.fix_vertical_shift = False  # True: not the published layer, see iavae/pixelcnn.py
  config.hidden = (200, 200)  # of an MLP encoder and, reversed, decoder; units
  config.activation = 'relu'  # of MLPs
  config.initialization = 'torch'  # of MLPs, or 'lecun', from which fewer latents die
  return config


def _flow() -> ConfigDict:
  """Of the posterior family, where it has such; 0 is its default."""
  config = ConfigDict()
  config.num_steps = 0  # transformations of z
  config.hidden = 0  # units of their networks
  config.context_dim = 0  # entries of what the encoder tells them
  return config


def _hypernetwork() -> ConfigDict:
  """Of the modulation, where it has such."""
  config = ConfigDict()
  config.trunk_dim = 32  # units of a nonlinear trunk
  config.rank = 8  # of `lora`
  config.num_experts = 4  # of `expert_kernels`
  config.num_steps = 1  # times that `gradient` reads the ELBO's gradient
  config.embedding_dim = 16  # entries of a block embedding
  config.slice_dim = 16  # entries of the code of a kernel slice, d; the paper names no size
  config.column_embedding_dim = 8  # entries of a column embedding
  config.init_scale = 1e-3  # standard deviation of the initial output layers
  config.normalized = False  # True: sums over inputs divided by the fan-in
  return config


def _pretrain() -> ConfigDict:
  """The stage of the base VAE."""
  config = ConfigDict()
  config.num_epochs = 100
  # Of Adam: SA-VAE's, which the base follows. The paper's 1e-4, 'differently from' it, is read as
  # that of the second stage; a base at 1e-4 was not tried
  config.learning_rate = 1e-3
  config.warmup_epochs = 10  # in so many the KL weight grows by 1: from .1, up to 1
  config.schedule = 'constant'  # or 'cosine': the rates fall to 0
  return config


def _adapt() -> ConfigDict:
  """The stage that starts from it."""
  config = ConfigDict()
  config.num_epochs = 100
  config.learning_rate = 1e-4  # of the hypernetwork, or of an encoder that is trained
  config.plain_learning_rate = 0.0  # of the rows without hypernetwork; 0: the same
  config.decoder_learning_rate = 5e-5
  config.weight_decay = 0.0  # coupled (the paper names no form), of all that is trained
  config.schedule = 'constant'  # or 'cosine'
  config.estimator = 'standard'  # or 'antithetic': two draws, less noise, see iavae/bounds.py
  config.train_base = False  # True: IA-VAE's base encoder is trained along
  config.train_decoder = True  # False: no method of the second stage changes the decoder
  return config


def _training() -> ConfigDict:
  """Of both stages."""
  config = ConfigDict()
  config.batch_size = 50  # images
  config.micro_batch = 0  # images at once; 0: about 10 on a CPU, all on an accelerator
  config.precision = 'float32'  # or 'bfloat16', of kernels in training
  return config


def _evaluation() -> ConfigDict:
  """What is measured of every row."""
  config = ConfigDict()
  config.num_samples = 10  # draws of z in an ELBO
  config.iwae_samples = 500  # draws of z in the importance-weighted bound
  config.gap_examples = 0  # test images whose amortization gap is measured
  config.diagnostic_examples = 500  # test images whose latents are looked at; below 2: none
  return config


def _cost() -> ConfigDict:
  """Of --config.experiment=cost."""
  config = ConfigDict()
  config.methods = ('film', 'semi_amortized', 'svi', 'iterative')  # beside config.method
  config.num_steps = (0, 1, 2, 5, 10, 20, 50, 100)  # of refinement at test time, T
  config.num_examples = 500  # test images
  return config


def get_config(method: str = 'instance_adaptive') -> ConfigDict:
  """The paper's values."""
  config = ConfigDict()
  config.experiment = 'images'  # 'controls', 'methods': the same, and all of config.<that>; 'cost'
  config.method = method  # what the second stage trains from the base VAE
  config.inference = _inference_options(method)  # its hyperparameters, see its file
  config.posterior = 'gaussian'  # the family of q(z | x), a file of iavae/posteriors
  config.modulation = 'paper'  # of IA-VAE, or a file of iavae/hypernetworks
  config.preset = 'full'  # a label; 'reduced' where a config says so
  config.changed = ()  # written by launch.py: keys that the command line changed
  config.seed = 0  # the first seed
  config.num_seeds = 10  # pairs of base VAE and adapted model
  config.controls = CONTROLS
  config.methods = METHODS  # also families and modulations, by name
  config.data = data_section()
  config.model = _model()
  config.flow = _flow()
  config.hypernetwork = _hypernetwork()
  config.pretrain = _pretrain()
  config.adapt = _adapt()
  config.training = _training()
  config.evaluation = _evaluation()
  config.cost = _cost()
  config.lock()
  return config


def _what_it_is(name: str, presets: dict[str, dict]) -> str:
  if name in posteriors.names():
    return f'a family of posteriors; take --config.posterior={name}'
  if name in hypernetworks.names():
    return f'a modulation; take --config.modulation={name}'
  nearest = difflib.get_close_matches(name, [*presets, *inference.names()], n=1, cutoff=0.5)
  hint = f'. Did you mean {nearest[0]}?' if nearest else ''
  methods = ', '.join(inference.names())
  return f'neither a preset ({", ".join(presets)}) nor a method ({methods}){hint}'


def read_variant(variant: str, presets: dict[str, dict]) -> tuple[str, dict]:
  """(method, overrides) of the part after the colon of --config=FILE:VARIANT.

  Args:
    variant: '', a method, a preset, or both with a comma between.
    presets: name -> overrides of dotted keys.

  Raises:
    ConfigError: for anything else.
  """
  names = [name for name in variant.split(',') if name]
  chosen = [name for name in names if name in presets]
  methods = [name for name in names if name not in presets] or ['instance_adaptive']
  for name in methods:
    if name not in inference.names():
      raise ConfigError(f'{name!r} after the colon of --config is {_what_it_is(name, presets)}')
  if len(methods) > 1 or len(chosen) > 1:
    raise ConfigError(f'{variant!r} after the colon of --config is more than one METHOD,PRESET')
  return methods[0], presets[chosen[0]] | {'preset': chosen[0]} if chosen else {}


def make(variant: str, paper: dict, presets: dict[str, dict]) -> ConfigDict:
  """The config of a data set: the defaults, what the paper sets for it, and a preset."""
  method, overrides = read_variant(variant, presets)
  config = get_config(method)
  with config.unlocked():
    config.update_from_flattened_dict(paper | overrides)
  return config
