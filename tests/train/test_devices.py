"""The peak of a GPU is known by its name, or not at all."""

import pytest
from devices import peak_tflops


@pytest.mark.parametrize(
    ("name", "arithmetic", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.5),
        ("NVIDIA H100 PCIe", "bf16", 756.5),
        ("NVIDIA H100 NVL", "fp8", 1670.5),
        ("NVIDIA H200", "fp32", 67.0),
        ("NVIDIA A100-SXM4-40GB", "tf32", 156.0),
        ("NVIDIA A100 80GB PCIe", "bf16", 312.0),
        ("NVIDIA L40S", "bf16", 362.05),
        ("NVIDIA L40", "bf16", 181.05),
        ("NVIDIA L4", "bf16", 121.0),
        ("NVIDIA GeForce RTX 4090", "fp16", 165.2),
        ("Tesla T4", "fp16", 65.0),
        ("Tesla V100-SXM2-16GB", "fp16", 125.0),
    ],
)
def test_known_gpu_has_a_dense_peak(name, arithmetic, tflops):
    assert peak_tflops(name, arithmetic) == tflops


@pytest.mark.parametrize(
    ("name", "arithmetic"),
    [
        ("NVIDIA A100-SXM4-40GB", "fp8"),  # has none
        ("Tesla V100-SXM2-16GB", "bf16"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bf16"),  # a seventh of it
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16"),
        ("NVIDIA A10G", "bf16"),  # not an A10
        ("AMD Instinct MI300X", "bf16"),
        ("", "fp32"),
    ],
)
def test_unknown_peak_is_none(name, arithmetic):
    assert peak_tflops(name, arithmetic) is None
