"""Does the README say what the committed results say?"""

import json
import re
from statistics import fmean, stdev

import pytest
from conftest import ROOT

from iavae import gap_parts, gap_words, paper, report
from iavae.optimum import Search
from iavae.reports import cremer_levels, cremer_verdicts, draws, image_curves, image_numbers
from iavae.statistics import p_values, paired_comparison

RESULTS = json.loads((ROOT / 'results' / 'synthetic.json').read_text(encoding='utf8'))
README = (ROOT / 'README.md').read_text(encoding='utf8')


def numbers(start):
  """The numbers of the one table row that starts with these words."""
  section = README[README.index('## The synthetic experiment') :]
  (row,) = [line for line in section.splitlines() if line.startswith(f'| {start}')]
  return [float(cell) for cell in re.findall(r'-?\d+\.\d+', row)]


def mean(method, key):
  return fmean(row[method][key] for row in RESULTS['table2'])


def rounded(values):
  return [pytest.approx(value, abs=0.0051) for value in values]


def test_table_2():
  vae, ia_vae, best = map(numbers, ('VAE, 20', 'IA-VAE, 68', 'best mean-field'))
  ours = [mean('vae', key) for key in ('elbo', 'elbo_paper', 'kl', 'amortization_gap')]
  assert [vae[0], vae[1], vae[3], vae[5]] == rounded(ours)
  keys = ('elbo_mean', 'elbo_paper_mean', 'kl_mean', 'amortization_gap_mean')
  assert [ia_vae[0], ia_vae[1], ia_vae[3], ia_vae[5]] == rounded(mean('ia_vae', k) for k in keys)
  keys = ('elbo_optimal', 'elbo_optimal_paper', 'kl_optimal')
  assert best == rounded(RESULTS['references'][key] for key in keys)
  assert numbers('log p(x)') == rounded([RESULTS['references']['log_evidence']])


def test_table_3():
  for method, start in (('vae', 'VAE | '), ('ia_vae', 'IA-VAE | ')):
    row = numbers(start)
    keys = ('elbo', 'elbo_paper', 'd_map', 'r_map')
    found = [row[0], row[1], row[3], row[5]]
    assert found == rounded(RESULTS['table3'][method][key] for key in keys)


@pytest.mark.parametrize(
  ('start', 'name'),
  [
    ('IA-VAE (one seed', 'ia_vae'),
    ('hypernetwork without x', 'static'),
    ('base encoder trained on', 'continued'),
    ('IA-VAE with the base', 'unfrozen'),
    ('plain ReLU', 'relu'),
    ('plain SiLU', 'silu'),
    ('plain GLU', 'glu'),
  ],
)
def test_controls(start, name):
  keys = ('elbo_mean', 'elbo_sd', 'amortization_gap_mean')
  assert numbers(start) == rounded(RESULTS['controls'][name][key] for key in keys)


DRAWS = json.loads((ROOT / 'results' / 'synthetic-draws.json').read_text(encoding='utf8'))


def test_ten_draws_beside_the_paper():
  """Both tables, and what the text says of them; the constants of the report are the same."""
  assert [draw['seed'] for draw in DRAWS['draws']] == list(range(10))
  # A '+' would say that uncommitted code made them
  assert all(re.fullmatch('[0-9a-f]{40}', draw['git_commit']) for draw in DRAWS['draws'])
  assert {name: draws.spread(found) for name, found in DRAWS['numbers'].items()} == paper.DRAWS
  of_default = {c.name: c for c in paper.comparisons(RESULTS)}
  assert of_default.keys() == paper.DRAWS.keys()
  markdown = (ROOT / 'results' / 'synthetic-draws.md').read_text(encoding='utf8')
  assert markdown == draws.markdown(DRAWS)
  for start, is_elbo in (('| needs no convention', False), ('| ELBO, in the inferred', True)):
    names = [name for name in DRAWS['numbers'] if paper.needs_convention(name) == is_elbo]
    rows = table(start)
    assert [name for name, _ in rows] == names
    for name, found in rows:
      published, (mean, sd, low, high) = of_default[name].published, paper.DRAWS[name]
      expected = [round(published, 2), *(round(value, 3) for value in (mean, sd, low, high))]
      assert found == [*expected, round((published - mean) / sd, 1)], name
  free, elbos = (
    [c for c in of_default.values() if paper.needs_convention(c.name) == is_elbo]
    for is_elbo in (False, True)
  )
  (out,) = [
    c for c in free if not paper.DRAWS[c.name].low <= c.published <= paper.DRAWS[c.name].high
  ]
  assert out.name == 'Table 3, VAE, d_MAP'
  assert round(paper.DRAWS[out.name].low - out.published, 3) == 0.004
  assert all(max(c.value, paper.DRAWS[c.name].mean) < c.published for c in elbos)
  short = [c.published - paper.DRAWS[c.name].high for c in elbos]
  short = [round(value, 2) for value in short if value > 0]
  assert (len(short), min(short), max(short)) == (4, 0.02, 0.08)
  assert paper.TABLE3['vae']['elbo'] == max(elbo for elbo, _ in paper.TABLE2_VAE)


def test_true_elbos_of_ten_draws():
  of = lambda key: [draw['elbo'][key] for draw in DRAWS['draws']]
  text = ' '.join(README.split())
  pair = r'(-\d\.\d\d) ± (\d\.\d\d)'
  (told,) = re.findall(rf'same draws: VAE {pair}, IA-VAE {pair}, best mean-field {pair}', text)
  expected = [f(of(key)) for key in ('vae', 'ia_vae', 'elbo_optimal') for f in (fmean, stdev)]
  assert [float(number) for number in told] == rounded(expected)
  assert min(of('vae')) == of('vae')[0]
  (told,) = re.findall(r'hidden unit \((\d) to (\d) of 10', text)
  dead = [draw['dead_bases'] for draw in DRAWS['draws']]
  assert [int(number) for number in told] == [min(dead), max(dead)]


def test_tables_beside_the_results_are_made_from_them():
  for path in (ROOT / 'results').glob('*.md'):
    results = json.loads(path.with_suffix('.json').read_text(encoding='utf8'))
    if path.stem != 'synthetic-draws':
      assert path.read_text(encoding='utf8') == report.markdown(results), path.stem


def committed(name):
  return json.loads((ROOT / 'results' / f'{name}.json').read_text(encoding='utf8'))


def test_the_base_of_the_reduced_tables_still_rises():
  text = ' '.join(README.split())
  (told,) = re.findall(r'last five of its 15 epochs is (.*?) on MNIST and (.*?) on OMNIGLOT', text)
  for dataset, values in zip(('mnist', 'omniglot'), told, strict=True):
    results = committed(f'{dataset}-reduced')
    curves = results['curves']['base']
    mean = [fmean(of_epoch) for of_epoch in zip(*curves, strict=True)]
    assert len(mean) == 16 and all(max(curve) == curve[-1] for curve in curves)
    assert [float(value) for value in values.split(', ')] == rounded(mean[-5:])
    (warning,) = image_curves.findings(results)
    assert 'not converged' in warning


def test_the_table_of_methods_repairs_its_restart():
  """All flows and modulations are as near to plain training on as the text says."""
  results, text = committed('mnist-methods'), ' '.join(README.split())
  curves = results['curves']['amortized']
  mean = [fmean(of_epoch) for of_epoch in zip(*curves, strict=True)]
  pattern = r'goes from (\S+) to (\S+) after one epoch and ends at (-\d+\.\d\d)\.'
  (told,) = re.findall(pattern, text)
  assert [float(value) for value in told] == rounded([mean[0], mean[1], mean[-1]])
  assert min(mean) == mean[1]
  elbos = {}
  for row in results['rows']:
    if row['split'] == 'test':
      elbos.setdefault(row['method'], []).append(row['elbo'])
  flows = ('autoregressive', 'planar', 'radial', 'realnvp', 'auxiliary', 'iaf', 'maf')
  modulations = (
    'instance_adaptive',
    'film',
    'lora',
    'expert_kernels',
    'trunk',
    'gates',
    'gradient',
  )
  for name in (*flows, *modulations):
    assert abs(fmean(elbos[name]) - fmean(elbos['amortized'])) < 0.3, name
  assert not any('added_by_doubling' in gap for gap in results['gaps'])
  assert 'Fashion MNIST has no IA-VAE result here at any scale' in text
  assert not list((ROOT / 'results').glob('fashion*'))


IMAGES = {
  'VAE (base)': 'base',
  "IA-VAE, the paper's": 'instance_adaptive',
  'C1 ': 'continued',
  'C2 ': 'decoder_only',
  'C3 ': 'encoder_only',
  'C4 ': 'static',
  'C5 ': 'shuffled',
  'C6 ': 'frozen_decoder',
  'C7 ': 'wider',
}


def image_rows(dataset):
  """{start of a row: its numbers} of the table of a data set."""
  lines = README.splitlines()
  (first,) = [i for i, line in enumerate(lines) if line.startswith(f'| {dataset}, reduced')]
  rows = lines[first + 2 : first + 2 + len(IMAGES)]
  found = [[float(cell) for cell in re.findall(r'[-+]?\d*\.\d+', row)] for row in rows]
  for row, start in zip(rows, IMAGES, strict=True):
    assert row.startswith(f'| {start}')
  return dict(zip(IMAGES.values(), found, strict=True))


@pytest.mark.parametrize('dataset', ['MNIST', 'OMNIGLOT'])
def test_images(dataset):
  path = ROOT / 'results' / f'{dataset.lower()}-reduced.json'
  results = json.loads(path.read_text(encoding='utf8'))
  assert re.fullmatch('[0-9a-f]{40}', results['provenance']['git_commit'])
  assert {row['preset'] for row in results['rows']} == {'reduced'}
  for method, row in image_rows(dataset).items():
    of_method = [r for r in results['rows'] if (r['method'], r['split']) == (method, 'test')]
    assert len(of_method) == 5
    elbo, kl, iwae = ([r[key] for r in of_method] for key in ('elbo', 'kl', 'iwae'))
    assert row[:4] == rounded([fmean(elbo), stdev(elbo), fmean(kl), fmean(iwae)])
    compared = [
      [entry['mean_difference'], *entry['ci95']]
      for entry in results['comparisons']
      if (entry['a'], entry['b']) == ('instance_adaptive', method)
      and (entry['metric'], entry['split']) == ('elbo', 'test')
    ]
    assert row[4:7] == rounded(compared[0] if compared else [])


@pytest.mark.parametrize('dataset', ['MNIST', 'OMNIGLOT'])
def test_adjusted_p_values(dataset):
  path = ROOT / 'results' / f'{dataset.lower()}-reduced.json'
  results = json.loads(path.read_text(encoding='utf8'))
  (group,) = image_numbers.groups(results)
  lines = README.splitlines()
  (first,) = [i for i, line in enumerate(lines) if line.startswith(f'| {dataset}, reduced')]
  told = [line.strip(' |').split('|')[-1].strip() for line in lines[first + 2 : first + 11]]
  tested = image_numbers.against_others(results, group)
  for cell, method in zip(told, IMAGES.values(), strict=True):
    p = tested[method]['p_holm'] if method in tested else None
    words = '' if p is None else '< .001' if p < 0.001 else f'{p:.3f}'.removeprefix('0')
    assert cell == words or p is None, method


def test_gains_in_the_text():
  """Where IA-VAE starts, and what is left with a frozen decoder: base, MNIST and OMNIGLOT."""
  starts, gains = [], []
  for dataset in ('mnist', 'omniglot'):
    path = ROOT / 'results' / f'{dataset}-reduced.json'
    results = json.loads(path.read_text(encoding='utf8'))
    curves = results['curves']
    best = fmean(max(curve) for curve in curves['base'])
    starts.append(best - fmean(curve[0] for curve in curves['instance_adaptive']))
    of_test = [row for row in results['rows'] if row['split'] == 'test']
    elbo = {m: [r['elbo'] for r in of_test if r['method'] == m] for m in ('base', 'frozen_decoder')}
    gains.append(fmean(elbo['frozen_decoder']) - fmean(elbo['base']))
  text = ' '.join(README.split())
  (found,) = re.findall(r'starts (\.\d+) below its base on MNIST, (\.\d+) on OMNIGLOT', text)
  assert [float(number) for number in found] == rounded(starts)
  (found,) = re.findall(r'(\.\d+) and (\.\d+) nats remain', text)
  assert [float(number) for number in found] == rounded(gains)


def test_fine_tuning_against_a_frozen_decoder():
  """C3 minus C6, which the comparisons of the results do not hold."""
  told = []
  for dataset in ('mnist', 'omniglot'):
    path = ROOT / 'results' / f'{dataset}-reduced.json'
    rows = [r for r in json.loads(path.read_text('utf8'))['rows'] if r['split'] == 'test']
    of = lambda method, rows=rows: [r['elbo'] for r in rows if r['method'] == method]
    found = paired_comparison(
      of('encoder_only'), of('frozen_decoder'), name_a='C3', name_b='C6', metric='elbo'
    )
    told += [found['mean_difference'], *found['ci95']]
  text = ' '.join(README.split())
  number = r'(\.\d+)'
  interval = rf'{number} \[{number}, {number}\]'
  (found,) = re.findall(rf'\(C3\) gives {interval} and {interval} more', text)
  assert [float(value) for value in found] == rounded(told)


def table(header):
  """Rows below the line that starts with `header`: [first cell, numbers of the others]."""
  lines = README.splitlines()
  (first,) = [i for i, line in enumerate(lines) if line.startswith(header)]
  rows = []
  for line in lines[first + 2 :]:
    if not line.startswith('|'):
      return rows
    label, *cells = [cell.strip() for cell in line.strip('|').split('|')]
    rows.append((label, [float(n) for n in re.findall(r'[-+]?\d+(?:\.\d+)?', ' '.join(cells))]))
  return rows


def test_all_methods_on_mnist():
  results = json.loads((ROOT / 'results' / 'mnist-methods.json').read_text(encoding='utf8'))
  of_test = [row for row in results['rows'] if row['split'] == 'test']
  names = list(dict.fromkeys(row['method'] for row in of_test))
  base = {row['seed']: row['elbo'] for row in of_test if row['method'] == 'base'}
  rows = table('| MNIST, 784-200-200-50, reduced')
  assert len(rows) == len(names)
  for (_, found), name in zip(rows, names, strict=True):
    own = [row for row in of_test if row['method'] == name]
    elbos = [row['elbo'] for row in own]
    expected = [fmean(elbos), stdev(elbos)]
    expected += [] if name == 'base' else [fmean(row['elbo'] - base[row['seed']] for row in own)]
    expected += [fmean(row['iwae'] for row in own)]
    gaps = [g['amortization_gap'] for g in results['gaps'] if g['method'] == name]
    expected += [fmean(gaps)] if gaps else []
    assert found == [*rounded(expected), round(results['seconds'][name])], name


def test_joint_training():
  results = json.loads((ROOT / 'results' / 'mnist-joint.json').read_text(encoding='utf8'))
  of_test = [row for row in results['rows'] if row['split'] == 'test']
  text = ' '.join(README.split())
  (told,) = re.findall(r'Trained jointly from scratch (.*?) There the paper', text)
  found = [float(n) for n in re.findall(r'-?\d+\.\d+', told)]
  expected = []
  for name in ('amortized', 'paper', 'film', 'gates'):
    elbos = [row['elbo'] for row in of_test if row['method'] == name]
    expected += [fmean(elbos), stdev(elbos)]
  assert found == rounded(expected)
  (told,) = re.findall(r'\(KL (\d+\.\d), the plain VAE (\d+\.\d)\)', text)
  kl = [fmean(r['kl'] for r in of_test if r['method'] == m) for m in ('paper', 'amortized')]
  assert [float(n) for n in told] == [pytest.approx(value, abs=0.051) for value in kl]
  (told,) = re.findall(r'form is (\d\.\d\d) nats better in all three seeds', text)
  of = lambda name: [row['elbo'] for row in of_test if row['method'] == name]
  gains = [ours - plain for ours, plain in zip(of('paper'), of('amortized'), strict=True)]
  assert [float(told)] == rounded([fmean(gains)]) and min(gains) > 0 and len(gains) == 3
  assert p_values(gains)['p_sign_flip'] == 0.125
  (told,) = re.findall(r'has (\d+) % more parameters \((\S+) for (\S+)\)', text)
  more, ours, plain = (int(number.replace(',', '')) for number in told)
  sizes = {name: count['total'] for name, count in results['num_parameters'].items()}
  assert (ours, plain) == (sizes['paper'], sizes['amortized'])
  assert more == round(100 * (ours / plain - 1))


def test_all_methods_on_the_synthetic_model():
  results = json.loads((ROOT / 'results' / 'synthetic-methods.json').read_text(encoding='utf8'))
  best = results['references']['elbo_optimal']
  rows = table('| synthetic model, 10 seeds')
  assert len(rows) == len(results['rows'])
  for (_, found), row in zip(rows, results['rows'], strict=True):
    numbers = [row['elbo_mean'], row['elbo_sd'], best - row['elbo_mean']]
    assert found == [row['num_parameters'], *rounded(numbers), row['decoder_gradients']]
  (energy,) = [row for row in results['rows'] if row['method'] == 'energy']
  near = sum(best - elbo < 0.01 for elbo in energy['elbos'])
  text = ' '.join(README.split())
  assert f'{near} of its 10 models end within .01 nats of the best mean-field posterior' in text


@pytest.mark.parametrize(
  ('dataset', 'start', 'behind', 'largest_error'),
  [('mnist', 'MNIST', 0.13, 8.7), ('omniglot', 'OMNIGLOT (raw28)', 0.09, 7.3)],
)
def test_steps_at_test_time(dataset, start, behind, largest_error):
  path = ROOT / 'results' / f'{dataset}-cost.json'
  results = json.loads(path.read_text(encoding='utf8'))
  points = {(p['method'], p['num_steps']): p for p in results['points']}
  rows = table(f'| {start}, one decoder: ELBO after')
  methods = list(dict.fromkeys(p['method'] for p in results['points']))
  assert len(rows) == len(methods)
  for (_, found), method in zip(rows, methods, strict=True):
    elbos = rounded(points[method, t]['elbo'] for t in (0, 1, 5, 20, 100))
    times = [round(points[method, t]['milliseconds'], 3) for t in (0, 20)]
    assert found == [*elbos, *times], method
  after = lambda steps: {m: points[m, steps]['elbo'] for m in methods}
  trained_without = [after(20)[m] for m in ('base', 'instance_adaptive', 'gates')]
  assert max(trained_without) - min(trained_without) < 0.05
  assert max(trained_without) - after(20)['semi_amortized'] == pytest.approx(behind, abs=0.0051)
  near = [value for method, value in after(100).items() if method not in ('svi', 'iterative')]
  assert max(near) - min(near) < 0.025
  errors = [p['standard_error'] for p in results['points']]
  assert max(errors) == pytest.approx(largest_error, abs=0.06)


SPEED = {
  'SA-VAE, 20': 'semi_amortized',
  'Adam-refined': 'adam_refined',
  'SVI, 20': 'svi',
  'iterative, 5': 'iterative',
  'IA-VAE': 'instance_adaptive',
  'FiLM': 'film',
  'IAF': 'iaf',
  'MAF': 'maf',
}


def test_speed_of_the_methods():
  ratios = json.loads((ROOT / 'benchmarks' / 'methods.json').read_text(encoding='utf8'))['ratios']
  of = lambda what, name: round(ratios[f'{what}: {name} / VAE']['ratio'], 1)
  rows = table('| beside the plain VAE |')
  for (label, found), (start, name) in zip(rows, SPEED.items(), strict=True):
    assert label.startswith(start)
    assert found[-2:] == [of('train step', name), of('inference', name)], label
  modulations = {label.strip('`'): found[-1:] for label, found in table('| `--config.modulation=`')}
  for name in ('film', 'gates', 'lora', 'expert_kernels', 'trunk', 'gradient'):
    assert modulations[name] == [of('inference', name)], name
  assert modulations['paper'] == [of('inference', 'instance_adaptive')]
  (told,) = re.findall(r'and (\d\.\d) times its time', ' '.join(README.split()))
  assert float(told) == round(ratios['inference: gated preset / VAE']['ratio'], 1)
  (steps,) = re.findall(r'20 inner steps takes (\d+) VAE steps', ' '.join(README.split()))
  assert int(steps) == round(ratios['PixelCNN: SA-VAE step / VAE step']['ratio'])


GATED = {
  'VAE (base)': 'base',
  'gate modulation': 'instance_adaptive',
  'its encoder trained on': 'encoder_only',
  'gates that read nothing': 'static',
  'gates that read another': 'shuffled',
}


@pytest.mark.parametrize('dataset', ['MNIST', 'OMNIGLOT'])
def test_gated_hidden_layers(dataset):
  path = ROOT / 'results' / f'{dataset.lower()}-gated.json'
  results = json.loads(path.read_text(encoding='utf8'))
  assert re.fullmatch('[0-9a-f]{40}', results['provenance']['git_commit'])
  of_test = [row for row in results['rows'] if row['split'] == 'test']
  base = {row['seed']: row['elbo'] for row in of_test if row['method'] == 'base'}
  gaps = {(g['method'], g['seed']): g['amortization_gap'] for g in results['gaps']}
  for (label, found), (start, name) in zip(
    table(f'| {dataset}, gated preset'), GATED.items(), strict=True
  ):
    own = [row for row in of_test if row['method'] == name]
    elbos, gap = [row['elbo'] for row in own], [gaps[name, row['seed']] for row in own]
    assert label.startswith(start) and len(own) == 5
    expected = [fmean(elbos), stdev(elbos)]
    expected += [] if name == 'base' else [fmean(row['elbo'] - base[row['seed']] for row in own)]
    expected += [fmean(row['iwae'] for row in own), fmean(gap)]
    closed = [1 - gaps[name, seed] / gaps['base', seed] for seed in base]
    expected = rounded(expected) + ([] if name == 'base' else [round(100 * fmean(closed))])
    assert found == expected, name
  told_in_all, position = ' '.join(README.split()), dataset == 'OMNIGLOT'
  closed = {
    name: 100 * fmean(1 - gaps[name, seed] / gaps['base', seed] for seed in base)
    for name in ('instance_adaptive', 'encoder_only')
  }
  net = round(closed['instance_adaptive'] - closed['encoder_only'])
  (told,) = re.findall(r'that is (\d+) % of the gap on MNIST and (\d+) % on OMNIGLOT', told_in_all)
  assert int(told[position]) == net
  (told,) = re.findall(r'closes (\d+) to (\d+) % of it beyond what training', told_in_all)
  assert int(told[not position]) == net
  pattern = r'The (\d+) and (\d+) % of the tables hold the (\d+) and (\d+) % that training on'
  (told,) = re.findall(pattern, told_in_all)
  assert [int(told[position]), int(told[2 + position])] == list(map(round, closed.values()))
  options = results['provenance']['config']
  (first, second), latents = options['model']['hidden'], options['model']['latent_dim']
  plain = 784 * first + first * second + second * 2 * latents
  trunk = options['hypernetwork']['trunk_dim']
  more = first * trunk + trunk * (first + second)  # the trunk, and the scales of one layer
  (told,) = re.findall(r'takes (\d\.\d+) times the multiply-adds', ' '.join(README.split()))
  assert float(told) == round(1 + more / plain, 2)
  (group,) = image_numbers.groups(results)
  tested = image_numbers.against_others(results, group)
  controls = {name: tested[name] for name in ('encoder_only', 'static', 'shuffled')}
  assert all(entry['p_holm'] < 0.001 for entry in controls.values())
  assert all(entry['test'] == 'paired t' for entry in controls.values())
  flips = [image_numbers.each_p_value(results, group, entry) for entry in tested.values()]
  assert {p['p_sign_flip'] for p in flips} == {1 / 32}
  against_base = {'MNIST': ('Wilcoxon', False), 'OMNIGLOT': ('paired t', True)}[dataset]
  assert (tested['base']['test'], tested['base']['p_holm'] < 0.001) == against_base
  assert tested['base']['p_value'] == 1 / 32 or dataset != 'MNIST'
  sizes = results['num_parameters']
  added = sizes['instance_adaptive']['total'] - sizes['base']['total']
  assert f'have {added:,} more than the {sizes["base"]["total"]:,} of the base' in told_in_all
  (told,) = re.findall(r'(\.\d+) and (\.\d+) nats more than the encoder', ' '.join(README.split()))
  gain = controls['encoder_only']['mean_difference']
  assert float(told[dataset == 'OMNIGLOT']) == pytest.approx(gain, abs=0.0051)


def test_the_plain_vae_of_the_gap_report():
  """Its code runs as printed, by a shorter protocol, and loses what the README says it does."""
  section = README[README.index('## What does an encoder lose') :]
  (code,) = re.findall(r'```python\n(.*?)```', section[: section.index('## The synthetic')], re.S)
  assert 'jax.random.key(3))\n' in code
  short = gap_parts.Protocol(
    num_samples=2000, flow_search=Search(num_steps=0), num_annealed=0, num_doubled=0, num_oracle=0
  )
  names = {'short': short}
  exec(code.replace('jax.random.key(3))\n', 'jax.random.key(3), protocol=short)\n'), names)
  summary, text = names['found'].summary, ' '.join(section.split())
  assert all(sentence in text for sentence in summary['verdict'][1:])
  told = re.findall(r'loses (\d\.\d\d) ± (\d\.\d\d) nats', text)
  gaps = [summary['gaps']['mean_field'][name] for name in ('amortization', 'approximation')]
  for gap, (mean, error) in zip(gaps, told, strict=True):
    assert gap['mean'] == pytest.approx(float(mean), abs=0.05)
    assert gap['standard_error'] == pytest.approx(float(error), abs=0.02)


CREMER = {
  'mnist': ('| binarized MNIST, in small', ['does not hold', '', 'undecided', 'does not hold']),
  'fashion': ('| Fashion MNIST, in small', ['', 'holds', 'holds', 'does not hold']),
}


def cremer_results(dataset):
  path = ROOT / 'results' / f'cremer-{dataset}-reduced.json'
  return json.loads(path.read_text(encoding='utf8'))


@pytest.mark.parametrize('dataset', CREMER)
def test_cremers_table_in_small(dataset):
  results, (start, claims) = cremer_results(dataset), CREMER[dataset]
  rows = table(start)
  assert [name for name, _ in rows] == list(cremer_levels.MODELS.values())
  for (_, found), column in zip(rows, results['columns'], strict=True):
    printed = cremer_levels.gaps(column['name'], cremer_levels.rounded(column))
    expected = [round(column['log_evidence']['mean'], 2)]
    for gap in ('approximation_gap', 'amortization_gap', 'flow_gain'):
      expected += [printed[gap], round(column[gap]['standard_error'], 2)]
    assert found == expected
  verdicts = [row[-1] for row in cremer_verdicts.claims(results).rows]
  assert all(verdict.startswith(claim) for verdict, claim in zip(verdicts, claims, strict=True))
  assert all(verdicts[i] == 'not measured' for i, claim in enumerate(claims) if not claim)


def test_what_is_told_of_cremers_models_in_small():
  """Ranges in the text, over the models of both data sets."""
  results = [cremer_results(dataset) for dataset in CREMER]
  measured = [told for result in results for told in result['measurements'].values()]
  usual = [told['estimators'][0] for told in measured]
  searched = [told['convergence'] for told in measured]
  columns = [column for result in results for column in result['columns']]
  widths = [told['sandwich']['width'] for told in measured]
  of = lambda *names: [column for column in columns if column['name'] in names]
  ranges = {
    r'flow is (\S+) to (\S+) nats below log p': [
      column['log_evidence']['mean'] - column['elbo_optimal_flow']['mean']
      for column in results[0]['columns']
    ],
    r'it is (\S+) to (\S+) nats, and': [
      column['flow_gain']['mean'] for column in of('regular_flow', 'large_flow')
    ],
    r'and (\S+) to (\S+) without annealing': [
      column['flow_gain']['mean'] for column in of('noanneal_flow')
    ],
    r'is (\S+) to (\S+) nats too low': [one['below_taken']['mean'] for one in usual],
    r'the best flow up by (\S+) to (\S+), and': [one['flow']['mean'] for one in searched],
    r'best Gaussian by (\S+) nats at most': [
      max(abs(one['mean_field']['mean']) for one in searched)
    ],
    r'ends (\S+) below where it should': [told['floor']['flow']['mean'] for told in measured],
    r'(\d+) to (\d+) % of the small approximation gaps': [
      100 * told['floor']['flow']['mean'] / column['approximation_gap']['mean']
      for told, column in zip(measured, columns, strict=True)
      if column['name'].endswith('_flow')
    ],
    r'annealing leaves at most (\S+) nats': [max(width['mean'] for width in widths)],
    r'\(standard errors (\S+) to (\S+)\)': [width['standard_error'] for width in widths],
  }
  text = ' '.join(README.split())
  for pattern, values in ranges.items():
    (told,) = re.findall(pattern, text)
    ends = (told,) if isinstance(told, str) else told
    digits = len(ends[0].partition('.')[2])
    expected = sorted({round(min(values), digits), round(max(values), digits)})
    assert sorted({float(end) for end in ends}) == pytest.approx(expected), pattern
  regular = {column['name']: column for column in results[0]['columns']}
  pattern = r'equal for the FFG \((\S+) and (\S+)\), not for the flow \((\S+) and (\S+)\)'
  (told,) = re.findall(pattern, text)
  expected = [
    cremer_levels.gaps(name, cremer_levels.rounded(regular[name]))[gap]
    for name in ('regular_ffg', 'regular_flow')
    for gap in ('approximation_gap', 'amortization_gap')
  ]
  assert [float(value) for value in told] == expected
  curves = [curve for result in results for curve in result['curves'].values()]
  assert all(len(curve) == 25 and max(curve[1:]) == curve[-1] for curve in curves)
  assert all(one['name'] == 'q' and one['share_bad_k'] > 0.8 for one in usual)
  assert all(told['warnings'] == gap_words.warnings(told) for told in measured)


def test_speed_of_a_gap_report():
  found = json.loads((ROOT / 'benchmarks' / 'gaps.json').read_text(encoding='utf8'))
  ratio = {name: told['ratio'] for name, told in found['ratios'].items()}
  section = README[README.index('A gap report of 1,000') :]
  told = [cells[-1] for cells in re.findall(r'^\| (.*?) \| (.*?) \|$', section, re.M)[:4]]
  minutes, rate, memory = map(float, re.findall(r'\d+\.\d', told[0]))
  (whole,) = (t for name, t in found['milliseconds'].items() if name.startswith('report of 1000'))
  assert minutes == round(whole['wall_min'] / 60e3, 1)
  assert rate == round(ratio['report: examples a second, of 1000'], 1)
  assert memory == round(found['peak_memory_mb']['gaps'] / 1000, 1)
  assert told[1] == f'{ratio["report: share of the part mean_field"]:.0%}'.replace('%', ' %')
  assert float(told[2]) == round(ratio['an example: one by one / in a batch'], 1)
  assert float(told[3]) == round(ratio['memory: 1,000,000 draws / 5,000'], 2)
