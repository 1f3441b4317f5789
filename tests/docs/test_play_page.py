"""The page that plays an exported agent: in the browser it does what the file does in Python."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sb3_attnmem.envs import PassiveTMaze
from sb3_attnmem.export import OnnxPolicy
from tests.browser import needs_chromium, serve_to_chromium

PAGES = Path(__file__).parents[2] / "docs" / "_static" / "play"
AGENT = PAGES / "tmaze.onnx"
pytest.importorskip("onnxruntime")

#: Both cues, with the whole memory, and with all forgotten before the turn
EPISODES = [(1, None), (-1, None), (1, 10), (-1, 10)]
PLAY = """
  while (!window.played) await wait(20);
  const episodes = [];
  for (const [cue, forget] of [[1, null], [-1, null], [1, 10], [-1, 10]]) {
    window.played.begin(cue);
    const steps = [];
    for (let t = 0; !window.played.state().over; t++) {
      if (t === forget) window.played.forget();
      steps.push(await window.played.step());
    }
    episodes.push({steps, total: window.played.state().total});
  }
  document.getElementById("down").click();
  document.getElementById("play").click();
  while (!window.played.state().over) await wait(50);
  const canvas = document.getElementById("memory");
  const colours = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return {episodes, said: document.getElementById("said").textContent, colours: new Set(colours).size,
    label: document.getElementById("play").textContent, overflow: document.documentElement.scrollWidth - innerWidth};
"""


def walk(policy: OnnxPolicy, cue: int, forget: int | None) -> tuple[list[np.ndarray], float]:
    """:return: the Q-values of each step of an episode, and its return"""
    env = PassiveTMaze()
    seed = next(seed for seed in range(50) if env.reset(seed=seed)[0][1] == cue)
    obs, _ = env.reset(seed=seed)
    state, q_values, total, over = None, [], 0.0, False
    for t in range(11):
        values, state = policy.q_values(obs, state, np.array([t in (0, forget)]))
        q_values.append(values)
        obs, reward, over, _, _ = env.step(int(values.argmax()))
        total += reward
    assert over
    return q_values, total


def test_the_agent_remembers_the_cue() -> None:
    policy = OnnxPolicy(AGENT)
    totals = {(cue, forget): walk(policy, cue, forget)[1] for cue, forget in EPISODES}
    assert totals[1, None] == totals[-1, None] == pytest.approx(1.0)
    assert totals[1, 10] + totals[-1, 10] == pytest.approx(1.0), "without the cue one of two turns is wrong"
    assert AGENT.stat().st_size < 200_000


@needs_chromium
@pytest.mark.skipif(not (PAGES / "ort" / "version.txt").is_file(), reason="onnxruntime-web is not here: make play")
@pytest.mark.parametrize("width", [800, 500])
def test_the_browser_plays_as_python_does(tmp_path: Path, width: int) -> None:
    policy = OnnxPolicy(AGENT)
    told: dict[str, Any] = serve_to_chromium(PAGES, PLAY, tmp_path / "browser", width)
    for (cue, forget), played in zip(EPISODES, told["episodes"], strict=True):
        q_values, total = walk(policy, cue, forget)
        np.testing.assert_allclose([step["q"] for step in played["steps"]], q_values, atol=1e-4)
        assert played["total"] == pytest.approx(total)
    assert "Right: return 1.00" in told["said"] and told["label"] == "▶ Play"
    assert told["colours"] > 20 and told["overflow"] <= 0
