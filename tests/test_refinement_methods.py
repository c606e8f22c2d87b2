"""Methods that refine or are trained apart: their gradients against definitions and differences."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from iavae import inference, networks, posteriors, refine
from iavae.bounds import divergence, posterior_loss
from iavae.decoders import mlp_decoder
from iavae.inference import denoising, iterative, semi_amortized, svi
from iavae.models import linear_gaussian, vae
from iavae.optimizers import make_optimizer, masked_step
from iavae.posteriors.gaussian import DiagonalGaussian

MODEL = linear_gaussian.make(data_dim=3, latent_dim=2, noise_scale=0.5)
ENCODER = networks.mlp((4,), {'mean': 2, 'log_var': 2}, 'tanh')
X = np.random.default_rng(0).standard_normal(3)
RNG = jax.random.key(1)


FLOW = {'context_dim': 2, 'hidden': 3}


def make(name, **options):
  """(method, params) in the precision at hand."""
  method = inference.find(name).make(MODEL, ENCODER, **options)
  return method, method.init(jax.random.key(2), X)


def make_with(family_name, name, **options):
  """As `make`, with another family of posteriors, away from where it starts."""
  known = posteriors.defaults(family_name)
  family = posteriors.make(family_name, **{k: v for k, v in FLOW.items() if k in known})
  encoder = networks.mlp((4,), family.heads(2), 'tanh')
  method = inference.find(name).make(MODEL, encoder, family=family, **options)
  params = method.init(jax.random.key(2), X)
  rng = np.random.default_rng(3)
  return method, jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape), params)


def assert_trees_close(a, b, rtol=1e-9):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for (path, leaf), other in zip(
    jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
  ):
    scale = np.abs(other).max() + 1e-12
    np.testing.assert_allclose(leaf, other, rtol=0, atol=rtol * scale, err_msg=str(path))


def loss_gradient(method, params, rng=RNG, beta=0.7):
  return jax.jit(jax.grad(lambda p: method.loss(p, X, rng, beta)[0]))(params)


def assert_slopes_are_differences(of, params):
  """The gradient of `of` against central differences in random directions."""
  gradient = jax.jit(jax.grad(of))(params)
  value = jax.jit(of)
  for seed in range(3):
    rng = np.random.default_rng(seed)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), params)
    move = lambda r, d=direction: jax.tree.map(lambda a, b: a + r * b, params, d)
    difference = (value(move(1e-6)) - value(move(-1e-6))) / 2e-6
    slope = optax.tree.vdot(gradient, direction)
    assert slope == pytest.approx(float(difference), rel=1e-6)


@pytest.mark.parametrize('optimizer', ['momentum', 'adam'])
def test_sa_vae_gradient_is_that_of_finite_differences(optimizer, x64):
  """Through 5 steps, clipping included."""
  options = {'num_steps': 5, 'learning_rate': 0.05, 'optimizer': optimizer}
  method, params = make('semi_amortized', **options)
  assert_slopes_are_differences(lambda p: method.loss(p, X, RNG, 0.7)[0], params)


@pytest.mark.parametrize('family_name', posteriors.names())
def test_the_steps_of_every_family_are_differentiated_exactly(family_name, x64):
  """The posterior at l_T as a function of all params."""
  method, params = make_with(family_name, 'semi_amortized', num_steps=3)

  def of(params):
    leaves = jax.tree.leaves(method.infer(params, X, RNG))
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in leaves)

  assert_slopes_are_differences(of, params)


def test_adam_has_a_gradient_where_a_head_has_none():
  """The context of a flow that starts as the identity moves nothing."""
  family = posteriors.make('iaf', **FLOW)
  encoder = networks.mlp((4,), family.heads(2), 'tanh')
  method = semi_amortized.make(MODEL, encoder, family=family, optimizer='adam', num_steps=3)
  params = method.init(jax.random.key(2), X)
  gradient = jax.jit(jax.grad(lambda p: method.loss(p, X, RNG, 1.0)[0]))(params)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_sa_vae_steps_are_a_plain_loop(x64):
  """The steps as the paper writes them: v <- v / 2 - g, l <- l + rate v; with a clip in force."""
  rate, num_steps, max_norm = 0.05, 4, 5.0
  method, params = make('semi_amortized', num_steps=num_steps, learning_rate=rate)
  heads = ENCODER.apply(params['inference']['encoder'], X)
  v, clipped = jax.tree.map(jnp.zeros_like, heads), 0

  def objective(heads, rng):
    q = DiagonalGaussian(heads['mean'], heads['log_var'] / 2)
    return posterior_loss(MODEL, params['model'], q, X, rng, 1.0)[0]

  for t in range(num_steps):
    g = jax.grad(objective)(heads, jax.random.fold_in(RNG, t))
    norms = jax.tree.map(lambda a: float(jnp.linalg.norm(a)), g)
    clipped += sum(norm > max_norm for norm in norms.values())
    v = {k: 0.5 * v[k] - g[k] * min(1, max_norm / norms[k]) for k in g}
    heads = {k: heads[k] + rate * v[k] for k in heads}
  assert clipped
  q = method.infer(params, X, RNG)
  np.testing.assert_allclose(q.mean, heads['mean'], rtol=1e-12)
  np.testing.assert_allclose(2 * q.log_scale, heads['log_var'], rtol=1e-12)


def test_steps_of_one_example_are_those_of_a_batch(x64):
  """Rate 1 on the mean loss of 50 is rate 1/50 on that of each, while no norm is clipped."""
  size = 50
  noise = jnp.asarray(np.random.default_rng(1).uniform(size=(size, 2)))
  objective = lambda q, e: jnp.sum((q - e) ** 2)
  batch, single = optax.sgd(1.0, momentum=0.5), refine.kim_momentum(1 / size)
  start = jnp.zeros((size, 2))
  a, state_a, b = start, batch.init(start), start
  state_b = jax.vmap(single.init)(start)
  for _ in range(5):
    mean_loss = lambda q: jnp.mean(jax.vmap(objective)(q, noise))
    updates, state_a = batch.update(jax.grad(mean_loss)(a), state_a)
    a = a + updates
    gradients = jax.vmap(jax.grad(objective))(b, noise)
    updates, state_b = jax.vmap(single.update)(gradients, state_b)
    b = b + updates
  np.testing.assert_allclose(a, b, rtol=1e-12)


def refined_and_first(variant, params):
  """The posteriors at l_T and l_0 and the keys of `loss`, by the parts of the package."""
  rng_steps, rng_start, rng_loss = jax.random.split(RNG, 3)
  options = {'variant': variant, 'num_steps': 3, 'learning_rate': 0.01}
  method = semi_amortized.make(MODEL, ENCODER, **options)
  bound = lambda model, p, q, x, rng: (
    -posterior_loss(model, p, DiagonalGaussian(q['mean'], q['log_var'] / 2), x, rng, 0.7)[0]
  )
  steps = refine.Refinement(3, refine.kim_momentum(0.01), bound)
  heads = ENCODER.apply(params['inference']['encoder'], X)
  last = refine.refine(steps, MODEL, params['model'], heads, X, rng_steps)
  read = lambda heads: DiagonalGaussian(heads['mean'], heads['log_var'] / 2)
  return method, read(last), rng_start, rng_loss


def test_the_rate_of_adam_falls_along_a_cosine_or_stays():
  """Under a gradient of 1 each of Adam's steps is the rate."""
  for decay_steps, expected in ((0, [-1, -1, -1]), (2, [-1, -0.5, 0])):
    optimizer = refine.make_optimizer('adam', 1.0, decay_steps)
    state, one = optimizer.init(jnp.ones(())), jnp.ones(())
    for step in expected:
      update, state = optimizer.update(one, state)
      assert update == pytest.approx(step, abs=1e-4)
  with pytest.raises(ValueError, match="the rate of the optimizer 'momentum' is constant"):
    svi.make(MODEL, ENCODER, optimizer='momentum', decays=True)


@pytest.mark.parametrize('name', ['svi', 'semi_amortized'])
def test_steps_of_training_weigh_the_kl(name, x64):
  """beta counts in the steps, too; SVI's decoder sees the last posterior as fixed."""
  method, params = make(name, num_steps=3, learning_rate=0.02, optimizer='momentum')
  num_keys = {'svi': 2, 'semi_amortized': 3}[name]
  rng_steps, *_, rng_loss = jax.random.split(RNG, num_keys)

  def ascend(params):
    heads = {'mean': jnp.zeros(2), 'log_var': jnp.zeros(2)}
    if name == 'semi_amortized':
      heads = ENCODER.apply(params['inference']['encoder'], X)
    bound = lambda model, p, q, x, rng: (
      -posterior_loss(model, p, DiagonalGaussian(q['mean'], q['log_var'] / 2), x, rng, 0.7)[0]
    )
    steps = refine.Refinement(3, refine.kim_momentum(0.02), bound)
    return refine.refine(steps, MODEL, params['model'], heads, X, rng_steps)

  def expected(params):
    last = ascend(params)
    last = jax.lax.stop_gradient(last) if name == 'svi' else last
    q = DiagonalGaussian(last['mean'], last['log_var'] / 2)
    return posterior_loss(MODEL, params['model'], q, X, rng_loss, 0.7)[0]

  assert_trees_close(loss_gradient(method, params), jax.jit(jax.grad(expected))(params))


def test_shared_networks_follow_the_last_posterior_only(x64):
  """With a flow, VAE+SVI trains its networks as it trains the decoder."""
  method, params = make_with('iaf', 'semi_amortized', variant='svi', num_steps=2)
  rng_steps, _, rng_loss = jax.random.split(RNG, 3)
  family = posteriors.make('iaf', **FLOW)
  encoder = networks.mlp((4,), family.heads(2), 'tanh')
  fixed = params['inference']
  bound = refine.heads_bound(family, fixed, 0.7)
  steps = refine.Refinement(2, refine.kim_momentum(0.02), bound)
  heads = encoder.apply(fixed['encoder'], X)
  last = refine.refine(steps, MODEL, params['model'], heads, X, rng_steps)

  def of_flow(flow):
    q = family.posterior({'flow': flow}, last)
    return posterior_loss(MODEL, params['model'], q, X, rng_loss, 0.7)[0]

  found = loss_gradient(method, params)['inference']['flow']
  assert_trees_close(found, jax.jit(jax.grad(of_flow))(fixed['flow']))


def test_a_hybrid_leaves_what_examples_share(x64):
  method, params = make_with('iaf', 'hybrid', num_steps=3)
  q = method.infer(params, X, RNG)
  jax.tree.map(np.testing.assert_array_equal, q.flow, params['inference']['flow'])
  plain, _ = make_with('iaf', 'amortized')
  assert np.all(q.base.mean != plain.infer(params, X, RNG).base.mean)


@pytest.mark.parametrize('variant', ['svi', 'svi_kl'])
def test_encoder_and_decoder_follow_their_own_objectives(variant, x64):
  _, params = make('semi_amortized')
  method, last, rng_start, rng_loss = refined_and_first(variant, params)

  def of_encoder(phi):
    heads = ENCODER.apply(phi, X)
    first = DiagonalGaussian(heads['mean'], heads['log_var'] / 2)
    if variant == 'svi':
      return posterior_loss(MODEL, params['model'], first, X, rng_start, 0.7)[0]
    return divergence(first, last, None)

  def of_decoder(theta):
    return posterior_loss(MODEL, theta, last, X, rng_loss, 0.7)[0]

  found = loss_gradient(method, params)
  assert_trees_close(found['inference']['encoder'],
                     jax.grad(of_encoder)(params['inference']['encoder']))  # fmt: skip
  assert_trees_close(found['model'], jax.grad(of_decoder)(params['model']))
  value = method.loss(params, X, RNG, 0.7)[0]
  assert value == pytest.approx(float(of_decoder(params['model'])), rel=1e-12)


def test_divergence_is_the_closed_form_and_its_estimate(x64):
  """Against numpy, and a family without `kl` by draws, within 5 standard errors."""
  q = DiagonalGaussian(jnp.array([0.3, -1.0]), jnp.array([-0.5, 0.2]))
  p = DiagonalGaussian(jnp.array([0.0, -0.5]), jnp.array([0.1, -0.1]))
  (m, s), (n, t) = ((np.asarray(d.mean), np.exp(np.asarray(d.log_scale))) for d in (q, p))
  exact = np.sum(np.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5)
  assert divergence(q, p, None) == pytest.approx(exact, rel=1e-12)

  class Estimated(NamedTuple):
    """The same family without its closed form."""

    mean: jax.Array
    log_scale: jax.Array
    sample_and_log_prob = DiagonalGaussian.sample_and_log_prob
    log_prob = DiagonalGaussian.log_prob

  one = jax.value_and_grad(lambda q, rng: divergence(q, Estimated(*p), rng))
  values, slopes = jax.jit(jax.vmap(one, (None, 0)))(Estimated(*q), jax.random.split(RNG, 20_000))
  expected = jax.grad(lambda q: divergence(q, p, None))(q)
  for found, known in ((values, exact), *zip(slopes, expected, strict=True)):
    error = np.std(found, axis=0, ddof=1) / np.sqrt(len(values))
    assert (np.abs(np.mean(found, axis=0) - known) < 5 * error).all() and np.all(error < 0.02)

  class Drawn:  # cannot evaluate
    sample_and_log_prob = staticmethod(q.sample_and_log_prob)

  with pytest.raises(ValueError, match='cannot evaluate a z that it did not draw'):
    divergence(Drawn, Drawn, RNG)


def test_iterative_updates_are_those_of_the_paper(x64):
  """What the network reads, its highway layers and gates, in numpy; one log-variance is clipped."""
  _, params = make('iterative', hidden=3)
  phi = jax.tree.map(lambda a: np.asarray(4 * a), params['inference']['refiner'])
  heads = {'mean': np.array([0.5, -2.0]), 'log_var': np.array([90.0, -1.0])}
  gradient = {'mean': np.array([3.0, 0.0]), 'log_var': np.array([-0.2, 1e-4])}
  sigmoid = lambda a: 1 / (1 + np.exp(-a))
  linear = lambda name, u: u @ phi[name]['kernel'] + phi[name]['bias']
  both = lambda tree: np.concatenate([tree['log_var'], tree['mean']])
  magnitudes = np.log(np.abs(both(gradient)) + 1e-5)
  h = np.concatenate([X - 0.5, both(heads), magnitudes, np.sign(both(gradient))])
  for i in range(2):
    gate, unit = sigmoid(linear(f'gate{i}', h)), linear(f'unit{i}', h)
    unit = np.where(unit > 0, unit, np.exp(np.minimum(unit, 0)) - 1)
    h = gate * (linear('skip0', h) if i == 0 else h) + (1 - gate) * unit
  expected = {}
  for name in heads:
    gate = sigmoid(linear(f'{name}_gate', h))
    expected[name] = gate * heads[name] + (1 - gate) * linear(f'{name}_value', h)
  assert expected['log_var'][0] > 15
  expected['log_var'] = np.minimum(expected['log_var'], 15)
  found = iterative._update(phi, X, heads, refine.describe(heads, gradient))
  assert_trees_close(found, expected, rtol=1e-12)


def test_iterative_gradient_is_the_definition(x64):
  """Mean of the T ELBOs for phi, none through l_t into the step before; the last one for theta."""
  num_steps, beta = 3, 0.7
  method, params = make('iterative', num_steps=num_steps, hidden=3)
  rng_steps, rng_loss = jax.random.split(RNG)

  def objective(theta, heads, rng):
    q = DiagonalGaussian(heads['mean'], heads['log_var'] / 2)
    return posterior_loss(MODEL, theta, q, X, rng, beta)[0]

  def trajectory(phi):
    """Every l_t after the first, as a function of phi through its last step only."""
    heads, found = {'mean': jnp.zeros(2), 'log_var': jnp.zeros(2)}, []
    for t in range(num_steps):
      heads = jax.lax.stop_gradient(heads)
      g = jax.grad(lambda h, t=t: -objective(params['model'], h, jax.random.fold_in(rng_steps, t)))
      heads = iterative._update(phi, X, heads, refine.describe(heads, g(heads)))
      found.append(heads)
    return found

  rngs = [jax.random.fold_in(rng_steps, t) for t in range(1, num_steps)] + [rng_loss]

  def of_refiner(phi):
    values = [objective(params['model'], h, r) for h, r in zip(trajectory(phi), rngs, strict=True)]
    return sum(values) / num_steps

  last = trajectory(params['inference']['refiner'])[-1]
  found = loss_gradient(method, params)
  assert_trees_close(found['inference']['refiner'],
                     jax.grad(of_refiner)(params['inference']['refiner']))  # fmt: skip
  assert_trees_close(
    found['model'], jax.grad(lambda theta: objective(theta, last, rng_loss))(params['model'])
  )


@pytest.mark.parametrize('name', ['svi', 'iterative'])
def test_zero_steps_are_the_prior(name):
  method, params = make(name, num_steps=0)
  q = method.infer(params, X, RNG)
  np.testing.assert_array_equal(q.mean, 0)
  np.testing.assert_array_equal(q.log_scale, 0)


@pytest.mark.parametrize('name', ['semi_amortized', 'adam_refined', 'hybrid'])
def test_zero_steps_are_the_encoder(name):
  method, params = make(name, num_steps=0)
  plain = inference.find('amortized').make(MODEL, ENCODER)
  jax.tree.map(
    np.testing.assert_array_equal, method.infer(params, X, RNG), plain.infer(params, X, RNG)
  )


def test_hybrid_of_the_adaptive_trains_as_it_and_ends_nearer(x64):
  hybrid, params = make('hybrid', of='instance_adaptive', num_steps=200, num_samples=8)
  adaptive, _ = make('instance_adaptive')
  assert hybrid.loss(params, X, RNG, 1.0)[0] == adaptive.loss(params, X, RNG, 1.0)[0]
  exact = linear_gaussian.posterior(params['model'], X, 0.5)
  distances = [float(m.infer(params, X, RNG).kl(exact)) for m in (hybrid, adaptive)]
  assert distances[0] < 0.1 < 1 < distances[1]


def test_denoising_reads_noise_in_training_only(x64):
  method, params = make('denoising', noise_scale=0.3)
  plain = inference.find('amortized').make(MODEL, ENCODER)
  rng_noise, rng_loss = jax.random.split(RNG)
  noisy = X + 0.3 * jax.random.normal(rng_noise, X.shape)
  q = plain.infer(params, noisy, RNG)
  expected = posterior_loss(MODEL, params['model'], q, X, rng_loss, 0.7)[0]
  assert method.loss(params, X, RNG, 0.7)[0] == pytest.approx(float(expected), rel=1e-12)
  jax.tree.map(
    np.testing.assert_array_equal, method.infer(params, X, RNG), plain.infer(params, X, RNG)
  )


def test_row_norm_bounds_every_unit(x64):
  _, params = make('denoising')
  scaled = denoising.normalize_rows(params['inference']['encoder'], 2.5)
  plain, normalized = (make('denoising', row_norm=norm)[0] for norm in (0.0, 2.5))
  jax.tree.map(
    np.testing.assert_array_equal,
    normalized.infer(params, X, RNG),
    plain.infer({'inference': {'encoder': scaled}}, X, RNG),
  )
  for layer in scaled.values():
    np.testing.assert_allclose(np.linalg.norm(layer['kernel'], axis=0), 2.5, rtol=1e-12)


def test_aggressive_trains_one_half_at_a_time():
  """3 of the encoder, 1 of the decoder, twice, then both; moments of the other half rest too."""
  method, params = make('aggressive', num_encoder_steps=3, aggressive_share=0.8)
  rates = {'model': 0.1, 'inference': 0.1}
  optimizer = make_optimizer(rates)
  state, changed = optimizer.init(params), []

  @jax.jit
  def step(params, state, i):
    gradient = jax.grad(lambda p: method.loss(p, X, jax.random.fold_in(RNG, i), 1.0)[0])(params)
    return masked_step(optimizer, method.trains(i, 10), gradient, state, params)

  differs = lambda a, b: any(map(np.any, jax.tree.leaves(jax.tree.map(np.not_equal, a, b))))
  moments = lambda state, half: [
    leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    if half in [getattr(key, 'key', None) for key in path]
  ]  # fmt: skip
  for i in range(10):
    new, new_state = step(params, state, jnp.asarray(i))
    halves = [half for half in ('model', 'inference') if differs(new[half], params[half])]
    assert halves == [h for h in ('model', 'inference')
                      if differs(moments(new_state, h), moments(state, h))]  # fmt: skip
    changed.append(''.join(half[0] for half in halves))
    params, state = new, new_state
  assert changed == ['i', 'i', 'i', 'm'] * 2 + ['mi', 'mi']


def test_a_half_that_rests_takes_no_part_in_the_others_step():
  """Neither in the norm that is clipped nor in the count of Adam, whose first step is its rate."""
  optimizer = make_optimizer({'model': 0.1, 'inference': 0.2}, max_norm=5.0)
  params = {'model': jnp.zeros(2), 'inference': jnp.zeros(1)}
  state = optimizer.init(params)
  step = jax.jit(lambda half, gradient, state, params: masked_step(
    optimizer, {'model': half, 'inference': ~half}, gradient, state, params))  # fmt: skip
  large = {'model': jnp.full(2, 1e6), 'inference': jnp.ones(1)}
  for count in range(1, 6):
    params, state = step(jnp.asarray(False), large, state, params)
    # 1 - .999^t loses three digits of float32
    np.testing.assert_allclose(params['inference'], -0.2 * count, rtol=1e-4)
  np.testing.assert_array_equal(params['model'], 0)
  params, state = step(jnp.asarray(True), large, state, params)
  np.testing.assert_allclose(params['model'], -0.1, rtol=1e-4)
  moments = [
    float(leaf[0]) for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    if 'inference' in [getattr(key, 'key', None) for key in path] and leaf.ndim
  ]  # fmt: skip
  assert sorted(moments) == pytest.approx([1 - 0.999**5, 1 - 0.9**5], rel=1e-5)  # unclipped


def test_memory_of_the_gradient_does_not_grow_with_the_steps():
  """Each of 28 more steps keeps its variational parameters and their momentum, nothing else."""
  shape = (8, 8, 1)
  model = vae.make(mlp_decoder(4, shape, (64, 64)), 4)
  encoder = networks.mlp((64, 64), {'mean': 4, 'log_var': 4})
  x = jnp.zeros((16, *shape))

  def scratch(num_steps):
    method = semi_amortized.make(model, encoder, num_steps=num_steps)
    params = method.init(RNG, x[0])
    loss = lambda p: jax.vmap(method.loss, (None, 0, None, None))(p, x, RNG, 1.0)[0].mean()
    compiled = jax.jit(jax.grad(loss)).lower(params).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  kept = 16 * 2 * 8 * 4  # images x (parameters, momentum) x (mean, log_var) x bytes
  assert scratch(32) - scratch(4) < 1.2 * 28 * kept


@pytest.mark.parametrize(
  ('name', 'options', 'words'),
  [
    ('semi_amortized', {'variant': 'kl'}, "unknown variant 'kl'; one of sa_vae, svi, svi_kl"),
    ('semi_amortized', {'optimizer': 'sgd'}, "unknown optimizer 'sgd'; momentum or adam"),
    ('svi', {'learning_rate': 0.0}, 'learning_rate=0.0 is not above 0'),
    ('hybrid', {'of': 'hybrid'}, 'a hybrid with more steps'),
    ('hybrid', {'of': 'amortised'}, "Did you mean 'amortized'"),
    ('hybrid', {'num_samples': 0}, 'num_samples 1 or more'),
    ('iterative', {'num_steps': -1}, 'num_steps is 0 or more'),
    ('denoising', {'noise_scale': -1.0}, '0 or more'),
    ('aggressive', {'num_encoder_steps': -1}, '0 or more'),
  ],
)
def test_bad_hyperparameters_are_one_line(name, options, words):
  with pytest.raises(ValueError, match=words) as caught:
    inference.find(name).make(MODEL, ENCODER, **options)
  assert '\n' not in str(caught.value)


def test_negative_steps_are_refused():
  method = svi.make(MODEL, ENCODER, num_steps=-1)
  with pytest.raises(ValueError, match='num_steps=-1 is below 0'):
    method.infer({'model': {}, 'inference': {}}, X, RNG)
