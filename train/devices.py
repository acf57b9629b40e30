"""Peak arithmetic of known GPUs, against which model FLOPs utilisation is measured.

Dense figures of NVIDIA's data sheets, in 10^12 operations per second. Data sheets print the tensor
cores' figures with structured sparsity, twice as high, which no training here uses: those were
halved. GeForce: the rates with fp32 accumulation (white papers on Ampere GA102 and Ada), as
training accumulates. A GPU that is not in the table has no utilisation, only achieved TFLOPS; so
has a slice of one (MIG), whose name says so. Standard library only and pure.
"""

from __future__ import annotations

import re

# Words of the name -> (fp32, tf32, bf16, fp16, fp8); 0: it has no such arithmetic. The first row
# whose words are all in the name counts, so variants stand before the plain name.
_PEAKS: tuple[tuple[tuple[str, ...], tuple[float, ...]], ...] = (
    (("B200",), (75.0, 1125.0, 2250.0, 2250.0, 4500.0)),
    (("H200", "NVL"), (60.0, 417.5, 835.5, 835.5, 1670.5)),
    (("H200",), (67.0, 494.5, 989.5, 989.5, 1979.0)),
    (("GH200",), (67.0, 494.5, 989.5, 989.5, 1979.0)),
    (("H100", "NVL"), (60.0, 417.5, 835.5, 835.5, 1670.5)),
    (("H100", "PCIE"), (51.0, 378.0, 756.5, 756.5, 1513.0)),
    (("H100",), (67.0, 494.5, 989.5, 989.5, 1979.0)),
    (("A100",), (19.5, 156.0, 312.0, 312.0, 0.0)),
    (("A800",), (19.5, 156.0, 312.0, 312.0, 0.0)),
    (("A30",), (10.3, 82.0, 165.0, 165.0, 0.0)),
    (("A40",), (37.4, 74.8, 149.7, 149.7, 0.0)),
    (("A10",), (31.2, 62.5, 125.0, 125.0, 0.0)),
    (("A6000",), (38.7, 77.4, 154.8, 154.8, 0.0)),
    (("L40S",), (91.6, 183.0, 362.05, 362.05, 733.0)),
    (("L40",), (90.5, 90.5, 181.05, 181.05, 362.0)),
    (("L4",), (30.3, 60.0, 121.0, 121.0, 242.5)),
    (("4090", "D"), (73.5, 73.5, 147.0, 147.0, 294.0)),
    (("4090",), (82.6, 82.6, 165.2, 165.2, 330.3)),
    (("3090",), (35.6, 35.6, 71.0, 71.0, 0.0)),
    (("V100S",), (16.4, 0.0, 0.0, 130.0, 0.0)),
    (("V100", "SXM2"), (15.7, 0.0, 0.0, 125.0, 0.0)),
    (("V100", "PCIE"), (14.0, 0.0, 0.0, 112.0, 0.0)),
    (("T4",), (8.1, 0.0, 0.0, 65.0, 0.0)),
)
# A slice of a GPU, a virtual one, or one of a laptop: less than the name promises.
_LESS_THAN_NAMED = {"MIG", "GRID", "LAPTOP"}
ARITHMETICS = ("fp32", "tf32", "bf16", "fp16", "fp8")


def peak_tflops(device_name: str, arithmetic: str) -> float | None:
    """Return the dense peak of a GPU, None if it is not known.

    Args:
        device_name: As ``torch.cuda.get_device_name`` says, such as ``NVIDIA A100-SXM4-40GB``.
        arithmetic: One of ``ARITHMETICS``.
    """
    words = set(re.findall(r"[A-Z0-9]+", device_name.upper()))
    if not words.isdisjoint(_LESS_THAN_NAMED):
        return None
    for wanted, peaks in _PEAKS:
        if words.issuperset(wanted):
            return peaks[ARITHMETICS.index(arithmetic)] or None
    return None
