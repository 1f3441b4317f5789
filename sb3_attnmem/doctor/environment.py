"""``diagnose_env``: what an environment asks of an agent, before it is trained."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th

from sb3_attnmem.common.checks import check_integer
from sb3_attnmem.doctor.discrepancy import Discrepancy, lambda_discrepancy
from sb3_attnmem.doctor.facts import manners, rewards_and_episodes
from sb3_attnmem.doctor.facts_of_spaces import observations_and_actions
from sb3_attnmem.doctor.findings import NOTE, WARNING, Finding, Report, ranked
from sb3_attnmem.doctor.need import WORDS, MemoryNeed, measure_need
from sb3_attnmem.doctor.playing import Play, Player, play
from sb3_attnmem.doctor.tables import code_observations

#: windows up to which stacked observations are simpler than a memory
STACK = 4
#: steps of a window, and of the slowest units, by default (docs/defaults.md)
WINDOW, HORIZON = 64, 64


class EnvironmentReport(Report):
    """What :func:`diagnose_env` found: a :class:`Report` whose ``recommendation`` are arguments of ``RecurrentDQN``."""

    recommendation: dict[str, Any]
    need: MemoryNeed | None


def diagnose_env(
    env: gym.Env | str,
    n_steps: int = 25_000,
    seed: int = 0,
    max_history: int = 64,
    agent: Any = None,
    gamma: float = 0.99,
    tick: Callable[[str], Any] = lambda word: None,
) -> EnvironmentReport:
    """
    Play an environment and tell how much memory it asks for, and what else is worth knowing before training.

    Small predictors of reward, termination, return to go and next observation see the last k = 1, 2, 4, … observations
    and actions; the k beyond which episodes held out are predicted no better is the memory that it needs. The
    λ-discrepancy (Allen et al., 2024, https://arxiv.org/abs/2407.07333) is a second opinion.

    :param env: as the agent will see it, wrappers and all, or a registered id; it is left open, but not where it was
    :param n_steps: to play
    :param seed: of play, and of the predictors
    :param max_history: observations that predictors see at most
    :param agent: with SB3's ``predict``; plays a third of the steps, for what random play never reaches
    :param gamma: discount that values are spoken of with
    :param tick: is told what is being done
    :return: what was found; ``str()`` gives the page, ``to_json()`` the same for scripts, ``exit_code`` 1 where
        something is wrong
    :raises ValueError: for numbers that make no sense
    """
    check_integer("n_steps", n_steps, 100)
    check_integer("max_history", max_history, 1)
    check_integer("seed", seed, 0, 2**32 - 1)
    made = isinstance(env, str)
    world: gym.Env = gym.make(env) if isinstance(env, str) else env
    try:
        tick("Gymnasium's check_env")
        found = manners(world, seed)
        tick(f"{n_steps:,} steps")
        played = play(world, n_steps, seed, None if agent is None else _player(agent))
        more, figures = rewards_and_episodes(played, gamma)
        found += more
        more, figures["observations"] = observations_and_actions(world, played)
        found += more
        figures["steps_per_second"] = round(played.steps_per_second)
        need, discrepancy, unseen = None, None, []
        try:
            need = measure_need(played, world.action_space, seed, max_history, tick)
            discrepancy = _second_opinion(played, seed)
        except ValueError as error:
            unseen.append(str(error))
    finally:
        if made:
            world.close()
    name = env if isinstance(env, str) else _name_of(world)
    report = EnvironmentReport(f"{name}: {played.n_steps:,} steps, {played.n_episodes:,} episodes", [], figures, unseen)
    report.need, report.recommendation = need, {}
    if need is not None:
        finding, report.recommendation = _memory_finding(need, discrepancy, played)
        found.append(finding)
        figures["memory"] = {**vars(need), "recommendation": report.recommendation}
        figures["lambda_discrepancy"] = None if discrepancy is None else discrepancy._asdict()
    found.append(_speed(played))
    report.findings = [finding for finding in ranked(found) if finding.name != "memory"]
    report.findings = [finding for finding in found if finding.name == "memory"] + report.findings
    return report


def _player(agent: Any) -> Player:
    def act(observation: Any, state: Any, begins: bool) -> tuple[Any, Any]:
        return agent.predict(observation, state=state, episode_start=np.array([begins]), deterministic=True)

    return act


def _name_of(env: gym.Env) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def _second_opinion(played: Play, seed: int) -> Discrepancy | None:
    seen = code_observations(played, th.arange(played.n_steps))[0]
    return lambda_discrepancy(played, seen, th.as_tensor(played.times), seed)


def recommend(need: MemoryNeed, longest: int) -> dict[str, Any]:
    """
    :param need: what was measured
    :param longest: steps of the longest episode
    :return: arguments of ``RecurrentDQN``
    """
    if need.need <= 1:
        return dict(policy_kwargs=dict(memory_class="none"))
    reach = longest if need.from_start or need.at_least else need.need
    # What a gradient must connect lies inside one window, with room for the steps after it
    window = max(WINDOW, 8 * -(-int(1.125 * reach) // 8)) if reach <= 512 else 512
    advised: dict[str, Any] = dict(sequence_length=window, burn_in=0, policy_kwargs=dict(memory_class="lstm"))
    if reach > HORIZON:
        advised["policy_kwargs"]["memory_kwargs"] = dict(horizon=float(reach))
    if reach > window:
        advised["burn_in"] = 64
    return advised


def _memory_finding(need: MemoryNeed, discrepancy: Discrepancy | None, played: Play) -> tuple[Finding, dict[str, Any]]:
    advised = recommend(need, int(played.lengths().max()))
    k, places = need.need, need.windows.index(need.need)
    rows = [
        f"{WORDS[name]}: {', '.join(f'{share:.0%}' for share in shares)}"
        + ("" if need.with_state is None else f" (full state: {need.with_state[name]:.0%})")
        for name, shares in need.unexplained.items()
    ]
    evidence = (
        f"Unexplained by the last {', '.join(map(str, need.windows))} observations and actions, in episodes held out: "
        f"{'; '.join(rows)}. The same answer in {need.confidence:.0%} of resampled episodes."
    )
    if need.unused:
        evidence += f" Never changed in this play: {', '.join(WORDS[name] for name in need.unused)}."
    if discrepancy is not None:
        says = "hides something" if discrepancy.clear else "no sign of anything hidden"
        evidence += f" λ-discrepancy {discrepancy.share:.2f} ± {discrepancy.error:.2f}: {says}."
    if need.too_rare:
        seen = " and ".join(f"{WORDS[name]} differed in {n:,} steps" for name, n in need.too_rare.items())
        evidence += f" In this play {seen} of {played.n_steps:,}, too few to find out from what."
    others = {name: asked for name, asked in need.needs.items() if asked > k}
    if others:
        asked = ", ".join(f"{WORDS[name]} ({n})" for name, n in others.items())
        evidence += f" More would only help to foretell {asked}, and rewards and ends are known without."
    if not need.unexplained:
        title, advice = "Nothing ever changes: there is nothing to remember, and nothing to learn.", ""
    elif k == 1:
        title = "No memory is needed: the last observation tells what there is to know."
        advice = "DQN or PPO will do; of RecurrentDQN, policy_kwargs=dict(memory_class='none')."
    else:
        before = need.windows[places - 1]
        exactly = f"{k}" if before == k - 1 else f"{before + 1} to {k}"
        back = f"the last {exactly} observations" if not need.at_least else f"at least the last {k} observations"
        if need.from_start:
            back = "the whole episode, from its first step"
        title = f"Memory is needed: of {back} ({WORDS[need.why]} asks for it)."
        settings = ", ".join(f"{name}={value!r}" for name, value in advised.items())
        stack = f"Stack {k} observations (VecFrameStack) for DQN or PPO, or use " if k <= STACK else "Use "
        advice = f"{stack}RecurrentDQN with a reach of at least {k}: {settings}."
    if need.too_rare:
        # What pays was not understood: memory may be needed for it, of any length
        what = " and ".join(WORDS[name] for name in need.too_rare)
        title = f"Not known: {what} came too seldom to tell what memory it asks for; what was seen asks for {k}."
        advice = (
            "Play more steps (-n), or let an agent play that gets there (diagnose_env(env, agent=model)). " + advice
        )
    severity = WARNING if k > 1 or need.too_rare else NOTE
    confidence = 0.0 if need.too_rare else need.confidence
    return Finding("memory", severity, title, evidence, advice, confidence), advised


def _speed(played: Play) -> Finding:
    speed = played.steps_per_second
    advice = "" if speed > 300 else "Training will wait for it: step several in processes (SubprocVecEnv)."
    return Finding("speed", NOTE, f"One environment makes {speed:,.0f} steps a second.", "On one core.", advice)
