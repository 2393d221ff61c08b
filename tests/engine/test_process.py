import ctypes
import subprocess
import sys

import pytest

KEEPS = """
import resource
import sys
import torch
from pathlib import Path
from knexa.engine.process import prepare

def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

if sys.argv[1] == "prepared":
    prepare(3)
before = resident()
tensors = [torch.ones(1 << 20) for _ in range(10)]  # 4 MiB each
grown = resident() - before
del tensors
print(grown, resident() - before, torch.get_num_threads())
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt"
)
def test_freed_memory_is_kept_for_the_next_tensors() -> None:
    kept = {}
    for how in ("prepared", "plain"):
        command = [sys.executable, "-c", KEEPS, how]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        grown, after, num_threads = map(int, output.split())
        assert grown > 35 << 20
        kept[how] = after
        if how == "prepared":
            assert num_threads == 3
    assert kept["prepared"] > 35 << 20
    assert kept["plain"] < 10 << 20
