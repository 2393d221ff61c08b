"""Phases in Ray actors; one Ray for all tests of this file, and one whole run of its own."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from knexa.engine import object_refs, serialization
from knexa.engine.local import Workers
from knexa.engine.object_refs import HasLarge, ObjectRef, bytes_or_digest, fetched
from knexa.engine.ray import Ray, RayPool, _Actor
from knexa.errors import MachineError, UserError
from tests.whole_runs import files, run

pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    # Ray leaves its logs' files and sockets to the interpreter's end.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent(HasLarge):
    large: ClassVar[tuple[str, ...]] = ("text", "numbers")

    text: bytes = b""
    numbers: Any = None
    sender: int


def where(context: Path, left: int, right: int) -> tuple[int, int]:
    assert context.is_dir()
    return left + right, os.getpid()


def fail(context: Any, value: int) -> int:
    raise ValueError(f"agent {value}")


def die(context: Path, value: int, num_deaths: int) -> int:
    """Be killed by the kernel the first ``num_deaths`` times that task 3 is tried."""
    tried = context / f"tried-{value}"
    tried.write_text(tried.read_text() + "x" if tried.exists() else "x")
    if value == 3 and len(tried.read_text()) <= num_deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return value**2


def interrupt(context: Any, process: int) -> None:
    """Press Ctrl-C in the main process, and work on until it does something about that."""
    os.kill(process, signal.SIGINT)
    threading.Event().wait()


def write(context: Any, sender: int) -> tuple[Sent, str]:
    import torch

    return Sent(text=b"answer" * 100, numbers={"a": torch.full((3,), 0.1)}, sender=sender), "note"


def read(context: Any, sent: Sent, text: bytes) -> tuple[int, bytes, float]:
    return sent.sender, sent.text[:6] + text[-6:], float(sent.numbers["a"][0])


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayPool]:
    """Two workers, whose context is a folder."""
    with pytest.MonkeyPatch.context() as patch:
        folders = Path(__file__).parents[:2]  # the workers import these phases
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
        workers = Workers(2, "cpu", "test", remote=True)
        with Ray().pool(workers, tmp_path_factory.mktemp("context")) as started:
            yield started


def test_results_come_in_task_order_from_actors(pool: RayPool) -> None:
    results = pool.map(where, [(i, 2 * i) for i in range(8)], range(8), sizes=range(8))
    assert [value for value, _ in results] == [3 * i for i in range(8)]
    processes = {pid for _, pid in results}
    assert os.getpid() not in processes
    assert len(processes) <= 2


def test_a_package_goes_from_teacher_to_student_past_the_main_process(
    pool: RayPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sent, note), (other, _) = pool.map(write, [(0,), (1,)], range(2))
    assert note == "note"
    assert isinstance(sent.text, ObjectRef)
    assert len(sent.text) == 600
    assert len(bytes_or_digest(sent.text)) == 32
    assert bytes_or_digest(sent.text) == bytes_or_digest(other.text)  # the same content
    core = pool._ray._private.worker.global_worker.core_worker
    for ref in (sent.text, sent.numbers, other.text):  # nothing in this process's own store
        assert not core.object_exists(ref.reference, memory_store_only=True)
    with monkeypatch.context() as patch:
        patch.setattr(ObjectRef, "fetch", lambda self: pytest.fail("read by the main process"))
        tasks = [(sent, other.text), (other, sent.text)]
        assert pool.map(read, tasks, range(2)) == [
            (0, b"answeranswer", pytest.approx(0.1)),
            (1, b"answeranswer", pytest.approx(0.1)),
        ]
    assert fetched(sent).text == b"answer" * 100
    assert fetched(sent).numbers["a"].tolist() == pytest.approx([0.1] * 3)


def test_a_phases_error_reaches_the_caller(pool: RayPool) -> None:
    with pytest.raises(ValueError, match="agent 3") as raised:
        pool.map(fail, [(3,)], [3])
    assert "in fail" in raised.value.__notes__[0]


def test_a_killed_worker_is_replaced_once(pool: RayPool, caplog: pytest.LogCaptureFixture) -> None:
    assert pool.map(die, [(i, 1) for i in range(6)], range(6)) == [0, 1, 4, 9, 16, 25]
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "a Ray worker died during die" in record.getMessage()
    with pytest.raises(MachineError, match="died during die, twice") as raised:
        pool.map(die, [(3, 4)], [3])
    assert "\n" not in str(raised.value)


def test_an_interrupt_ends_what_the_workers_are_at(pool: RayPool) -> None:
    with pytest.raises(KeyboardInterrupt):
        pool.map(interrupt, [(os.getpid(),)], [0])
    assert pool.map(where, [(1, 2)], [0])[0][0] == 3  # by workers that are new


def test_more_workers_than_the_cluster_has_room_for_are_refused(pool: RayPool) -> None:
    workers = Workers(3, "cpu", "test", remote=True)
    with pytest.raises(UserError, match=r"engine.num_workers=3 .* needs 3 CPUs and Ray has 2"):
        Ray().pool(workers, None).__enter__()


def test_a_clusters_share_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="needs num_workers"):
        Ray(address="auto")
    chosen = Ray(address="auto", num_workers=8, num_gpus=0.25).choose(12)
    assert (chosen.num_workers, chosen.accelerator, chosen.remote) == (8, "gpu", True)
    assert "0.25 GPU" in chosen.reason
    assert Ray(address="auto", num_workers=8).choose(6).num_workers == 6  # one an agent


@pytest.mark.parametrize(("num_gpus", "given_back"), [(0.0, 0), (0.25, 1), (1.0, 0)])
def test_a_worker_that_shares_a_gpu_gives_back_what_a_phase_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_gpus: float, given_back: int
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("ray.get", lambda reference: reference)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: calls.append("empty_cache"))
    actor = _Actor([serialization.dump(tmp_path)], Ray(num_gpus=num_gpus))
    data, _ = object_refs.dump_task((where, (1, 2)))
    answer, _ = actor.run(data)
    assert serialization.result_of(answer)[0] == (3, os.getpid())
    assert len(calls) == given_back


def test_a_run_writes_the_same_bytes_as_in_one_process(tmp_path: Path) -> None:
    small = (
        "roster.agents=[{name: a, backbone: tiny-qwen2}, {name: b, backbone: tiny-gpt2}]",
        "federation.num_rounds=1",
        "data.num_train=24",
        "data.num_test=12",
        "regret=none",
    )
    alone, actors = tmp_path / "local", tmp_path / "ray"
    for folder, engine in ((alone, "local"), (actors, "ray")):
        folder.mkdir()
        number = 1 if engine == "local" else 2
        output = run(folder, *small, f"engine={engine}", f"engine.num_workers={number}")
        assert "ray::" not in output
        assert "RAY_" not in output
    assert files(actors) == files(alone)
