"""The paper's synthetic protocol: which models are trained, from what, for how long?

Stage `pretrain` trains the base VAEs, stage `adapt` a number of IA-VAEs from each (Table 2); the
controls that the paper leaves out and the encoder widths of Figure 7 follow. All of them share one
data set, which is also the evaluation set (arXiv:2604.06796, section 4.1).

Where the paper is silent: PyTorch's default initialization; block embeddings ~ N(0, 1); six blocks,
one a tensor, the only division that gives its 68 parameters with the embeddings counted; early
stopping watches the epoch's mean training ELBO and keeps the last parameters; the last batch of an
epoch is short. Differs from the paper: Table 3 shows the models of median ELBO, and a base VAE with
a dead unit is kept and flagged, not drawn again.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from rich.console import Console

from iavae import config as config_lib
from iavae import ensemble, inference, networks, train
from iavae.errors import ConfigError
from iavae.experiments import synthetic_evaluation
from iavae.experiments.synthetic_rows import check as check_rows
from iavae.experiments.synthetic_rows import (
  diagnose,
  init_models,
  make_encoder,
  make_stage,
  train_stage,
)
from iavae.inference import amortized, instance_adaptive
from iavae.models import synthetic
from iavae.modulation import LAYOUTS
from iavae.rng import model_rngs, purpose_rng
from iavae.types import Array, InferenceMethod, Network, Params
from iavae.workdir import write_arrays, write_text

HEADS = {'mean': synthetic.LATENT_DIM, 'log_var': synthetic.LATENT_DIM}
# Plain encoders of at most 68 parameters: 8 H + 4, and 12 H + 4 for GLU (64 at H = 5)
SCRATCH_CONTROLS = {'relu': 8, 'silu': 8, 'glu': 5}
WARM_CONTROLS = ('static', 'continued', 'unfrozen')

CHECKS: dict[str, config_lib.Check] = {
  'experiment': config_lib.one_of('synthetic', 'synthetic_methods'),
  'methods': (
    lambda v: isinstance(v, tuple) and all(isinstance(name, str) for name in v),
    'a tuple of names',
  ),
  'method': (lambda v: isinstance(v, str), 'a name'),
  'seed': config_lib.SEED,
  'num_bases': config_lib.NATURAL,
  'num_seeds': config_lib.NATURAL,
  'data.num_examples': (
    lambda v: config_lib.is_int(v) and 2 <= v <= ensemble.MAX_EXAMPLES,
    f'a whole number from 2 to {ensemble.MAX_EXAMPLES}',
  ),
  'data.noise_scale': (
    lambda v: not isinstance(v, bool) and 1e-3 <= v <= 1e3,
    'a number from 0.001 to 1000',
  ),
  'encoder.hidden': config_lib.NATURAL,
  'encoder.activation': config_lib.one_of(*networks.ACTIVATIONS),
  'hypernetwork.embedding_dim': config_lib.NATURAL,
  'hypernetwork.init_scale': config_lib.POSITIVE,
  'hypernetwork.layout': config_lib.one_of(*LAYOUTS),
  'training.learning_rate': config_lib.POSITIVE,
  'training.batch_size': config_lib.NATURAL,
  'training.max_epochs': config_lib.NATURAL,
  'training.schedule': config_lib.one_of('constant', 'cosine'),
  'training.max_norm': config_lib.RATE,
  'training.patience': config_lib.NATURAL,
  'train_base': config_lib.FLAG,
  'training.epochs_per_call': config_lib.NATURAL,
  'controls': config_lib.some_of(*WARM_CONTROLS, *SCRATCH_CONTROLS),
  'widths': config_lib.increasing(1),
  'refinement_steps': (
    lambda v: v == () or (config_lib.increasing(0)[0](v) and v[0] == 0),
    'empty or a tuple of increasing whole numbers from 0',
  ),
}


def check(config: ConfigDict) -> None:
  """Raises ConfigError for a method that the tables of this experiment cannot show."""
  check_rows(config, (config.method,))
  if inference.steps(config.method):
    raise ConfigError(
      f'--config.method={config.method!r}: here inference is one forward pass; take '
      '--config.experiment=synthetic_methods, which has a row for it'
    )


def make_data(seed: int, num_examples: int, noise_scale: float) -> tuple[Array, Array]:
  """Latents and observations drawn from the model: ([N, 2], [N, 3])."""
  model = synthetic.make(noise_scale)

  def example(rng: Array) -> tuple[Array, Array]:
    rng_prior, rng_noise = jax.random.split(rng)
    z = model.sample_prior({}, rng_prior)
    return z, model.sample({}, z, rng_noise)

  # One program: operations called one by one would each cost a compilation at start-up
  draw = jax.jit(lambda rng: jax.vmap(example)(model_rngs(rng, num_examples)))
  return draw(purpose_rng(seed, 'data'))


def _make_encoder(config: ConfigDict) -> Network:
  return make_encoder(config.encoder.hidden, HEADS, config.encoder.activation)


def _with_encoder(params: Params, encoder: Params) -> Params:
  """params with the encoder of a trained base VAE in place of the fresh one."""
  return {**params, 'inference': {**params['inference'], 'encoder': encoder}}


def _make_adaptive(config: ConfigDict, condition: str = 'x') -> InferenceMethod:
  model, options = synthetic.make(config.data.noise_scale), config.hypernetwork.to_dict()
  return instance_adaptive.make(
    model, _make_encoder(config), hypernetwork='linear', condition=condition, **options
  )


def pretrain_stage(config: ConfigDict, x: Array) -> train.Stage:
  """The base VAEs; x: [N, 3]."""
  method = amortized.make(synthetic.make(config.data.noise_scale), _make_encoder(config))
  params = init_models(method, config.seed, 'pretrain', config.num_bases, x)
  return train.Stage('pretrain', method, params, (), config.training.max_epochs)


def adapt_stage(config: ConfigDict, x: Array, bases: Params) -> train.Stage:
  """num_seeds models of config.method a base; model b * num_seeds + s is (base b, seed s).

  Args:
    x: [N, 3].
    bases: params of the base VAEs, leading axis [num_bases].
  """
  num_models = config.num_bases * config.num_seeds
  bases = jax.tree.map(lambda a: jnp.repeat(a, config.num_seeds, axis=0), bases)
  if config.method != 'instance_adaptive':
    return make_stage(config, config.method, 'adapt', x, bases, num_models)
  method = _make_adaptive(config)
  fresh = init_models(method, config.seed, 'adapt', num_models, x)
  params = _with_encoder(fresh, bases['inference']['encoder'])
  frozen = () if config.train_base else instance_adaptive.FROZEN
  return train.Stage('adapt', method, params, frozen, config.training.max_epochs)


def control_stage(config: ConfigDict, x: Array, bases: Params, name: str) -> train.Stage:
  """One control: what the paper's comparison leaves out, at its budget of epochs.

  From every base, for as long as IA-VAE adapts: `static` (hypernetwork without x), `continued` (the
  base encoder trained on), `unfrozen` (IA-VAE with the base trained too). From scratch, for the
  epochs of both stages together: plain encoders `relu`, `silu`, `glu` of at most 68 parameters.

  Args:
    x: [N, 3].
    bases: params of the base VAEs, leading axis [num_bases].
  """
  model = synthetic.make(config.data.noise_scale)
  if name in SCRATCH_CONTROLS:
    method = amortized.make(model, make_encoder(SCRATCH_CONTROLS[name], HEADS, name))
    params = init_models(method, config.seed, name, config.num_bases, x)
    return train.Stage(name, method, params, (), 2 * config.training.max_epochs)
  method, frozen = {
    'static': (_make_adaptive(config, 'zeros'), instance_adaptive.FROZEN),
    'continued': (amortized.make(model, _make_encoder(config)), ()),
    'unfrozen': (_make_adaptive(config), ()),
  }[name]
  fresh = init_models(method, config.seed, name, config.num_bases, x)
  params = _with_encoder(fresh, bases['inference']['encoder'])
  return train.Stage(name, method, params, frozen, config.training.max_epochs)


def widths_stage(config: ConfigDict, x: Array) -> train.Stage:
  """Base VAEs of every width, num_bases each, in one program; model w * num_bases + s; x: [N, 3].

  A narrow encoder is a wide one with zero units: a ReLU unit whose weights in and out are all zero
  has zero gradients and stays zero under Adam, so widths can share one compiled shape.
  """
  widest = max(config.widths)
  model = synthetic.make(config.data.noise_scale)

  def init_width(width: int) -> Params:
    method = amortized.make(model, make_encoder(width, HEADS, 'relu'))
    params = init_models(method, config.seed, f'width{width}', config.num_bases, x)
    return _with_encoder(params, pad_width(params['inference']['encoder'], widest - width))

  params = jax.tree.map(lambda *a: jnp.concatenate(a), *map(init_width, config.widths))
  method = amortized.make(model, make_encoder(widest, HEADS, 'relu'))
  return train.Stage('widths', method, params, (), config.training.max_epochs)


def pad_width(encoder: Params, num_units: int) -> Params:
  """Adds all-zero hidden units to one-hidden-layer MLPs with a leading model axis."""

  def pad(leaf: Array, axis: int) -> Array:
    return jnp.pad(leaf, [(0, num_units if i == axis else 0) for i in range(leaf.ndim)])

  hidden = {
    'kernel': pad(encoder['hidden_0']['kernel'], 2),
    'bias': pad(encoder['hidden_0']['bias'], 1),
  }
  heads = {
    name: {'kernel': pad(encoder[name]['kernel'], 1), 'bias': encoder[name]['bias']}
    for name in HEADS
  }
  return {'hidden_0': hidden, **heads}


def run(config: ConfigDict, workdir: pathlib.Path, console: Console) -> dict:
  """All stages, then results.json and per_example.npz in `workdir`; returns the results.

  Raises:
    IavaeError: see `train.run`.
  """
  z, x = make_data(config.seed, config.data.num_examples, config.data.noise_scale)
  stages: dict[str, tuple[train.Stage, train.Trained]] = {}

  def run_stage(stage: train.Stage) -> Params:
    trained = train_stage(config, stage, x, workdir, console)
    stages[stage.name] = stage, trained
    jax.clear_caches()  # the stage's programs are not called again, and hold memory
    return trained.params

  bases = run_stage(pretrain_stage(config, x))
  run_stage(adapt_stage(config, x, bases))
  for name in config.controls:
    run_stage(control_stage(config, x, bases, name))
  if config.widths:
    run_stage(widths_stage(config, x))
  results, per_example = synthetic_evaluation.evaluate(config, x, z, stages)
  pair = results['table3_pair']
  adapted = pair['base'] * config.num_seeds + pair['seed']
  results['diagnostics'] = [
    diagnose(config, name, *stages[stage], index, x)
    for name, stage, index in (('vae', 'pretrain', pair['base']), ('ia_vae', 'adapt', adapted))
  ]
  write_text(workdir / 'results.json', json.dumps(results, indent=1, allow_nan=False) + '\n')
  write_arrays(workdir / 'per_example.npz', per_example)
  return results
