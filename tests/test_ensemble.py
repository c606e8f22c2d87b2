"""Many models in one program: each must get what it would get alone, and stop when it should."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from iavae import ensemble, freezing, networks
from iavae.experiments.synthetic import make_data, pad_width
from iavae.inference import amortized, instance_adaptive
from iavae.models import synthetic
from iavae.rng import model_rngs, purpose_rng

MODEL = synthetic.make()
ENCODER = networks.mlp((2,), {'mean': 2, 'log_var': 2})
X = make_data(seed=0, num_examples=101, noise_scale=0.1)[1]  # the last batch of 32 has 5 examples
SHARED = purpose_rng(0, 'shuffle')
NUM_MODELS = 4


def initial(method, num_models=NUM_MODELS):
  rngs = model_rngs(purpose_rng(1, 'init'), num_models)
  return jax.vmap(method.init, in_axes=(0, None))(rngs, X[0])


def make_program(method, **overrides):
  options = {'batch_size': 32, 'max_epochs': 12, 'patience': 100, 'epochs_per_call': 5}
  return ensemble.make_program(method, optax.adam(1e-2), **(options | overrides))


def train(method, params, frozen_paths=(), x=X, rngs=None, **overrides):
  program = make_program(method, **overrides)
  trained, frozen = freezing.partition(params, frozen_paths)
  state = program.init(trained)
  if rngs is None:
    rngs = model_rngs(purpose_rng(2, 'train'), NUM_MODELS)
  while not np.all(state.stopped) and not np.any(state.failed):
    state = ensemble.train_call(program, state, frozen, rngs, SHARED, x)
  return state, freezing.merge(state.params, frozen)


@pytest.fixture(scope='module')
def adapted():
  """Four IA-VAEs trained together with the base frozen: (method, start, state, params)."""
  method = instance_adaptive.make(MODEL, ENCODER)
  start = initial(method)
  return method, start, *train(method, start, instance_adaptive.FROZEN)


@pytest.mark.parametrize('index', [0, 3])
def test_together_equals_alone(adapted, index):
  method, start, state, params = adapted
  one = jax.tree.map(lambda leaf: leaf[index : index + 1], start)
  rngs = model_rngs(purpose_rng(2, 'train'), NUM_MODELS)[index : index + 1]
  alone_state, alone = train(method, one, instance_adaptive.FROZEN, rngs=rngs)
  assert alone_state.epoch[0] == state.epoch[index]
  np.testing.assert_allclose(alone_state.elbo[0], state.elbo[index], rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a[0], b[index], rtol=1e-4, atol=1e-5), alone, params
  )


def test_frozen_leaves_stay_bit_identical_and_others_move(adapted):
  _, start, _, params = adapted
  jax.tree.map(
    np.testing.assert_array_equal, params['inference']['encoder'], start['inference']['encoder']
  )
  for name, leaf in params['inference']['hypernetwork'].items():
    assert np.all(leaf != start['inference']['hypernetwork'][name]), name


def test_equals_a_plain_training_loop():
  """Against an independent loop, one batch at a time, with the same order and keys."""
  method = amortized.make(MODEL, ENCODER)
  start = initial(method, 1)
  rngs = model_rngs(purpose_rng(2, 'train'), 1)
  state, params = train(method, start, rngs=rngs, max_epochs=2)
  model = jax.tree.map(lambda leaf: leaf[0], start)
  optimizer = optax.adam(1e-2)
  opt_state = optimizer.init(model)
  for epoch in range(2):
    rng_order, rng_noise = jax.random.split(jax.random.fold_in(rngs[0], epoch))
    shared = jax.random.permutation(jax.random.fold_in(SHARED, epoch), len(X))
    order, keys = ensemble._shuffle(rng_order, shared), jax.random.split(rng_noise, (4, 32))
    total = 0.0
    for step in range(4):
      batch = order[32 * step : 32 * step + 32]

      def mean_loss(model):
        losses = jax.vmap(lambda x, rng: method.loss(model, x, rng, 1.0)[0])
        return losses(X[batch], keys[step, : len(batch)]).mean()

      value, gradient = jax.value_and_grad(mean_loss)(model)
      updates, opt_state = optimizer.update(gradient, opt_state, model)
      model = optax.apply_updates(model, updates)
      total -= float(value) * len(batch)
  assert float(state.elbo[0]) == pytest.approx(total / len(X), rel=1e-4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-3, atol=1e-5), params, model
  )


def test_each_model_stops_by_its_own_patience():
  """With a rate of zero the ELBO is pure noise: a model stops `patience` epochs after its best."""
  method = amortized.make(MODEL, ENCODER)
  program = ensemble.make_program(
    method, optax.sgd(0.0), batch_size=32, max_epochs=60, patience=3, epochs_per_call=7
  )
  params = initial(method)
  state, rngs = program.init(params), model_rngs(purpose_rng(2, 'train'), NUM_MODELS)
  history = [[] for _ in range(NUM_MODELS)]
  single = ensemble.make_program(
    method, optax.sgd(0.0), batch_size=32, max_epochs=60, patience=60, epochs_per_call=1
  )
  trace = single.init(params)
  for _ in range(40):
    trace = ensemble.train_call(
      single, trace, jax.tree.map(lambda _: None, params), rngs, SHARED, X
    )
    for m in range(NUM_MODELS):
      history[m].append(float(trace.elbo[m]))
  while not np.all(state.stopped):
    frozen = jax.tree.map(lambda _: None, params)
    state = ensemble.train_call(program, state, frozen, rngs, SHARED, X)
  for m in range(NUM_MODELS):
    best = 0
    for epoch, elbo in enumerate(history[m], 1):
      best = epoch if elbo > max(history[m][: epoch - 1], default=-np.inf) else best
      if epoch - best >= 3:
        break
    assert (int(state.epoch[m]), int(state.best_epoch[m])) == (epoch, best)
  assert len(set(np.asarray(state.epoch).tolist())) > 1


def test_shuffle_is_a_uniform_permutation():
  """Every order holds each example once; every example is equally often first (5 SE)."""
  num_examples, num_orders = 30, 6000

  def order(rng):
    shared = jax.random.permutation(jax.random.fold_in(rng, 0), num_examples)
    return ensemble._shuffle(jax.random.fold_in(rng, 1), shared)

  orders = np.asarray(jax.vmap(order)(jax.random.split(jax.random.key(0), num_orders)))
  np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(30), (num_orders, 1)))
  for column in (0, 17):
    share = np.bincount(orders[:, column], minlength=30) / num_orders
    np.testing.assert_allclose(share, 1 / 30, atol=5 * np.sqrt(1 / 30 / num_orders))


def test_models_see_different_orders():
  shared = jnp.arange(5000)
  rngs = model_rngs(jax.random.key(0), 50)
  orders = np.asarray(jax.vmap(ensemble._shuffle, in_axes=(0, None))(rngs, shared))
  assert len(np.unique(orders[:, :2], axis=0)) == 50


def test_nan_stops_within_the_epoch_and_keeps_the_parameters():
  method = amortized.make(MODEL, ENCODER)
  start = initial(method)
  start['inference']['encoder']['mean']['bias'] = (
    start['inference']['encoder']['mean']['bias'].at[2, 0].set(jnp.nan)
  )
  state, params = train(method, start)
  np.testing.assert_array_equal(state.failed, [False, False, True, False])
  np.testing.assert_array_equal(state.epoch, [1, 1, 0, 1])
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[2], b[2]), params, start)


def test_partition_and_merge_are_inverse():
  params = initial(instance_adaptive.make(MODEL, ENCODER))
  trained, frozen = freezing.partition(params, instance_adaptive.FROZEN)
  assert len(jax.tree.leaves(trained)) == 3
  assert len(jax.tree.leaves(frozen)) == 6
  jax.tree.map(np.testing.assert_array_equal, freezing.merge(trained, frozen), params)
  with pytest.raises(ValueError, match="nothing to freeze at 'inference/decoder'"):
    freezing.partition(params, ('inference/decoder',))


def test_rows_to_train_holds_the_active_models_once():
  stopped = np.arange(100) % 10 != 0  # ten are active
  rows = ensemble._rows_to_train(stopped, num_devices=2)
  assert len(rows) == len(set(rows)) == 26
  assert set(np.flatnonzero(~stopped)) <= set(rows)
  np.testing.assert_array_equal(
    np.sort(ensemble._rows_to_train(np.zeros(10, bool), 2)), np.arange(10)
  )


def test_dropping_stopped_models_changes_no_result():
  """After half have stopped the program runs on half the rows; the others go on as before."""
  method = amortized.make(MODEL, ENCODER)
  start = initial(method, 48)
  rngs = model_rngs(purpose_rng(2, 'train'), 48)
  program = make_program(method, max_epochs=4, epochs_per_call=2)
  state = program.init(start)
  stopped = state._replace(stopped=jnp.arange(48) % 2 == 0)
  frozen = jax.tree.map(lambda _: None, start)
  assert len(ensemble._rows_to_train(np.asarray(stopped.stopped), 2)) == 24
  every = ensemble.train_call(program, state, frozen, rngs, SHARED, X)
  half = ensemble.train_call(program, stopped, frozen, rngs, SHARED, X)
  np.testing.assert_array_equal(half.epoch, np.where(np.arange(48) % 2, 2, 0))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a[1::2], b[1::2], rtol=1e-4, atol=1e-6),
    half.params,
    every.params,
  )
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[::2], b[::2]), half.params, start)


def test_too_many_examples_are_refused():
  method = amortized.make(MODEL, ENCODER)
  x = np.zeros((ensemble.MAX_EXAMPLES + 1, 3), np.float32)
  with pytest.raises(ValueError, match='an ensemble shuffles at most 46340'):
    train(method, initial(method), x=x)


def test_zero_padded_units_stay_zero_and_change_nothing():
  """A narrow encoder padded to a wider one trains as the narrow one: what Figure 7 relies on."""
  narrow, wide = (
    amortized.make(MODEL, networks.mlp((h,), {'mean': 2, 'log_var': 2})) for h in (2, 5)
  )
  start = initial(narrow)
  padded = {**start, 'inference': {'encoder': pad_width(start['inference']['encoder'], 3)}}
  state, params = train(narrow, start)
  wide_state, wide_params = train(wide, padded)
  np.testing.assert_allclose(state.elbo, wide_state.elbo, rtol=1e-5)
  encoder = wide_params['inference']['encoder']
  assert not np.any(encoder['hidden_0']['kernel'][:, :, 2:]) and not np.any(
    encoder['mean']['kernel'][:, 2:]
  )
  expected = params['inference']['encoder']['mean']['kernel']
  np.testing.assert_allclose(encoder['mean']['kernel'][:, :2], expected, rtol=1e-4, atol=1e-6)
