"""How busy the GPU is, as NVML tells: the share of time in which any kernel ran.

A thread asks once a second, since NVML answers for the last fraction of a second only, and the
step must not wait for it. Where NVML does not answer (no driver, no permission, a MIG slice, no
``pynvml``), nothing is reported and nothing breaks. Busy is not useful: one small kernel after the
other is 100 %; for what the arithmetic achieves see ``flops``.
"""

from __future__ import annotations

import atexit
import threading
from typing import Any


class UtilizationSampler:
    """Samples one GPU in the background until it is stopped or NVML no longer answers."""

    def __init__(self, nvml: Any, handle: Any, interval_s: float = 1.0):
        """Start sampling the device of an NVML handle."""
        self._nvml, self._handle, self._interval_s = nvml, handle, interval_s
        self._lock = threading.Lock()
        self._sum, self._n = 0.0, 0
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="gpu-utilization", daemon=True)
        self._thread.start()

    def take(self) -> tuple[float, int]:
        """Return the sum of the percentages since the last call, and how many there were."""
        with self._lock:
            taken = self._sum, self._n
            self._sum, self._n = 0.0, 0
        return taken

    def stop(self) -> None:
        """End the thread; waits for it a little."""
        self._is_stopped.set()
        self._thread.join(timeout=5)

    def _sample(self) -> None:
        while not self._is_stopped.wait(self._interval_s):
            try:
                percent = self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu
            except self._nvml.NVMLError:
                return
            with self._lock:
                self._sum += percent
                self._n += 1


def start_sampler(uuid: str, interval_s: float = 1.0) -> UtilizationSampler | None:
    """Start sampling the GPU of this UUID; None where NVML does not tell.

    By UUID, because NVML knows nothing of CUDA_VISIBLE_DEVICES and of what a job may see.

    Args:
        uuid: As torch gives it, without ``GPU-``.
        interval_s: Seconds between samples.
    """
    try:
        import pynvml  # lazy: only where there is a GPU
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        pynvml.nvmlDeviceGetUtilizationRates(handle)  # MIG and missing rights show here
    except pynvml.NVMLError:
        return None
    sampler = UtilizationSampler(pynvml, handle, interval_s)
    atexit.register(sampler.stop)
    return sampler
