"""The verifier's side of one program run: the sandbox server, the channel, and the proxies.

It sends calls to the program, decodes returned values and records what ended the run; verdicts are
formed in ``trusted``.
"""

import builtins
import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from . import codec

_BOOT = (
    "import sys; sys.path.insert(0, {folder!r}); import sandbox.{module} as m; "
    "sys.path.pop(0); m.main({fd}, {scratch!r})"
)
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
MODULE = "tests"
"""Name of the module that trusted code runs in; instances of its classes can cross."""
MAX_PARSED = 1 << 14
"""Sources with more characters are parsed in the sandbox only.

The worst source of this length takes the parser half a second and 100 MiB; both grow quadratically.
"""
_GRACE_S = 2.0


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
            self._process = start("candidate", theirs, scratch)
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
        self.handles: dict[int, codec.Handle] = {}
        self.namespace: dict[str, Any] = {}
        control = server.control()
        control.settimeout(self._limits["wall_s"] + _GRACE_S)
        self._channel, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(control, [json.dumps(self._limits).encode()], [theirs.fileno()])
            except OSError as error:
                raise SandboxLostError(repr(error)) from None
        self._channel.settimeout(self._limits["wall_s"] + _GRACE_S)

    def ask(self, request: dict[str, Any]) -> Any:
        """Send one request and return the decoded value, or raise what the program raised."""
        if self.outcome:
            raise JobEnded
        raised: BaseException | None = None
        try:
            codec.send_request(self._channel, request)
            reply = codec.receive(self._channel, self._limit + 1024)
            if not isinstance(reply, dict):
                raise codec.CodecError("not a reply")
            if "big" in reply:
                raise codec.CodecError(str(reply["big"]))
            if "e" not in reply:
                return codec.decode(reply.get("v"), self._decode_other)
            raised = self._exception(reply)
        except (EOFError, TimeoutError, OSError):
            self.end("crashed", "the program ended before it answered")
        except codec.CodecError as error:
            self.end("failed", f"the answer cannot cross: {error}")
        # Raised outside of the try block: an OSError of the program is not a broken channel.
        raise raised or JobEnded

    def end(self, outcome: str, detail: str) -> None:
        """Record what ended the run; only the first record counts."""
        if not self.outcome:
            self.outcome, self.detail = outcome, printable(detail)

    def _exception(self, reply: dict[str, Any]) -> BaseException:
        text = str(reply.get("text", ""))[:300]
        names = reply["e"] if isinstance(reply["e"], list) else []
        for name in names[:20]:
            kind = vars(builtins).get(name) if isinstance(name, str) else None
            if kind is MemoryError:
                self.end("out_of_memory", "MemoryError")
                return JobEnded()
            if kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
                self.end("crashed", f"the program raised {name}")
                return JobEnded()
            if kind in (StopIteration, StopAsyncIteration):
                kind = RuntimeError  # as in generators; it would end a loop of the tests
            if isinstance(kind, type) and issubclass(kind, Exception):
                with contextlib.suppress(Exception):
                    error = kind(text)
                    error.add_note(f"raised by the program: {names[0]}")
                    return error
        self.end("crashed", "the program raised something that is no exception of Python's")
        return JobEnded()

    def encode(self, value: Any) -> Any:
        """Return an argument as data; instances of set-up classes cross by name and attributes."""
        return codec.encode(value, self._encode_other)

    def _encode_other(self, value: Any, depth: int) -> Any:
        if isinstance(value, codec.Handle):
            return {"t": "ref", "v": value.index}
        if isinstance(value, RemoteValue):
            return {"t": "ref", "v": object.__getattribute__(value, "_handle").index}
        kind = type(value)
        if kind.__module__ == MODULE and hasattr(value, "__dict__"):
            fields = {
                k: codec.encode(v, self._encode_other, depth + 1) for k, v in vars(value).items()
            }
            return {"t": "object", "class": kind.__name__, "v": fields}
        raise codec.CodecError(f"{kind.__name__} has no form as data")

    def _decode_other(self, data: dict[str, Any], depth: int) -> Any:
        if data.get("t") == "ref" and isinstance(data.get("v"), int):
            return RemoteValue(self, codec.Handle(data["v"]))
        kind, state = self.namespace.get(str(data.get("class"))), data.get("v")
        if (
            data.get("t") == "object"
            and isinstance(kind, type)
            and kind.__module__ == MODULE
            and isinstance(state, dict)
        ):
            made: Any = object.__new__(kind)
            for name, value in state.items():
                made.__dict__[name] = codec.decode(value, self._decode_other, depth + 1)
            return made
        raise codec.CodecError("unknown kind of value")

    def finish(self) -> dict[str, Any]:
        """End the program, and return the server's report on why it ended."""
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


class RemoteValue:
    """A proxy for a value in the sandbox: it can be called, changed and passed back, not read."""

    def __init__(self, run: ProgramRun, handle: codec.Handle) -> None:
        object.__setattr__(self, "_run", run)
        object.__setattr__(self, "_handle", handle)

    def _send(self, do: str, **fields: Any) -> Any:
        run = object.__getattribute__(self, "_run")
        index = object.__getattribute__(self, "_handle").index
        return run.ask({"do": do, "ref": index, **fields})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._send("get", name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        run = object.__getattribute__(self, "_run")
        self._send("set", name=name, v=run.encode(value))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the value in the sandbox."""
        run = object.__getattribute__(self, "_run")
        return self._send("call", args=run.encode(args), kwargs=run.encode(kwargs))


def proxy(run: ProgramRun, name: str) -> Callable[..., Any]:
    """Return a function that calls the program's global ``name``."""

    def call(*args: Any, **kwargs: Any) -> Any:
        encoded = {"args": run.encode(args), "kwargs": run.encode(kwargs)}
        return run.ask({"do": "call", "name": name, **encoded})

    call.__name__ = call.__qualname__ = name
    return call
