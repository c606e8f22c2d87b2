"""Every inference method, found by name, keeps the one contract."""

import inspect

import jax
import numpy as np
import optax
import pytest

from iavae import bounds, inference, networks, posteriors
from iavae.models import linear_gaussian

NOISE = 0.5
MODEL = linear_gaussian.make(data_dim=3, latent_dim=2, noise_scale=NOISE)
ENCODER = networks.mlp((8,), {'mean': 2, 'log_var': 2}, 'tanh')
X = jax.random.normal(jax.random.key(0), (8, 3))
RNG = jax.random.key(1)


# Where the defaults are for images, keep a noise floor in these narrow posteriors, or take long
OPTIONS = {
  'adam_refined': {'num_steps': 10},
  'hybrid': {'num_steps': 3, 'learning_rate': 0.003},
  'iterative': {'hidden': 16, 'num_steps': 3},
  'semi_amortized': {'num_steps': 5, 'learning_rate': 0.002},
  'svi': {'num_steps': 500, 'learning_rate': 0.005, 'optimizer': 'momentum'},
  'denoising': {'noise_scale': 0.05},
}


@pytest.fixture(params=inference.names())
def method(request):
  return inference.find(request.param).make(MODEL, ENCODER, **OPTIONS.get(request.param, {}))


@pytest.fixture
def params(method):
  return method.init(jax.random.key(2), X[0])


@pytest.mark.parametrize('name', inference.names())
def test_make_takes_the_defaults(name):
  module = inference.find(name)
  options = inspect.signature(module.make).parameters
  assert list(options)[:2] == ['model', 'encoder'] and 'family' in options
  own = {
    key: option.default for key, option in options.items()
    if key not in ('model', 'encoder', 'family') and option.kind != option.VAR_KEYWORD
  }  # fmt: skip
  assert own == module.DEFAULTS


def test_argument_names(method):
  assert list(inspect.signature(method.init).parameters) == ['rng', 'x']
  assert list(inspect.signature(method.infer).parameters) == ['params', 'x', 'rng']
  assert list(inspect.signature(method.loss).parameters) == ['params', 'x', 'rng', 'beta']


def test_params_have_both_halves(params):
  assert set(params) == {'model', 'inference'}


def test_infer_is_pure_and_jit_equals_eager(method, params):
  first, second = method.infer(params, X[0], RNG), method.infer(params, X[0], RNG)
  jax.tree.map(np.testing.assert_array_equal, first, second)
  compiled = jax.jit(method.infer)(params, X[0], RNG)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), first, compiled)


def test_batch_equals_loop(method, params):
  rngs = jax.random.split(RNG, len(X))
  batched = jax.vmap(method.loss, in_axes=(None, 0, 0, None))(params, X, rngs, 0.7)[0]
  single = [method.loss(params, x, rng, 0.7)[0] for x, rng in zip(X, rngs, strict=True)]
  np.testing.assert_allclose(batched, single, rtol=1e-4)


def test_loss_is_minus_the_elbo_at_beta_one(method, params):
  loss, metrics = method.loss(params, X[0], RNG, 1.0)
  assert float(loss) == pytest.approx(-float(metrics['elbo']), rel=1e-5)
  assert metrics['kl'] >= 0


@jax.jit
def linear_gaussian_evidence(params, x):
  return jax.vmap(lambda x: linear_gaussian.log_evidence(params, x, NOISE))(x)


def mean_loss(method, params, rng):
  rngs = jax.random.split(rng, len(X))
  return jax.vmap(method.loss, in_axes=(None, 0, 0, None))(params, X, rngs, 1.0)[0].mean()


def test_every_inference_leaf_gets_a_gradient(method, params):
  gradient = jax.grad(lambda p: mean_loss(method, p, RNG))(params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient['inference']):
    assert np.any(np.asarray(leaf) != 0), jax.tree_util.keystr(path)


def test_training_approaches_the_evidence(method, params):
  """The exact posterior is in the family, so on 8 examples the gap must close to .1 nats."""
  model_params = params['model']
  evidence = linear_gaussian_evidence(model_params, X).mean()
  optimizer = optax.adam(optax.cosine_decay_schedule(2e-2, 1000))

  def step(carry, rng):
    inference_params, opt_state = carry
    gradient = jax.grad(lambda p: mean_loss(method, {'model': model_params, 'inference': p}, rng))(
      inference_params
    )
    updates, opt_state = optimizer.update(gradient, opt_state)
    return (optax.apply_updates(inference_params, updates), opt_state), None

  start = (params['inference'], optimizer.init(params['inference']))
  (trained, _), _ = jax.jit(
    lambda start: jax.lax.scan(step, start, jax.random.split(jax.random.key(3), 1000))
  )(start)
  rngs = jax.random.split(jax.random.key(4), (200, len(X)))

  @jax.jit
  def elbo(inference_params):
    full = {'model': model_params, 'inference': inference_params}

    def one(x, rng):
      rng_infer, rng_elbo = jax.random.split(rng)
      return bounds.elbo(MODEL, model_params, method.infer(full, x, rng_infer), x, rng_elbo)

    return jax.vmap(lambda rngs: jax.vmap(one)(X, rngs).mean())(rngs)

  values = np.asarray(elbo(trained))
  error = values.std(ddof=1) / np.sqrt(len(values))
  if jax.tree.leaves(params['inference']):
    assert elbo(params['inference']).mean() < values.mean() - 0.1
  assert evidence - 0.1 < values.mean() < evidence + 5 * error


def test_unknown_method_is_named_with_its_neighbor():
  with pytest.raises(ValueError, match=r"unknown method 'amortised'.*Did you mean 'amortized'\?"):
    inference.find('amortised')


@pytest.mark.parametrize('family_name', posteriors.names())
@pytest.mark.parametrize('name', inference.names())
def test_every_method_takes_every_family(name, family_name):
  """By shapes only, which costs no compilation: infer and loss agree on what they make."""
  family = posteriors.make(family_name)
  encoder = networks.mlp((8,), family.heads(2), 'tanh')
  method = inference.find(name).make(MODEL, encoder, family=family, **OPTIONS.get(name, {}))
  params = jax.eval_shape(method.init, RNG, X[0])
  q = jax.eval_shape(method.infer, params, X[0], RNG)
  plain = inference.find('amortized').make(MODEL, encoder, family=family)
  heads = jax.eval_shape(plain.infer, jax.eval_shape(plain.init, RNG, X[0]), X[0], RNG)
  assert jax.tree.structure(q) == jax.tree.structure(heads)
  assert jax.tree.map(lambda a: a.shape, q) == jax.tree.map(lambda a: a.shape, heads)
  loss, metrics = jax.eval_shape(method.loss, params, X[0], RNG, 1.0)
  assert loss.shape == metrics['elbo'].shape == metrics['kl'].shape == ()


def test_a_variant_names_the_family_that_it_cannot_use():
  """VAE+SVI+KL evaluates its draws under another posterior."""
  for family_name in posteriors.names():
    family = posteriors.make(family_name)
    encoder = networks.mlp((8,), family.heads(2), 'tanh')
    method = inference.find('semi_amortized').make(MODEL, encoder, variant='svi_kl', family=family)
    params = jax.eval_shape(method.init, RNG, X[0])
    if family_name in ('planar', 'radial', 'iaf', 'auxiliary'):
      with pytest.raises(ValueError, match='cannot evaluate a z that it did not draw'):
        jax.eval_shape(method.loss, params, X[0], RNG, 1.0)
    else:
      assert jax.eval_shape(method.loss, params, X[0], RNG, 1.0)[0].shape == ()


@pytest.mark.parametrize('family_name', ['full_covariance', 'iaf'])
@pytest.mark.parametrize('name', ['instance_adaptive', 'semi_amortized'])
def test_the_loss_with_a_flow_is_minus_its_elbo(name, family_name):
  """And its gradient reaches every trained leaf, one step away from where flows start."""
  flow = {'hidden': 4, 'context_dim': 3} if family_name == 'iaf' else {}
  family = posteriors.make(family_name, **flow)
  encoder = networks.mlp((4,), family.heads(2), 'tanh')
  options = OPTIONS.get(name, {}) | ({'num_steps': 2} if name == 'semi_amortized' else {})
  method = inference.find(name).make(MODEL, encoder, family=family, **options)
  params = jax.tree.map(lambda a: a + 0.02, jax.jit(method.init)(RNG, X[0]))
  of_loss = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
  (loss, metrics), gradient = of_loss(params, X[0], RNG, 1.0)
  assert float(loss) == pytest.approx(-float(metrics['elbo']), rel=1e-5)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert np.all(np.isfinite(leaf)) and np.any(leaf != 0), jax.tree_util.keystr(path)
