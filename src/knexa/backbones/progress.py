"""Progress bars of libraries: none for what is quick, and none where there is no terminal."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from typing import Any


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide the library's progress bar for loading weights."""
    from transformers.utils import logging

    library: Any = logging

    enabled = library.is_progress_bar_enabled()
    library.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            library.enable_progress_bar()


@contextmanager
def bars_on_terminals() -> Iterator[None]:
    """Hide all progress bars where standard error, which they are written to, is no terminal."""
    hidden = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
    with hidden:
        yield
