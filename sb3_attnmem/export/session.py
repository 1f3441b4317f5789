"""Opening a file with onnxruntime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def open_session(path: Path, num_threads: int, providers: Sequence[str]) -> Any:
    """
    Open a file.

    :param path: of it
    :param num_threads: that onnxruntime may use for one call
    :param providers: where onnxruntime runs it, first choice first
    :return: an onnxruntime session
    :raises ImportError: when onnxruntime is not installed
    :raises FileNotFoundError: when there is no such file
    :raises ValueError: when it is no ONNX file, or there are no such providers
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"{error}. OnnxPolicy needs it: pip install onnxruntime.") from error
    if path.is_dir():
        raise ValueError(f"{path} is a folder; pass the ONNX file in it.")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3  # errors; its warnings are about the exporter's spare nodes
    known = onnxruntime.get_available_providers()
    if isinstance(providers, str) or not isinstance(providers, Sequence) or not providers:
        raise ValueError(f"providers={providers!r} must be a list of some of {known}.")
    if unknown := [one for one in providers if one not in known]:
        raise ValueError(f"onnxruntime has no providers {unknown} here; it has {known}.")
    content = path.read_bytes()
    try:
        return onnxruntime.InferenceSession(content, options, providers=list(providers))
    except Exception as error:  # it has an exception class for each kind of fault, all private
        raise ValueError(f"{path} is no ONNX file that onnxruntime can read: {str(error).splitlines()[0]}") from error
