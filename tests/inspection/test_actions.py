"""Films and memory reports of agents whose actions have masks, or several dimensions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN
from sb3_attnmem.inspection import write_memory_report
from sb3_attnmem.inspection.film.board import Board
from sb3_attnmem.inspection.film.estimates import bar_names, n_bars
from sb3_attnmem.inspection.film.panels import BarsPanel
from tests.dqn_recurrent.worlds import NVEC, Lock, make_learner
from tests.inspection.film_toys import look_into, panel_of
from tests.ledger import N_MASKED, MaskedLedger, place_of, valid_at

WINDOW: dict[str, Any] = dict(
    memory_class="window",
    memory_kwargs=dict(hidden_size=4, num_layers=1, n_heads=2, window=4),
    encoder_arch=[],
    net_arch=[],
)


def ledger() -> MaskedLedger:
    return MaskedLedger(0, (5, 9), ("terminated", "truncated"))


def masked() -> RecurrentDQN:
    model = make_learner(DummyVecEnv([ledger]), policy_kwargs=WINDOW).learn(30)
    assert model.mask_source == "env"
    return model


def of_locks(model_class: type[RecurrentDQN], branching: bool) -> RecurrentDQN:
    kwargs = dict(WINDOW, branching=branching)
    if model_class is RecurrentQRDQN:
        kwargs["n_quantiles"] = 5
    return make_learner(DummyVecEnv([Lock]), model_class=model_class, policy_kwargs=kwargs).learn(30)


def test_a_film_shows_valid_actions_taken_and_their_values() -> None:
    filmed = look_into(masked(), ledger(), episodes=2)  # type: ignore[arg-type]
    assert len(filmed.steps) == 5 + 9
    changed = 0
    for step in filmed.steps:
        assert step.seen.table is not None
        valid = valid_at(place_of(step.seen.table.reshape(-1)))
        bars = step.seen.estimate.bars
        assert len(bars) == N_MASKED and valid[int(step.action)] and step.bars == (int(step.action),)
        assert step.seen.estimate.value == pytest.approx(bars[valid].max()) == pytest.approx(bars[int(step.action)])
        changed += int(bars.argmax()) != int(step.action)
    assert changed, "masks never mattered"


@pytest.mark.parametrize("model_class", [RecurrentDQN, RecurrentQRDQN])
def test_a_film_shows_each_choice_of_an_action_with_branches(model_class: type[RecurrentDQN]) -> None:
    model = of_locks(model_class, branching=True)
    filmed = look_into(model, Lock())
    assert bar_names(model) == ("0: 0", "0: 1", "0: 2", "1: 0", "1: 1", "2: 0", "2: 1", "2: 2", "2: 3")
    assert n_bars(model) == sum(NVEC)
    for step in filmed.steps:
        assert step.bars == tuple(np.array([0, 3, 5]) + step.action)
        parts = np.split(step.seen.estimate.bars, [3, 5])
        assert [int(part.argmax()) for part in parts] == step.action.tolist()
        assert step.seen.estimate.value == pytest.approx(np.mean([part.max() for part in parts]))
        quantiles = step.seen.estimate.quantiles
        if model_class is RecurrentQRDQN:
            assert quantiles is not None and quantiles.shape == (5, sum(NVEC))
        else:
            assert quantiles is None
    board = Board(filmed, bar_names(model) or ())
    board.draw(1)
    marked = [bool(bar.get_hatch()) for bar in panel_of(board, BarsPanel).bars]
    assert tuple(np.flatnonzero(marked)) == filmed.steps[1].bars
    assert f"action {filmed.steps[1].action}" in board.headline.get_text()


def test_a_film_names_combinations() -> None:
    model = of_locks(RecurrentDQN, branching=False)
    filmed = look_into(model, Lock())
    names = bar_names(model)
    assert names is not None and len(names) == n_bars(model) == 24
    for step in filmed.steps:
        (taken,) = step.bars
        assert names[taken] == " ".join(map(str, step.action.tolist()))
        assert int(step.seen.estimate.bars.argmax()) == taken


def test_a_report_on_the_memory_plays_with_masks(tmp_path: Path) -> None:
    report = write_memory_report(masked(), ledger(), tmp_path, episodes=2, progress=False)  # the ledger raises
    figures = json.loads(report.json.read_text(encoding="utf-8"))
    first = figures["episode"]
    assert len(first["actions"]) == first["steps"]


def test_a_report_on_the_memory_shows_choices(tmp_path: Path) -> None:
    report = write_memory_report(of_locks(RecurrentQRDQN, True), Lock(), tmp_path, episodes=2, progress=False)
    figures = json.loads(report.json.read_text(encoding="utf-8"))["episode"]
    assert np.shape(figures["q_values"]) == (5, sum(NVEC)) and np.shape(figures["actions"]) == (5, 3)
    for action, values in zip(figures["actions"], figures["q_values"], strict=True):
        assert [int(np.argmax(part)) for part in np.split(values, [3, 5])] == action
