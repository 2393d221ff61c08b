"""The sandbox that programs of these tests run in."""

from tests.sandbox.conftest import double, executor

__all__ = ["double", "executor"]
