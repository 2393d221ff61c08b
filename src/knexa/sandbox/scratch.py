"""Removes the files of a hostile program."""

import os


def remove(folder: str) -> None:
    """Remove a folder and all below it, at any depth and with any modes; follows no link.

    A program can nest folders deeper than a path or Python's stack allows, so each subfolder is
    first moved up beside ``folder``.

    Raises:
        OSError: Something cannot be removed.
    """
    pending = [folder]
    for path in pending:
        with os.scandir(path) as entries:
            for entry in list(entries):
                if entry.is_dir(follow_symlinks=False):
                    beside = f"{folder}.{len(pending)}"
                    os.chmod(entry.path, 0o700)  # noqa: PTH101
                    os.rename(entry.path, beside)  # noqa: PTH104
                    pending.append(beside)
                else:
                    os.unlink(entry.path)  # noqa: PTH108
        os.rmdir(path)  # noqa: PTH106
