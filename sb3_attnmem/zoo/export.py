"""``sb3-attnmem export``: a trained agent as a file that plays without torch."""

import argparse
import contextlib
import io
import sys
from pathlib import Path

from stable_baselines3.common.vec_env import unwrap_vec_normalize

from sb3_attnmem.export import export_onnx
from sb3_attnmem.zoo.trained import add_agent_options, load_agent


def main() -> int:
    """
    Read the command line of the process, write the file.

    :return: the exit code: 0 when it is written, 1 when the file does not play like the agent, 2 where the command line
        does not make sense or the agent cannot be exported
    """
    options = _read_options()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            trained = load_agent(options)
        path = options.output or trained.path.with_suffix(".onnx")
        print(f"Exporting {trained.path}")
        try:
            exported = export_onnx(trained.model, path, unwrap_vec_normalize(trained.env), check=not options.no_check)
        finally:
            trained.env.close()
    except (ImportError, OSError, ValueError) as error:
        print(f"sb3-attnmem export: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"sb3-attnmem export: {error}", file=sys.stderr)
        return 1
    print(f"{exported.path}: {exported.n_bytes:,} bytes")
    print(f"  inputs   {', '.join(exported.inputs)}")
    print(f"  outputs  {', '.join(exported.outputs)}")
    if exported.max_difference is not None:
        print(f"  checked against the agent: largest difference {exported.max_difference:.1e}")
    print(f"Play it: sb3_attnmem.export.OnnxPolicy({str(exported.path)!r}).predict(obs, state, episode_start)")
    return 0


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    formats = parser.add_subparsers(dest="format", required=True, metavar="FORMAT")
    onnx = formats.add_parser("onnx", help="an ONNX graph of one step, for onnxruntime and the like")
    add_agent_options(onnx)
    onnx.add_argument("-o", "--output", type=Path, help="file to write; by default beside the agent's own, as .onnx")
    onnx.add_argument("--no-check", action="store_true", help="do not play the file beside the agent first")
    return parser.parse_args()
