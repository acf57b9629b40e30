"""Kinds of failures and their fingerprints, from last words as real programs leave them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.runtime.cause import classify, count_oom_kills, last_words, normalise, read_tail

CUDA = """\
step 40 loss 2.31
Traceback (most recent call last):
  File "/home/ada/project/train/main.py", line 212, in <module>
    main()
  File "/home/ada/project/train/trainer.py", line 88, in step
    loss.backward()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity \
of 79.15 GiB of which 1.02 GiB is free. Process 3141 has 78.12 GiB memory in use.
"""
OLD_CUDA = """\
Traceback (most recent call last):
  File "train.py", line 7, in <module>
    x = torch.zeros(10**12, device="cuda")
torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 3725.29 GiB (GPU 0; 15.78 GiB)
"""
CUBLAS = """\
Traceback (most recent call last):
  File "train.py", line 9, in <module>
    y = x @ x
RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`
"""
RANKS = """\
[rank1]: Traceback (most recent call last):
[rank1]:   File "/w/train.py", line 9, in <module>
[rank1]:     main()
[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 512.00 MiB.
[rank0]: Traceback (most recent call last):
[rank0]:   File "/w/train.py", line 9, in <module>
[rank0]:     main()
[rank0]: torch.distributed.DistBackendError: NCCL error in: ../NCCLUtils.hpp:317, remote error
W0101 10:00:00.000 123 torch/distributed/elastic/multiprocessing/api.py:897] Sending SIGTERM
Traceback (most recent call last):
  File "/opt/venv/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
Root Cause (first observed failure):
  rank      : 1 (local_rank: 1)
  exitcode  : 1 (pid: 4711)
============================================================
"""
SURVIVED = """\
Traceback (most recent call last):
  File "train.py", line 30, in try_batch
    step(64)
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
halving the batch
step 1
step 2
step 3
step 4
step 5
Traceback (most recent call last):
  File "train.py", line 99, in <module>
    board["los"]
KeyError: 'los'
"""
CHAINED = """\
Traceback (most recent call last):
  File "train.py", line 30, in main
    step(64)
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "train.py", line 33, in main
    writer.flush()
AttributeError: 'NoneType' object has no attribute 'flush'
"""
IMPORT = """\
Traceback (most recent call last):
  File "/home/ada/project/train/main.py", line 3, in <module>
    import flash_attn
ModuleNotFoundError: No module named 'flash_attn'
"""
DISK = """\
Traceback (most recent call last):
  File "train.py", line 70, in save
    torch.save(state, path)
OSError: [Errno 28] No space left on device: '/scratch/ada/ckpt/step-400.pt'
"""
TORCH_DISK = """\
Traceback (most recent call last):
  File "train.py", line 70, in save
    torch.save(state, path)
RuntimeError: [enforce fail at inline_container.cc:603] . unexpected pos 1344 vs 1238
"""
NAN = """\
epoch 3
Traceback (most recent call last):
  File "train.py", line 44, in <module>
    raise ValueError(f"loss is {loss}, stopping")
ValueError: loss is nan, stopping
"""
ANOMALY = """\
Traceback (most recent call last):
  File "train.py", line 44, in <module>
    loss.backward()
RuntimeError: Function 'MulBackward0' returned nan values in its 0th output.
"""
NUMPY = """\
Traceback (most recent call last):
  File "train.py", line 4, in <module>
    np.ones((10**6, 10**6))
numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.28 TiB for an array with shape \
(1000000, 1000000) and data type float64
"""
ALLOCATOR = """\
Traceback (most recent call last):
  File "train.py", line 4, in <module>
    torch.empty(10**15)
RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate \
memory: you tried to allocate 4000000000000000 bytes. Error code 12 (Cannot allocate memory)
"""
LOADER = """\
Traceback (most recent call last):
  File "train.py", line 4, in <module>
    for batch in loader:
RuntimeError: DataLoader worker (pid 4711) is killed by signal: Killed.
"""
SLURM_OOM = """\
step 7
slurmstepd: error: Detected 1 oom_kill event in StepId=123.0. Some of the step tasks have been \
OOM Killed.
"""
SRUN_OOM = "step 7\nsrun: error: n1: task 0: Out Of Memory\n"


@pytest.mark.parametrize(
    ("exit_code", "tail", "kind"),
    [
        (1, CUDA, "cuda_oom"),
        (1, OLD_CUDA, "cuda_oom"),
        (1, CUBLAS, "cuda_oom"),
        (1, "terminate called\nHIP out of memory. Tried to allocate 1 GiB\n", "cuda_oom"),
        (1, RANKS, "cuda_oom"),
        (1, CHAINED, "cuda_oom"),
        (1, SURVIVED, "error"),
        (65, "", "non_finite"),
        (65, CUDA, "non_finite"),
        (1, NAN, "non_finite"),
        (1, ANOMALY, "non_finite"),
        (2, "step 3\nLoss is NaN; stopping\n", "non_finite"),
        (1, "Traceback (most recent call last):\nFloatingPointError: overflow\n", "non_finite"),
        (1, "step 41: loss nan\n" + IMPORT.replace("ModuleNotFound", "Key"), "error"),
        (1, "information about the loss\nValueError: no\n", "error"),
        (1, IMPORT, "import_error"),
        (1, "/opt/venv/bin/python3.11: No module named train.mian\n", "import_error"),
        (-9, SLURM_OOM, "host_oom"),
        (137, SLURM_OOM, "host_oom"),
        (137, SRUN_OOM, "host_oom"),
        (1, NUMPY, "host_oom"),
        (1, ALLOCATOR, "host_oom"),
        (134, "terminate called after throwing an instance of 'std::bad_alloc'\n", "host_oom"),
        (1, "the paper is about an oom_kill and Out Of Memory\n", "error"),
        (-9, "step 7\n", "killed"),
        (137, "step 7\n", "killed"),
        (-11, "step 7\nloss nan\n", "killed"),
        (139, "Segmentation fault (core dumped)\n", "killed"),
        (127, "train.sh: line 3: pyhton: command not found\n", "cannot_start"),
        (126, "train.sh: Permission denied\n", "cannot_start"),
        (1, "no working directory /home/ada/gone\n", "cannot_start"),
        (1, "environment failed: module load cuda\nmodule load gcc\n", "cannot_start"),
        (1, "step 1\nenvironment failed: that of the simulation\n", "error"),
        (1, DISK, "disk_full"),
        (1, TORCH_DISK, "disk_full"),
        (1, "cp: error writing '/scratch/x': Disk quota exceeded\n", "disk_full"),
        (1, LOADER, "error"),
        (3, "ValueError: no such thing\n", "error"),
        (3, "", "error"),
        (255, "", "error"),
        (1, "\0\x1b[31m\ufffd\n" * 9, "error"),
    ],
)
def test_classify_last_words_names_the_kind(exit_code: int, tail: str, kind: str) -> None:
    assert classify(exit_code, tail)[0] == kind


@pytest.mark.parametrize(
    ("exit_code", "tail", "kind"),
    [
        (-9, "step 7\n", "host_oom"),
        (137, "step 7\n", "host_oom"),
        (1, LOADER, "host_oom"),
        (3, "ValueError: no\n", "error"),
        (-11, "", "killed"),
    ],
)
def test_classify_kernel_counted_an_oom_kill_blames_it_for_sigkill_alone(
    exit_code: int, tail: str, kind: str
) -> None:
    assert classify(exit_code, tail, oom_kills=1)[0] == kind


def test_classify_program_that_did_not_start_is_no_other_kind() -> None:
    assert classify(127, "cannot start 'x': No space left on device", has_started=False)[0] == (
        "cannot_start"
    )


def test_classify_same_failure_elsewhere_has_the_same_fingerprint() -> None:
    other = (
        CUDA.replace("2.00 GiB", "512.00 MiB")
        .replace("79.15", "39.39")
        .replace("line 212", "line 80")
        .replace("/home/ada", "/home/bob")
        .replace("3141", "271")
    )
    assert classify(1, other) == classify(1, CUDA)
    assert classify(1, DISK.replace("ckpt/step-400", "other/step-9")) == classify(1, DISK)
    assert classify(-9, "step 9, lr 0.3\n") == classify(-9, "warming up\n")


def test_classify_other_failure_has_another_fingerprint() -> None:
    tails = [CUDA, CUBLAS, SURVIVED, IMPORT, IMPORT.replace("flash_attn", "apex"), NAN, ""]
    prints = {classify(1, tail)[1] for tail in tails}
    assert len(prints) == len(tails)
    assert all(len(text) == 12 for text in prints)
    assert classify(-9, "")[1] != classify(-11, "")[1]


def test_classify_rank_that_lost_the_other_has_the_fingerprint_of_the_cause() -> None:
    alone = "Traceback (most recent call last):\n" + RANKS.splitlines()[3].removeprefix("[rank1]: ")
    assert classify(1, RANKS)[1] == classify(1, alone)[1]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("No module named 'a_b'", "No module named 'a_b'"),
        ("index 17 is out of bounds for size 16", "index # is out of bounds for size #"),
        ("loss 1.5e-07 after 3,000 steps", "loss # after # steps"),
        ("cannot open /tmp/x-1/a b: at 0x7f3a", "cannot open / b: at #"),
        ("job 3f2504e0-4f89-11d3-9a0c-0305e82c3301 gone", "job # gone"),
        ("tried 2.00 GiB of 12 MB", "tried # of #"),
        ("  much   space\t ", "much space"),
    ],
)
def test_normalise_keeps_what_trials_share(message: str, expected: str) -> None:
    assert normalise(message) == expected


def test_last_words_passes_over_slurm_and_control_characters() -> None:
    tail = "ValueError: \x1b[31mbad lr\x1b[0m\n[orchestrator] x\nslurmstepd: error: y\n\n"
    assert last_words(tail) == "ValueError: [31mbad lr[0m"
    assert last_words("") == ""


def test_read_tail_starts_at_the_attempt_and_is_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("CUDA out of memory\nmine\n")
    assert read_tail(str(log), 19) == "mine\n"
    assert read_tail(str(log), 10_000) == "CUDA out of memory\nmine\n", "truncated: all ours"
    log.write_bytes(b"x" * 10**6 + b"end")
    assert len(read_tail(str(log), 0)) == 64 * 1024
    assert read_tail(str(log), 0).endswith("end")
    assert read_tail(str(tmp_path / "none"), 0) == ""
    assert read_tail(str(tmp_path), 0) == ""


JOB = "/system.slice/slurmstepd.scope/job_7/step_0/user/task_0"


@pytest.mark.parametrize(
    ("membership", "counter", "text", "n_kills"),
    [
        (f"0::{JOB}\n", f"{JOB}/memory.events", "low 0\noom 2\noom_kill 2\n", 2),
        (
            "9:cpu:/\n4:memory:/slurm/uid_1/job_7/step_0\n0::/\n",
            "/memory/slurm/uid_1/job_7/step_0/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            1,
        ),
        # a session's cgroup holds other programs too
        ("0::/user.slice/session-1.scope\n", "/user.slice/session-1.scope/memory.events", "", 0),
        (f"0::{JOB}\n", "/elsewhere/memory.events", "oom_kill 2\n", 0),
        (f"0::{JOB}\n", f"{JOB}/memory.events", "what is this\n", 0),
        ("nonsense\n", "/x/memory.events", "", 0),
    ],
)
def test_c04_count_oom_kills_reads_the_jobs_own_cgroup(
    tmp_path: Path, membership: str, counter: str, text: str, n_kills: int
) -> None:
    (tmp_path / "cgroup").write_text(membership)
    file = tmp_path / "fs" / counter.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text(text or "oom_kill 5\n")
    assert count_oom_kills(str(tmp_path / "cgroup"), str(tmp_path / "fs")) == n_kills


def test_classify_hostile_tail_ends_in_time() -> None:
    for text in ("a" * 65536, "/" * 65536, "loss " * 13000, "[rank0]: " * 7000, "0" * 65536):
        kind, fingerprint = classify(1, "Traceback (most recent call last):\nError: " + text)
        assert (kind, len(fingerprint)) == ("error", 12)
        json.dumps([kind, fingerprint])
