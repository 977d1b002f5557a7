"""Workers keep the memory that they free, for the next frame."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from paddlevid.data.flow.method import FlowMethod
from paddlevid.processes import keep_freed_memory

if {keeps}:
    keep_freed_memory()
frames = np.random.default_rng(0).integers(0, 256, (2, 256, 340, 3), np.uint8)
method = FlowMethod("dis")
for count in (3, 10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        method.picture(*frames)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // count)
"""


def faults(keeps: bool) -> int:
    """Pages that come anew with each flow."""
    command = [sys.executable, "-c", PROGRAM.format(keeps=keeps)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of GNU's C library")
def test_pages_do_not_come_anew_with_each_flow() -> None:
    assert 5 * faults(keeps=True) < faults(keeps=False)
