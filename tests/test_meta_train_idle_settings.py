"""What does nothing is said: settings beside others, and devices."""

import re

import jax
import pytest
import tiny_runs

from meta_train import configs
from meta_train.config import MetaTrainConfig
from meta_train.engine import idle_settings, processes, training
from meta_train.errors import UserError
from meta_train.evaluation.problems import choose_tasks, load_problems


@pytest.mark.parametrize(
  "settings, words",
  [
    (dict(task="my:Task", families="a"), ["--families=a", "--task=my:Task"]),
    (dict(task="my:Task", families="a," * 99), ["a,a,... does nothing beside"]),
    (dict(task="my:Task", data_dir="here"), ["--data_dir=here"]),
    (dict(objective="last", log_floor=0.5), ["--log_floor=0.5", "log_last"]),
    (
      dict(objective="log_time", log_floor=0.5),
      ["--objective=log_time", "log_log_time"],
    ),
    (dict(validation_steps=9), ["--validation_steps=9", "--validate_every"]),
    (
      dict(rate_scale="memory:0,step:2", sigma_scale="controller:0"),
      ["memory from", "--sigma_scale=controller:0,memory:0 too"],
    ),
  ],
)
def test_settings_that_do_nothing_are_told(settings, words):
  (text,) = idle_settings.cautions(MetaTrainConfig(**settings))
  for word in words:
    assert word in text


@pytest.mark.parametrize(
  "settings",
  [
    dict(families="a"),
    dict(objective="log_log_time", log_floor=0.5),
    dict(objective="last"),
    dict(validation_steps=9, validate_every=3),
    dict(rate_scale="memory/write:0", sigma_scale="memory:0"),
    dict(rate_scale="memory:0", estimator="truncated_grad"),
    dict(rate_scale="memory:x"),
  ],
)
def test_settings_that_count_are_not(settings):
  assert not idle_settings.cautions(MetaTrainConfig(**settings))


def test_recipes_have_no_idle_settings():
  for name in configs.list_recipes():
    assert not idle_settings.cautions(configs.get_recipe(name))


def test_a_run_tells_them_once(tmp_path, monkeypatch, capsys):
  settings = ("--validation_steps=9", "--outer_steps=0")
  tiny_runs.run_here(tmp_path, monkeypatch, *settings)
  said = capsys.readouterr().err
  assert said.count("warning: --validation_steps=9") == 1


def test_buffers_that_nothing_begins_in_are_refused():
  with pytest.raises(UserError, match="failing_states=2 does nothing with"):
    MetaTrainConfig(failing_states=2, failing_share=0.0)


def test_more_families_a_step_than_there_are_is_told(capsys):
  families = load_problems(MetaTrainConfig()).train
  for more, process in ((0, -1), (1, -1), (1, 1)):
    number = len(families) + more
    config = MetaTrainConfig(families_per_step=number, process_id=process)
    assert load_problems(config).train
    said = capsys.readouterr().err
    words = f"--families_per_step={number} is more than there are"
    assert (words in said) == (more == 1 and process == -1)


def test_a_data_folder_that_is_not_there_is_refused_by_all_suites(tmp_path):
  folder = str(tmp_path / "none")
  with pytest.raises(UserError, match=r"--data_dir=.*none does not exist"):
    load_problems(MetaTrainConfig(data_dir=folder))
  with pytest.raises(UserError, match=r"--data_dir=.*none does not exist"):
    choose_tasks("quick", data_dir=folder)
  assert load_problems(MetaTrainConfig(data_dir=str(tmp_path))).train


class Others(processes.Group):
  """The first of several processes, the others being like it."""

  def __init__(self, size, rank=0):
    super().__init__()
    self.size, self.rank = size, rank

  def all_gather(self, data):
    return [data] * self.size


@pytest.mark.parametrize(
  "num_tasks, size, used, words",
  [
    (8, 1, 4, ""),
    (7, 1, 1, "1 of 4 devices are used.*7 divides; --num_tasks=8 would use"),
    (6, 2, 3, "6 of 8 devices are used.*--num_tasks=8 would use all"),
    (10, 1, 2, "2 of 4 devices are used.*--num_tasks=12 would use all"),
  ],
)
def test_idle_devices_are_told(
  monkeypatch, capfd, num_tasks, size, used, words
):
  monkeypatch.setattr(jax, "local_devices", lambda: [None] * 4)
  config = MetaTrainConfig(num_tasks=num_tasks)
  assert len(training._devices(config, Others(size))) == used
  said = capfd.readouterr().err
  assert bool(said) == bool(words)
  assert not words or re.search(words, said)
  # Process 0 alone says it.
  training._devices(config, Others(size, rank=size - 1 or 1))
  assert not capfd.readouterr().err


@pytest.mark.parametrize(
  "devices, size, words",
  [
    (0, 4, "=10 is not a multiple of the 4 processes.*--num_tasks=12$"),
    (4, 1, r"=10 is not a multiple of the 4 devices \(--num_d.*_tasks=12$"),
    (2, 2, r"=10 is not a multiple of the 4 devices \(--num_d.*_tasks=12$"),
  ],
)
def test_tasks_that_cannot_be_shared_are_refused(
  monkeypatch, devices, size, words
):
  monkeypatch.setattr(jax, "local_devices", lambda: [None] * 4)
  config = MetaTrainConfig(num_tasks=10, num_devices=devices)
  with pytest.raises(UserError, match=words):
    training._devices(config, Others(size))
