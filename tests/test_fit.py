"""Stages on images: chosen by validation, resumed to the same bits, stopped by a NaN."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from iavae import decoders, epochs, fit, gradients, networks, optimizers
from iavae.data import Dataset
from iavae.errors import ConfigError, NonFiniteError
from iavae.freezing import merge, partition
from iavae.inference import instance_adaptive
from iavae.models import vae
from iavae.rng import purpose_rng

SHAPE, LATENT_DIM = (4, 4, 1), 2
ENCODER = networks.mlp((6,), {'mean': LATENT_DIM, 'log_var': LATENT_DIM})
MODEL = vae.make(decoders.mlp_decoder(LATENT_DIM, SHAPE, (6,)), LATENT_DIM)
METHOD = instance_adaptive.make(MODEL, ENCODER, hypernetwork='layerwise', embedding_dim=2)
START = METHOD.init(jax.random.key(0), jnp.zeros(SHAPE))
QUIET = Console(quiet=True)


def make_data(num=50):
  images = np.random.default_rng(0).integers(0, 256, (num, *SHAPE), dtype=np.uint8)
  ink = (images > 127).astype(np.uint8)
  return Dataset('own', 'stochastic', images, ink[:11], ink[:7], True, {})


DATA = make_data()


def make_program(num_epochs=4, rate=0.03):
  rates = {'model': rate, 'inference': rate}
  hyperparameters = fit.Hyperparameters(num_epochs, 8, rates, 1e-3, 2, 'float32', 4)
  return fit.make_program(MODEL, METHOD, hyperparameters, resample=True)


PROGRAM = make_program()


def run(workdir, program=PROGRAM, start=START, data=DATA):
  frozen = instance_adaptive.FROZEN
  return fit.fit(program, start, frozen, data, name='stage', seed=3, workdir=workdir, console=QUIET)


def assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  directory = tmp_path_factory.mktemp('whole')
  return run(directory), directory


def test_resumed_equals_uninterrupted(whole, tmp_path, monkeypatch):
  epoch = fit._epoch

  def interrupted(program, state, *rest):
    if int(state.epoch) == 2:
      raise KeyboardInterrupt
    return epoch(program, state, *rest)

  monkeypatch.setattr(fit, '_epoch', interrupted)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path)
  monkeypatch.undo()
  resumed = run(tmp_path)
  assert_same(resumed.params, whole[0].params)
  np.testing.assert_array_equal(resumed.validation_elbo, whole[0].validation_elbo)


def test_a_finished_stage_trains_no_more(whole, monkeypatch):
  monkeypatch.setattr(fit, '_epoch', lambda *_: pytest.fail('trained again'))
  again = run(whole[1])
  assert_same(again.params, whole[0].params)
  assert again.seconds == whole[0].seconds > 0


def test_the_best_validation_epoch_is_kept(whole):
  fitted, directory = whole
  rng = purpose_rng(3, 'validate')
  elbo = PROGRAM.validate(fitted.params, DATA.validation, rng)['elbo'].mean()
  history = fitted.validation_elbo
  assert len(history) == 5 and np.all(np.isfinite(history))
  np.testing.assert_allclose(elbo, history[1:].max(), rtol=1e-5)
  start = PROGRAM.validate(START, DATA.validation, rng)['elbo'].mean()
  np.testing.assert_allclose(history[0], start, rtol=1e-5)
  lines = [json.loads(line) for line in (directory / 'metrics.jsonl').read_text().splitlines()]
  assert [line['epoch'] for line in lines] == [1, 2, 3, 4]
  np.testing.assert_allclose([line['validation_elbo'] for line in lines], history[1:])


def test_a_path_freezes_what_is_below_it_and_no_more():
  params = {'inference': {'encoder': {'mean': 1}, 'encoder_2': {'mean': 2}}, 'model': {}}
  trained, frozen = partition(params, ('inference/encoder',))
  assert frozen['inference'] == {'encoder': {'mean': 1}, 'encoder_2': {'mean': None}}
  assert trained['inference'] == {'encoder': {'mean': None}, 'encoder_2': {'mean': 2}}


def test_frozen_leaves_keep_their_bits(whole):
  params = whole[0].params
  assert_same(params['inference']['encoder'], START['inference']['encoder'])
  for half, part in (('inference', 'hypernetwork'), ('model', 'hidden_0')):
    moved = jax.tree.map(lambda a, b: np.any(a != b), params[half][part], START[half][part])
    assert all(jax.tree.leaves(moved)), part


def test_an_epoch_trains_one_half_at_a_time():
  """The step's number and that of all steps of the stage reach `trains`: 2 epochs of 6 steps."""
  told = lambda step, num_steps: {'model': step == num_steps - 1, 'inference': step < 0}
  hyperparameters = PROGRAM.hyperparameters._replace(num_epochs=2)
  method = METHOD._replace(trains=told)
  program = fit.make_program(MODEL, method, hyperparameters, resample=True)
  trained, frozen = partition(START, instance_adaptive.FROZEN)
  state = trained, program.optimizer.init(trained)
  for number in range(2):
    before = jax.tree.map(np.asarray, state[0])
    *state, _ = program.run_epoch(
      *state, frozen, jnp.asarray(DATA.train), jax.random.key(5), jnp.asarray(number)
    )
    assert_same(state[0]['inference'], before['inference'])
    moved = jax.tree.map(lambda a, b: np.any(a != b), state[0]['model'], before['model'])
    assert {bool(leaf) for leaf in jax.tree.leaves(moved)} == {number == 1}


def test_an_epoch_is_a_loop_over_shuffled_batches():
  """The compiled epoch against the same steps in a Python loop."""
  trained, frozen = partition(START, instance_adaptive.FROZEN)
  optimizer, number, rng = PROGRAM.optimizer, 1, jax.random.key(5)
  gradient = jax.jit(gradients.make_gradient(MODEL, METHOD, micro_batch=4))
  update = jax.jit(optimizer.update)
  params, opt_state = trained, optimizer.init(trained)
  found, _, metrics = PROGRAM.run_epoch(
    params, opt_state, frozen, jnp.asarray(DATA.train), rng, jnp.asarray(number)
  )
  rng_order, rng_steps = jax.random.split(rng)
  order = jax.random.permutation(rng_order, 50)
  elbos = []
  for i, rng_step in enumerate(jax.random.split(rng_steps, 6)):  # 2 of 50 images are left over
    rng_binarize, rng_loss = jax.random.split(rng_step)
    x = epochs.binarize(jnp.asarray(DATA.train)[order[8 * i : 8 * i + 8]], rng_binarize)
    beta = epochs.warm_up(jnp.asarray(number * 6 + i), 2 * 6)
    slope, step_metrics = gradient(params, frozen, x, jax.random.split(rng_loss, 8), beta)
    updates, opt_state = update(slope, opt_state, params)
    params = optax.apply_updates(params, updates)
    elbos.append(step_metrics['elbo'])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, params)
  np.testing.assert_allclose(metrics['elbo'], np.mean(elbos), rtol=1e-5)


def test_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path):
  run(tmp_path, make_program(num_epochs=4))
  bad = merge(*partition(START, ()))
  bad['model'] = jax.tree.map(lambda a: a * jnp.nan, START['model'])
  other = tmp_path / 'other'
  other.mkdir()
  with pytest.raises(NonFiniteError, match=r'stage stage: NaN or infinity in elbo.*epoch 1'):
    run(other, start=bad)
  assert not [path for path in (other / 'checkpoints' / 'stage').iterdir() if path.name.isdigit()]


def test_a_checkpoint_of_another_architecture_is_refused_with_a_table(whole):
  wide = networks.mlp((7,), {'mean': LATENT_DIM, 'log_var': LATENT_DIM})
  model = vae.make(decoders.mlp_decoder(LATENT_DIM, SHAPE, (7,)), LATENT_DIM)
  method = instance_adaptive.make(model, wide, hypernetwork='layerwise', embedding_dim=2)
  start = method.init(jax.random.key(0), jnp.zeros(SHAPE))
  with pytest.raises(ConfigError, match=r'params/model/hidden_0/bias: float32\[6\] in the check'):
    run(whole[1], start=start)


def test_a_warm_up_from_zero():
  weights = [float(epochs.warm_up(jnp.asarray(step), 4, 0.0)) for step in range(6)]
  assert weights == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
  assert float(epochs.warm_up(jnp.asarray(0), 4)) == np.float32(0.1)


def test_burdas_schedule_at_its_boundaries():
  """10^(-i / 7) for 3^i epochs, whatever the steps an epoch has; the last one until the end."""
  ends = np.cumsum([3**i for i in range(8)])
  assert ends[-1] == 3280
  for steps in (1, 500):
    schedule = optimizers.burda(3280 * steps)
    for i, end in enumerate(ends):
      rates = [float(schedule(jnp.asarray(end * steps + j))) for j in (-1, 0)]
      expected = [10 ** (-i / 7), 10 ** (-min(i + 1, 7) / 7)]
      np.testing.assert_allclose(rates, expected, rtol=1e-5)  # a power, in float32


def test_burdas_schedule_in_small_keeps_its_proportions():
  """41 steps, each 80 of 3,280 epochs: the first part that a step starts in is its rate."""
  schedule = optimizers.burda(41)
  ends = np.cumsum([3**i for i in range(8)])
  expected = [10 ** (-np.searchsorted(ends, 80 * step, side='right') / 7) for step in range(41)]
  found = [float(schedule(jnp.asarray(step))) for step in range(41)]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(('eps', 'schedule'), [(1e-8, 'cosine'), (1e-4, 'burda')])
def test_a_step_of_adam_along_a_schedule(eps, schedule):
  """The first two steps written out; a gradient of 1e-4 is where eps matters."""
  rates = {'model': 0.1, 'inference': 0.1}
  optimizer = optimizers.make_optimizer(rates, decay_steps=2, schedule=schedule, eps=eps)
  params = {'model': jnp.zeros(1), 'inference': jnp.zeros(1)}
  gradient, state, moved = jax.tree.map(lambda a: a + 1e-4, params), optimizer.init(params), []
  for _ in range(2):
    updates, state = optimizer.update(gradient, state, params)
    moved.append(float(updates['model'][0]))
  # The moments of a constant gradient g, their bias corrected, are g and g^2; the second step is
  # half of the way along a cosine, and in the last part of Burda's, from 1,093 of 3,280 epochs on
  falls = [1.0, 0.5 if schedule == 'cosine' else 0.1]
  expected = [-0.1 * fall * 1e-4 / (1e-4 + eps) for fall in falls]
  np.testing.assert_allclose(moved, expected, rtol=1e-4)
