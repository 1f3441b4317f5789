"""The page as a person uses it: opened, played and clicked in headless Chromium, at two widths."""

from pathlib import Path
from typing import Any

import pytest

from tests.browser import needs_chromium, open_in_chromium, with_script
from tests.inspection.page_toys import write_attending, write_remembering

pytestmark = needs_chromium

PLAY = """
  const headline = () => document.getElementById("headline").textContent, seen = {first: headline()};
  const all = selector => [...document.querySelectorAll(selector)];
  seen.panels = all("main > section").filter(one => !one.hidden && one.offsetHeight).map(one => one.id);
  seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  document.getElementById("play").click(); await wait(400); press(" "); seen.played = headline();
  await wait(400); seen.paused = headline();
  press("End"); seen.end = headline();
  press("ArrowLeft"); seen.before = headline();
  press("Home"); seen.home = headline();
  press("ArrowRight"); press("ArrowRight"); press("ArrowRight"); press("g"); seen.source = headline();
  const back = all(".origins button").find(one => one.textContent.includes("back to step"));
  if (back) back.click();
  seen.returned = headline();
  const canvas = document.querySelector("#timeline canvas"), box = canvas.getBoundingClientRect();
  canvas.dispatchEvent(new PointerEvent("pointerdown", {clientX: box.right - 7, clientY: box.top + 20, bubbles: true}));
  seen.clicked = headline();
  const inked = one => one.getContext("2d").getImageData(0, 0, one.width, one.height).data.some(value => value);
  seen.blank = all("main > section:not([hidden]) canvas").filter(one => !inked(one)).length;
  seen.chips = all(".chips li").map(one => one.textContent);
  return seen;
"""


def steps(told: dict[str, Any], *moments: str) -> list[int]:
    """:return: the step that the headline named at each moment"""
    return [int(told[moment].split()[1]) for moment in moments]


@pytest.mark.parametrize("width", [1200, 500])
def test_a_memory_is_played(tmp_path: Path, width: int) -> None:
    page = write_remembering(tmp_path / "memory.html")
    path = tmp_path / "pressed.html"
    path.write_text(with_script(page, PLAY), encoding="utf-8")
    told = open_in_chromium(path.as_uri(), tmp_path / "browser", width)
    first, played, paused, end, before = steps(told, "first", "played", "paused", "end", "before")
    assert first == 0 and 2 <= played == paused <= 4 and (end, before) == (11, 10)
    assert steps(told, "home", "source", "returned", "clicked") == [0, 1, 3, 11], "the token of two steps before"
    assert told["panels"] == [
        *("transport", "stage", "values", "timeline", "sources", "cut", "memory", "charts", "report")
    ]
    assert told["overflow"] <= 0 and told["blank"] == 0
    assert [chip[: len("last 2")] for chip in told["chips"]] == ["presen", "last 2", "last 4", "last 8"]


def test_attention_lies_over_the_picture(tmp_path: Path) -> None:
    script = """
      const canvas = document.querySelector(".picture canvas:last-of-type"), seen = {};
      const lit = () => { // the brightest place of the overlay, in places of the grid
        const {width, height} = canvas, all = canvas.getContext("2d").getImageData(0, 0, width, height).data;
        let best = 0;
        for (let i = 0; i < all.length; i += 4) if (all[i] > all[best]) best = i;
        return [Math.floor((best / 4) % width / width * 4), Math.floor(best / 4 / width / height * 3)];
      };
      seen.rest = [];
      for (let head = 0; head < 2; head++) { press("h"); seen.rest.push(lit()); }
      press("l");
      seen.off = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(value => value);
      return seen;
    """
    page, places = write_attending(tmp_path / "attention.html")
    path = tmp_path / "pressed.html"
    path.write_text(with_script(page, script), encoding="utf-8")
    told = open_in_chromium(path.as_uri(), tmp_path / "browser")
    assert told["rest"] == [[place % 4, place // 4] for place in places] and not told["off"]
