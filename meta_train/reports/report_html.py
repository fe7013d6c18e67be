"""Just enough HTML for a report: elements that escape, and a style sheet.

Idea: text is escaped unless it was made by `element`, so a page can't be
broken, or worse, by what a name or a settings value contains. The page needs
nothing from outside and follows the reader's light or dark theme.

Names: `Html`, `element`, `table`, `facts`, `picture`, `page`.
"""

import base64
import html
import pathlib
from collections.abc import Iterable, Mapping, Sequence


class Html(str):
  """Text that is markup already."""

  __slots__ = ()


_VOID = frozenset({"img", "meta", "source"})

STYLE = """
:root {
  color-scheme: light dark;
  --text: #1f2328; --soft: #59636e; --background: #ffffff;
  --panel: #f5f7f9; --line: #d8dce1; --accent: #0072b2; --warn: #9a4a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e6e8eb; --soft: #a2abb5; --background: #16191d;
    --panel: #1f2429; --line: #343a41; --accent: #56b4e9; --warn: #f0a030;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 1240px; padding: 1rem clamp(0.8rem, 3vw, 2rem);
  color: var(--text); background: var(--background);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: anywhere;
}
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0.5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.6rem; }
p { margin: 0.6rem 0; max-width: 75ch; }
.headline {
  font-size: 1.1rem; padding: 0.7rem 1rem; background: var(--panel);
  border-left: 4px solid var(--accent); max-width: none;
}
.problems {
  padding: 0.7rem 1rem; background: var(--panel);
  border-left: 4px solid var(--warn);
}
.problems ul { margin: 0.3rem 0; padding-left: 1.2rem; }
.pictures {
  display: grid; gap: 1.2rem; align-items: start; margin-top: 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr));
}
figure { margin: 0; }
figure img { display: block; width: 100%; max-width: 560px; height: auto; }
figcaption, .note { color: var(--soft); font-size: 0.9rem; max-width: 70ch; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td {
  padding: 0.3rem 0.5rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: normal;
  font-variant-numeric: tabular-nums;
}
th {
  color: var(--soft); font-weight: 600; vertical-align: bottom;
  max-width: 6rem;
}
th:first-child, td:first-child, table.facts td { text-align: left; }
td span { display: inline-block; white-space: nowrap; }
table.facts td { overflow-wrap: anywhere; }
table.facts td:first-child { color: var(--soft); overflow-wrap: normal; }
tr.strong td { font-weight: 600; }
@media (max-width: 600px) {
  table { font-size: 0.83rem; }
  th, td { padding: 0.25rem 0.4rem; }
}
pre {
  padding: 0.7rem 1rem; background: var(--panel); white-space: pre-wrap;
  font: 0.88rem/1.5 ui-monospace, Menlo, Consolas, monospace;
}
summary { cursor: pointer; color: var(--accent); margin: 0.6rem 0; }
"""


def element(tag: str, /, *children: str, **attributes: str) -> Html:
  """Makes an element.

  Args:
    tag: name of the element.
    *children: text, which is escaped, or `Html`.
    **attributes: values are escaped; `class_` stands for `class`.

  Returns:
    The markup.
  """
  text = "".join(
    f' {key.rstrip("_")}="{html.escape(value, quote=True)}"'
    for key, value in attributes.items()
  )
  if tag in _VOID:
    return Html(f"<{tag}{text}>")
  inside = "".join(
    child if isinstance(child, Html) else html.escape(child)
    for child in children
  )
  return Html(f"<{tag}{text}>{inside}</{tag}>")


def table(
  header: Sequence[str],
  rows: Iterable[Sequence[str]],
  *,
  strong: frozenset[int] = frozenset(),
) -> Html:
  """Makes a table that scrolls sideways where the page is narrow.

  Args:
    header: titles of the columns.
    rows: cells.
    strong: numbers of the rows to emphasise.

  Returns:
    The markup.
  """
  body = [
    element(
      "tr",
      *(element("td", *_pieces(cell)) for cell in row),
      **({"class": "strong"} if i in strong else {}),
    )
    for i, row in enumerate(rows)
  ]
  head = element("tr", *(element("th", title) for title in header))
  inside = element("table", element("thead", head), element("tbody", *body))
  return element("div", inside, class_="wide")


def _pieces(cell: str) -> list[Html]:
  """Returns a cell in pieces that stay whole: it may break before brackets."""
  value, bracket, rest = cell.partition(" (")
  pieces = [element("span", value)]
  if bracket:
    pieces += [Html(" "), element("span", f"({rest}")]
  return pieces


def facts(values: Mapping[str, str]) -> Html:
  """Makes a table of names and values.

  Args:
    values: name -> value.

  Returns:
    The markup.
  """
  rows = [
    element("tr", element("td", name), element("td", value))
    for name, value in values.items()
  ]
  inside = element("table", element("tbody", *rows), class_="facts")
  return element("div", inside, class_="wide")


def picture(
  files: Mapping[str, pathlib.Path], *, caption: str, alternative: str
) -> Html:
  """Embeds a PNG, and its dark version for readers who prefer that.

  Args:
    files: theme ("light", "dark") -> file.
    caption: text below it.
    alternative: what it shows, for readers who can't see it.

  Returns:
    The markup.
  """

  def data(path: pathlib.Path) -> str:
    text = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:image/png;base64,{text}"

  source = element(
    "source",
    srcset=data(files["dark"]),
    media="(prefers-color-scheme: dark)",
  )
  image = element("img", src=data(files["light"]), alt=alternative)
  return element(
    "figure",
    element("picture", source, image),
    element("figcaption", caption),
  )


def page(title: str, *children: str) -> str:
  """Makes a whole document.

  Args:
    title: of the window.
    *children: of the body.

  Returns:
    The document's text.
  """
  head = element(
    "head",
    element("meta", charset="utf-8"),
    element(
      "meta", name="viewport", content="width=device-width, initial-scale=1"
    ),
    element("title", title),
    element("style", Html(STYLE)),
  )
  body = element("body", element("main", *children))
  return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"
