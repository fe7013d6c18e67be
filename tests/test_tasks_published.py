"""Loaders, on small files in the formats of the published data sets."""

import gzip
import io
import pickle
import struct
import tarfile

import jax
import numpy as np
import pytest

from tasks import data
from tasks.data import cifar, restricted_pickle

KEY = jax.random.key(0)
RNG = np.random.RandomState(0)


def _idx(values):
  header = struct.pack(">HBB", 0, 8, values.ndim)
  return (
    header + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
  )


@pytest.fixture
def mnist(tmp_path):
  """An MNIST of 60 training and 10 test images, all of their label's grey."""
  for prefix, count in (("train", 60), ("t10k", 10)):
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = np.broadcast_to(labels[:, None, None] * 20, (count, 28, 28))
    for stem, values in (
      ("images-idx3-ubyte", np.ascontiguousarray(images)),
      ("labels-idx1-ubyte", labels),
    ):
      path = tmp_path / f"{prefix}-{stem}.gz"
      path.write_bytes(gzip.compress(_idx(values)))
  return tmp_path


def _cifar_rows(count):
  labels = np.arange(count) % 10
  pixels = RNG.randint(0, 256, (count, 3072)).astype(np.uint8)
  return pixels, labels


@pytest.fixture
def cifar_python(tmp_path):
  folder = tmp_path / "cifar-10-batches-py"
  folder.mkdir()
  for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
    pixels, labels = _cifar_rows(20)
    content = {
      b"data": pixels,
      b"labels": labels.tolist(),
      b"batch_label": b"x",
    }
    (folder / name).write_bytes(pickle.dumps(content, protocol=2))
  return tmp_path


def test_mnist_is_read_and_resized(mnist):
  source = data.load("mnist", "meta_train", str(mnist))
  assert source.field_shape("image") == (28, 28, 1)
  assert source.num_classes == 10
  small = data.load("mnist@8", "meta_train", str(mnist))
  batch = small.sample(KEY, "train", 32)
  assert batch["image"].shape == (32, 8, 8, 1)
  np.testing.assert_allclose(
    batch["image"][:, 3, 3, 0], batch["label"] * 20 / 255, atol=1e-6
  )


def test_the_published_test_set_serves_held_out_tests_only(mnist):
  held_out = data.load("mnist", "held_out", str(mnist))
  assert held_out.indices["test"].tolist() == list(range(60, 70))
  used = [
    rows
    for part in data.PARTS
    for split, rows in data.load("mnist", part, str(mnist)).indices.items()
    if (part, split) != ("held_out", "test")
  ]
  assert np.concatenate(used).max() < 60


def test_a_sub_folder_with_the_name_of_the_source_is_found(mnist, tmp_path):
  (tmp_path / "fashion_mnist").mkdir()
  for path in list(mnist.glob("*.gz")):
    path.rename(tmp_path / "fashion_mnist" / path.name)
  assert len(data.load("fashion_mnist", "meta_train", str(tmp_path))) == 21


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda raw: raw[:-40], "gzip says|values follow"),
    (lambda raw: gzip.compress(gzip.decompress(raw)[:-5]), "values follow"),
    (lambda raw: gzip.compress(b"\1" + gzip.decompress(raw)[1:]), "IDX header"),
    (
      lambda raw: gzip.compress(b"\0\0\x0d" + gzip.decompress(raw)[3:]),
      "not unsigned bytes",
    ),
    (lambda raw: raw[:30] + b"\0\0\0" + raw[33:], "gzip says"),
  ],
)
def test_damaged_idx_files_are_refused(mnist, change, message):
  path = mnist / "train-images-idx3-ubyte.gz"
  path.write_bytes(change(path.read_bytes()))
  with pytest.raises(ValueError, match=message):
    data.load("mnist", "meta_train", str(mnist))


def test_missing_files_and_folders_are_named(mnist):
  with pytest.raises(ValueError, match="--data_dir"):
    data.load("mnist", "meta_train")
  with pytest.raises(FileNotFoundError, match="does not exist"):
    data.load("mnist", "meta_train", str(mnist / "nowhere"))
  (mnist / "t10k-labels-idx1-ubyte.gz").unlink()
  with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
    data.load("mnist", "meta_train", str(mnist))
  with pytest.raises(FileNotFoundError, match="cifar-10-python"):
    data.load("cifar10", "meta_train", str(mnist))


def test_cifar_python_and_binary_agree(cifar_python, tmp_path):
  images, labels, test_images, _ = cifar.read_cifar(
    "cifar10", str(cifar_python)
  )
  assert images.shape == (100, 32, 32, 3)
  assert test_images.shape == (20, 32, 32, 3)
  binary = tmp_path / "binary"
  binary.mkdir()
  with tarfile.open(binary / "cifar-10-binary.tar.gz", "w:gz") as archive:
    for i, name in enumerate(
      [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    ):
      rows = images if i < 5 else test_images
      rows = rows[20 * i : 20 * i + 20] if i < 5 else rows
      label = labels[20 * i : 20 * i + 20] if i < 5 else np.arange(20) % 10
      planes = rows.transpose(0, 3, 1, 2).reshape(20, -1)
      raw = np.concatenate(
        [label[:, None].astype(np.uint8), planes], 1
      ).tobytes()
      member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
      member.size = len(raw)
      archive.addfile(member, io.BytesIO(raw))
  again, labels_again, test_again, _ = cifar.read_cifar("cifar10", str(binary))
  np.testing.assert_array_equal(images, again)
  np.testing.assert_array_equal(labels, labels_again)
  np.testing.assert_array_equal(test_images, test_again)
  source = data.load("cifar10@8", "held_out", str(binary))
  assert source.sample(KEY, "test", 4)["image"].shape == (4, 8, 8, 3)


def test_cifar_100_reads_fine_labels(tmp_path):
  folder = tmp_path / "cifar-100-binary"
  folder.mkdir()
  pixels, _ = _cifar_rows(40)
  labels = np.stack([np.arange(40) % 20, np.arange(40) + 50], 1)
  raw = np.concatenate([labels.astype(np.uint8), pixels], 1).tobytes()
  for name in ("train.bin", "test.bin"):
    (folder / name).write_bytes(raw)
  _, fine, _, _ = cifar.read_cifar("cifar100", str(tmp_path))
  assert fine.tolist() == list(range(50, 90))


class _Evil:
  """Pickles as a call."""

  def __reduce__(self):
    return print, ("this must never run",)


@pytest.mark.parametrize(
  "content",
  [
    _Evil(),
    {b"data": _Evil()},
    {b"data": np.array([_Evil()], object)},
    {b"data": np.zeros((2, 3072)), b"labels": [0, 1]},
    [1, 2],
  ],
  ids=["call", "nested call", "object array", "floats", "list"],
)
def test_pickles_that_ask_for_anything_else_are_refused(
  cifar_python, content, capsys
):
  path = cifar_python / "cifar-10-batches-py" / "data_batch_3"
  path.write_bytes(pickle.dumps(content, protocol=2))
  with pytest.raises(ValueError, match="data_batch_3 is damaged"):
    data.load("cifar10", "meta_train", str(cifar_python))
  assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_byte_arrays_are_read_under_every_protocol(protocol):
  x = RNG.randint(0, 256, (3, 4)).astype(np.uint8)
  raw = pickle.dumps({"data": x, "fortran": np.asfortranarray(x)}, protocol)
  if protocol == 5:  # Out-of-band forms are another construction: refused.
    with pytest.raises(ValueError, match="not allowed"):
      restricted_pickle.read_pickle(raw)
    return
  found = restricted_pickle.read_pickle(raw)
  np.testing.assert_array_equal(found["data"], x)
  np.testing.assert_array_equal(found["fortran"], x)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda raw: raw[:-100], "pickle was refused"),
    (lambda raw: b"", "pickle was refused"),
    (lambda raw: pickle.dumps({b"labels": [1]}, 2), "'data'"),
    (
      lambda raw: pickle.dumps(
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": [11]}, 2
      ),
      r"not in 0\.\.9",
    ),
    (
      lambda raw: pickle.dumps(
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, 2
      ),
      "shape",
    ),
  ],
)
def test_damaged_cifar_batches_are_refused(cifar_python, change, message):
  path = cifar_python / "cifar-10-batches-py" / "data_batch_1"
  path.write_bytes(change(path.read_bytes()))
  with pytest.raises(ValueError, match=message):
    data.load("cifar10", "meta_train", str(cifar_python))


def test_damaged_cifar_archives_are_refused(tmp_path):
  (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"nothing of the kind")
  with pytest.raises(ValueError, match="damaged"):
    data.load("cifar10", "meta_train", str(tmp_path))


def test_svhn_is_read(tmp_path):
  io_ = pytest.importorskip("scipy.io")
  for name in ("train_32x32.mat", "test_32x32.mat"):
    labels = (np.arange(40) % 10 + 1).astype(np.uint8)
    pixels = np.broadcast_to(labels * 20, (32, 32, 3, 40))
    io_.savemat(
      tmp_path / name, {"X": pixels.astype(np.uint8), "y": labels[:, None]}
    )
  source = data.load("svhn", "meta_train", str(tmp_path))
  batch = source.sample(KEY, "train", 16)
  assert batch["image"].shape == (16, 32, 32, 3)
  grey = np.where(batch["label"] == 0, 10, batch["label"]) * 20 / 255
  np.testing.assert_allclose(batch["image"][:, 0, 0, 0], grey, atol=1e-6)
  (tmp_path / "train_32x32.mat").write_bytes(b"MATLAB no more")
  with pytest.raises(ValueError, match="damaged"):
    data.load("svhn", "held_out", str(tmp_path))


def test_npz_files_are_read(tmp_path):
  path = tmp_path / "mine.npz"
  x = RNG.rand(40, 6, 6).astype(np.float64)
  np.savez(path, image=x, label=np.arange(40) % 3)
  for where in (path, tmp_path):
    source = data.load("npz", "meta_train", str(where))
    assert source.field_shape("image") == (6, 6, 1)
    assert source.num_classes == 3
  np.savez(path, image=x, label=np.array([object()] * 40))
  with pytest.raises(ValueError, match="damaged"):
    data.load("npz", "validation", str(path))
  np.savez(path, pictures=x)
  with pytest.raises(ValueError, match="pictures"):
    data.load("npz", "validation", str(path))


def test_text_files_are_read(tmp_path):
  (tmp_path / "a.txt").write_bytes(b"first " * 1000)
  (tmp_path / "b.txt").write_bytes(b"second " * 1000)
  source = data.load("text_file", "held_out", str(tmp_path))
  window = np.asarray(source.sample(KEY, "test", 1)["obs"][0], np.uint8)
  assert b"second" in window.tobytes()
  with pytest.raises(ValueError, match="at least 6400 tokens"):
    (tmp_path / "c.txt").write_bytes(b"short")
    data.load("text_file", "held_out", str(tmp_path / "c.txt"))


def test_large_sets_are_thinned_evenly():
  from tasks.data import published

  rows = published._thin(np.arange(1000), 11)
  assert rows[0] == 0
  assert rows[-1] == 999
  assert len(rows) == 11
