"""The page of an evaluation: complete, self-contained, open about gaps."""

import html.parser
import re

import browser_page
import numpy as np
import pytest
import suite_rows

from meta_train import rows
from meta_train.evaluation import row_standings
from meta_train.evaluation.candidates import weights_candidate
from meta_train.reports import (
  plot_style,
  report_html,
  report_parts,
  suite_files,
  suite_report,
  task_tables,
)

pytest.importorskip("matplotlib")

TASKS = ("one", "autoencoder_with_quite_a_long_name_48_24_6_24_48", "three")
EVIL = '<script>alert("1")</script>&'


def _write(folder, *, names=("flt", "flt-ema"), tasks=TASKS):
  made = []
  for task in tasks:
    for factor, name in zip((2.0, np.inf if task == "three" else 0.5), names):
      made += suite_rows.candidate_rows(task, name, factor)
    made += suite_rows.adam_rows(task)
    made += [
      {**row, "role": "baseline", "learning_rate": 0.01}
      for row in suite_rows.candidate_rows(task, "lion", 0.8)
    ]
    for value in ("x1", "x5"):
      made += [
        {**row, "setting": {"sweep": "horizon", "value": value}}
        for row in (
          *suite_rows.candidate_rows(task, names[0], 1.5),
          *suite_rows.adam_rows(task)[:-1],
        )
      ]
  rows.write_rows(folder / "evaluation.jsonl", made)
  about = {
    "kind": "flt_lopt evaluation",
    "task_suite": "toy",
    "num_steps": suite_rows.N,
    "num_seeds": suite_rows.SEEDS,
    "tasks": list(tasks),
    "overhead": {"one": ["adam", names[0]]},
    "kernels": [names[0]],
    "problems": [],
  }
  rows.write_json(folder / "evaluation.json", about)
  costs = [
    {"group": name, "group_size": 1, "seed": None, "task": "one",
     "optimizer": name, "step_s": step_s, "adam_step_s": 1e-4,
     "parameters": 10, "state_bytes": 80, "device": "cpu"}
    for name, step_s in (("adam", 1e-4), (names[0], 2e-4))
  ]  # fmt: skip
  rows.write_rows(folder / "overhead.jsonl", costs)
  weights = {"initial": [1.0, 0.5], "learned": [1.0, 0.7]}
  rows.write_json(
    folder / "kernels-flt.json", {"lags": [0, 1], "kernels": {"g": weights}}
  )
  return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = _write(tmp_path_factory.mktemp("suite"))
  suite_report.write_report(path)
  return path


class _Text(html.parser.HTMLParser):
  def __init__(self, text):
    super().__init__()
    self.tags, self.urls, self.text = [], [], ""
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.urls += [v for k, v in attrs if k in ("src", "srcset", "href")]

  def handle_data(self, data):
    self.text += data + " "


def test_page_says_what_was_found(folder):
  page = _Text((folder / "report.html").read_text())
  assert "Missing or damaged" not in page.text
  assert "flt wins 100 % of 3 tasks" in page.text
  assert "flt-ema wins 0 % of 3 tasks" in page.text
  assert "(100 to 100 over tasks and seeds) against tuned adam" in page.text
  assert "by held-out loss 100 % of 3 (100 to 100) against adam" in page.text
  assert (
    "failed runs: 5 of 15 (5 ended badly, 0 blew up on the way)" in page.text
  )
  assert (
    "flt-ema wins 0 % of 3 tasks (0 to 0 over tasks and seeds) against flt"
    in (page.text)
  )
  assert "by horizon: x1: 1.45, x5: 1.45" in page.text
  for title in ("Against every tuned baseline", "What a step costs"):
    assert title in page.text
  # Two of speed-ups, profile, sweep, kernels, three of curves; two themes.
  assert len(page.urls) == 2 * 8
  assert all(url.startswith("data:image/png;base64,") for url in page.urls)


def test_tables_are_written_beside_it(folder):
  tables = folder / "tables"
  assert {path.stem for path in tables.glob("*.csv")} == {
    *("overview", "wins", "against_baselines", "tasks", "overhead"),
    *("against_first", "sweep_horizon"),
  }
  text = (tables / "tables.md").read_text()
  assert text.count("### ") == 7 and "| flt | lion |" in text
  overhead = (tables / "overhead.csv").read_text().splitlines()
  assert overhead[2].split(",")[5] == "2.00"


def test_a_headline_tells_the_best_of_all_adams_and_a_single_task(tmp_path):
  made = [*suite_rows.candidate_rows("one", "flt", 2.0)]
  made += suite_rows.adam_rows("one")
  for name, factor in (("adam_cosine", 3.0), ("lion", 4.0)):
    made += [
      {**row, "role": "baseline", "learning_rate": 0.01}
      for row in suite_rows.candidate_rows("one", name, factor)
    ]
  rows.write_rows(tmp_path / "evaluation.jsonl", made)
  (headline,) = suite_report.headlines(tmp_path)
  # What another task would give a single one says nothing of.
  assert headline.startswith(
    "flt wins 100 % of 1 task against tuned adam, 0 % of 1 against the best of "
    "all Adams, and by held-out loss 100 % of 1 against adam, 0 % of 1 against "
    "the best, a tie being half, after 200 steps; speed-up"
  )
  assert "; loss ratio 1.91; failed runs: 0 of 5." in headline


def test_kernels_are_in_the_order_of_the_optimizers(tmp_path):
  folder = _write(tmp_path, names=("flt", "b"), tasks=("one",))
  (document, _) = rows.read_json(folder / "kernels-flt.json")
  for name in ("b", "a"):
    rows.write_json(folder / f"kernels-{name}.json", document)
  pictures = suite_report._pictures(suite_files.read_folder(folder))
  names = [each.name for each in pictures if each.name.startswith("kernels")]
  assert names == ["kernels_flt", "kernels_b", "kernels_a"]


def test_pictures_are_in_both_themes(folder):
  names = {path.name for path in (folder / "pictures").iterdir()}
  light = {name for name in names if ".dark." not in name}
  assert len(light) == 8
  assert {name.replace(".png", ".dark.png") for name in light} <= names


def test_names_are_escaped(tmp_path):
  folder = _write(tmp_path, names=(EVIL, "flt-ema"), tasks=("one",))
  page = _Text(suite_report.write_report(folder).read_text())
  assert "script" not in page.tags and EVIL in page.text


def test_missing_half_written_and_refused_rows_are_told(tmp_path, monkeypatch):
  monkeypatch.setattr(plot_style, "save", _no_matplotlib)
  folder = _write(tmp_path)
  path = folder / "evaluation.jsonl"
  lines = path.read_text().splitlines()
  lines = [line for line in lines if '"task": "three"' not in line]
  path.write_text("\n".join([*lines[1:], lines[0][:60]]))
  about = rows.read_json(folder / "evaluation.json")[0]
  about["problems"] = ["one: the shipped results of muon were refused."]
  rows.write_json(folder / "evaluation.json", about)
  page = _Text(suite_report.write_report(folder).read_text())
  assert f"line {len(lines)} is half written" in page.text
  assert "one: flt lacks 1 of 5 runs" in page.text
  assert "three was to be evaluated and has no rows" in page.text
  assert "muon were refused" in page.text
  assert "matplotlib is not installed" in page.text


def test_no_baselines_are_put_beside_where_none_were_wanted(
  tmp_path, monkeypatch
):
  asked = []

  def beside(rows, wanted):
    asked.append(wanted)
    return [], []

  monkeypatch.setattr(suite_files.baseline_results, "beside", beside)
  folder = _write(tmp_path, tasks=("one",))
  suite_files.read_folder(folder)
  about = rows.read_json(folder / "evaluation.json")[0]
  rows.write_json(folder / "evaluation.json", {**about, "baselines": {}})
  suite_files.read_folder(folder)
  assert asked == [None, {}]


def test_outdated_rows_are_told_and_not_in_the_way_of_shipped_ones(
  tmp_path, monkeypatch
):
  asked = []

  def beside(rows, wanted):
    asked.extend(rows)
    return [], []

  monkeypatch.setattr(suite_files.baseline_results, "beside", beside)
  made = [
    {**row, "definition": when}
    for when, name in (("then", "old"), ("now", "new"))
    for row in suite_rows.candidate_rows("one", name, 1.0)
  ]
  rows.write_rows(tmp_path / "evaluation.jsonl", made)
  files = suite_files.read_folder(tmp_path)
  assert {row["optimizer"] for row in asked} == {"new"}
  assert files.found.candidates == ("new",)
  assert any("rows of old are of another" in each for each in files.problems)


def test_gaps_of_sweeps_are_told(tmp_path):
  folder = _write(tmp_path, tasks=("one", "three"))
  path = folder / "evaluation.jsonl"
  found = rows.read_rows(path).rows
  lost = {"sweep": "horizon", "value": "x5"}
  kept = [
    row
    for row in found
    if row["setting"] != lost
    or (
      (row["task"], row["seed"]) not in (("one", 4), ("three", None))
      and (row["task"], row["optimizer"]) != ("three", "adam")
    )
  ]
  rows.write_rows(path, kept)
  problems = suite_files.read_folder(folder).problems
  assert any("horizon x5: one: flt lacks 1 of 5 runs" in x for x in problems)
  assert any("adam has no runs on 1 of 2 tasks: three" in x for x in problems)
  assert any("three can't be scored at all settings" in x for x in problems)
  assert not any("envelope" in x for x in problems)


def test_rows_of_a_shipped_name_that_are_of_other_weights_are_told(tmp_path):
  folder = _write(tmp_path, names=("flt-quick",), tasks=("one",))
  path = folder / "evaluation.jsonl"
  ships = weights_candidate("flt-quick").fingerprint

  def told(fingerprint):
    found = rows.read_rows(path).rows
    rows.write_rows(path, [row | {"fingerprint": fingerprint} for row in found])
    problems = suite_files.read_folder(folder).problems
    return [each for each in problems if "ships under that name" in each]

  assert told(ships) == []
  (sentence,) = told("of another")
  assert sentence.startswith("flt-quick is not what ships")


def test_what_an_evaluation_lacks_is_told_first(tmp_path):
  folder = _write(tmp_path, tasks=("one",))
  about = rows.read_json(folder / "evaluation.json")[0]
  about["tasks"].append("later")
  about["optimizers"] = {name: {} for name in ("flt", "flt-ema", "next")}
  about["baselines"] = dict.fromkeys(("adam", "lion", "muon"), "")
  about["sweeps"] = {"horizon": ["x1", "x5", "x25"], "width": ["x2"]}
  about["sweep_tasks"] = ["one", "wide"]
  rows.write_json(folder / "evaluation.json", about)
  assert suite_files.read_folder(folder).problems[:6] == [
    "later was to be evaluated and has no rows.",
    "next was to be evaluated and has no rows.",
    "sweep of horizon, x25, was to be evaluated and has no rows.",
    "sweep of width, x2, was to be evaluated and has no rows.",
    "wide in sweeps was to be evaluated and has no rows.",
    "no rows are there of the baselines muon.",
  ]
  # Also where there are no rows at all yet.
  (folder / "evaluation.jsonl").write_text("")
  problems = suite_files.read_folder(folder).problems
  assert "one was to be evaluated and has no rows." in problems


@pytest.mark.parametrize(
  ("changes", "says"),
  [
    ({"final": {}}, "no final training loss"),
    ({"final": {"train": {}}}, "no final training loss"),
    ({"final": None}, "no final losses"),
    ({"final": {"train": {"loss": "low"}}}, "no final losses"),
    ({"curve": [1.0, 0.5]}, "not as long as the run"),
    ({"curve": ["x"] * 50}, "a curve that is none"),
    ({"curve_every": 0}, "no number of steps"),
    ({"seed": None}, "no seed"),
  ],
)
def test_a_damaged_row_is_left_out_and_told(tmp_path, changes, says):
  made = [*suite_rows.candidate_rows("one", "flt", 2.0)]
  made += suite_rows.adam_rows("one")
  made[2] = {**made[2], **changes}
  rows.write_rows(tmp_path / "evaluation.jsonl", made)
  files = suite_files.read_folder(tmp_path)
  (told,) = (x for x in files.problems if "row of flt left out" in x)
  assert told.startswith("one: 1 row of flt") and says in told
  assert files.found.runs["one"]["flt"].seeds == (0, 1, 3, 4)
  assert suite_report.headlines(tmp_path)


def test_why_there_is_nothing_to_compare_is_true(tmp_path):
  adam = suite_rows.adam_rows("one")
  ours = suite_rows.candidate_rows("one", "flt", 2.0)
  elsewhere = suite_rows.candidate_rows("two", "flt", 2.0)
  moved = [{**row, "seed": row["seed"] + 10} for row in ours]
  for made, says in (
    (ours, "there is no adam to compare with"),
    ([*adam, *elsewhere], "it shares no task with adam"),
    ([*adam, *moved, *elsewhere], "it shares no seed with adam on any task"),
  ):
    rows.write_rows(tmp_path / "evaluation.jsonl", made)
    assert suite_report.headlines(tmp_path) == [f"flt: {says}."]


def test_a_row_that_is_there_twice_counts_once(tmp_path):
  made = [*suite_rows.candidate_rows("one", "flt", 2.0)]
  made += suite_rows.adam_rows("one")
  rows.write_rows(tmp_path / "evaluation.jsonl", [*made, *made[:2], made[-2]])
  files = suite_files.read_folder(tmp_path)
  for name, count in (("flt", "2 rows"), ("adam", "1 row")):
    assert files.found.runs["one"][name].seeds == (0, 1, 2, 3, 4)
    told = f"one: {count} of {name} left out: the same run is there again."
    assert told in files.problems


def test_costs_and_kernels_that_are_not_there_are_told(tmp_path):
  folder = _write(tmp_path)
  assert suite_files.read_folder(folder).problems == []
  cost = rows.read_rows(folder / "overhead.jsonl").rows
  rows.write_rows(folder / "overhead.jsonl", cost[:1])
  (folder / "kernels-flt.json").unlink()
  told = suite_files.read_folder(folder).problems
  assert told == [
    "one: what a step costs was not measured with flt; evaluate again.",
    "the learned kernels of flt are missing; evaluate it again.",
  ]
  (folder / "overhead.jsonl").unlink()
  assert "with adam, flt" in suite_files.read_folder(folder).problems[0]


def test_a_cell_breaks_before_its_brackets_alone_and_is_escaped():
  text = report_html.table(["a"], [["1.2 (1 to <2)"], ["at least 2"]])
  assert "<td><span>1.2</span> <span>(1 to &lt;2)</span></td>" in text
  assert "<td><span>at least 2</span></td>" in text
  words = " ".join(_Text(text).text.split())
  assert words == "a 1.2 (1 to <2) at least 2"


def test_a_long_box_of_problems_is_folded():
  short = report_parts.problem_list(["a.", "b."])
  long = report_parts.problem_list([f"{i}." for i in range(20)])
  assert "<details" not in short[0] and "<li>b.</li>" in short[0]
  assert "Missing or damaged: 20 things</summary>" in long[0]
  assert "<li>19.</li>" in long[0] and "<details open" not in long[0]


def test_sentences_that_differ_in_their_task_become_one():
  said = ["a: it rains.", "there is: wind.", "b: it rains.", "a: it rains."]
  expected = ["a, b: it rains.", "there is: wind."]
  assert report_parts.grouped(said, ["a", "b"]) == expected


def test_accuracy_is_a_column_where_a_task_has_it():
  made = suite_rows.candidate_rows("one", "flt", 1.0)
  table = task_tables.by_task(row_standings.of_rows(made))
  assert table.rows[0][table.header.index("Accuracy")] == "50.0 %"
  for row in made:
    del row["final"]["valid"]["accuracy"]
  table = task_tables.by_task(row_standings.of_rows(made))
  assert "Accuracy" not in table.header
  assert len(table.header) == len(table.rows[0])


def _no_matplotlib(*args, **options):
  raise ModuleNotFoundError("no", name="matplotlib")


@pytest.mark.parametrize(
  "name", ["evaluation.jsonl", "evaluation.json", "kernels-flt.json"]
)
def test_damaged_files_are_told(tmp_path, monkeypatch, name):
  monkeypatch.setattr(plot_style, "save", _no_matplotlib)
  folder = _write(tmp_path, tasks=("one",))
  (folder / name).write_text('{"half')
  page = _Text(suite_report.write_report(folder).read_text())
  assert name in page.text and "Missing or damaged" in page.text


@pytest.mark.slow
@pytest.mark.skipif(not browser_page.BROWSER, reason="needs chromium")
@pytest.mark.parametrize(
  ("width", "dark"), [(400, False), (1200, False), (1200, True)]
)
def test_page_fits_a_browser_window(folder, tmp_path, width, dark):
  page = tmp_path / "report.html"
  page.write_bytes((folder / "report.html").read_bytes())
  found = browser_page.measure(page, width, dark=dark)
  # A scroll bar may take some of the width.
  assert found["window"] == width and found["scroll"] <= width
  assert len(found["pictures"]) == 8 and min(found["pictures"]) > 500
  assert min(found["shown"]) > 0.8 * min(width, 560) - 60
  assert found["overlaps"] == 0
  assert found["dark"] == (8 if dark else 0)
  red = int(re.search(r"\d+", found["background"])[0])
  assert (red < 60) == dark


def test_an_evaluation_of_nothing_gives_a_page_too(tmp_path):
  text = _Text(suite_report.write_report(tmp_path).read_text()).text
  assert "evaluation.json is missing" in text and "no results" in text
