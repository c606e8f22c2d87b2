"""Do the tables, findings, figures and page of image experiments say what the files say?"""

import io
import itertools
import json
import pathlib
import re

import numpy as np
import pytest
from conftest import ROOT
from rich.console import Console

from iavae import paper, pictures, report
from iavae.reports import (
  image_curves,
  image_figures,
  image_findings,
  image_gaps,
  image_tables,
  images,
)
from iavae.reports.labels import Group
from iavae.statistics import paired_comparison

PUBLISHED = ROOT / '../shared/paper/tables.json'
TEST_ELBO = {
  'base': -90.3,
  'instance_adaptive': -89.7,
  'continued': -90.0,
  'decoder_only': -90.1,
  'encoder_only': -90.2,
  'static': -89.95,
  'shuffled': -90.9,
  'frozen_decoder': -90.15,
  'wider': -90.05,
}
GROUP = Group('omniglot', 'burda', 'reduced')


def made_rows(elbos: dict[str, float], num_seeds: int, group: Group) -> list[dict]:
  """Seeds differ by .05 nats, methods from seed to seed by .01."""
  rng = np.random.default_rng(0)
  drawn = 0.05 * rng.normal(size=num_seeds)
  rows = []
  for method, elbo in elbos.items():
    for seed, value in enumerate(elbo + drawn + 0.01 * rng.normal(size=num_seeds)):
      for split, shift in (('validation', 0.4), ('test', 0.0)):
        moved = float(value) + shift
        bound = moved + 1.5 - 0.2 * (method == 'instance_adaptive')  # a closer posterior gains less
        values = {'elbo': moved, 'kl': 2.5, 'log_likelihood': moved + 2.5, 'iwae': bound}
        labels = {'method': method, 'seed': seed, 'split': split, 'num_examples': 8070}
        rows.append(group._asdict() | labels | values | {'iwae_samples': 500})
  return rows


def compared(rows: list[dict], main: str) -> list[dict]:
  """All comparisons that an experiment makes of its rows."""
  methods = list(dict.fromkeys(row['method'] for row in rows))
  pairs = [(main, b) for b in methods if b != main] if main in methods else []
  pairs += [(a, 'base') for a in methods if a not in (main, 'base')]
  found = []
  for (a, b), split, metric in itertools.product(pairs, ('validation', 'test'), ('elbo', 'iwae')):
    values = [[r[metric] for r in rows if (r['method'], r['split']) == (m, split)] for m in (a, b)]
    entry = paired_comparison(*values, name_a=a, name_b=b, metric=metric)
    found.append(entry | {'dataset': rows[0]['dataset'], 'split': split})
  return found


def made(elbos=None, num_seeds=5, group=GROUP, main='instance_adaptive') -> dict:
  """Results of an experiment with these true means of test ELBO, nats."""
  elbos = elbos or TEST_ELBO
  rows = made_rows(elbos, num_seeds, group)
  steps = np.arange(31)
  curves = {
    method: [(elbo - 0.5 * np.exp(-steps / 9) + 0.02 * seed).tolist() for seed in range(num_seeds)]
    for method, elbo in elbos.items()
  }
  curves['base'] = [(-90.3 - 150 * np.exp(-steps / 3)).tolist()] * num_seeds
  for method in elbos.keys() - {'base'}:
    for seed in curves[method]:
      seed[0] = -90.3
  data = {'name': group.dataset, 'protocol': group.protocol}
  return {
    'rows': rows,
    'comparisons': compared(rows, main),
    'curves': curves,
    'num_parameters': {m: {'trained': 830123, 'total': 1847372} for m in elbos},
    'seconds': {m: 1234.5 for m in elbos} | {'total': 9876.5},
    'data': {
      'num_train': 20693,
      'num_validation': 3652,
      'num_test': 8070,
      'digests': {'test': 'ab12'},
    },
    'provenance': {
      'command': 'python launch.py --config=configs/omniglot.py',
      'config': {'experiment': 'controls', 'method': main, 'preset': group.preset, 'data': data},
      'seed': 3,
      'git_commit': 'abc123',
      'versions': {'jax': '0.10.2'},
      'device': 'cpu',
    },
  }


@pytest.fixture
def results() -> dict:
  return made()


@pytest.fixture
def per_example() -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  grid = np.stack(np.meshgrid(np.arange(28), np.arange(28)), axis=-1)

  def drawn(count: int) -> np.ndarray:
    centers = rng.uniform(8, 20, (count, 1, 1, 2))
    distance = np.linalg.norm(grid - centers, axis=-1) - rng.uniform(3, 7, (count, 1, 1))
    return (np.abs(distance) < 1.4).astype(float)[..., None]

  originals = drawn(10)
  noise = rng.uniform(0, 0.4, originals.shape)
  return {
    'originals': originals,
    'reconstruction_base': np.abs(originals - noise),
    'reconstruction_instance_adaptive': np.abs(originals - noise / 2),
    'samples_base': drawn(40),
    'samples_instance_adaptive': drawn(40),
    **{f'elbo_{m}': elbo + rng.normal(size=(5, 60)) for m, elbo in TEST_ELBO.items()},
  }


@pytest.fixture
def workdir(tmp_path, results, per_example) -> pathlib.Path:
  (tmp_path / 'results.json').write_text(json.dumps(results))
  np.savez(tmp_path / 'per_example.npz', **per_example)
  return tmp_path


FULL = Group('omniglot', 'burda', 'full')
VARIANTS = {
  'all': {},
  'full': {'group': FULL},
  'one seed': {'num_seeds': 1},
  'two methods': {'elbos': {'base': -90.3, 'instance_adaptive': -89.7}},
  'base alone': {'elbos': {'base': -90.3}},
  'data of no paper': {'group': Group('digits', 'stochastic', 'full')},
  'another method': {'elbos': {'base': -90.3, 'amortized': -89.9}, 'main': 'amortized'},
}


def finding(results: dict, *words: str) -> str:
  """The one finding that has all these words."""
  said = image_findings.findings(results)
  (found,) = [f for f in said if all(word in f for word in words)]
  return found


def column(table, name: str) -> dict[str, str]:
  """The cells of the column whose name starts so, by first cell."""
  (index,) = [i for i, header in enumerate(table.columns) if header.startswith(name)]
  return {row[0]: row[index] for row in table.rows}


def test_published_numbers_are_those_of_the_paper():
  if not PUBLISHED.exists():
    pytest.skip('shared/paper/tables.json is not beside this checkout')
  published = json.loads(PUBLISHED.read_text())['table4']
  names = {'vae': 'base', 'ia_vae': 'instance_adaptive'}
  assert paper.TABLE4 == {
    dataset: {names[key]: tuple(value) for key, value in values.items()}
    for dataset, values in published.items()
  }


@pytest.mark.parametrize(
  'group, words',
  [
    (('omniglot', 'burda', 'full'), []),
    (('mnist', 'dynamic', 'full'), []),
    (('fashion_mnist', 'stochastic', 'full'), []),
    (('mnist', 'dynamic', 'reduced'), ['reduced preset']),
    (('omniglot', 'raw28', 'full'), ["protocol raw28, the paper's is burda"]),
    (('digits', 'stochastic', 'full'), ['the paper has no values for digits']),
  ],
)
def test_only_the_papers_protocol_at_full_size_compares(group, words):
  assert paper.table_4_obstacles(*group) == words


@pytest.mark.parametrize('variant', VARIANTS)
def test_every_row_fits_its_columns(variant):
  for make in images.REPORT.tables:
    table = make(made(**VARIANTS[variant]))
    assert {len(row) for row in table.rows} <= {len(table.columns)}, table.title
    assert 'None' not in str(table) and 'nan' not in str(table)


def test_table_4_cells_are_the_numbers(results):
  table = image_tables.table_4(results)
  tests = [r for r in results['rows'] if (r['method'], r['split']) == ('static', 'test')]
  elbos = [row['elbo'] for row in tests]
  row = next(row for row in table.rows if row[0] == 'IA-VAE without x')
  mean, sd = np.mean(elbos), np.std(elbos, ddof=1)
  assert row[1:4] == ('5', f'{mean:.2f} ± {sd:.2f}', '2.50')
  assert row[4:6] == (f'{mean + 2.5:.2f}', f'{mean + 1.5:.2f} ± {sd:.2f}')
  assert row[6:] == ('', '830,123', '1,847,372', '1,234')
  assert table.columns[5] == 'IWAE-500'
  assert [row[0] for row in table.rows][:3] == ['VAE (base)', 'IA-VAE', 'continued VAE']


def test_table_4_stands_beside_the_paper(results):
  cells = column(image_tables.table_4(made(group=FULL)), 'the paper: ELBO')
  assert cells['VAE (base)'] == '-90.30 ± 0.03'
  assert cells['IA-VAE'] == '-89.73 ± 0.01'
  assert cells['continued VAE'] == ''
  table = image_tables.table_4(results)
  assert column(table, 'the paper: ELBO (not comparable)')['IA-VAE'] == '(-89.73 ± 0.01)'
  assert table.note.endswith('Not comparable with the paper: reduced preset.')


def test_table_4_of_data_without_published_numbers():
  table = image_tables.table_4(made(**VARIANTS['data of no paper']))
  assert not [name for name in table.columns if 'the paper' in name]
  assert 'the paper has no values for digits' in table.note


def test_differences_are_the_comparisons_with_holm(results):
  table = image_tables.differences(results)
  assert len(table.rows) == 2 * (len(TEST_ELBO) - 1)
  entries = [c for c in results['comparisons'] if c['a'] == 'instance_adaptive']
  entry = next(
    c for c in entries if (c['b'], c['metric'], c['split']) == ('static', 'elbo', 'test')
  )
  low, high = entry['ci95']
  row = next(row for row in table.rows if row[0] == 'ELBO, minus IA-VAE without x')
  assert row[1:3] == (f'{entry["mean_difference"]:+.3f}', f'{low:+.3f} to {high:+.3f}')
  assert (row[5], *row[9:]) == ('paired t', f'{entry["effect_size"]:.2f}', '5')
  assert row[6:9] == ('< 0.001', '0.031', '0.031')  # all five differences are above 0
  for entry in entries:
    entry['p_value'] = 0.01 if entry['b'] == 'static' else 0.2
  row = next(row for row in image_tables.differences(results).rows if 'without x' in row[0])
  assert row[3:5] == ('0.010', '0.080')  # eight comparisons


def test_results_of_older_versions_show_all_p_values(results):
  """They come from the rows, as the comparisons of such results have only the protocol's."""
  made_now = [make(results) for make in (image_tables.differences, image_tables.origins)]
  for entry in results['comparisons']:
    for key in ('p_paired_t', 'p_wilcoxon', 'p_sign_flip'):
      del entry[key]
  assert [make(results) for make in (image_tables.differences, image_tables.origins)] == made_now
  assert column(made_now[1], 'sign flips')['IA-VAE'] == '0.031'


def test_a_base_that_still_rises_is_told(results):
  assert image_curves.findings(results) == []
  rising = [[-300.0, -96.0, -95.0, -94.5, -94.2 + shift] for shift in (0.0, 0.2)]
  results['curves']['base'] = [*rising, [-300.0, -96.0, -95.0, -94.0, -94.1]]
  (said,) = image_curves.findings(results)
  rise = np.mean([0.3, 0.5, -0.1])
  assert f'in the last 1 of 4 epochs its validation ELBO rises by {rise:.2f} nats' in said
  assert 'the best in 2 of 3 seeds: whatever trains on' in said
  assert said in image_tables.table_4(results).note
  results['curves'] = {'base': results['curves']['base']}
  assert 'whatever trains on' not in image_curves.findings(results)[0]
  results['provenance']['config'] |= {'pretrain': {'num_epochs': 0}}
  assert image_curves.findings(results) == []


def test_a_second_stage_that_repairs_its_restart_is_told(results):
  results['curves']['continued'] = [[-90.3, -91.0, -90.4, -90.26]] * 5
  (said,) = image_curves.findings(results)
  assert 'goes from -90.30 to -91.00 and ends at -90.26 (+0.04 nats' in said
  results['curves']['continued'] = [[-90.3, -91.0, -90.4, -90.0]] * 5
  assert image_curves.findings(results) == []


def test_shares_are_of_the_whole_gain(results):
  shares = column(image_tables.origins(results), 'share')
  assert shares['IA-VAE'] == '100%'
  assert 45 < int(shares['continued VAE'].rstrip('%')) < 55
  assert int(shares["IA-VAE, another's x"].rstrip('%')) < -90
  nothing = image_tables.origins(made(TEST_ELBO | {'instance_adaptive': -90.3}))
  assert set(column(nothing, 'share').values()) == {''}


def test_validation_stands_next_to_test(results):
  table = image_tables.validation(results)
  assert set(column(table, 'validation minus test').values()) == {'+0.400'}
  assert column(table, 'validation: above')['IA-VAE'] == column(table, 'test: above')['IA-VAE']


@pytest.mark.parametrize(
  'elbo, words',
  [(-89.7, 'beats that of its base VAE by 0.'), (-90.301, 'is not shown'), (-90.9, 'falls short')],
)
def test_gain_finding_flips(elbo, words):
  results = made({'base': -90.3, 'instance_adaptive': elbo}, group=FULL)
  assert finding(results, 'On OMNIGLOT (burda), over 5 seeds', words, 'p ')


def test_one_seed_is_told_to_test_nothing():
  results = made(num_seeds=1)
  assert finding(results, 'with one seed', 'which one seed cannot test')
  assert finding(results, 'remains open: nothing is tested')
  assert not [f for f in image_findings.findings(results) if 'beats' in f or ' p ' in f]


@pytest.mark.parametrize(
  'changed, words',
  [
    ({'continued': -90.2, 'static': -90.2, 'wider': -90.2}, 'mostly instance-adaptive'),
    ({}, 'only partly instance-adaptive: the best method that reads no x, IA-VAE without x'),
    ({'static': -89.69}, 'not shown to be instance-adaptive: IA-VAE is not shown to beat IA-VAE'),
    ({'continued': -89.4}, 'not shown to beat continued VAE'),
    ({'instance_adaptive': -90.3}, 'remains open: no gain is shown'),
  ],
)
def test_verdict_flips(changed, words):
  assert finding(made(TEST_ELBO | changed), words)


@pytest.mark.parametrize(
  'static, words',
  [
    (-89.95, 'reading x is worth something'),
    (-89.7, 'no use of reading x is shown'),
    (-89.2, 'falls short of IA-VAE without x'),
  ],
)
def test_control_finding_flips(static, words):
  assert finding(made(TEST_ELBO | {'static': static}), 'IA-VAE without x (', words, 'after Holm')


def test_iwae_finding_flips(results):
  assert finding(results, 'By IWAE', 'about 0.200 nats are a closer posterior')
  for entry in results['comparisons']:
    if entry['metric'] == 'iwae':
      entry |= {'mean_difference': 0.001, 'ci95': [-0.01, 0.01], 'p_value': 0.4}
  assert finding(results, 'By IWAE', 'not shown to be more than a closer posterior')


def test_the_paper_is_told_only_where_it_compares(results):
  assert finding(made(group=FULL), 'The paper reports -90.30 and -89.73, a gain of 0.57')
  assert not [f for f in image_findings.findings(results) if 'The paper reports' in f]


def test_another_method_is_not_called_by_the_papers_name():
  results = made(**VARIANTS['another method'], group=FULL)
  assert finding(results, "The method under test is VAE trained on, not the paper's")
  words = str([make(results) for make in images.REPORT.tables]) + report.markdown(results)
  assert 'VAE trained on against every other method' in words and '| IA-VAE |' not in words
  assert column(image_tables.table_4(results), 'the paper')['VAE trained on'] == ''


def test_another_modulation_is_not_called_by_the_papers_name():
  results = made(group=FULL)
  results['provenance']['config'] |= {'modulation': 'gates', 'adapt': {'train_decoder': False}}
  assert finding(results, "The method under test is gate modulation, not the paper's")
  assert finding(results, 'By IWAE', 'with the decoder of the base, all of it is a closer')
  said = image_findings.findings(results) + [report.markdown(results), images.REPORT.title(results)]
  assert 'IA-VAE' not in str(said) and 'The paper reports' not in str(said)
  assert 'gate modulation without x' in str(said) and 'Table 4' not in str(said)
  values = column(image_tables.table_4(results), 'the paper')
  assert values['VAE (base)'] and not values['gate modulation']


def test_what_is_trained_from_scratch_has_no_base(results):
  results['provenance']['config'] |= {'pretrain': {'num_epochs': 0}}
  words = report.markdown(results)
  assert 'VAE, untrained' in words and 'VAE (base)' not in words
  results['gaps'] = [
    {'dataset': GROUP.dataset, 'protocol': GROUP.protocol, 'preset': GROUP.preset, 'seed': 0,
     'num_examples': 5, 'method': method, 'elbo': -2.0, 'elbo_optimal': -1.0,
     'amortization_gap': gap}
    for method, gap in (('base', 1.0), ('instance_adaptive', 0.5))
  ]  # fmt: skip
  shares = column(image_gaps.table(results), 'of the base')
  assert set(shares.values()) == {''}
  results['provenance']['config'] |= {'pretrain': {'num_epochs': 3}}
  assert column(image_gaps.table(results), 'of the base')['IA-VAE'] == '50%'


def test_a_reduced_preset_is_named_everywhere(results):
  made_tables = [make(results) for make in images.REPORT.tables]
  texts = [images.REPORT.title(results), images.REPORT.lead(results), report.markdown(results)]
  texts += [table.title for table in made_tables] + image_findings.findings(results)[:2]
  assert all('reduced preset' in text for text in texts)
  full = made(group=FULL)
  words = [images.REPORT.title(full), images.REPORT.lead(full), report.markdown(full)]
  assert 'reduced' not in str(words + image_findings.findings(full))


def test_mosaic_places_every_image():
  images = np.arange(3 * 2 * 4).reshape(3, 2, 4, 1) + 1.0
  mosaic = pictures.mosaic(images, 2)
  assert mosaic.shape == (2 * 2 + 1, 2 * 4 + 1, 1)
  np.testing.assert_array_equal(mosaic[:2, :4], images[0])
  np.testing.assert_array_equal(mosaic[:2, 5:], images[1])
  np.testing.assert_array_equal(mosaic[3:, :4], images[2])
  assert not mosaic[3:, 5:].any()


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_channels_that_are_neither_gray_nor_rgb_are_drawn_apart(channels):
  """As gray, one below the other, and never as opacity; the figure says so."""
  images = np.random.default_rng(1).random((10, 3, 4, channels))
  keys = ('originals', 'reconstruction_base', 'reconstruction_instance_adaptive')
  kept = dict.fromkeys(keys, images) | {'samples_base': images}
  for draw in (image_figures.figure_8, image_figures.figure_samples):
    figure = draw(made(num_seeds=1), kept)
    shown = np.asarray(figure.axes[0].images[0].get_array())
    if channels in (1, 3):
      np.testing.assert_array_equal(shown[:3, 5:9], images[1].squeeze())
      assert figure.get_supxlabel() == ''
      continue
    assert shown.ndim == 2
    for channel in range(channels):
      np.testing.assert_array_equal(shown[4 * channel :][:3, 5:9], images[1, ..., channel])
    assert f'its {channels} channels, one below the other' in figure.get_supxlabel()


@pytest.mark.parametrize('channels', [2, 4])
def test_images_of_any_number_of_channels_have_a_page(channels, workdir, per_example):
  images = {k: np.repeat(v, channels, -1) for k, v in per_example.items() if v.ndim == 4}
  np.savez(workdir / 'per_example.npz', **per_example | images)
  assert report.write(workdir).read_text(encoding='utf8').count('data:image/png') == 4


def test_figure_8_shows_the_images(results, per_example):
  top, middle, bottom = image_figures.figure_8(results, per_example).axes
  names = ('originals', 'reconstruction_base', 'reconstruction_instance_adaptive')
  for axes, name in zip((top, middle, bottom), names, strict=True):
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_array_equal(shown[:, :28], per_example[name][0, ..., 0])
    np.testing.assert_array_equal(shown[:, -28:], per_example[name][-1, ..., 0])
  assert [axes.get_ylabel() for axes in (top, middle, bottom)] == [
    'original',
    'VAE (base)',
    'IA-VAE',
  ]


def test_figures_of_what_was_not_kept_say_so(results):
  figures = (image_figures.figure_8, image_figures.figure_samples)
  assert all('kept' in figure(results, {}).texts[0].get_text() for figure in figures)
  results['curves'] = {'base': []}
  assert 'kept' in image_figures.figure_curves(results, {}).texts[0].get_text()


def test_curves_from_the_base_have_a_panel_of_their_own(results):
  results['curves']['wider'] = [[-300.0, -120.0, *np.linspace(-95, -90, 29)]] * 5
  left, right = image_figures.figure_curves(results, {}).axes
  named = [[line.get_label() for line in axes.lines] for axes in (left, right)]
  assert [n for n in named[0] if not n.startswith('_')] == ['VAE (base)', 'wider VAE']
  assert [n for n in named[1] if not n.startswith('_')][:2] == ['IA-VAE', 'continued VAE']
  curves = results['curves']
  tops = [max(seed[1:]) for seed in curves['base']]
  gains = [np.subtract(s, t) for s, t in zip(curves['instance_adaptive'], tops, strict=True)]
  np.testing.assert_allclose(right.lines[0].get_ydata(), np.mean(gains, axis=0), atol=1e-12)
  assert right.get_ylim()[0] < np.mean(gains, axis=0)[0] < right.get_ylim()[1]


def test_curves_of_unequal_length_are_averaged_as_far_as_all_go(results):
  results['curves'] = {'base': [[-3.0, -2.0], [-5.0, -4.0, -1.0]]}
  axes = image_figures.figure_curves(results, {}).axes[0]
  mean, _, rest = (line.get_xydata().tolist() for line in axes.lines)
  assert mean == [[0, -4], [1, -3]]
  assert rest == [[1, -4], [2, -1]]


def test_gains_figure_draws_the_comparisons(results):
  axes = image_figures.figure_gains(results, {}).axes[0]
  entries = [c for c in results['comparisons'] if c['b'] == 'base' and c['split'] == 'test']
  drawn = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == 'o']
  assert sorted(drawn) == sorted(entry['mean_difference'] for entry in entries)


@pytest.mark.parametrize('variant', VARIANTS)
def test_page_is_whole_and_self_contained(workdir, variant):
  (workdir / 'results.json').write_text(json.dumps(made(**VARIANTS[variant])))
  page = report.write(workdir).read_text(encoding='utf8')
  sources = re.findall(r'src="(.*?)"', page)
  assert sources and all(source.startswith('data:image/png;base64,') for source in sources)
  without_images = re.sub(r'src="data:.*?"', '', page)
  words = ('http:', 'https:', 'url(', '@import', '<link', '<script', 'srcset')
  assert not [word for word in words if word in without_images]
  assert 'name="viewport"' in page and 'prefers-color-scheme: dark' in page
  assert all(text in page for text in ('abc123', 'ab12', '20,693 train', 'configs/omniglot.py'))
  names = {path.name for path in (workdir / 'figures').iterdir()}
  assert names == {'gains.png', 'figure_8.png', 'samples.png', 'curves.png'}


def test_same_results_give_the_same_page(workdir):
  assert report.write(workdir).read_bytes() == report.write(workdir).read_bytes()


@pytest.mark.parametrize('key', images.REPORT.needed[:-1])
def test_missing_results_are_one_clear_line(workdir, results, key):
  del results[key]
  (workdir / 'results.json').write_text(json.dumps(results))
  with pytest.raises(report.ResultsError, match=f'lacks {key}; run python launch.py'):
    report.write(workdir)


def test_an_experiment_without_a_report_is_one_clear_line(workdir, results):
  results['provenance']['config']['experiment'] = 'video'
  (workdir / 'results.json').write_text(json.dumps(results))
  with pytest.raises(report.ResultsError, match="no report of an experiment 'video'"):
    report.write(workdir)


def test_markdown_holds_the_tables_of_the_page(results):
  lines = report.markdown(results).splitlines()
  for make in (image_tables.table_4, image_tables.differences):
    table = make(results)
    assert f'**{table.title}**' in lines and table.note in lines
    assert all(f'| {" | ".join(row)} |' in lines for row in (table.columns, *table.rows))


@pytest.mark.parametrize('variant', VARIANTS)
def test_terminal_has_every_table_and_finding(variant):
  results = made(**VARIANTS[variant])
  console = Console(width=140, record=True, file=io.StringIO())
  report.print_tables(results, console)
  text = console.export_text()
  assert all(make(results).title in text for make in images.REPORT.tables)
  squeezed = ' '.join(text.split())
  assert all(f in squeezed for f in image_findings.findings(results))


def test_the_gap_table_tells_what_share_of_the_bases_gap_is_closed():
  results = made(group=FULL)
  labels = dict(zip(('dataset', 'protocol', 'preset'), FULL, strict=True))
  gaps = {'base': (2.0, 4.0), 'instance_adaptive': (1.0, 3.0)}
  results['gaps'] = [
    labels
    | {'method': method, 'seed': seed, 'num_examples': 7, 'amortization_gap': gap}
    | {'elbo': -90.0 - gap, 'elbo_optimal': -90.0}
    for method, of_seeds in gaps.items()
    for seed, gap in enumerate(of_seeds)
  ]
  found = image_gaps.table(results)
  assert column(found, 'amortization gap') == {
    'VAE (base)': '3.00 ± 1.41', 'IA-VAE': '2.00 ± 1.41'
  }  # fmt: skip
  assert column(found, "of the base's gap") == {
    'VAE (base)': '',
    'IA-VAE': '38%',
  }  # of (50 %, 25 %)
  assert 'The first 7 test images' in found.note
  assert set(column(found, 'twice').values()) == {'not checked'}
  for entry in results['gaps'][:2]:
    entry['added_by_doubling'] = 0.002 * (1 + entry['seed'])
  assert column(image_gaps.table(results), 'twice') == {'VAE (base)': '+0.003', 'IA-VAE': ''}
  del results['gaps']
  assert not image_gaps.table(results).rows
