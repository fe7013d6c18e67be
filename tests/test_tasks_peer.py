"""Tasks in both directions between this package and learned_optimization.

Runs where that package is installed, and skips elsewhere.
"""

import jax
import numpy as np
import optax
import peer
import pytest

import flt_lopt
import tasks
from meta_train import config, rows
from meta_train.evaluation import curves
from meta_train.run import whole
from tasks import augment, host_data, registry

quadratics = peer.load("tasks.quadratics")
training = peer.load("training")
learned = peer.load("learned_optimizers.base")

# One of its classes, on iterators that need no download.
_MODULE = """
import jax
import numpy as np
from sklearn import datasets as sets
from learned_optimization.tasks import base
from learned_optimization.tasks.datasets import base as datasets
from learned_optimization.tasks.fixed import image_mlp

def iterate(images, labels, seed):
  def batches():
    random = np.random.RandomState(seed)
    while True:
      rows = random.randint(0, len(images), 32)
      yield {"image": images[rows], "label": labels[rows]}
  return datasets.ThreadSafeIterator(datasets.LazyIterator(batches))

def make():
  images, labels = sets.load_digits(return_X_y=True)
  images, labels = np.float32(images / 16), np.int32(labels)
  parts = [slice(0, 1000), slice(1000, 1300), slice(1300, 1500),
           slice(1500, None)]
  splits = [iterate(images[p], labels[p], n) for n, p in enumerate(parts)]
  batch = {
    "image": jax.ShapeDtypeStruct((32, 64), np.float32),
    "label": jax.ShapeDtypeStruct((32,), np.int32),
  }
  return image_mlp._MLPImageTask(
    datasets.Datasets(
      *splits, extra_info={"num_classes": 10}, abstract_batch=batch
    ),
    [16],
  )
"""


@pytest.fixture
def digits(tmp_path, monkeypatch, request):
  """Name on our command line of a task of theirs with `datasets`."""
  name = f"theirs_{abs(hash(request.node.name))}"
  (tmp_path / f"{name}.py").write_text(_MODULE)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  return f"{name}:make"


def run(task, run_dir, **options):
  settings = dict(
    task=task,
    run_dir=str(run_dir),
    num_tasks=2,
    truncation=5,
    min_horizon=10,
    max_horizon=20,
    log_every=2,
    checkpoint_every=2,
    evaluate=False,
  )
  whole.run(config.MetaTrainConfig(**(settings | options)))
  return rows.read_rows(run_dir / "metrics.jsonl").rows


def test_a_task_of_theirs_with_iterators_runs_in_our_meta_training(
  digits, tmp_path
):
  """Unchanged, from the command line's settings; resumed bit for bit."""
  straight = run(digits, tmp_path / "straight", outer_steps=4)
  assert all(np.isfinite(row["meta_loss"]) for row in straight)
  assert all(row["grad_norm"] > 0 for row in straight)
  run(digits, tmp_path / "halves", outer_steps=2)
  run(digits, tmp_path / "halves", outer_steps=4)
  _, one = flt_lopt.load(tmp_path / "straight" / "theta.safetensors")
  _, two = flt_lopt.load(tmp_path / "halves" / "theta.safetensors")
  jax.tree.map(np.testing.assert_array_equal, one, two)


def test_a_task_of_theirs_with_iterators_is_evaluated(digits):
  """Adam learns digits from its batches, on batches held out too."""
  found = curves.training_curves(
    tasks.load_user_task(digits),
    lambda _: optax.adam(1e-2),
    None,
    jax.random.split(jax.random.key(0), 2),
    num_steps=200,
  )
  assert found.losses[..., 0].min() > 2.0
  assert found.final["train"]["loss"].max() < 0.5
  valid = found.final["valid"]["loss"]
  assert valid.max() < 1.0 and np.all(valid != found.final["train"]["loss"])


def test_batches_of_theirs_pass_through_our_augmentations(digits, tmp_path):
  names = "reparametrize_tensor,batch_size,label_noise,delayed_gradient"
  (row,) = run(digits, tmp_path / "run", outer_steps=2, augment=names)
  assert np.isfinite(row["meta_loss"]) and row["grad_norm"] > 0


def test_a_task_of_theirs_is_a_family_of_ours():
  family = tasks.single_task_to_family(quadratics.QuadraticTask())
  family = augment.augment(family, "scale_loss")
  task = family.sample_task(peer.KEY)
  assert np.isfinite(task.loss(task.init(peer.KEY), peer.KEY, None))


def test_batches_on_the_host_have_their_shapes():
  family = tasks.single_task_to_family(registry.task("mlp_digits_48"))
  assert training.get_batches(family, [2, 3], split="train") == ()
  family.datasets = host_data.HostDatasets(family.task)
  theirs = training.get_batches(family, [2, 3], split="train")
  ours = host_data.NumberedDatasets(family.datasets).read("train", 0, 6)
  theirs = jax.tree.map(lambda x: x.reshape(6, *x.shape[2:]), theirs)
  assert jax.tree.map(np.shape, theirs) == jax.tree.map(np.shape, ours)


@pytest.mark.parametrize("name", ["LearnableAdam", "AdafacMLPLOpt"])
def test_our_family_is_meta_trained_there(name):
  """Their PES moves all of their meta-parameters on our family."""
  family = registry.family("mlp_digits_32", hidden=(4,), init_scale=(0.5, 2.0))
  module = (
    learned
    if name == "LearnableAdam"
    else peer.load("learned_optimizers.adafac_mlp_lopt")
  )
  before, after, losses = peer.meta_train(
    family, getattr(module, name)(), outer_steps=2
  )
  assert np.isfinite(losses).all()
  for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after)):
    assert np.isfinite(new).all() and np.any(old != new)
