"""Image data: exact pixels, splits and binarization, and one clear line for whatever is amiss."""

import functools
import gzip
import hashlib
import http.server
import io
import logging
import os
import re
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import zipfile
from fractions import Fraction

import numpy as np
import pytest

from iavae import data, downloads, image_files, sources
from iavae.errors import ConfigError
from launcher import ROOT

SHARED = ROOT.parent / 'shared' / 'data'
RNG = np.random.default_rng(0)
IDX = ('train-images-idx3-ubyte.gz', 't10k-images-idx3-ubyte.gz')
BINARIZED = [f'binarized_mnist_{split}' for split in ('train', 'valid', 'test')]


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
  """A home of its own and no network."""

  def refuse(*_, **__):
    raise urllib.error.URLError('no network')

  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.delenv('IAVAE_DATA', raising=False)
  monkeypatch.setattr(downloads.urllib.request, 'urlopen', refuse)


def refused(*arguments, **keywords):
  """The one line of the error that loading ends with."""
  with pytest.raises(ConfigError) as caught:
    data.load(*arguments, **({'seed': 0} | keywords))
  assert '\n' not in str(caught.value)
  return str(caught.value)


def trust(monkeypatch, name, folder, url=None):
  """Takes the digests of made files for the published ones, and another address."""
  source = sources.SOURCES[name]()

  def trusted(file):
    path = folder / file.name
    if path.exists():
      file = file._replace(digest=hashlib.new(file.algorithm, path.read_bytes()).hexdigest())
    return file._replace(url=f'{url}/{file.name}') if url else file

  recipes = tuple(r._replace(files=tuple(map(trusted, r.files))) for r in source.recipes)
  monkeypatch.setitem(sources.SOURCES, name, lambda: source._replace(recipes=recipes))


def write_idx(path, images):
  path.parent.mkdir(parents=True, exist_ok=True)
  header = np.array([0x803, *images.shape], '>i4').tobytes()
  path.write_bytes(gzip.compress(header + images.tobytes(), mtime=0))


def write_mnist(folder, rng=RNG):
  """40 + 10 images in MNIST's format."""
  parts = [rng.integers(256, size=(n, 28, 28), dtype=np.uint8) for n in (40, 10)]
  for name, images in zip(IDX, parts, strict=True):
    write_idx(folder / name, images)
  return parts


def rows(images):
  """The images as a set, to compare without an order."""
  return {image.tobytes() for image in images}


def close_to_mean(drawn, intensities):
  """Whether a binarization is within 5 standard errors of its mean."""
  counts = np.bincount(intensities.ravel(), minlength=256)
  p = np.arange(256) / 255
  difference = abs(int(drawn.sum(dtype=np.int64)) - counts @ p)
  return difference <= 5 * np.sqrt(counts @ (p * (1 - p))) + 1e-6  # of counts up to 10^8


# names


def test_the_first_protocol_is_the_default():
  assert data.DATASETS == {
    'mnist': ('dynamic', 'static'),
    'fashion_mnist': ('stochastic', 'threshold'),
    'omniglot': ('burda', 'raw28'),
    'digits': ('stochastic',),
    'own': ('stochastic', 'threshold'),
  }
  assert data.load('digits', '', seed=0).protocol == 'stochastic'


@pytest.mark.parametrize(
  ('name', 'protocol', 'path', 'line'),
  [
    ('minst', '', '', r'data\.name=minst is not one of mnist, .* Did you mean mnist\?'),
    ('mnist', 'statik', '', r'data\.protocol=statik .* those of mnist\. Did you mean static\?'),
    ('own', '', '', r'data\.name=own needs a file of images, --config\.data\.path='),
    ('digits', '', 'x.npz', r'data\.path=x\.npz is for --config\.data\.name=own, not for digits'),
  ],
)
def test_unknown_names_and_stray_paths_are_refused(name, protocol, path, line):
  assert re.search(line, refused(name, protocol, path=path))


def test_importing_loads_none_of_the_libraries_for_files():
  heavy = ('tensorflow', 'tensorflow_datasets', 'sklearn', 'scipy', 'PIL', 'jax')
  code = f'import sys, iavae.data; print([m for m in {heavy} if m in sys.modules])'
  command = [sys.executable, '-c', code]
  assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == '[]\n'


# digits: what all protocols share


def test_digits_are_all_there_once():
  from sklearn.datasets import load_digits

  parts = data._split(data._read('digits', '', ''), seed=3)
  assert {part: len(images) for part, images in parts.items()} == {
    'train': 1275,
    'validation': 225,
    'test': 297,
  }
  together = np.concatenate(list(parts.values()))[..., 0]
  exact = load_digits().images * 255 / 16
  assert np.abs(np.sort(together, axis=0) - np.sort(exact, axis=0)).max() <= 0.5
  assert rows(together) == rows(image_files.quantize(load_digits().images / 16))


def test_a_data_set_is_a_function_of_its_seed():
  one, same, other = (data.load('digits', '', seed=seed) for seed in (0, 0, 1))
  assert one.resample and one.train.shape == (1275, 8, 8, 1)
  assert {a.dtype for a in (one.train, one.validation, one.test)} == {np.dtype(np.uint8)}
  assert one.train.max() == 255 and set(np.unique(one.test)) == {0, 1}
  assert one.digests == same.digests
  differ = {part for part in one.digests if one.digests[part] != other.digests[part]}
  assert differ == {'train', 'validation'}  # one binarized test set for all seeds
  assert one.digests['test'] == hashlib.sha256(one.test.tobytes()).hexdigest()


def test_the_test_images_and_their_order_depend_on_no_seed():
  parts = [data._split(data._read('digits', '', ''), seed) for seed in (0, 1)]
  np.testing.assert_array_equal(parts[0]['test'], parts[1]['test'])
  assert rows(parts[0]['validation']) != rows(parts[1]['validation'])


def test_a_reduced_set_is_the_beginning_of_the_whole_one():
  whole = data.load('digits', '', seed=5)
  few = data.load('digits', '', seed=5, num_train=7, num_validation=225, num_test=3)
  for part, number in (('train', 7), ('validation', 225), ('test', 3)):
    np.testing.assert_array_equal(getattr(few, part), getattr(whole, part)[:number])


@pytest.mark.parametrize('number', [1276, -1, 2.0, True])
def test_more_images_than_there_are_are_refused(number):
  assert refused('digits', '', num_train=number) == (
    f'--config.data.num_train={number} is not a whole number from 0 (all) to 1275, '
    'all that there are'
  )


def test_binarization_has_the_intensities_as_means():
  parts = data._split(data._read('digits', '', ''), seed=0)
  drawn = data.load('digits', '', seed=0)
  assert close_to_mean(drawn.test, parts['test'])
  assert close_to_mean(drawn.validation, parts['validation'])
  levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 20_000, axis=1)
  means = data._binarize(levels, 0, 1).mean(1)
  assert means[0] == 0 and means[255] == 1
  p = np.arange(256) / 255
  assert (abs(means - p) <= 5 * np.sqrt(p * (1 - p) / 20_000)).all()


def test_validation_is_15_percent_as_in_the_paper():
  assert [data._share(n) for n in (24_345, 60_000, 19_280, 1_500, 2)] == [3652, 9000, 2892, 225, 1]


# files


def test_area_averages_are_exact():
  ink = RNG.random((3, 105, 105)) < [[[0.1]], [[0.5]], [[0.9]]]
  quarters = ink.repeat(4, 1).repeat(4, 2).reshape(3, 28, 15, 28, 15)
  exact = [round(Fraction(255 * int(k), 225)) for k in quarters.sum((2, 4)).ravel()]
  np.testing.assert_array_equal(image_files.area_average(ink).ravel(), exact)
  assert all(Fraction(17 * k, 15) % 1 != Fraction(1, 2) for k in range(226))
  assert image_files.area_average(np.ones((1, 105, 105), bool)).min() == 255


def test_quantization_keeps_levels_and_the_side_of_one_half():
  levels = np.arange(256)
  for dtype in (np.float16, np.float32, np.float64):
    np.testing.assert_array_equal(image_files.quantize((levels / 255).astype(dtype)), levels)
    half = dtype(0.5)
    sides = image_files.quantize(np.array([half, np.nextafter(half, dtype(1))]))
    np.testing.assert_array_equal(data._threshold(sides), [0, 1])


def test_mnist_dynamic_reads_idx_files(monkeypatch, tmp_path):
  train, test = write_mnist(tmp_path / 'mnist')
  trust(monkeypatch, 'mnist', tmp_path / 'mnist')
  loaded = data.load('mnist', 'dynamic', seed=0, directory=str(tmp_path))
  assert loaded.train.shape == (34, 28, 28, 1) and loaded.validation.shape == (6, 28, 28, 1)
  assert loaded.resample and rows(loaded.train) < rows(train)
  np.testing.assert_array_equal(sources.load('mnist', str(tmp_path))[1][..., 0], test)


def test_the_manual_folder_is_flat_or_not_and_found_by_the_environment(monkeypatch, tmp_path):
  write_mnist(tmp_path)
  trust(monkeypatch, 'mnist', tmp_path)
  monkeypatch.setenv('IAVAE_DATA', str(tmp_path))
  assert len(data.load('mnist', '', seed=0).test) == 10


def test_thresholding_needs_no_randomness(monkeypatch, tmp_path):
  train, test = write_mnist(tmp_path)
  trust(monkeypatch, 'fashion_mnist', tmp_path)
  loaded = [
    data.load('fashion_mnist', 'threshold', seed=seed, directory=str(tmp_path)) for seed in (0, 1)
  ]
  assert not loaded[0].resample and set(np.unique(loaded[0].train)) == {0, 255}
  assert rows(loaded[0].train) < rows(np.where(train > 127.5, 255, 0).astype(np.uint8))
  assert rows(loaded[0].test) == rows((test > 127.5).astype(np.uint8))
  assert loaded[0].digests['test'] == loaded[1].digests['test']


@pytest.mark.parametrize('form', ['mat', 'amat'])
def test_static_mnist_keeps_its_three_sets(form, monkeypatch, tmp_path):
  import scipy.io

  parts = [RNG.integers(2, size=(n, 784), dtype=np.uint8) for n in (5, 3, 4)]
  for name, part in zip(BINARIZED, parts, strict=True):
    if form == 'mat':
      scipy.io.savemat(tmp_path / f'{name}.mat', {'X': part})
    else:
      np.savetxt(tmp_path / f'{name}.amat', part, '%d')
  trust(monkeypatch, 'binarized_mnist', tmp_path)
  loaded = data.load('mnist', 'static', seed=0, directory=str(tmp_path))
  assert not loaded.resample
  for images, part in zip(
    (loaded.train // 255, loaded.validation, loaded.test), parts, strict=True
  ):
    assert images.shape == (len(part), 28, 28, 1) and rows(images) == rows(part)
  read = sources.load('binarized_mnist', str(tmp_path))
  np.testing.assert_array_equal(read[0].reshape(5, 784), parts[0] * 255)


def test_burdas_omniglot_has_columns_first(monkeypatch, tmp_path):
  import scipy.io

  columns = np.zeros((784, 24_345 + 8_070), np.float32)
  columns[np.arange(columns.shape[1]) % 784, np.arange(columns.shape[1])] = 100.4 / 255
  scipy.io.savemat(
    tmp_path / 'chardata.mat', {'data': columns[:, :24_345], 'testdata': columns[:, 24_345:]}
  )
  trust(monkeypatch, 'omniglot_burda', tmp_path)
  train, test = sources.load('omniglot_burda', str(tmp_path))
  assert train.shape == (24_345, 28, 28, 1) and test.shape == (8_070, 28, 28, 1)
  n = np.arange(24_345)
  assert (train[n, n % 28, n // 28 % 28, 0] == 100).all() and train.sum() == 100 * 24_345
  loaded = data.load('omniglot', '', seed=0, directory=str(tmp_path))
  assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (20_693, 3_652, 8_070)


def test_raw_omniglot_is_the_same_from_npz_and_from_zip(monkeypatch, tmp_path):
  from PIL import Image

  paper = RNG.random((2, 20, 105, 105)) < 0.9
  for form in ('npz', 'zip'):
    (tmp_path / form).mkdir()
  for part, images in (('background', paper), ('evaluation', paper[:1])):
    np.savez(tmp_path / 'npz' / f'images_{part}.npz', images=images)
    with zipfile.ZipFile(tmp_path / 'zip' / f'images_{part}.zip', 'w') as archive:
      archive.writestr('__MACOSX/Z/character01/._0001_01.png', b'no image')
      for character, drawer in reversed(list(np.ndindex(images.shape[:2]))):  # of two alphabets
        file = io.BytesIO()
        Image.fromarray(images[character, drawer]).save(file, 'png')
        name = f'{"ZA"[character]}/character01/{character + 1:04}_{drawer + 1:02}.png'
        archive.writestr(f'images_{part}/{name}', file.getvalue())
  read = {}
  for form in ('npz', 'zip'):
    trust(monkeypatch, 'omniglot_raw', tmp_path / form)
    read[form] = sources.load('omniglot_raw', str(tmp_path / form))
  expected = image_files.area_average(~paper.reshape(40, 105, 105))
  for train, test in read.values():
    np.testing.assert_array_equal(train, expected)
    np.testing.assert_array_equal(test, expected[:20])


def test_an_altered_or_truncated_file_is_refused(monkeypatch, tmp_path):
  write_mnist(tmp_path)
  trust(monkeypatch, 'mnist', tmp_path)
  path = tmp_path / IDX[1]
  expected = hashlib.sha256(path.read_bytes()).hexdigest()
  path.write_bytes(path.read_bytes()[:-1])
  found = hashlib.sha256(path.read_bytes()).hexdigest()
  assert refused('mnist', '', directory=str(tmp_path)) == (
    f'{path} is not the published file or not all of it: sha256 {expected} expected, {found} '
    'found; replace or remove it'
  )


def test_files_of_the_same_name_are_not_mixed_up(monkeypatch, tmp_path):
  write_mnist(tmp_path)
  trust(monkeypatch, 'mnist', tmp_path)
  assert 'does not answer' in refused('fashion_mnist', '', directory=str(tmp_path))
  write_mnist(tmp_path / 'fashion_mnist')
  trust(monkeypatch, 'fashion_mnist', tmp_path / 'fashion_mnist')
  assert len(data.load('fashion_mnist', '', seed=0, directory=str(tmp_path)).test) == 10
  (tmp_path / IDX[0]).rename(tmp_path / 'fashion_mnist' / IDX[0])
  (tmp_path / 'cache' / 'fashion_mnist.npy').unlink()
  assert 'not the published file' in refused('fashion_mnist', '', directory=str(tmp_path))


def test_all_sources_are_listed_with_digests_and_addresses():
  for source in (make() for make in sources.SOURCES.values()):
    for file in (file for recipe in source.recipes for file in recipe.files):
      assert len(bytes.fromhex(file.digest)) == {'sha256': 32, 'md5': 16}[file.algorithm]
    assert all(re.match('https?://', file.url) for file in source.recipes[-1].files)
  zips = sources.SOURCES['omniglot_raw']().recipes[1].files
  assert [file.digest[:8] for file in zips] == ['ad41ab67', '1f61a8f3']


# cache


def test_the_cache_replaces_the_files(monkeypatch, tmp_path):
  write_mnist(tmp_path)
  trust(monkeypatch, 'mnist', tmp_path)
  digests = data.load('mnist', '', seed=0, directory=str(tmp_path)).digests
  for name in IDX:
    (tmp_path / name).unlink()
  assert data.load('mnist', '', seed=0, directory=str(tmp_path)).digests == digests


@pytest.mark.parametrize('damage', ['npy', 'json', 'digest'])
def test_a_tampered_cache_is_made_again_or_refused(damage, monkeypatch, tmp_path, caplog):
  write_mnist(tmp_path)
  trust(monkeypatch, 'mnist', tmp_path)
  digests = data.load('mnist', '', seed=0, directory=str(tmp_path)).digests
  cache = tmp_path / 'cache' / 'mnist.npy'

  def tamper():
    if damage == 'npy':
      array = np.load(cache)
      array[0, 3, 3] ^= 1
      np.save(cache, array)
    else:
      cache.with_suffix('.json').write_text('[' if damage == 'json' else '{"sizes": [40, 10]}')

  tamper()
  with caplog.at_level(logging.WARNING):
    assert data.load('mnist', '', seed=0, directory=str(tmp_path)).digests == digests
  assert [r.getMessage().partition(' (')[0] for r in caplog.records] == [
    f'the cache {cache} is damaged'
  ]
  assert data.load('mnist', '', seed=0, directory=str(tmp_path)).digests == digests
  assert len(caplog.records) == 1
  tamper()
  (tmp_path / IDX[0]).unlink()
  line = refused('mnist', '', directory=str(tmp_path))
  assert line.startswith(f'the cache {cache} is damaged') and 'does not answer' in line


def test_a_folder_that_cannot_be_written_is_cached_at_home_or_not_at_all(monkeypatch, tmp_path):
  write_mnist(tmp_path)
  trust(monkeypatch, 'mnist', tmp_path)
  (tmp_path / 'cache').write_text('in the way')
  assert len(data.load('mnist', '', seed=0, directory=str(tmp_path)).test) == 10
  home = tmp_path / 'home' / '.cache' / 'iavae' / 'data' / 'cache'
  assert sorted(path.name for path in home.iterdir()) == ['mnist.json', 'mnist.npy']
  (tmp_path / 'file').write_text('no home')
  monkeypatch.setenv('HOME', str(tmp_path / 'file'))
  assert len(data.load('mnist', '', seed=0, directory=str(tmp_path)).test) == 10


# the web


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
  daemon_threads = True


@pytest.fixture
def served(monkeypatch, tmp_path):
  """A folder with MNIST's files and its address."""

  class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
      pass

  folder = tmp_path / 'served'
  write_mnist(folder)
  monkeypatch.undo()
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  server = Server(('127.0.0.1', 0), functools.partial(Handler, directory=folder))
  threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
  trust(monkeypatch, 'mnist', folder, f'http://127.0.0.1:{server.server_port}')
  yield folder
  server.shutdown()
  server.server_close()


def test_files_are_downloaded_to_the_manual_folder(served, tmp_path):
  loaded = data.load('mnist', '', seed=0, directory=str(tmp_path / 'manual'))
  assert len(loaded.test) == 10
  assert sorted(os.listdir(tmp_path / 'manual' / 'mnist')) == sorted(IDX)


def test_files_are_downloaded_to_the_home_if_the_manual_folder_is_not_to_be_written(
  served, tmp_path
):
  assert len(data.load('mnist', '', seed=0, directory=str(served / IDX[0])).test) == 10
  assert (tmp_path / 'home' / '.cache' / 'iavae' / 'data' / 'mnist' / IDX[1]).exists()


def test_without_a_folder_that_can_be_written_there_is_one_line(served, monkeypatch):
  monkeypatch.setenv('HOME', str(served / IDX[0]))
  line = refused('mnist', '', directory=str(served / IDX[0]))
  assert re.fullmatch('cannot write to .*; set --config.data.directory to another folder', line)


def test_a_download_of_other_bytes_leaves_no_file(served, tmp_path):
  (served / IDX[1]).write_bytes(b'<html>sign in to this network</html>')
  line = refused('mnist', '', directory=str(tmp_path / 'manual'))
  found = hashlib.sha256(b'<html>sign in to this network</html>').hexdigest()
  assert re.fullmatch(rf'http://.*/{IDX[1]} is not the published .*{found} found; try again', line)
  assert os.listdir(tmp_path / 'manual' / 'mnist') == [IDX[0]]


def test_a_download_that_stalls_leaves_no_file(served, monkeypatch, tmp_path):
  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      self.send_response(200)
      self.send_header('Content-Length', '1000')
      self.end_headers()
      self.wfile.write(b'some')
      self.wfile.flush()
      time.sleep(1)

    def log_message(self, *_):
      pass

  server = Server(('127.0.0.1', 0), Handler)
  threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
  trust(monkeypatch, 'mnist', served, f'http://127.0.0.1:{server.server_port}')
  monkeypatch.setattr(downloads, 'STALL', 0.1)
  line = refused('mnist', '', directory=str(tmp_path / 'manual'))
  server.shutdown()
  server.server_close()
  assert re.fullmatch(r'the download of http.* broke off \(timed out\); try again', line)
  assert os.listdir(tmp_path / 'manual' / 'mnist') == []


def test_without_a_network_one_line_says_what_to_do(tmp_path):
  assert refused('omniglot', '', directory=str(tmp_path)) == (
    f'no chardata.mat (md5 21ecaf34373511aa7691cf2e0802aa3d) in {tmp_path / "omniglot"}, and '
    'https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat does not '
    'answer (no network); put it there, or set --config.data.directory; or take '
    '--config.data.name=digits, for which all is here'
  )
  for name in ('images_background.npz', 'images_evaluation.npz'):
    (tmp_path / name).write_bytes(b'')
  assert re.search(
    'or take --config.data.name=omniglot --config.data.protocol=raw28 or --config.data.name=digits',
    refused('omniglot', 'burda', directory=str(tmp_path)),
  )
  line = refused('mnist', '', directory=str(tmp_path))
  assert all(f'{file.name} (sha256 {file.digest})' in line for file in mnist_files())


def mnist_files():
  return sources.SOURCES['mnist']().recipes[0].files


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch, tmp_path):
  monkeypatch.setattr(downloads.urllib.request, 'urlopen', lambda *_, **__: time.sleep(2))
  assert downloads.PATIENCE < 10
  monkeypatch.setattr(downloads, 'PATIENCE', 0.1)
  start = time.monotonic()
  assert 'does not answer (silent for 0.1 seconds)' in refused('mnist', '', directory=str(tmp_path))
  assert time.monotonic() - start < 2


# one's own images

UNIFORM = RNG.random((20, 5, 4))


def own(tmp_path, **arrays):
  path = tmp_path / 'own.npz'
  np.savez(path, **arrays)
  return str(path)


@pytest.mark.parametrize(
  ('x', 'expected'),
  [
    (UNIFORM, np.rint(UNIFORM * 255)),
    (UNIFORM.astype(np.float32), np.rint(UNIFORM.astype(np.float32) * 255)),
    (np.rint(UNIFORM * 255).astype(np.uint8), np.rint(UNIFORM * 255)),
    (np.rint(UNIFORM * 255).astype(np.int64), np.rint(UNIFORM * 255)),
    (UNIFORM > 0.5, (UNIFORM > 0.5) * 255),
  ],
)
def test_own_images_of_every_kind(x, expected, tmp_path):
  parts = data._split(data._read('own', own(tmp_path, x=x), ''), seed=0)
  assert {part: images.shape for part, images in parts.items()} == {
    'train': (14, 5, 4, 1),
    'validation': (3, 5, 4, 1),
    'test': (3, 5, 4, 1),
  }
  together = np.concatenate(list(parts.values()))
  assert together.dtype == np.uint8 and rows(together) == rows(expected.astype(np.uint8))


def test_own_test_images_and_channels(tmp_path):
  x = RNG.integers(256, size=(10, 6, 5, 3), dtype=np.uint8)
  path = own(tmp_path, x=x, x_test=x[:4], labels=np.arange(10))
  loaded = data.load('own', 'threshold', seed=0, path=path)
  assert loaded.train.shape == (8, 6, 5, 3) and loaded.validation.shape == (2, 6, 5, 3)
  assert rows(loaded.test) == rows((x[:4] > 127).astype(np.uint8))
  assert data.load('own', '', seed=0, path=path).resample


def holed(value):
  """The images with one other value."""
  x = UNIFORM.copy()
  x[3, 2, 1] = value
  return x


@pytest.mark.parametrize(
  ('arrays', 'line'),
  [
    ({'y': UNIFORM}, 'holds no array x but y; save it as x'),
    ({}, 'holds no array x but nothing; save it as x'),
    ({'x': np.arange(20)}, r'x has shape \(20,\) \(labels\?\); give \[N, H, W\] or'),
    ({'x': UNIFORM[0]}, r'x has shape \(5, 4\); give'),
    ({'x': UNIFORM[..., None, None]}, r'x has shape \(20, 5, 4, 1, 1\); give'),
    ({'x': np.zeros((2, 3, 5, 5))}, r'x has shape \(2, 3, 5, 5\); .* C up to 4'),
    ({'x': UNIFORM[:0]}, r'x is empty, \(0, 5, 4\)'),
    ({'x': UNIFORM[:, :0]}, r'x is empty, \(20, 0, 4\)'),
    ({'x': np.array([[['a']]])}, 'x has dtype <U1; give uint8, bool or floats'),
    ({'x': UNIFORM + 0j}, 'x has dtype complex128'),
    ({'x': np.array([[[None]]])}, 'x is an array of objects'),
    ({'x': holed(np.nan)}, 'x has NaN or infinite values'),
    ({'x': holed(np.inf)}, 'x has NaN or infinite values'),
    ({'x': np.ones((9, 2, 2))}, r'x is constant, all 1\.0'),
    ({'x': (UNIFORM > 0.5).astype(np.uint8)}, 'from 0 to 1, of 255: .* save it as bool'),
    ({'x': UNIFORM[:2]}, 'x is too short, 2 of at least 3 images'),
    ({'x': UNIFORM[:1], 'x_test': UNIFORM}, 'x is too short, 1 of at least 2 images'),
    ({'x': UNIFORM, 'x_test': UNIFORM[:0]}, 'x_test is empty'),
    ({'x': UNIFORM, 'x_test': UNIFORM[:, :3]}, r'x_test are \(3, 4, 1\), those of x \(5, 4, 1\)'),
  ],
)
def test_unfit_images_are_refused_with_what_to_do(arrays, line, tmp_path):
  path = own(tmp_path, **arrays)
  said = refused('own', '', path=path)
  assert said.startswith(f'--config.data.path={path}') and re.search(line, said)


def spread(low, high, dtype=np.float32):
  """Images that reach from the one value to the other."""
  x = (low + (high - low) * np.linspace(0, 1, 400)).reshape(20, 5, 4)
  return (np.rint(x) if np.dtype(dtype).kind in 'ui' else x).astype(dtype)


@pytest.mark.parametrize(
  ('x', 'words', 'mend'),
  [
    (spread(0, 1.0000002), 'clip to [0, 1]', 'x.clip(0, 1)'),
    (spread(0, 1.03), 'clip to [0, 1]', 'x.clip(0, 1)'),
    (spread(-0.02, 1), 'clip to [0, 1]', 'x.clip(0, 1)'),
    (spread(-0.25, 1.25, np.float64), 'clip to [0, 1]', 'x.clip(0, 1)'),
    (spread(-0.02, 0.7), 'clip to [0, 1]', 'x.clip(0, 1)'),
    (spread(0, 2), 'divide by its maximum', 'x / 2.0'),
    (spread(0, 16, np.float64), 'divide by its maximum', 'x / 16.0'),
    (spread(0, 16.3), 'divide by its maximum', 'x / 16.3'),
    (spread(0, 100), 'divide by its maximum', 'x / 100.0'),
    (spread(0, 254.7), 'look like 0..255; divide by 255', '(x / 255)'),
    (spread(3, 255, np.float16), 'look like 0..255; divide by 255', '(x / 255)'),
    (spread(-4.5, 262), 'look like 0..255; divide by 255', '(x / 255).clip(0, 1)'),
    (spread(0, 65535), 'look like 0..65535; divide by 65535', '(x / 65535)'),
    (spread(0, 1000), 'divide by its maximum', 'x / 1000.0'),
    (spread(-1, 1), 'look like [-1, 1]', '(x / 2 + 0.5)'),
    (spread(-1.03, 1.02), 'look like [-1, 1]', '(x / 2 + 0.5).clip(0, 1)'),
    (spread(-0.5, 0.5), 'move it to [0, 1]', 'numpy.interp(x, (-0.5, 0.5), (0, 1))'),
    (spread(-0.2, 0.3), 'move it to [0, 1]', 'numpy.interp(x, (-0.2, 0.3), (0, 1))'),
    (spread(-0.4242, 2.8215), 'move it to [0, 1]', 'numpy.interp(x, (-0.4242, 2.8215), (0, 1))'),
    (spread(-3, 0), 'move it to [0, 1]', 'numpy.interp(x, (-3.0, 0.0), (0, 1))'),
    (spread(0, 1, np.uint8), 'if it is binary, save it as bool', 'x.astype(bool)'),
    (spread(-1, 1, np.int8), 'move it to [0, 1]', 'numpy.interp(x, (-1, 1), (0, 1))'),
    (spread(-128, 127, np.int8), 'move it to [0, 1]', 'numpy.interp(x, (-128, 127), (0, 1))'),
    (spread(0, 256, np.int16), 'divide by its maximum', 'x / 256'),
    (spread(0, 4095, np.uint16), 'divide by its maximum', 'x / 4095'),
    (spread(0, 65500, np.uint16), 'look like 0..65535; divide by 65535', '(x / 65535)'),
  ],
)
def test_values_of_another_scale_are_refused_with_advice_that_helps(
  x, words, mend, tmp_path, caplog
):
  """The line ends in an expression that is taken as it is, and whose images fill [0, 1]."""
  path = own(tmp_path, x=x)
  said = refused('own', '', path=path)
  assert said.startswith(f'--config.data.path={path}: x has values from {x.min()!s} to {x.max()!s}')
  assert words in said and said.endswith(f', {mend}')
  (mended,) = image_files.read_own(own(tmp_path, x=eval(mend, {'x': x, 'numpy': np})))
  assert mended.max() >= 178 and mended.min() <= 4
  np.testing.assert_allclose(np.argsort(mended, None, 'stable'), np.arange(400))
  assert not caplog.records


@pytest.mark.parametrize(
  ('x', 'told', 'mend'),
  [
    (spread(0, 16, np.uint8), 'x is 16, of 255, so all images are dark; if 16 is', 'x / 16'),
    (spread(0, 2, np.int64), 'if these are labels, save e.g. x > 0', 'x > 0'),
    (spread(0, 15, np.int32), 'x is 15, of 255', 'x / 15'),
    (spread(0, 127, np.uint8), 'x is 127, of 255', 'x / 127'),
    (spread(0, 0.0625), 'x is 0.0625, of 1, so all images are dark', 'x / 0.0625'),
  ],
)
def test_dark_images_are_taken_with_a_warning(x, told, mend, tmp_path, caplog):
  path = own(tmp_path, x=x)
  for _ in range(2):  # once, however many seeds read the file
    (taken,) = image_files.read_own(path)
  assert taken.max() == np.rint(x.max() * (1 if x.dtype.kind in 'ui' else 255))
  (record,) = caplog.records
  line = record.getMessage()
  assert line.startswith(f'--config.data.path={path}: the largest value of x is')
  assert told in line and f'save {mend}' in line.replace('e.g. ', '') and '\n' not in line
  (mended,) = image_files.read_own(own(tmp_path, x=eval(mend, {'x': x})))
  assert mended.max() == 255 and len(caplog.records) == 1


def test_images_of_every_brightness_in_range_are_taken_in_silence(tmp_path, caplog):
  for x in (spread(0, 0.5), spread(0, 128, np.uint8), spread(200, 255, np.uint16), UNIFORM > 0.9):
    image_files.read_own(own(tmp_path, x=x, x_test=x))
  assert not caplog.records


BYTES = spread(0, 255, np.uint8)


@pytest.mark.parametrize(
  ('x', 'x_test', 'line'),
  [
    (spread(0, 255), UNIFORM, 'x has values .* divide by 255'),
    (UNIFORM, spread(0, 255), r'x_test has values .* divide by 255, \(x_test / 255\)'),
    (UNIFORM, spread(0, 1.03), r'x_test has values .* x_test\.clip\(0, 1\)'),
    (UNIFORM, spread(0, 16), 'x_test has values .* not the scale of x; scale both alike'),
    (UNIFORM, spread(-0.4, 2.8), 'x_test has values .* not the scale of x; scale both alike'),
    (BYTES, spread(0, 1, np.uint8), r'save it as bool, x_test\.astype\(bool\)'),
    (BYTES, np.where(UNIFORM > 0.5, np.nan, 1), 'x_test has NaN or infinite values'),
  ],
)
def test_test_images_of_another_scale_are_refused(x, x_test, line, tmp_path):
  assert re.search(line, refused('own', '', path=own(tmp_path, x=x, x_test=x_test)))


@pytest.mark.parametrize(
  ('x', 'x_test', 'told'),
  [
    (BYTES, spread(0, 16, np.uint8), '1 in x and 0.063 in x_test'),
    (spread(0, 16, np.uint8), UNIFORM > 0.5, '0.063 in x and 1 in x_test'),
    (UNIFORM.round(), spread(0, 0.004), '1 in x and 0.004 in x_test'),
    (BYTES, UNIFORM, None),  # bytes are of 255, floats of 1
    (UNIFORM, UNIFORM > 0.5, None),
    (UNIFORM, BYTES // 3, None),
  ],
)
def test_test_images_much_darker_than_the_others_get_a_warning(x, x_test, told, tmp_path, caplog):
  assert len(image_files.read_own(own(tmp_path, x=x, x_test=x_test))) == 2
  lines = [record.getMessage().partition(': ')[2] for record in caplog.records]
  question = 'are both of the same scale?'
  assert lines == ([f'the largest intensity is {told}, of 1; {question}'] if told else [])


def test_unfit_files_are_refused_with_what_to_do(tmp_path):
  path = tmp_path / 'x.npz'
  assert 'cannot be read: No such file or directory' in refused('own', '', path=str(path))
  assert 'cannot be read: Is a directory' in refused('own', '', path=str(tmp_path))
  for content in (b'', b'PK\x03\x04', b'0 1 2\n'):
    path.write_bytes(content)
    assert 'is no readable .npz' in refused('own', '', path=str(path))
  np.savez_compressed(path, x=UNIFORM)
  whole = path.read_bytes()
  path.write_bytes(whole[:400] + bytes(200) + whole[600:])
  assert 'is no readable .npz' in refused('own', '', path=str(path))
  np.save(tmp_path / 'x.npy', UNIFORM)
  assert 'is a single array; save it by' in refused('own', '', path=str(tmp_path / 'x.npy'))


# the real files


@pytest.fixture(scope='module')
def real(tmp_path_factory):
  """A manual folder with links to the real files; the cache is its own."""
  if not SHARED.is_dir():
    pytest.skip('the published files are not here')
  folder = tmp_path_factory.mktemp('real')
  for name in ('mnist', 'binarized_mnist', 'fashion_mnist', 'omniglot'):
    (folder / name).symlink_to(SHARED / name)
  return str(folder)


@pytest.mark.parametrize(
  ('name', 'protocol', 'sizes', 'means'),
  [
    ('mnist', 'dynamic', (51_000, 9_000, 10_000), (0.13066, 0.13251)),
    ('mnist', 'static', (50_000, 10_000, 10_000), (0.13056, 0.13113, 0.13251)),
    ('fashion_mnist', 'stochastic', (51_000, 9_000, 10_000), (0.28604, 0.28685)),
    ('omniglot', 'raw28', (16_388, 2_892, 13_180), (0.0779, 0.0843)),
  ],
)
def test_the_published_files(name, protocol, sizes, means, real):
  source, resample = data.PROTOCOLS[name][protocol]
  parts = sources.load(source, real)
  digits = 4 if protocol == 'raw28' else 5
  assert tuple(round(part.mean() / 255, digits) for part in parts) == means
  loaded = data.load(name, protocol, seed=0, directory=real)
  assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == sizes
  assert loaded.resample == resample
  assert set(np.unique(loaded.validation)) == set(np.unique(loaded.test)) == {0, 1}
  split = data._split(parts, seed=0)
  for part in ('validation', 'test'):
    assert close_to_mean(getattr(loaded, part), split[part])
  if name == 'mnist' and resample:  # no two of MNIST's training images are equal
    assert not rows(split['train']) & rows(split['validation'])


def test_fashion_mnist_by_threshold_is_brighter(real):
  loaded = data.load('fashion_mnist', 'threshold', seed=0, directory=real)
  test = sources.load('fashion_mnist', real)[1]
  assert loaded.test.mean() == (test > 127.5).mean()


def test_raw_omniglot_is_the_derived_set(real):
  with np.load(SHARED / 'omniglot' / 'derived_area28.npz') as derived:
    for part, key in zip(sources.load('omniglot_raw', real), derived.files, strict=True):
      np.testing.assert_array_equal(part[..., 0], derived[key])
