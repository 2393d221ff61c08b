"""What a process that computes with torch sets once, before it does."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)


def prepare(num_threads: int) -> None:
    """Set torch's threads, and keep freed memory for the next tensors.

    Left to itself, glibc hands a step's memory back to the kernel and has every page of it faulted
    in anew at the next: decoding, whose cache grows token by token, is a tenth faster without.
    """
    import torch

    torch.set_num_threads(num_threads)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc's alone
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, 256 << 20)
