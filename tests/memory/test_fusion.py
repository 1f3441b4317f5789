"""The head reads what matters now and what mattered before, as the fusion says."""

import pytest
import torch as th

from sb3_attnmem.attention import record_attention
from sb3_attnmem.memory import FUSIONS, check_fusion
from sb3_attnmem.memory.fusion import ConcatFusion, GateFusion, NoFusion, ResidualFusion

D, H = 3, 4
S, LATENTS = th.randn(5, 2, D), th.randn(5, 2, H)


@pytest.mark.parametrize("name", FUSIONS)
def test_it_gives_what_it_promises(name: str) -> None:
    fusion = FUSIONS[name](D, H)
    assert fusion(S, LATENTS).shape == (5, 2, fusion.output_dim)


def test_none_is_the_memory_alone() -> None:
    assert NoFusion(D, H)(S, LATENTS) is LATENTS


def test_concat_is_both() -> None:
    th.testing.assert_close(ConcatFusion(D, H)(S, LATENTS), th.cat([S, LATENTS], dim=-1))


def test_residual_adds() -> None:
    fusion = ResidualFusion(D, H)
    th.testing.assert_close(fusion(S, LATENTS), LATENTS + fusion.project(S))


def check_gate(fusion: GateFusion) -> None:
    with record_attention(fusion) as record:
        fused = fusion(S, LATENTS)
    alpha = record["alpha"].view(5, 2, -1)
    expected = (S @ fusion.gate.weight[:, :D].T + LATENTS @ fusion.gate.weight[:, D:].T + fusion.gate.bias).sigmoid()
    th.testing.assert_close(alpha, expected)
    th.testing.assert_close(fused, alpha * fusion.project(S) + (1 - alpha) * LATENTS)


@pytest.mark.parametrize("per_unit", [True, False])
def test_gate_is_its_equation(per_unit: bool) -> None:
    fusion = GateFusion(D, H, per_unit)
    check_gate(fusion)
    assert fusion.gate.out_features == (H if per_unit else 1)


@pytest.mark.parametrize("per_unit", [True, False])
def test_alpha_1_is_the_present_and_0_the_past(per_unit: bool) -> None:
    fusion = GateFusion(D, H, per_unit)
    for bias, expected in ((1e3, fusion.project(S)), (-1e3, LATENTS)):
        th.nn.init.constant_(fusion.gate.bias, bias)
        th.testing.assert_close(fusion(S, LATENTS), expected)


def test_a_gate_the_wrong_way_round_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    lerp = th.lerp
    monkeypatch.setattr(th, "lerp", lambda start, end, weight: lerp(end, start, weight))
    with pytest.raises(AssertionError):
        check_gate(GateFusion(D, H))


def test_names_and_options_are_checked() -> None:
    with pytest.raises(ValueError, match=r"Unknown memory_fusion 'gait'.*Did you mean 'gate'.*residual"):
        check_fusion("gait", {})
    with pytest.raises(ValueError, match=r"'scalar'.*'gate' does not take.*per_unit"):
        check_fusion("gate", {"scalar": True})
    with pytest.raises(ValueError, match="takes: nothing"):
        check_fusion("concat", {"per_unit": True})


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("dtype", [th.float32, th.bfloat16])
def test_it_works_under_autocast(name: str, dtype: th.dtype) -> None:
    fusion = FUSIONS[name](D, H)
    with th.autocast("cpu", dtype=th.bfloat16):
        fused = fusion(S, LATENTS.to(dtype))
    th.testing.assert_close(fused.float(), fusion(S, LATENTS), atol=0.05, rtol=0.05)
