"""Process-wide settings for computing with torch."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)


def prepare(num_threads: int) -> None:
    """Set torch's threads, and make malloc keep freed memory for the next tensors.

    By default glibc returns a step's memory to the kernel and faults its pages in again at the
    next: decoding, whose cache grows token by token, is a tenth faster without.
    """
    import torch

    torch.set_num_threads(num_threads)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc only
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, 256 << 20)
