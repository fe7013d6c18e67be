"""Opens a page in a headless Chromium and measures it, for tests.

Main names: `BROWSER`, `measure`.
"""

import json
import re
import shutil
import subprocess

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
_MEASURE = """<script>
function overlaps(parent) {
  const boxes = [...parent.children].map(e => e.getBoundingClientRect())
    .filter(b => b.width > 0 && b.height > 0);
  let found = 0;
  for (let i = 0; i < boxes.length; i++)
    for (let j = i + 1; j < boxes.length; j++) {
      const a = boxes[i], b = boxes[j];
      const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (x > 1 && y > 1) found++;
    }
  return found;
}
addEventListener("load", () => {
  const parents = document.querySelectorAll("main, .pictures, figure, tr");
  parent.postMessage(JSON.stringify({
    scroll: document.documentElement.scrollWidth,
    window: innerWidth,
    pictures: [...document.images].map(i => i.naturalWidth),
    shown: [...document.images].map(i => i.getBoundingClientRect().width),
    overlaps: [...parents].reduce((n, p) => n + overlaps(p), 0),
    background: getComputedStyle(document.body).backgroundColor,
    dark: [...document.images].filter(
      i => i.currentSrc === i.parentElement.firstElementChild.srcset).length,
  }), "*");
});
</script>"""
# A browser's window has a least width of 500; a frame has none.
_FRAME = """<!doctype html><script>
addEventListener("message", e => document.body.dataset.found = e.data);
</script><body><iframe src="{name}" width="{width}"></iframe></body>"""


def measure(page, width, *, dark=False):
  """Returns what a browser makes of a page at a width.

  Args:
    page: file; it is changed.
    width: of the window, pixels.
    dark: whether the reader prefers a dark theme.
  """
  page.write_text(page.read_text().replace("</body>", _MEASURE + "</body>"))
  frame = page.parent / "frame.html"
  frame.write_text(_FRAME.format(name=page.name, width=width))
  command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu"]
  command += ["--disable-quic", "--no-first-run", "--dump-dom"]
  command += ["--disable-background-networking", "--disable-component-update"]
  command += ["--disable-sync", f"--user-data-dir={page.parent / 'browser'}"]
  command += ["--virtual-time-budget=20000", "--window-size=1300,900"]
  command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
  done = subprocess.run(
    [*command, frame.as_uri()],
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  )
  found = re.search(r'data-found="([^"]*)"', done.stdout)[1]
  return json.loads(found.replace("&quot;", '"'))
