"""What a study leaves behind: the best settings, a table of its trials and pictures."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import optuna
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from optuna.importance import get_param_importances
from optuna.trial import TrialState

from sb3_attnmem.zoo.settings import to_yaml

#: of the most important parameters are drawn; more are not legible
N_DRAWN = 8
#: picture -> inches of its width for each parameter
WIDTHS = {"slice": 3.0, "parallel_coordinate": 1.7}
#: user attribute of a trial: its arguments, in the words of the RL Zoo's YAML
SETTINGS_ATTR = "settings"


def write_report(study: optuna.Study, folder: Path, env_id: str, base: dict[str, Any]) -> list[str]:
    """
    Write ``best.yml``, ``trials.csv`` and the plots (``.html`` and ``.png``), each under another name first.

    :param study: with or without complete trials
    :param folder: exists
    :param env_id: the entry of ``best.yml``
    :param base: settings that the search did not touch
    :return: lines to print: what was written, and what could not be
    """
    written = [_write(folder / "trials.csv", study.trials_dataframe().to_csv(index=False))]
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return [*written, "no trial is complete: there is no best.yml, and nothing to draw"]
    best = study.best_trial
    comments = [f"trial {best.number} of study {study.study_name}: {best.value:g}"]
    settings = {**base, **best.user_attrs[SETTINGS_ATTR]}
    written.append(_write(folder / "best.yml", to_yaml(env_id, settings, comments)))
    try:
        return written + _draw(study, folder)
    except (ImportError, RuntimeError, ValueError) as error:  # too few trials, or all the same
        return [*written, f"no plots: {error}"]


def _draw(study: optuna.Study, folder: Path) -> list[str]:
    import optuna.visualization as html
    import optuna.visualization.matplotlib as png

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    written = []
    plots: dict[str, tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]] = {
        "history": (html.plot_optimization_history, png.plot_optimization_history, {}),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is experimental, or drawn from few trials
        if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) > 1:
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            chosen = dict(params=list(get_param_importances(study, evaluator=evaluator))[:N_DRAWN])
            judged = dict(evaluator=evaluator, **chosen)
            plots["importances"] = (html.plot_param_importances, png.plot_param_importances, judged)
            plots["slice"] = (html.plot_slice, png.plot_slice, chosen)
            plots["parallel_coordinate"] = (html.plot_parallel_coordinate, png.plot_parallel_coordinate, chosen)
        for name, (page, picture, options) in plots.items():
            text = page(study, **options).to_html(include_plotlyjs=True)
            written.append(_write(folder / f"{name}.html", text))
            picture(study, **options)
            figure = plt.gcf()
            per_parameter = WIDTHS.get(name, 0.0) * len(options.get("params", []))
            figure.set_size_inches(max(9.0, per_parameter), 5)
            for axes in figure.axes:
                for axis in (axes.xaxis, axes.yaxis):
                    if axis.get_scale() == "log":
                        _thin_out(axis)
            path = folder / f"{name}.png"
            figure.savefig(path.with_suffix(".tmp"), format="png", dpi=110, bbox_inches="tight")
            plt.close(figure)
            os.replace(path.with_suffix(".tmp"), path)
            written.append(str(path))
    return written


def _thin_out(axis: Axis) -> None:
    """The small ticks of a logarithmic axis have labels that overlap; within a decade there are no others."""
    low, high = sorted(axis.get_view_interval())
    if sum(low <= tick <= high for tick in axis.get_majorticklocs()) > 1:
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _write(path: Path, text: str) -> str:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return str(path)
