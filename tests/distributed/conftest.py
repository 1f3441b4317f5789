"""Ray, started once for all tests that need it."""

import gc
from collections.abc import Iterator

import pytest

from sb3_attnmem.distributed.on_ray import start_ray


@pytest.fixture(scope="package", name="ray_runs")
def _ray_runs() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "sb3_attnmem[ray]"')
    start_ray(num_cpus=4, object_store_memory=100 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()
    # Later tests fork, and a process without Ray's threads crashes when it is the one to delete what is left of Ray
    gc.collect()
