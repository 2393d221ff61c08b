"""The verifier's side of one program run: the sandbox server, the channel, and the proxies.

It sends calls to the program, decodes returned values and records what ended the run; verdicts are
formed in ``trusted``.
"""

import contextlib
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from . import codec
from .trusted_values import TrustedValues
from .values import MAX_SYNCED

_BOOT = (
    "import sys; sys.path.insert(0, {folder!r}); import sandbox.{module} as m; "
    "sys.path.pop(0); m.main({fd}, {scratch!r})"
)
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
MAX_PARSED = 1 << 14
"""Sources with more characters are parsed in the sandbox only.

The worst source of this length takes the parser half a second and 100 MiB; both grow quadratically.
"""
_GRACE_S = 2.0
_MAX_CALLBACKS = 100_000
_MAX_DEPTH = 100  # of calls of the program within calls of functions of the tests


def start(module: str, channel: socket.socket, scratch: str = "") -> "subprocess.Popen[bytes]":
    """Start ``sandbox.<module>`` in a clean interpreter that inherits only ``channel``."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    code = _BOOT.format(folder=folder, module=module, fd=channel.fileno(), scratch=scratch)
    return subprocess.Popen(
        [sys.executable, "-S", "-s", "-P", "-B", "-c", code],
        env=_ENVIRONMENT | {k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(channel.fileno(),),
        start_new_session=True,
    )


def printable(text: str) -> str:
    """Return the first 300 characters, with unprintable ones replaced by spaces."""
    return "".join(each if each.isprintable() else " " for each in text[:300])


def describe(error: BaseException) -> str:
    """Return an exception's name and text; the name alone if ``str`` fails."""
    name = type(error).__name__
    try:
        # Memory addresses differ between equal runs.
        return re.sub("0x[0-9a-f]+", "0x", f"{name}: {error}")
    except Exception:
        return name


class JobEnded(BaseException):
    """Ends a job whose outcome is recorded; no ``except Exception`` of the tests catches it."""


class SandboxLostError(Exception):
    """The sandbox server does not answer: a failure of infrastructure, not of the program."""


class SandboxProcess:
    """The process of the sandbox server; started again when it is lost or no longer clean."""

    def __init__(self, folder: str) -> None:
        """``folder`` is used where the server cannot mount a scratch directory of its own."""
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._folder = folder
        self._group: str | None = None
        self.layers: list[str] = []
        self.refused: dict[str, str] = {}

    def control(self) -> socket.socket:
        """Return the control socket; starts the server if it is not running."""
        if self._control is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            scratch = tempfile.mkdtemp(dir=self._folder)
            os.chmod(scratch, 0o777)  # noqa: PTH101
            self._process = start("server", theirs, scratch)
            theirs.close()
            ours.settimeout(30)
            self._control = ours
            try:
                hello = json.loads(ours.recv(1 << 16))
                self.layers, self.refused = hello["layers"], hello["refused"]
                self._group = hello["group"]
            except (OSError, ValueError) as error:
                self.close()
                raise SandboxLostError(f"the sandbox server did not start: {error!r}") from None
        return self._control

    @property
    def is_running(self) -> bool:
        """Whether the server is running, so that the next program need not wait for its start."""
        return self._control is not None

    def close(self) -> None:
        """Kill the server and all of its processes."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._group is not None:  # who made it has been killed
            _remove_group(self._group)
        self._process, self._control, self._group = None, None, None


def _remove_group(path: str) -> None:
    """Remove a cgroup, whose last members may take a moment to end."""
    until = time.monotonic() + _GRACE_S
    while time.monotonic() < until:
        try:
            os.rmdir(path)  # noqa: PTH106
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
            time.sleep(0.001)


class ProgramRun:
    """The run of one program: its channel, and its ``outcome`` once it has ended."""

    def __init__(self, server: SandboxProcess, job: dict[str, Any]) -> None:
        self._server = server
        self._limits = job["limits"]
        self._limit = self._limits["output_kb"] << 10
        self.outcome = ""
        self.detail = ""
        self.values = TrustedValues(self.ask)
        self._depth = 0
        self._num_callbacks = 0
        control = server.control()
        control.settimeout(self._limits["wall_s"] + _GRACE_S)
        self._channel, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(control, [json.dumps(self._limits).encode()], [theirs.fileno()])
            except OSError as error:
                raise SandboxLostError(repr(error)) from None
        self._channel.settimeout(self._limits["wall_s"] + _GRACE_S)

    def ask(self, request: dict[str, Any], parts: Sequence[Any] = ()) -> Any:
        """Send one request with values and return the answer, or raise what the program raised.

        While it waits it serves the program's calls of functions that the tests handed out.
        """
        if self.outcome:
            raise JobEnded
        what = "an argument"
        self._depth += 1
        self.values.begin()
        try:
            message = self.values.write(parts)
            codec.send_request(self._channel, request | message)
            what = "the answer"
            while "call" in (reply := self._receive()):
                self._serve(reply)
            values = self.values.read(reply)
            if len(values) != 1:
                raise codec.CodecError("not one value")
        except (EOFError, TimeoutError, OSError):
            self.end("crashed", "the program ended before it answered")
            raise JobEnded from None
        except (codec.CodecError, RecursionError) as error:
            self.end("failed", f"{what} cannot cross: {error}")
            raise JobEnded from None
        finally:
            self._depth -= 1
            self.values.finish(is_last=not self._depth)
        if reply.get("raised") is True:
            raise self._raised(values[0])
        return values[0]

    def end(self, outcome: str, detail: str) -> None:
        """Record what ended the run; only the first record counts."""
        if not self.outcome:
            self.outcome, self.detail = outcome, printable(detail)

    def _receive(self) -> dict[str, Any]:
        reply = codec.receive(self._channel, self._limit + 1024)
        if not isinstance(reply, dict):
            raise codec.CodecError("not a reply")
        if "big" in reply:
            raise codec.CodecError(str(reply["big"]))
        return reply

    def _serve(self, request: dict[str, Any]) -> None:
        """Call a function of the tests for the program, and send what came of it."""
        self._num_callbacks += 1
        if self._num_callbacks > _MAX_CALLBACKS or self._depth > _MAX_DEPTH:
            raise codec.CodecError("too many calls of the tests' functions")
        function = self.values.callback(request["call"])
        parts, names = self.values.read(request), request.get("names")
        if type(names) is not list or not all(type(name) is str for name in names):
            raise codec.CodecError("not a call")
        num, is_raised = len(parts) - len(names), False
        if num < 0:
            raise codec.CodecError("not a call")
        self.values.note()
        kwargs = dict(zip(names, parts[num:], strict=True))
        try:
            value = function(*parts[:num], **kwargs)
        except AssertionError as error:  # the tests': no program may catch it
            self.end("failed", describe(error))
            raise JobEnded from None
        except MemoryError:
            self.end("out_of_memory", "checking the answer took too much memory")
            raise JobEnded from None
        except Exception as error:
            value, is_raised = error, True
        if self.outcome:
            raise JobEnded
        message = self.values.write([value], budget=MAX_SYNCED)
        codec.send_request(self._channel, message | {"raised": is_raised})
        self.values.note()

    def _raised(self, error: Any) -> BaseException:
        """Return the exception that the program raised, as far as it may end a run."""
        if isinstance(error, MemoryError):
            self.end("out_of_memory", "MemoryError")
        elif isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit)):
            self.end("crashed", f"the program raised {type(error).__name__}")
        elif isinstance(error, (StopIteration, StopAsyncIteration)):
            # As in generators; it would end a loop of the tests.
            return RuntimeError(*error.args)
        elif isinstance(error, Exception):
            return error
        else:
            text = "the program raised something that is no exception of Python's"
            self.end("crashed", text)
        return JobEnded()

    def finish(self) -> dict[str, Any]:
        """End the program, and return the server's report on why it ended."""
        self.values.restore()
        control = self._server.control()
        try:
            self._channel.close()
            # One byte tells the server that the verdict is reached; it answers with its report.
            control.send(b".")
            report = json.loads(control.recv(1 << 16))
        except (OSError, ValueError) as error:
            self._server.close()
            raise SandboxLostError(repr(error)) from None
        if not report["clean"]:
            self._server.close()
        return dict(report)


def proxy(run: ProgramRun, name: str) -> Callable[..., Any]:
    """Return a function that calls the program's global ``name``."""

    def call(*args: Any, **kwargs: Any) -> Any:
        request = {"do": "call", "name": name, "names": list(kwargs)}
        return run.ask(request, [*args, *kwargs.values()])

    call.__name__ = call.__qualname__ = name
    run.values.names[call] = name
    return call
