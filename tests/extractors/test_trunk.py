"""The order of memory in which a trunk computes changes no result."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_attnmem.extractors import PlainCNN


@pytest.mark.parametrize("trunk", ["impala", "medium", "small"])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("order", [th.contiguous_format, th.channels_last])
def test_maps_and_gradients_are_those_of_the_stages_in_the_order_of_the_images(trunk: str, channels: int, order: Any):
    th.manual_seed(0)
    extractor = PlainCNN(spaces.Box(0, 255, (channels, 42, 42), np.uint8), 8, trunk=trunk).double().trunk
    images = th.rand(3, channels, 42, 42, dtype=th.float64)
    maps = extractor(images.contiguous(memory_format=order))
    wanted = extractor.last(extractor.stages(images))
    th.testing.assert_close(maps, wanted, rtol=1e-12, atol=1e-12)
    weights, towards = list(extractor.parameters()), th.rand_like(wanted)
    for got, expected in zip(
        th.autograd.grad(maps, weights, towards), th.autograd.grad(wanted, weights, towards), strict=True
    ):
        th.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("channels", [1, 4])
def test_every_other_image_of_a_batch_is_read_as_it_is(channels: int):
    trunk = PlainCNN(spaces.Box(0, 255, (channels, 84, 84), np.uint8)).trunk
    images = th.rand(6, channels, 84, 84)
    th.testing.assert_close(trunk(images[::2]), trunk(images[::2].clone()), rtol=0, atol=0)
