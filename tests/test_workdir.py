"""The work directory: one run of one config at a time, and files that are whole or not there."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from iavae import workdir
from iavae.errors import BusyError, ConfigError
from launcher import CONFIG, ROOT, TINY, launch

OLD = {'seed': 0, 'data': {'num_examples': 64}, 'widths': (2, 3)}


def test_a_claim_writes_the_config_and_the_same_config_may_come_again(tmp_path):
  for _ in range(2):
    with workdir.claim(tmp_path / 'a' / 'b', OLD):
      pass
  assert json.loads((tmp_path / 'a' / 'b' / 'config.json').read_text()) == OLD | {'widths': [2, 3]}


def test_another_config_is_refused_with_the_difference(tmp_path):
  with workdir.claim(tmp_path, OLD):
    pass
  new = {'seed': 1, 'data': {'num_examples': 64}, 'widths': (2,)}
  with pytest.raises(ConfigError) as caught, workdir.claim(tmp_path, new):
    pytest.fail('claimed')
  assert str(caught.value).splitlines() == [
    f'{tmp_path} holds a run of another config; use another --workdir (there -> here):',
    '  seed: 0 -> 1',
    '  widths: [2, 3] -> [2]',
  ]
  assert json.loads((tmp_path / 'config.json').read_text())['seed'] == 0


def config(num_seeds=2, **changed):
  return {'experiment': 'images', 'method': 'svi', 'num_seeds': num_seeds, **changed}


def refusal(directory, *claimed, **options):
  """What a claim is refused with; nothing in the directory may change."""
  before = {path: path.read_bytes() for path in directory.glob('*.json')}
  with pytest.raises(ConfigError) as caught, workdir.claim(directory, *claimed, **options):
    pytest.fail('claimed')
  assert {path: path.read_bytes() for path in directory.glob('*.json')} == before
  return str(caught.value)


def test_what_no_training_depends_on_may_change_and_seeds_may_be_added(tmp_path):
  first = config(data={'path': 'a.npz', 'name': 'own'}, evaluation={'num_samples': 3}, changed=())
  later = config(
    num_seeds=3,
    data={'path': '/b.npz', 'name': 'own'},
    evaluation={'num_samples': 5, 'new': 1},
    changed=['x'],
  )
  with workdir.claim(tmp_path, first):
    pass
  with workdir.claim(tmp_path, later, grows=('num_seeds',)):
    pass
  assert json.loads((tmp_path / 'config.json').read_text()) == later
  assert 'num_seeds: 3 -> 2' in refusal(tmp_path, later | {'num_seeds': 2}, grows=('num_seeds',))
  assert 'num_seeds: 3 -> 4' in refusal(tmp_path, later | {'num_seeds': 4})
  other = later | {'data': {'path': '/b.npz', 'name': 'digits'}}
  assert 'data.name: own -> digits' in refusal(tmp_path, other)


def test_a_directory_of_another_version_says_so(tmp_path):
  with workdir.claim(tmp_path, config(old_key=1)):
    pass
  message = refusal(tmp_path, config(new_key=1))
  assert 'holds a run of another version of iavae; go on with that version' in message
  assert message.splitlines()[1:] == ['  new_key: (absent) -> 1', '  old_key: 1 -> (absent)']
  # Another method has other keys, too
  assert 'another config' in refusal(tmp_path, config(method='amortized'))


def test_other_data_are_refused(tmp_path):
  with workdir.claim(tmp_path, config(), {'train': 'a', 'test': 'b'}):
    pass
  expected = f'{tmp_path} holds a run on other data: test differ; give the images that it was made'
  assert refusal(tmp_path, config(), {'train': 'a', 'test': 'c'}).startswith(expected)
  with workdir.claim(tmp_path, config(), {'train': 'a', 'test': 'b', 'source': 'd'}):
    pass
  assert 'source differ' in refusal(tmp_path, config(evaluation={'new': 1}), {'source': 'e'})
  # Directories made before data.json was have the digests in their results
  (tmp_path / 'data.json').unlink()
  (tmp_path / 'results.json').write_text(json.dumps({'data': {'digests': {'train': 'a'}}}))
  assert 'train differ' in refusal(tmp_path, config(), {'train': 'f'})
  # Where the config says all of the data, results of an earlier run are not read
  (tmp_path / 'results.json').write_text('{')
  with workdir.claim(tmp_path, config()):
    pass


@pytest.mark.parametrize('text', ['', '{"seed": 0', '[1, 2]', '\x00\x01'])
def test_a_damaged_config_is_refused_and_kept(text, tmp_path):
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(ConfigError, match=r'config\.json is damaged'), workdir.claim(tmp_path, OLD):
    pytest.fail('claimed')
  assert (tmp_path / 'config.json').read_text() == text


def test_a_file_in_its_place_is_refused_and_kept(tmp_path):
  path = tmp_path / 'file'
  path.write_text('mine')
  with pytest.raises(ConfigError, match=r'cannot write to .*file: File exists; choose another'):
    with workdir.claim(path, OLD):
      pytest.fail('claimed')
  assert path.read_text() == 'mine'


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_read_only_directory_is_refused(tmp_path):
  tmp_path.chmod(0o500)
  with pytest.raises(ConfigError, match='Permission denied; choose another --workdir'):
    with workdir.claim(tmp_path, OLD):
      pytest.fail('claimed')


@pytest.mark.skipif(not pathlib.Path('/proc/self').exists(), reason='no /proc')
def test_a_file_system_that_takes_no_files_is_refused():
  with pytest.raises(ConfigError, match=r'cannot write to /proc/iavae: .*; choose another'):
    with workdir.claim(pathlib.Path('/proc/iavae'), OLD):
      pytest.fail('claimed')


def test_a_second_claim_names_the_first(tmp_path):
  with workdir.claim(tmp_path, OLD):
    with pytest.raises(BusyError) as caught, workdir.claim(tmp_path, OLD):
      pytest.fail('claimed')
  owner = f'process {os.getpid()} on {socket.gethostname()}'
  expected = f'{tmp_path} is in use by {owner}; wait, or use another --workdir'
  assert str(caught.value) == expected
  with workdir.claim(tmp_path, OLD):
    pass


def test_a_second_process_exits_with_4(tmp_path):
  with workdir.claim(tmp_path, {}):
    done = launch(f'--config={CONFIG}', f'--workdir={tmp_path}', *TINY)
  owner = f'process {os.getpid()} on {socket.gethostname()}'
  assert (done.returncode, done.stdout) == (4, '')
  assert done.stderr == (
    f'error: {tmp_path} is in use by {owner}; wait, or use another --workdir\n'
  )


def test_a_dead_holder_holds_nothing(tmp_path):
  code = (
    'import os, pathlib, signal, sys; from iavae import workdir\n'
    'with workdir.claim(pathlib.Path(sys.argv[1]), {}): os.kill(os.getpid(), signal.SIGKILL)'
  )
  done = subprocess.run([sys.executable, '-c', code, str(tmp_path)], cwd=ROOT)
  assert done.returncode == -9
  assert 'process' in (tmp_path / '.lock').read_text()
  with workdir.claim(tmp_path, {}):
    assert (tmp_path / '.lock').read_text().startswith(f'process {os.getpid()} ')


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'results.json'
  workdir.write_text(path, 'old')
  with pytest.raises(UnicodeEncodeError):
    workdir.write_text(path, 'half \udc00')
  assert path.read_text() == 'old'

  def fail(*_):
    raise OSError('disk')

  monkeypatch.setattr(os, 'replace', fail)
  with pytest.raises(OSError, match='disk'):
    workdir.write_text(path, 'new')
  assert path.read_text() == 'old'


def test_text_is_utf8_everywhere(tmp_path):
  workdir.write_text(tmp_path / 'ü', 'ELBO ± 1')
  assert (tmp_path / 'ü').read_bytes() == b'ELBO \xc2\xb1 1'
