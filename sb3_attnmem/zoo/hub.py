"""What rl_zoo3's way to the Hugging Face hub lacks."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import huggingface_sb3
from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from requests.exceptions import HTTPError

#: the package's attribute of that name is a function
helpers = importlib.import_module("huggingface_sb3.push_to_hub")


@contextmanager
def mended_hub() -> Iterator[None]:
    """
    Inside the ``with``, rl_zoo3's programs get along with newer releases of the hub's packages, which renamed a
    function and raise another error for a file that is not there, and a model's page names our commands: rl_zoo3's own
    do not know ``rdqn``.
    """
    upload, download = HfApi.upload_folder, huggingface_sb3.load_from_hub

    def download_or_http_error(repo_id: str, filename: str) -> str:
        try:
            return str(download(repo_id, filename))
        except LocalEntryNotFoundError:  # the hub was out of reach: that says nothing of the file
            raise
        except EntryNotFoundError as error:
            raise HTTPError(str(error)) from error

    def upload_ours(api: HfApi, *args: Any, folder_path: str | Path, **kwargs: Any) -> Any:
        page = Path(folder_path) / "README.md"
        if page.exists():
            page.write_text(_with_our_commands(page.read_text(encoding="utf-8")), encoding="utf-8")
        return upload(api, *args, folder_path=folder_path, **kwargs)

    with (
        mock.patch.object(HfApi, "upload_folder", upload_ours),
        mock.patch.object(huggingface_sb3, "load_from_hub", download_or_http_error),
        mock.patch.object(helpers, "generate_metadata", getattr(helpers, "generate_metadata", _metadata), create=True),
    ):
        yield


def _metadata(model_name: str, env_id: str, mean_reward: float, std_reward: float) -> dict[str, Any]:
    """:return: what a model's page says of it to machines"""
    return dict(helpers._generate_metadata(model_name, env_id, mean_reward, std_reward).to_dict())


def _with_our_commands(page: str) -> str:
    for name in ("train", "enjoy", "load_from_hub", "push_to_hub"):
        page = page.replace(f"python -m rl_zoo3.{name}", f"sb3-attnmem {name.replace('_', '-')}")
    page = page.replace(
        "Install the RL Zoo (with SB3 and SB3-Contrib):", "Install the RL Zoo with attention and memory:"
    )
    return page.replace("pip install rl_zoo3", 'pip install "sb3_attnmem[zoo]"')
