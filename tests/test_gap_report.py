"""--mode=gaps on finished runs, and what its report makes of the numbers."""

import json
import re

import numpy as np
import pytest

import launch as program
from iavae import gap_summary, gap_words, report
from iavae.evidence import Evidence
from iavae.gap_parts import Protocol
from iavae.reports import gap_tables
from launcher import ROOT, run_tiny, succeed

DIGITS = (
  f'--config={ROOT / "configs" / "digits.py"}:reduced',
  '--config.model.encoder=mlp',
  '--config.model.decoder=mlp',
  '--config.model.hidden=(8,)',
  '--config.model.latent_dim=3',
  '--config.data.num_train=100',
  '--config.data.num_validation=20',
  '--config.data.num_test=40',
  '--config.pretrain.num_epochs=1',
  '--config.adapt.num_epochs=1',
  '--config.evaluation.iwae_samples=2',
  '--config.evaluation.diagnostic_examples=0',
)
SHORT = (
  '--gaps.num_examples=20',
  '--gaps.num_samples=200',
  '--gaps.num_steps=200',
  '--gaps.flow_steps=60',
  '--gaps.draws_a_step=4',
  '--gaps.flow_hidden=4',
  '--gaps.num_annealed=6',
  '--gaps.num_chains=4',
  '--gaps.num_temperatures=20',
  '--gaps.num_leapfrog=3',
  '--gaps.num_doubled=4',
)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  directory = tmp_path_factory.mktemp('digits')
  succeed(*DIGITS, f'--workdir={directory}')
  return directory


@pytest.fixture(scope='module')
def measured(workdir):
  """The report of a run that only its directory names, with a check on simulated data."""
  files = [workdir / name for name in ('results.json', 'metrics.jsonl')]
  before = [file.read_bytes() for file in files]
  told = succeed('--mode=gaps', f'--workdir={workdir}', *SHORT, '--gaps.num_simulated=6')
  assert [file.read_bytes() for file in files] == before
  return told


def test_a_run_is_measured_by_its_directory_alone(workdir, measured):
  results, arrays = report.load(workdir / 'gaps')
  assert [s['name'] for s in results['subjects']] == ['base', 'instance_adaptive']
  for subject in results['subjects']:
    name = subject['name']
    for level, key in (('elbo', 'q/elbo'), ('elbo_optimal', 'optimal/elbo')):
      mean = arrays[f'{name}/{key}'].astype(float).mean()
      assert subject['levels'][level]['mean'] == pytest.approx(mean, rel=1e-6)
    lost = arrays[f'{name}/optimal/elbo'] - arrays[f'{name}/q/elbo']
    assert subject['worst'][0] == int(np.argmax(lost))
    assert subject['gaps']['mean_field']['amortization']['mean'] > 0
    assert subject['sandwich']['num_examples'] == 6
    assert arrays[f'{name}/worst'].shape == (16, 8, 8, 1)
    assert subject['floor']['latent_dim'] == 3
  assert results['provenance']['gaps']['num_steps'] == 200
  assert len(results['diagnostics']) == 2


def test_the_page_and_the_terminal_say_the_same(workdir, measured):
  page = (workdir / 'gaps' / 'report.html').read_text()
  assert page.count('data:image/png') == 3
  for words in ('Where the nats are lost', 'Estimates of log p(x)', 'This encoder loses'):
    assert words in page and words in measured
  markdown = (workdir / 'gaps' / 'tables.md').read_text()
  assert 'VAE (base)' in markdown and 'noise floor, mean-field, 3 latents' in markdown


def test_the_config_may_name_the_run_and_rows_be_chosen(workdir):
  succeed(
    '--mode=gaps', *DIGITS, f'--workdir={workdir}', *SHORT, "--gaps.methods=('base',)",
    '--gaps.split=train', '--gaps.flow_steps=0', '--gaps.num_annealed=0', '--gaps.num_doubled=0',
  )  # fmt: skip
  (subject,) = json.loads((workdir / 'gaps' / 'results.json').read_text())['subjects']
  assert subject['name'] == 'base' and subject['split'] == 'train'
  assert 'elbo_optimal_flow' not in subject['levels'] and not subject['convergence']
  assert [e['name'] for e in subject['estimators']] == ['q', 'optimal']


def test_the_synthetic_experiment_is_measured_by_quadrature(tmp_path):
  run_tiny(tmp_path)
  succeed('--mode=gaps', f'--workdir={tmp_path}', *SHORT, '--gaps.flow_steps=0')
  results = json.loads((tmp_path / 'gaps' / 'results.json').read_text())
  assert [s['name'] for s in results['subjects']] == ['base', 'instance_adaptive']
  assert all(s['log_evidence_by'] == 'exact' for s in results['subjects'])
  with np.load(tmp_path / 'gaps' / 'per_example.npz') as arrays:
    assert not any(name.endswith('/worst') for name in arrays)  # they are no images


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--mode=gap'], "--mode='gap' is not one of train, gaps"),
    (['--gaps.num_steps=20'], '--gaps.num_steps has no effect without --mode=gaps'),
    (['--mode=gaps', '--gaps.num_step=20'], 'no key num_step. Did you mean num_steps?'),
    (['--mode=gaps', '--gaps.draws_a_step=3'], 'draws_a_step=3 is not an even number'),
    (['--mode=gaps', '--gaps.num_examples=41'], 'is more than the 40 images of --gaps.split=test'),
    (
      ['--mode=gaps', '--gaps.num_examples=9', "--gaps.methods=('bas',)"],
      "'bas' is not in this run; there are base, ",
    ),
  ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line(arguments, message, workdir, capfd):
  code = program.main(['launch.py', *DIGITS, f'--workdir={workdir}', *arguments])
  err = capfd.readouterr().err
  assert code == 2 and err.count('\n') == 1
  assert message in err


def test_what_is_no_finished_run_is_refused(tmp_path, capfd):
  assert program.main(['launch.py', '--mode=gaps', f'--workdir={tmp_path}']) == 2
  assert 'is that of a finished run' in capfd.readouterr().err
  assert program.main(['launch.py', '--mode=gaps', *DIGITS, f'--workdir={tmp_path}']) == 2
  assert 'holds no finished run' in capfd.readouterr().err
  assert not (tmp_path / 'gaps').exists()
  assert program.main(['launch.py', '--mode=gaps']) == 2
  assert '--config is missing' in capfd.readouterr().err


def constructed(elbo, optimal, evidence, **changes):
  """What a measurement of these [N] would be, as precise as can be."""

  def made(elbo, log_evidence, k=0.1):
    count = np.ones(len(elbo))
    effective = changes.get('effective', 900)
    return Evidence(log_evidence, 0.01 * count, elbo, 0.01 * count, effective * count, k * count)

  found = {
    'q': made(elbo, evidence - 0.5, changes.get('k', 0.1)),
    'optimal': made(optimal, evidence, changes.get('k', 0.1)),
  }
  if 'annealed' in changes:
    found['ais_q'] = made(elbo[:4], changes['annealed'][:4])
  if 'doubled' in changes:
    found['optimal_doubled'] = made(changes['doubled'][:4], evidence[:4])
  protocol = Protocol(num_samples=changes.get('draws', 5000))
  return gap_summary.summarize(found, changes.get('exact'), 'mean_field', protocol)


ELBO = -100 + np.arange(10.0)
OPTIMAL, EVIDENCE = ELBO + np.array([9.0, *[0.5] * 9]), ELBO + 10


def test_log_p_is_the_best_mean_and_no_maximum_by_example():
  """Two estimates that are each higher for half of the examples: the mean decides."""
  swap = np.where(np.arange(10) % 2, 1.0, -1.1)
  found = {
    'q': Evidence(EVIDENCE + swap, *[np.ones(10)] * 5)._replace(elbo=ELBO),
    'optimal': Evidence(EVIDENCE, *[np.ones(10)] * 5)._replace(elbo=OPTIMAL),
  }
  summary = gap_summary.summarize(found, None, 'mean_field', Protocol())
  assert summary['log_evidence_by'] == 'optimal'
  assert summary['levels']['log_evidence']['mean'] == pytest.approx(EVIDENCE.mean())
  exact = gap_summary.summarize(found, EVIDENCE + 3, 'mean_field', Protocol())
  assert exact['log_evidence_by'] == 'exact'
  assert exact['levels']['log_evidence']['mean'] == pytest.approx(EVIDENCE.mean() + 3)


def test_concentration_is_that_of_the_amortization_gap():
  """One example of ten holds 9 of 13.5 nats."""
  summary = constructed(ELBO, OPTIMAL, EVIDENCE)
  assert summary['concentration']['share_of_worst_tenth'] == pytest.approx(9 / 13.5)
  assert summary['concentration']['share_that_holds_half'] == pytest.approx(0.1)
  assert summary['worst'][0] == 0
  assert '10% of the examples hold half of the amortization gap.' in summary['verdict']


def test_the_verdict_blames_the_larger_gap():
  encoder = constructed(ELBO, EVIDENCE - 0.5, EVIDENCE)['verdict']
  family = constructed(EVIDENCE - 5, EVIDENCE - 4.5, EVIDENCE)['verdict']
  nothing = constructed(EVIDENCE - 0.02, EVIDENCE - 0.01, EVIDENCE)['verdict']
  assert 'This encoder loses 9.50 ± 0.00 nats by amortization' in encoder[0]
  assert encoder[-1].startswith('Most of it is how q is inferred')
  assert family[-1].startswith('Most of it is the family')
  assert nothing[-1].startswith('There is little to gain')


def test_warnings_are_given_where_they_are_due_and_nowhere_else():
  assert constructed(ELBO, OPTIMAL, EVIDENCE)['warnings'] == []
  due = {
    'Pareto k is above 0.7 for 100%': {'k': 0.9},
    'is above 0.7 for 100% of the examples': {'k': np.nan},  # of weights that vanish but for a few
    'in the median example 1.5 of 5000 weights': {'effective': 1.5},
    'finds 2.00 nats more than is taken': {'annealed': EVIDENCE + 2},
    'has not converged: twice the steps add 0.100 nats': {'doubled': OPTIMAL + 0.1},
    'has not converged: twice the steps add -0.100 nats': {'doubled': OPTIMAL - 0.1},
  }
  for words, changes in due.items():
    (told,) = constructed(ELBO, OPTIMAL, EVIDENCE, **changes)['warnings']
    assert words in told
  (told,) = constructed(ELBO, ELBO - 1, EVIDENCE)['warnings']
  assert 'ends below q itself' in told
  quiet = {'annealed': EVIDENCE - 2, 'doubled': OPTIMAL + 0.01}
  assert constructed(ELBO, OPTIMAL, EVIDENCE, **quiet)['warnings'] == []
  assert constructed(ELBO, OPTIMAL, EVIDENCE, k=0.9, exact=EVIDENCE)['warnings'] == []


@pytest.mark.parametrize(
  ('k', 'draws', 'warned', 'cells'),
  [
    (0.6, 5000, '', ('0.60', '0%')),
    (0.6, 100, 'Pareto k is above 0.5 for 100% of', ('0.60', '100%')),
    (0.6, 500, '', ('0.60', '0%')),
    (0.66, 500, 'Pareto k is above 0.63 for 100% of', ('0.66', '100%')),
    (
      np.nan,
      24,
      'Pareto k is unknown (too few draws, 24), so',
      ('unknown (too few draws)', 'unknown'),
    ),
    (np.nan, 25, 'Pareto k is above 0.28 for 100% of', ('infinite', '100%')),
    (-np.inf, 25, '', ('no tail', '0%')),
  ],
)
def test_pareto_k_is_held_to_the_number_of_draws(k, draws, warned, cells):
  summary = constructed(ELBO, OPTIMAL, EVIDENCE, k=k, draws=draws)
  assert [warned in told for told in summary['warnings']] == [True] * bool(warned)
  table = gap_tables.evidence([('q', summary)])
  assert table.columns[-2:] == ('Pareto k', 'k too high')
  assert {row[-2:] for row in table.rows} == {cells}


def test_what_is_no_gap_is_not_told_as_one():
  """A search that found nothing better, gaps of one size, and a gap of all examples alike."""
  wave = 0.3 * np.where(np.arange(10) % 2, 1.0, -1.0)
  nothing = constructed(ELBO, ELBO + 0.004 + wave, EVIDENCE)
  assert 'loses nothing by amortization (0.00 ± 0.10 nats)' in nothing['verdict'][0]
  both = constructed(ELBO, ELBO + 4.0, EVIDENCE)['verdict']
  assert both[-1].startswith('Both parts matter') and 'spread evenly' in both[1]
  (told,) = constructed(ELBO, OPTIMAL, OPTIMAL - 0.1)['warnings']
  assert told.startswith('what is taken for log p(x) is below the ELBO of the best posterior')


def test_a_search_in_the_own_family_that_is_stuck_is_told():
  """The best mean-field posterior is 3 nats above it."""
  count = np.ones(10)
  of = lambda elbo: Evidence(EVIDENCE, 0.01 * count, elbo, 0.01 * count, 900 * count, 0.1 * count)
  for own, due in ((OPTIMAL - 3, True), (OPTIMAL + 0.1, False)):
    found = {'q': of(ELBO - 3), 'optimal': of(OPTIMAL), 'optimal_own': of(own)}
    warnings = gap_summary.summarize(found, EVIDENCE, 'own', Protocol())['warnings']
    assert len(warnings) == due
    assert all('is 3.00 nats above the best of its family' in told for told in warnings)


def test_checks_warn_of_what_they_leave_open():
  """A floor that is as large as the gap, and bounds on log p(x) that are far from each other."""
  summary = constructed(ELBO, OPTIMAL, OPTIMAL + 0.4)
  of = lambda mean: {'mean': mean, 'standard_error': 0.01}
  assert gap_words.with_checks(summary, floor={'mean_field': of(0.05)})['warnings'] == []
  assert gap_words.with_checks(summary, sandwich={'width': of(0.05)})['warnings'] == []
  (told,) = gap_words.with_checks(summary, floor={'mean_field': of(0.2)})['warnings']
  assert 'the search misses 0.20 nats' in told and 'approximation gap (0.40)' in told
  for wide, known_to in ((of(0.48), '0.50'), ({'mean': -0.1, 'standard_error': 0.2}, '0.30')):
    (told,) = gap_words.with_checks(summary, sandwich={'width': wide})['warnings']
    assert f'no better than {known_to} nats' in told and 'approximation gap (0.40)' in told
  large = constructed(ELBO, OPTIMAL, OPTIMAL + 4)
  assert gap_words.with_checks(large, sandwich={'width': of(0.5)})['warnings'] == []
  (told,) = gap_words.with_checks(summary, sandwich={'width': of(-0.5)})['warnings']
  assert 'from below is 0.50 nats above that from above' in told


def test_gaps_add_up_as_printed():
  """Levels whose own differences would round to 1.00 + 1.01 and 2.00."""
  for shift in np.linspace(0, 0.01, 11):
    elbo = np.array([-100.004, -100.004]) + shift
    summary = constructed(elbo, elbo + 1.0049, elbo + 2.0049 + shift)
    table = gap_tables.levels([('q', summary | {'split': 'test'})])
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    known = cells.keys() - {'', 'family', gap_tables.ADDED}
    cents = {name: round(100 * float(cells[name])) for name in known}
    assert cents['approximation gap'] == cents['log p(x)'] - cents['best mean-field']
    assert cents['amortization gap'] == cents['best mean-field'] - cents['encoder']
    assert cents['inference gap'] == cents['approximation gap'] + cents['amortization gap']
    lost, more, whole = re.findall(r'(-?\d\.\d\d) ± ', ' '.join(gap_words.verdict(summary)))
    assert round(100 * float(lost)) + round(100 * float(more)) == round(100 * float(whole))
    with_errors = gap_tables.errors([('q', summary)]).rows[0][3:]
    parts = [round(1000 * float(cell.split(' ')[0])) for cell in with_errors]
    assert parts[0] + parts[1] == parts[2]


def test_what_twice_the_steps_add_stands_beside_every_gap():
  for doubled, words in ((OPTIMAL + 0.01, '+0.010'), (None, 'not checked')):
    changes = {} if doubled is None else {'doubled': doubled}
    subjects = [('q', constructed(ELBO, OPTIMAL, EVIDENCE, **changes) | {'split': 'test'})]
    for table in (gap_tables.levels(subjects), gap_tables.errors(subjects)):
      assert dict(zip(table.columns, table.rows[0], strict=True))[gap_tables.ADDED] == words
