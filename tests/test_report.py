"""Do tables, findings, figures and the page say what the results files say?"""

import copy
import io
import json
import pathlib
import re

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import multivariate_normal, norm

from iavae import paper, report
from iavae import tables as base_tables
from iavae.reports import draws, synthetic
from iavae.reports import synthetic_figures as figures
from iavae.reports import synthetic_findings as findings
from iavae.reports import synthetic_tables as tables

PUBLISHED = pathlib.Path(__file__).parents[1] / '../shared/paper/tables.json'
STYLE_WORDS = ('http:', 'https:', 'url(', '@import', '<link', '<script', 'src="/', 'srcset')


def spread(key: str, mean: float, sd: float) -> dict[str, float]:
  return {f'{key}_mean': mean, f'{key}_sd': sd, f'{key}_median': mean}


def point(num_parameters: int, elbo: float) -> dict[str, float]:
  elbos = spread('elbo', elbo, 0.03) | spread('elbo_paper', elbo - 3.1, 0.04)
  return {'num_parameters': num_parameters} | elbos


def control(num_parameters: int, elbo: float) -> dict[str, float]:
  rest = {'kl_mean': 5.5, 'amortization_gap_mean': -2.81 - elbo}
  return point(num_parameters, elbo) | rest | {'num_models': 10, 'epochs_mean': 512.4}


def row(elbo: float, ia_elbo: float, dead_units: int = 0) -> dict[str, dict[str, float]]:
  return {
    'vae': {
      'elbo': elbo,
      'elbo_paper': elbo - 3.1,
      'kl': 5.47,
      'dead_units': dead_units,
      'amortization_gap': -2.81 - elbo,
    },
    'ia_vae': spread('elbo', ia_elbo, 0.02)
    | spread('elbo_paper', ia_elbo - 3.1, 0.03)
    | {'kl_mean': 5.54, 'kl_sd': 0.01, 'amortization_gap_mean': -2.81 - ia_elbo},
  }


@pytest.fixture
def results() -> dict:
  return {
    'table2': [row(-4.851, -3.301), row(-80.123, -4.25, dead_units=1), row(-4.949, -3.299)],
    'table3': {
      'vae': {'elbo': -4.9, 'elbo_paper': -7.9, 'kl': 5.47, 'd_map': 1.49, 'r_map': 0.52},
      'ia_vae': {'elbo': -3.3, 'elbo_paper': -6.4, 'kl': 5.54, 'd_map': 0.57, 'r_map': 0.83},
    },
    'table3_pair': {'base': 2, 'seed': 1},
    'figure7': {
      'vae': [point(20, -4.9), point(68, -3.77), point(116, -3.31), point(164, -3.1)],
      'ia_vae': [point(68, -3.3)],
    },
    'references': {
      'log_evidence': -2.654,
      'elbo_optimal': -2.81,
      'elbo_optimal_paper': -5.967,
      'kl_optimal': 5.461,
      'approximation_gap': 0.156,
      'amortization_gap_vae': 2.0,
      'amortization_gap_ia_vae': 0.5,
    },
    'controls': {
      'vae': control(20, -4.9),
      'ia_vae': control(68, -3.3),
      'static': control(68, -4.87),
      'continued': control(20, -4.8),
      'unfrozen': control(68, -3.2),
      'relu': control(68, -3.77),
      'silu': control(68, -3.27),
      'glu': control(64, -3.1),
    },
    'refinement': {
      'num_steps': [0, 1, 2, 5, 10, 20, 50],
      'learning_rates': [0.01, 0.1],
      'vae': [-4.9, -4.4, -4.0, -3.4, -3.1, -2.9, -2.82],
      'ia_vae': [-3.3, -3.2, -3.1, -3.0, -2.9, -2.85, -2.81],
    },
    'seconds': {'pretrain': 20.0, 'adapt': 40.0, 'evaluate': 5.0, 'total': 65.0},
    'provenance': {
      'config': {'data': {'noise_scale': 0.1}, 'name': '<b>&'},
      'seed': 7,
      'git_commit': 'abc123',
      'versions': {'jax': '0.10.2'},
      'device': 'cpu',
    },
  }


@pytest.fixture
def per_example() -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  z = rng.normal(size=(40, 2))
  x = np.column_stack([z, z.sum(1) + z.prod(1)])
  means = {name: z + 0.05 * rng.normal(size=z.shape) for name in ('vae_mean', 'ia_vae_mean')}
  return {
    **means,
    'x': x,
    'z': z,
    'z_map': z,
    'laplace_covariance': np.tile([[0.01, 0.002], [0.002, 0.005]], (40, 1, 1)),
    'vae_log_scale': np.full_like(z, -2.5),
    'ia_vae_log_scale': np.full_like(z, -2.5),
    'log_evidence': np.full(40, -2.65),
    'elbo_optimal': np.full(40, -2.81),
    'vae_elbo': -2.81 - rng.exponential(2.0, 40),
    'ia_vae_elbo': -2.81 - rng.exponential(0.5, 40),
  }


@pytest.fixture
def workdir(tmp_path, results, per_example) -> pathlib.Path:
  (tmp_path / 'results.json').write_text(json.dumps(results))
  np.savez(tmp_path / 'per_example.npz', **per_example)
  return tmp_path


def finding(results: dict, *words: str) -> str:
  """The one finding that has all these words."""
  (found,) = [f for f in findings.findings(results) if all(word in f for word in words)]
  return found


def test_published_numbers_are_those_of_the_paper():
  if not PUBLISHED.exists():
    pytest.skip('shared/paper/tables.json is not beside this checkout')
  published = json.loads(PUBLISHED.read_text())
  assert [list(r) for r in paper.TABLE2_VAE] == [r['vae'] for r in published['table2']]
  assert [list(r) for r in paper.TABLE2_IA_VAE] == [r['ia_vae'] for r in published['table2']]
  assert paper.TABLE3 == published['table3']
  assert paper.FIGURE7['vae'][68] == published['figure7']['vae_68_parameters']
  assert paper.FIGURE7['vae'][116] == published['figure7']['vae_116_parameters']
  assert paper.FIGURE7['ia_vae'][68] == published['figure7']['ia_vae_68_parameters']


def test_only_the_convention_of_the_paper_is_compared(results):
  values = {c.name: c.value for c in paper.comparisons(results)}
  assert len(values) == 15
  assert values['Table 2, VAE, ELBO'] == pytest.approx(-8.0)  # without the dead base
  assert values['Table 3, IA-VAE, ELBO'] == -6.4
  assert values['Figure 7, VAE of 116 parameters, ELBO'] == pytest.approx(-6.41)
  assert values['Table 3, VAE, d_MAP'] == 1.49


def test_table_2_cells_are_the_numbers(results):
  table = tables.table_2(results)
  assert table.rows[0] == (
    *('0', '-4.85', '-7.95', '5.47', '2.04'),
    *('-3.30 ± 0.02', '-6.40 ± 0.03', '5.54 ± 0.01', '0.49'),
  )
  assert [row[0] for row in table.rows] == [
    '0',
    '1†',
    '2',
    'mean, all',
    'mean, no †',
    'paper, mean',
  ]
  assert [row[1] for row in table.rows[3:]] == ['-29.97', '-4.90', '']
  assert table.rows[-1][2:4] == ('-7.96', '5.48')
  assert table.rows[-1][6] == '-6.41 ± 0.04'


def test_table_2_without_a_live_base(results):
  results['table2'] = results['table2'][1:2]
  assert [row[0] for row in tables.table_2(results).rows] == ['0†', 'mean, all', 'paper, mean']


def test_table_3_stands_beside_the_paper(results):
  rows = tables.table_3(results).rows
  assert rows[0] == ('VAE', '-4.90', '-7.90', '5.47', '1.49', '0.52')
  assert rows[1] == ('VAE, paper', '', '-7.83', '5.48', '1.44', '0.53')
  assert rows[3] == ('IA-VAE, paper', '', '-6.36', '5.55', '0.56', '0.84')


def test_other_tables_are_the_numbers(results):
  assert tables.figure_7(results).rows[1] == (
    *('VAE', '68', '-3.77 ± 0.03', '-3.77', '-6.87 ± 0.04', '-6.87', '-6.84'),
  )
  assert tables.references(results).rows[1] == ('optimal mean-field ELBO', '-2.810', '-5.967')
  glu = tables.controls(results).rows[-1]
  assert glu[:3] == ('plain GLU VAE', '64', '-3.10 ± 0.03')
  assert glu[-4:] == ('5.50', '0.29', '10', '512')
  assert tables.refinement(results).rows[3] == ('5', '-3.400', '-3.000', '0.590', '0.190')


def test_every_row_fits_its_columns(results):
  made = [make(results) for make in synthetic.REPORT.tables]
  assert len(made) == 10
  for table in made[:8]:
    assert {len(row) for row in table.rows} == {len(table.columns)}, table.title
  assert not made[8].rows and not made[9].rows  # these results have no diagnostics


def test_number_has_no_negative_zero():
  assert base_tables.number(-0.001) == '0.00'
  assert base_tables.number(-0.005001) == '-0.01'


def test_gap_finding_flips(results):
  assert 'closes 75% of' in finding(results, 'amortization gap of its base')
  results['references']['amortization_gap_ia_vae'] = 2.5
  assert 'widens by 25% the' in finding(results, 'amortization gap of its base')
  results['references']['amortization_gap_vae'] = 0.01
  assert '(0.01 nats)' in finding(results, 'hardly an amortization gap')


@pytest.mark.parametrize(
  'static, continued, ia_vae, words',
  [
    (-4.87, -4.8, -3.3, 'mostly instance-adaptive'),
    (-3.7, -4.8, -3.3, 'only partly instance-adaptive'),
    (-4.87, -3.7, -3.3, 'only partly instance-adaptive'),
    (-3.31, -4.8, -3.3, 'not instance-adaptive'),
    (-4.87, -3.0, -3.3, 'not instance-adaptive'),
    (-4.87, -4.8, -4.89, 'does not gain'),
  ],
)
def test_adaptivity_finding_flips(results, static, continued, ia_vae, words):
  for name, elbo in (('static', static), ('continued', continued), ('ia_vae', ia_vae)):
    results['controls'][name] = control(68, elbo)
  assert finding(results, words)


def test_efficiency_finding_flips(results):
  said = finding(results, 'parameter efficiency')
  assert 'ReLU VAE (68) misses it by 0.47' in said
  assert 'SiLU VAE (68) equals it (+0.03 nats)' in said
  assert 'GLU VAE (64) beats it by 0.20' in said
  assert 'at most one about ReLU' in said

  for name in ('silu', 'glu'):
    results['controls'][name] = control(68, -3.6)
  assert 'holds against every activation tried' in finding(results, 'parameter efficiency')
  results['controls']['relu'] = control(68, -3.2)
  assert 'does not hold' in finding(results, 'parameter efficiency')


def test_width_finding_flips(results):
  assert 'needs 116 ' in finding(results, 'a wider VAE')
  results['figure7']['ia_vae'] = [point(68, -2.9)]
  assert 'does not get there with up to 164' in finding(results, 'a wider VAE')


def test_steps_finding_flips(results):
  assert 'more than 5 and at most 10' in finding(results, 'gradient steps')
  results['refinement']['vae'] = [-4.9] * 7
  assert 'more than the 50 tried' in finding(results, 'gradient steps')
  results['refinement']['vae'] = [-3.0] * 7
  assert 'none' in finding(results, 'gradient steps')


@pytest.mark.parametrize(
  'elbo, verb', [(-3.2, 'helps'), (-3.4, 'hurts'), (-3.31, 'changes little')]
)
def test_unfreezing_finding_flips(results, elbo, verb):
  results['controls']['unfrozen'] = control(68, elbo)
  assert f' {verb} (' in finding(results, 'Training the base together')


def test_dead_bases_are_told(results):
  assert 'in 1 of 3 base VAEs: base 1 reaches -80.12' in finding(results, 'hidden unit is dead')
  results['table2'][1]['vae']['dead_units'] = 0
  assert finding(results, 'None of the 3 base VAEs')


def test_every_difference_from_the_paper_stands_beside_ten_draws(results):
  free, elbos = tables.free_numbers(results), tables.elbos(results)
  assert [len(free.rows), len(elbos.rows)] == [8, 7]
  assert not [row for row in free.rows if 'ELBO' in row[0]]
  found = {row[0]: row[1:] for row in (*free.rows, *elbos.rows)}
  for name, (here, published, difference, *place) in found.items():
    mean, sd, low, high = paper.DRAWS[name]
    assert float(difference) == pytest.approx(float(here) - float(published), abs=0.0101)
    assert place[:3] == [f'{mean:.3f} ± {sd:.3f}', f'{low:.3f}', f'{high:.3f}']
    assert float(place[3]) == pytest.approx((float(published) - mean) / sd, abs=0.06 + 0.005 / sd)
  assert found['Table 3, VAE, d_MAP'][:3] == ('1.49', '1.44', '+0.05')
  assert 'inferred' in elbos.note and 'inferred' not in free.note


def test_findings_on_the_paper_flip(results):
  said = finding(results, '8 published numbers need no convention')
  assert 'at most in KL by 0.011, d_MAP by 0.050, r_MAP by 0.010.' in said
  results['table3']['ia_vae']['d_map'] = 0.7
  assert 'd_MAP by 0.140' in finding(results, 'need no convention')
  said = finding(results, '7 ELBOs compare', 'no independent confirmation')
  assert '5 of ours lie below' in said and '-0.07 to +0.01 nats' in said
  results['table2'][0]['ia_vae']['elbo_paper_mean'] = -7.0
  results['figure7']['ia_vae'] = [point(68, -3.4)]
  assert 'all of ours lie below' in finding(results, '7 ELBOs compare')


def test_draws_are_summed_up(results):
  other = copy.deepcopy(results)
  other['provenance']['seed'], other['table3']['vae']['kl'] = 6, 5.43
  for one in (results, other):
    one['provenance']['command'] = 'python launch.py'
  summary = draws.summarize([results, other])
  assert [draw['seed'] for draw in summary['draws']] == [6, 7]
  assert [draw['dead_bases'] for draw in summary['draws']] == [1, 1]
  assert summary['draws'][0]['elbo'] == {
    'vae': -4.9, 'ia_vae': -3.3, 'elbo_optimal': -2.81, 'log_evidence': -2.654
  }  # fmt: skip
  assert len(summary['numbers']) == 15
  found = summary['numbers']['Table 3, VAE, KL']
  assert found['values'] == [5.43, 5.47] and found['published'] == 5.48
  assert draws.spread(found) == (5.45, 0.0283, 5.43, 5.47)
  for entry in summary['numbers'].values():
    entry['sd'] = entry['sd'] or 0.1
  text = draws.markdown(json.loads(json.dumps(summary)))
  assert '| Table 3, VAE, KL | 5.48 | 5.450 ± 0.028 | 5.430 | 5.470 | +1.1 |' in text
  assert '| 6 | 1 | -4.900 | -3.300 | -2.810 | -2.654 |' in text


def test_log_joint_is_that_of_the_model():
  rng = np.random.default_rng(1)
  x, z = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
  for noise_scale in (0.1, 0.7):
    expected = [
      norm.logpdf(z_).sum()
      + multivariate_normal.logpdf(
        x_, [z_[0], z_[1], z_[0] + z_[1] + z_[0] * z_[1]], noise_scale**2 * np.eye(3)
      )
      for x_, z_ in zip(x, z, strict=True)
    ]
    np.testing.assert_allclose(figures.log_joint(x, z, noise_scale), expected, rtol=1e-10)


def test_figure_6_marks_the_estimates_of_its_examples(results, per_example):
  panels = figures.figure_6(results, per_example).axes
  indices = [int(axes.get_title().split()[1]) for axes in panels]
  assert len(set(indices)) == 2
  for axes, index in zip(panels, indices, strict=True):
    drawn = [line.get_xydata()[0] for line in axes.lines]
    names = ('z', 'z_map', 'vae_mean', 'ia_vae_mean')
    np.testing.assert_array_equal(drawn, [per_example[name][index] for name in names])
    image = axes.images[0]
    assert image.origin == 'lower'
    left, right, bottom, top = image.get_extent()
    here = np.array([left + 0.4 * (right - left), bottom + 0.6 * (top - bottom)])
    grid = (here, per_example['z_map'][index])
    ratio = np.exp(
      -np.subtract(*(figures.log_joint(per_example['x'][index], z, 0.1) for z in grid))
    )
    # the fixture's x is without noise and z of order 1, so that the density peaks near z_map
    assert image.get_array()[180, 120] * ratio == pytest.approx(1.0, abs=0.05)


def test_figure_7_draws_the_numbers_however_dead_a_width_is(results, per_example):
  dead = results['figure7']['vae'][0]
  dead['elbo_mean'], dead['elbo_sd'] = -20.0, 25.0
  left, right = figures.figure_7(results, per_example).axes
  np.testing.assert_allclose(right.lines[0].get_ydata(), [-4.9, -3.77, -3.31, -3.1])
  np.testing.assert_allclose(left.lines[0].get_ydata(), [-8.0, -6.87, -6.41, -6.2])
  assert -5.5 < right.get_ylim()[0] < -4.9
  assert -2.81 in right.lines[-1].get_ydata()


def test_gap_figure_stacks_both_gaps(results, per_example):
  axes = figures.figure_gaps(results, per_example).axes[0]
  lower, upper = axes.containers
  np.testing.assert_allclose([bar.get_width() for bar in lower], 0.156)
  np.testing.assert_allclose([bar.get_x() for bar in upper], 0.156)
  np.testing.assert_allclose([bar.get_width() for bar in upper][:2], [2.09, 0.49])


def test_page_is_whole_and_self_contained(workdir):
  path = report.write(workdir)
  page = path.read_text(encoding='utf8')
  assert path == workdir / 'report.html'
  assert all(src.startswith('data:image/png;base64,') for src in re.findall(r'src="(.*?)"', page))
  assert len(re.findall('<img ', page)) == len(re.findall('src=', page)) == 5
  without_images = re.sub(r'src="data:.*?"', '', page)
  assert not [word for word in STYLE_WORDS if word in without_images]
  for text in ('abc123', 'jax 0.10.2', '--config.seed=7', '&lt;b&gt;&amp;', 'adapt 40.0 s'):
    assert text in page
  assert '<b>&' not in page
  assert '<tr class="flagged"><th scope="row">1†</th>' in page
  assert '<td>\N{MINUS SIGN}80.12</td>' in page


def test_same_results_give_the_same_files(workdir):
  def files() -> dict[str, bytes]:
    report.write(workdir)
    return {str(p): p.read_bytes() for p in workdir.rglob('*') if p.is_file()}

  first = files()
  assert len(first) == 2 + 5 + 2  # the input, the figures, page and tables: nothing temporary stays
  assert files() == first


@pytest.mark.parametrize('skipped', [[], {}, {'vae': [], 'ia_vae': []}, None])
def test_skipped_figure_7_is_said_to_be_skipped(results, per_example, skipped):
  results['figure7'] = skipped
  table = tables.figure_7(results)
  assert not table.rows and 'Skipped by the config' in table.note
  assert 'skipped' in figures.figure_7(results, per_example).texts[0].get_text()
  assert len(paper.comparisons(results)) == 12
  assert not [f for f in findings.findings(results) if 'wider' in f]


def test_skipped_controls_are_left_out(results):
  results['controls'] = {name: control(68, -3.3) for name in ('vae', 'ia_vae', 'silu')}
  table = tables.controls(results)
  assert [row[0] for row in table.rows] == ['VAE (base)', 'IA-VAE', 'plain SiLU VAE']
  assert table.note.endswith(
    'Skipped by the config: IA-VAE without x, continued VAE, IA-VAE unfrozen, plain ReLU VAE, '
    'plain GLU VAE.'
  )
  assert 'ReLU VAE' not in finding(results, 'parameter efficiency')
  assert not [f for f in findings.findings(results) if 'adaptive' in f or 'together' in f]


def test_page_without_figure_7_and_controls(workdir, results):
  results |= {'figure7': [], 'controls': {}}
  (workdir / 'results.json').write_text(json.dumps(results))
  page = report.write(workdir).read_text(encoding='utf8')
  assert page.count('<img ') == 3
  assert page.count('Skipped by the config') == 2


def test_missing_or_damaged_results_are_one_clear_line(workdir, results):
  def message() -> str:
    with pytest.raises(ValueError) as caught:
      report.write(workdir)
    text = str(caught.value)
    assert '\n' not in text and 'run python launch.py' in text
    return text

  good = copy.deepcopy(results)
  del results['table3']['vae']['d_map']
  (workdir / 'results.json').write_text(json.dumps(results))
  assert "lack 'd_map'" in message()
  (workdir / 'results.json').write_text(json.dumps({'table2': []}))
  assert 'lacks table3' in message()
  (workdir / 'results.json').write_text('{"table2": [')
  assert 'results.json is damaged' in message()
  (workdir / 'results.json').write_text(json.dumps(good))
  whole = (workdir / 'per_example.npz').read_bytes()
  (workdir / 'per_example.npz').write_bytes(whole[: len(whole) // 2])
  assert 'per_example.npz is damaged' in message()
  (workdir / 'per_example.npz').unlink()
  assert 'there is no' in message()
  assert not (workdir / 'report.html').exists()


def test_terminal_has_every_table_and_finding(results):
  console = Console(width=140, record=True, file=io.StringIO())
  report.print_tables(results, console)
  text = console.export_text()
  for make in synthetic.REPORT.tables:
    table = make(results)
    assert table.title in text
    assert all(row[0] in text for row in table.rows)
  squeezed = ' '.join(text.split())
  assert all(f in squeezed for f in findings.findings(results))
