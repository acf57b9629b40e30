"""NVML where it answers; without it, nothing breaks. NVML itself is pretended here."""

import sys
import types

import gpu_sampler
import pytest

from tests.waiting import wait_until


class NVMLError(Exception):
    pass


def nvml(*, answers, refuses=()):
    """A pynvml whose device says ``answers`` one by one and then fails for good."""
    left = iter(answers)

    def rates(handle):
        assert handle == "handle of GPU-1234"
        for percent in left:
            return types.SimpleNamespace(gpu=percent)
        raise NVMLError("GPU is lost")

    def fail(*args):
        raise NVMLError("Not Supported")

    module = types.ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetHandleByUUID = lambda uuid: f"handle of {uuid}"
    module.nvmlDeviceGetUtilizationRates = rates
    for name in refuses:
        setattr(module, name, fail)
    return module


def test_samples_until_nvml_fails(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml(answers=[1, 50, 70, 90]))
    sampler = gpu_sampler.start_sampler("1234", interval_s=0.001)
    wait_until(lambda: not sampler._thread.is_alive(), on_timeout=lambda: "still sampling")
    assert sampler.take() == (210.0, 3)  # the first was only to see whether it answers
    assert sampler.take() == (0.0, 0)
    sampler.stop()


@pytest.mark.parametrize(
    "refuses", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetUtilizationRates"]
)
def test_nvml_that_does_not_answer_is_no_mistake(monkeypatch, refuses):
    monkeypatch.setitem(sys.modules, "pynvml", nvml(answers=[], refuses=[refuses]))
    assert gpu_sampler.start_sampler("1234") is None


def test_no_package_is_no_mistake(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_sampler.start_sampler("1234") is None


def test_real_nvml_is_asked_without_harm():
    pytest.importorskip("pynvml")
    assert gpu_sampler.start_sampler("00000000-0000-0000-0000-000000000000") is None
