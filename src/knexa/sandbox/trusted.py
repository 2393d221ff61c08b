"""The trusted verifier: runs the tests and forms the verdict, never runs the program itself.

A clean interpreter without site packages, started by the executor. For each job it executes the
problem's trusted code (set-up, prompt, tests) in a fresh namespace in which ``candidate`` and the
entry point are proxies: a call crosses a channel to a fork of the sandbox server as data and comes
back as data. A job passes when the tests ran to their end without an exception.
"""

import builtins
import contextlib
import functools
import gc
import importlib
import marshal
import random
import resource
import signal
import socket
import symtable
import sys
import types
import warnings
from typing import Any

from . import codec, kernel, layers, program_run, scratch
from .program_run import JobEnded, ProgramRun, SandboxLostError, SandboxProcess, proxy
from .trusted_values import MODULE

_MAX_SOURCE = 1 << 20


def _resolve(run: ProgramRun, name: str) -> Any:
    """Resolve a name that the tests never bind: a standard module, or a global of the program."""
    if name in sys.stdlib_module_names:
        return importlib.import_module(name)
    return proxy(run, name)


@functools.lru_cache(maxsize=4096)
def _compile(source: str, name: str) -> types.CodeType:
    return compile(source, name, "exec", dont_inherit=True)


@functools.lru_cache(maxsize=4096)
def _compile_setup(source: str) -> bytes:
    """Compile and marshal the set-up code."""
    code = _marshalled(compile(source, "<candidate>", "exec", dont_inherit=True))
    if code is None:
        raise ValueError("the set-up nests too deeply")
    return code


def _marshalled(code: types.CodeType) -> bytes | None:
    """Marshal code; None if its constants nest too deeply."""
    with contextlib.suppress(ValueError):
        return marshal.dumps(code)
    return None


def _compile_program(source: str) -> bytes | None:
    """Compile and marshal a program; None if it must be compiled in the sandbox.

    Compiling is not limited here, so a long source is compiled under the program's limits.
    """
    if len(source) > program_run.MAX_PARSED:
        return None
    with contextlib.suppress(RecursionError, MemoryError, OverflowError):
        return _marshalled(compile(source, "<candidate>", "exec", dont_inherit=True))
    return None


@functools.lru_cache(maxsize=4096)
def _compile_prompt(prompt: str) -> types.CodeType | None:
    for source in (prompt, prompt + "\n    pass\n"):
        with contextlib.suppress(SyntaxError):
            return _compile(source, "<prompt>")
    return None


@functools.lru_cache(maxsize=4096)
def _free_names(test_code: str) -> tuple[str, ...]:
    """Return names that the tests read and never bind, e.g. classes of the program."""
    read: set[str] = set()
    bound: set[str] = set()
    tables = [symtable.symtable(test_code, "<tests>", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            binds = symbol.is_assigned() or symbol.is_parameter() or symbol.is_imported()
            (bound if binds else read).add(symbol.get_name())
    return tuple(sorted(read - bound - set(vars(builtins))))


def verify(server: SandboxProcess, job: dict[str, Any]) -> dict[str, Any]:
    """Return ``{"outcome", "detail"}`` of one job (``again`` where machine load may have decided).

    Raises:
        SandboxLostError: The sandbox failed, not the program.
    """
    if len(job["program"]) > _MAX_SOURCE:
        return {"outcome": "failed", "detail": "the program is longer than 1 MiB"}
    try:
        code = _compile_program(job["program"])
    except (SyntaxError, ValueError) as error:
        return {"outcome": "syntax_error", "detail": program_run.printable(str(error)[:200])}
    run = ProgramRun(server, job)
    try:
        _judge(run, job, code)
    finally:
        report = run.finish()
    outcome, detail, again = run.outcome, run.detail, False
    if report["reason"] == "cpu" or (outcome == "crashed" and report["reason"]):
        outcome, again = "timeout", report["starved"]
        detail = f"{report['reason']} limit of {job['limits'][report['reason'] + '_s']} s"
    elif outcome == "crashed" and report["died"] and report["code"] < 0:
        detail = f"killed by signal {-report['code']}"
        outcome = _BY_SIGNAL.get(-report["code"], "crashed")
    used = {"cpu_s": report["cpu_s"], "wall_s": report["elapsed_s"]}
    return {"outcome": outcome, "detail": detail, "again": again} | used


# A SIGKILL that the server did not send comes from the kernel's out-of-memory killer.
_BY_SIGNAL = {int(signal.SIGKILL): "out_of_memory", int(signal.SIGXCPU): "timeout"}


def _judge(run: ProgramRun, job: dict[str, Any], code: bytes | None) -> None:
    """Run the tests against the program and record the outcome in ``run``.

    ``code`` is the compiled program, None if the sandbox must compile it.
    """
    module = types.ModuleType(MODULE)
    namespace = module.__dict__
    sys.modules[MODULE] = module
    random.seed(0)
    try:
        with _alarm(job["limits"]["cpu_s"], run):
            exec(_compile(job["setup"], "<setup>"), namespace)
            prompt = _compile_prompt(job["prompt"])
            if prompt is not None:
                exec(prompt, namespace)
            run.values.classes = classes = {
                value.__name__: value
                for name, value in namespace.items()
                if isinstance(value, type) and value.__module__ == MODULE and name != job["entry"]
            }
            codes = [_compile_setup(job["setup"])] if job["setup"].strip() else []
            codes += [] if code is None else [code]
            source = job["program"] if code is None else None
            try:
                run.ask({"codes": codes, "source": source, "classes": list(classes)})
            except SyntaxError as error:
                run.end("syntax_error", str(error))
                return
            for name in _free_names(job["test"]):
                if name not in namespace:
                    namespace[name] = _resolve(run, name)
            namespace["candidate"] = namespace[job["entry"]] = proxy(run, job["entry"])
            exec(_compile(job["test"], "<tests>"), namespace)
        run.end("passed", "")
    except JobEnded:
        pass
    except MemoryError:
        run.end("out_of_memory", "checking the answer took too much memory")
    except BaseException as error:
        run.end("failed", program_run.describe(error))


class _alarm:  # noqa: N801
    """Ends trusted code that a hostile value keeps busy for more than ``cpu_s`` of CPU time.

    Python handles signals between two instructions; for a single endless one see ``_answer``.
    """

    def __init__(self, cpu_s: float, run: ProgramRun) -> None:
        self._seconds = cpu_s + 1.0
        self._run = run

    def __enter__(self) -> None:
        signal.signal(signal.SIGPROF, self._raise)
        # Repeated, in case the tests caught the first.
        signal.setitimer(signal.ITIMER_PROF, self._seconds, 0.05)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _raise(self, *_: object) -> None:
        self._run.end("timeout", "checking the answer took too long")
        raise JobEnded


def _answer(server: SandboxProcess, job: dict[str, Any]) -> dict[str, Any]:
    """Verify a job; SIGVTALRM ends this process if that takes too much CPU time.

    ``sum`` of an endless range is one instruction: no Python handler runs before its end.
    """
    signal.setitimer(signal.ITIMER_VIRTUAL, job["limits"]["cpu_s"] + 2.0)
    try:
        return verify(server, job)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def main(channel_fd: int, folder: str) -> None:
    """Serve jobs until the executor closes its end; then remove ``folder``."""
    kernel.hide_memory()
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    channel = socket.socket(fileno=channel_fd)
    limit = layers.mapped_bytes() + (2 << 30)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    server = SandboxProcess(folder)
    gc.collect()
    gc.freeze()
    try:
        while True:
            job = codec.receive(channel, more_may_follow=True)
            try:
                server.control()
                reply = _answer(server, job) if "program" in job else {}
                reply |= {"layers": server.layers, "refused": server.refused}
            except SandboxLostError as error:
                server.close()
                reply = {"outcome": "infrastructure_error", "detail": str(error), "layers": []}
            except Exception as error:  # in the check itself: a retry would fail again
                server.close()
                detail = f"the check broke: {type(error).__name__}"
                reply = {"outcome": "failed", "detail": detail, "layers": server.layers}
            codec.send(channel, reply | {"warm": server.is_running})
    except (EOFError, ConnectionError):
        pass
    finally:
        server.close()
        with contextlib.suppress(OSError):
            scratch.remove(folder)
