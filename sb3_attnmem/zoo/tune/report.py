"""What a study leaves behind: the best settings, a table of its trials and pictures."""

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from sb3_attnmem.common.files import replacing, write_text
from sb3_attnmem.zoo.settings import to_yaml
from sb3_attnmem.zoo.tune.studies import settings_of

#: of the most important parameters are drawn; more are not legible
N_DRAWN = 8
#: picture -> inches of its width for each parameter
WIDTHS = {"slice": 3.0, "parallel_coordinate": 1.7}


def write_report(
    study: optuna.Study, folder: Path, algo: str, env_id: str, base: dict[str, Any], classes: Iterable[type]
) -> list[str]:
    """
    Write ``best.yml``, ``trials.csv`` and the plots (``.html`` and ``.png``), each whole or not at all.

    :param study: with or without complete trials
    :param folder: exists
    :param algo: that its trials trained
    :param env_id: the entry of ``best.yml``
    :param base: settings that the search did not touch
    :param classes: that they name
    :return: lines to print: what was written, and what could not be
    :raises ValueError: when what the best trial drew is not data
    :raises OSError: when a file cannot be written
    """
    lines = []
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if complete:
        best = study.best_trial
        comments = [f"trial {best.number} of study {' '.join(study.study_name.split())}: {best.value:g}"]
        settings = {**base, **settings_of(best, algo, classes)}
        lines.append(_write(folder / "best.yml", to_yaml(env_id, settings, comments)))
    try:
        lines.append(_write(folder / "trials.csv", study.trials_dataframe().to_csv(index=False)))
        if not complete:
            return [*lines, "no trial is complete: there is no best.yml, and nothing to draw"]
        return lines + _draw(study, folder)
    except ImportError as error:
        return [*lines, f"that is all: {error.name} is missing (pip install 'sb3_attnmem[zoo]' has it)"]
    except (RuntimeError, ValueError) as error:  # too few trials, or all the same
        return [*lines, f"no plots: {error}"]


def _draw(study: optuna.Study, folder: Path) -> list[str]:
    import matplotlib
    import optuna.visualization as html
    import optuna.visualization.matplotlib as png
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # takes two seconds

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    written = []
    plots: dict[str, tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]] = {
        "history": (html.plot_optimization_history, png.plot_optimization_history, {}),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is experimental, or drawn from few trials
        if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) > 1:
            evaluator = PedAnovaImportanceEvaluator()
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
            with replacing(path) as unfinished:
                figure.savefig(unfinished, format="png", dpi=110, bbox_inches="tight")
            plt.close(figure)
            written.append(str(path))
    return written


def _thin_out(axis: Any) -> None:
    """The small ticks of a logarithmic axis have labels that overlap; within a decade there are no others."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    if sum(low <= tick <= high for tick in axis.get_majorticklocs()) > 1:
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _write(path: Path, text: str) -> str:
    write_text(path, text)
    return str(path)
