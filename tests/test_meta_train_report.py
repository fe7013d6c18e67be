"""The report: safe, self-contained, and open about what is missing."""

import html.parser
import re

import browser_page
import evaluation_rows
import pytest

from meta_train import rows
from meta_train.reports import plot_style, report, report_files, report_html

pytest.importorskip("matplotlib")

EVIL = '<script>alert("1")</script>&'


class _Page(html.parser.HTMLParser):
  """Collects tags, attributes and text, and checks the nesting."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.urls, self.text = [], [], [], ""
    self.feed(text)
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    if tag not in ("img", "meta", "source"):
      self.open.append(tag)
    self.urls += [v for k, v in attrs if k in ("src", "srcset", "href")]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data


def _write_run(folder, *, name="toy"):
  rows.write_rows(folder / "evaluation.jsonl", evaluation_rows.rows(task=name))
  rows.write_rows(
    folder / "metrics.jsonl",
    [
      {
        "outer_step": 10 * i,
        "meta_loss": 1 / i,
        "inner_steps": 1000 * i,
        "wall_s": 0.5,
        "inner_steps_per_s": 2000.0,
      }
      for i in range(1, 9)
    ],
  )
  config = {"task_suite": name, "seed": 3, "outer_steps": 80, "run_dir": ""}
  rows.write_json(folder / "config.json", {"kind": "run", "config": config})
  command = ["/somewhere/meta_train/__main__.py", "--outer_steps=80"]
  command += ["--seed=3"]
  rows.write_json(
    folder / "environment.json",
    {"command": command, "versions": {"jax": "1.2.3", "matplotlib": None}},
  )
  weights = {"initial": [1.0, 0.5], "learned": [1.0, 0.7]}
  kernels = {"lags": [0, 1], "kernels": {name: weights}}
  rows.write_json(folder / "kernels.json", kernels)
  return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  folder = _write_run(tmp_path_factory.mktemp("run"), name=EVIL)
  return report.write_report(folder).read_text()


def test_names_and_settings_are_escaped(written):
  page = _Page(written)
  assert "script" not in page.tags
  assert EVIL in page.text


def test_page_needs_nothing_from_outside(written):
  page = _Page(written)
  assert len(page.urls) == 2 * 4  # Four pictures, each light and dark.
  assert all(url.startswith("data:image/png;base64,") for url in page.urls)
  assert not re.search(r"https?://|@import|url\(", written)


def test_page_says_what_was_found_and_how_to_go_on(written):
  text = _Page(written).text
  assert "beats adam" in text and "4 of 4 seeds" in text
  assert "2 (2 to 2)" in text
  assert "Missing or damaged" not in text
  assert "python -m meta_train --outer_steps=80 --seed=3" in text
  assert "python -m meta_train --seed=3 --outer_steps=160" in text
  assert "versions: jax1.2.3" in text  # Two cells of a row.
  assert "8,000" in text and "4.0 s" in text


def test_half_written_and_missing_rows_are_told(tmp_path):
  folder = _write_run(tmp_path)
  path = folder / "evaluation.jsonl"
  lines = path.read_text().splitlines()
  path.write_text("\n".join([*lines[1:-1], lines[-1][:50]]))
  text = _Page(report.write_report(folder).read_text()).text
  last = len(lines) - 1
  assert f"evaluation.jsonl, line {last} is half written" in text
  assert "flt lacks 1 of 4 runs" in text
  assert "adam, rate 0.1 lacks 1 of 4 runs" in text
  assert "3 of 3 seeds" in text


@pytest.mark.parametrize(
  "name",
  ["evaluation.jsonl", "metrics.jsonl", "kernels.json"]
  + ["config.json", "environment.json"],
)
def test_any_file_may_be_missing(tmp_path, name):
  folder = _write_run(tmp_path)
  (folder / name).unlink()
  text = _Page(report.write_report(folder).read_text()).text
  assert f"{name} is missing" in text


def test_empty_folder_gives_a_page_too(tmp_path):
  text = _Page(report.write_report(tmp_path).read_text()).text
  assert text.count("is missing") == 5


def test_page_without_matplotlib_says_so(tmp_path, monkeypatch):
  def save(*args, **options):
    raise ModuleNotFoundError("no", name="matplotlib")

  monkeypatch.setattr(plot_style, "save", save)
  page = _Page(report.write_report(_write_run(tmp_path)).read_text())
  assert "matplotlib is not installed" in page.text
  assert "beats adam" in page.text and page.urls == []


def test_what_was_made_of_older_weights_says_so(tmp_path):
  folder = _write_run(tmp_path)
  note = "Of the weights after 30 outer steps; the run has done 80."
  evaluated = rows.read_rows(folder / "evaluation.jsonl").rows
  kernels, _ = rows.read_json(folder / "kernels.json")
  for outer_step in (80, 30):
    made_by = {"outer_step": outer_step}
    learned = [
      {**row, **(made_by if row["role"] != "baseline" else {})}
      for row in evaluated
    ]
    rows.write_rows(folder / "evaluation.jsonl", learned)
    rows.write_json(folder / "kernels.json", {**kernels, **made_by})
    (line,) = report.headlines(folder)
    assert (note in line) == (outer_step == 30)
    assert len(report_files.read_run(folder).older) == 2 * (outer_step == 30)
  text = _Page(report.write_report(folder).read_text()).text
  # The headline, three pictures and the table.
  assert text.count(note) == 5


def test_headlines_for_the_terminal(tmp_path):
  (line,) = report.headlines(_write_run(tmp_path))
  assert line.startswith("On the held-out task toy, flt beats adam")


def test_elements_escape_text_and_attributes_but_not_markup():
  inner = report_html.element("b", "<&>", title='"<')
  outer = report_html.element("p", inner, "<i>")
  assert outer == '<p><b title="&quot;&lt;">&lt;&amp;&gt;</b>&lt;i&gt;</p>'


@pytest.mark.slow
@pytest.mark.skipif(not browser_page.BROWSER, reason="needs chromium")
@pytest.mark.parametrize("width", [400, 1200])
def test_page_fits_a_browser_window(tmp_path, width):
  page = report.write_report(_write_run(tmp_path))
  found = browser_page.measure(page, width)
  # A scroll bar may take some of the width.
  assert found["window"] == width and found["scroll"] <= width
  assert len(found["pictures"]) == 4 and min(found["pictures"]) > 1000
  assert found["overlaps"] == 0
