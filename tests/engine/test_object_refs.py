"""Object references, with a dictionary of pickled values in place of an object store."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from knexa.agents.state import AgentState, History
from knexa.engine import serialization
from knexa.engine.object_refs import (
    HasLarge,
    ObjectRef,
    bytes_or_digest,
    dump_result,
    dump_task,
    fetched,
    load_result,
    load_task,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent(HasLarge):
    large: ClassVar[tuple[str, ...]] = ("text", "items", "absent")

    text: bytes
    items: tuple[str, ...] = ()
    absent: Any = None
    sender: int = 0


def left(value: Any, store: dict[str, list[bytes]], name: str) -> Any:
    """Return what the main process finds of a result that a worker left in the store."""
    data, store[name] = dump_result(value)
    return load_result(data, name, store.__getitem__)


def test_large_fields_stay_and_are_there_again_in_the_next_task() -> None:
    store: dict[str, list[bytes]] = {}
    found, note = left((Sent(text=b"abc", items=("x", "y"), sender=4), "note"), store, "first")
    other = left(Sent(text=b"abc"), store, "second")
    assert (found.sender, note, len(found.text), len(found.items)) == (4, "note", 3, 2)
    assert isinstance(found.text, ObjectRef)
    assert found.absent is None
    assert other.items == ()  # nothing to leave
    assert bytes_or_digest(found.text) == bytes_or_digest(other.text) != bytes_or_digest(b"abc")
    data, references = dump_task((replace(found, sender=5), other.text, found.items))
    assert references == ["first", "second"]
    sent, text, items = load_task(data, [store[name] for name in references])
    assert sent == Sent(text=b"abc", items=("x", "y"), sender=5)
    assert (text, items) == (b"abc", ("x", "y"))


def test_a_package_that_changed_in_the_store_is_refused() -> None:
    store: dict[str, list[bytes]] = {}
    found = left(Sent(text=b"abc"), store, "first")
    data, (name,) = dump_task((found,))
    store[name] = [serialization.dump(b"abd")]
    with pytest.raises(ValueError, match="does not match its digest"):
        load_task(data, [store[name]])


def test_an_agents_tensors_are_fetched_for_its_checkpoint_alone() -> None:
    import torch

    store: dict[str, list[bytes]] = {}
    state = AgentState(index=3, adapter={"a": torch.arange(3.0)}, optimizer_steps=7)
    found = left(state, store, "state").with_history(train_loss=0.5)
    assert isinstance(found.adapter, ObjectRef)
    whole = fetched(found)
    assert whole.adapter["a"].tolist() == [0.0, 1.0, 2.0]
    assert (whole.index, whole.optimizer_steps, whole.optimizer) == (3, 7, {})
    assert whole.history == History(train_loss=0.5)
    assert fetched(state) == state
