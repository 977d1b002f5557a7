"""Paddle on several threads: as many as there are cores, and the same bits as on one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from paddlevid.runtime import num_cores, num_physical_cores

SCRIPT = """
import os, sys
cores = set(map(int, sys.argv[1].split(",")))
os.sched_setaffinity(0, cores)
from paddlevid.runtime import set_device
set_device("cpu")
import hashlib, paddle
from paddlevid.models import create_model
paddle.seed(0)
digest = hashlib.sha256()
for name, sizes in (("timesformer", {"image_size": 64, "embed_dim": 96, "depth": 2, "num_heads": 2}),
                    ("tsn", {"backbone": "resnet18"})):
    frames = {"num_frames": 4} if name == "timesformer" else {"num_segments": 4}
    model = create_model(name, num_classes=8, **frames, **sizes)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters())
    for _ in range(2):
        model(paddle.randn([3, 4, 3, 64, 64])).square().mean().backward()
        optimizer.step()
        optimizer.clear_grad()
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs to choose cores")
def test_the_number_of_threads_changes_no_bit() -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("needs two cores")
    digests = []
    for chosen in (cores[:1], cores[:2]):
        command = [sys.executable, "-c", SCRIPT, ",".join(map(str, chosen))]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        digests.append(run.stdout.split()[-1])
    assert digests[0] == digests[1]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs to choose cores")
def test_cores_are_those_that_the_process_may_use() -> None:
    cores = sorted(os.sched_getaffinity(0))
    script = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
from paddlevid.runtime import num_cores, num_physical_cores
print(num_cores(), num_physical_cores())
"""
    run = subprocess.run([sys.executable, "-c", script, str(cores[0])], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    assert run.stdout.split() == [b"1", b"1"]
    assert 1 <= num_physical_cores() <= num_cores() == len(cores)
