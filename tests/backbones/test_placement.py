"""Placement on a device that is none: models that note where they were sent, memory that counts."""

from types import SimpleNamespace

import pytest
import torch

from knexa.backbones.placement import Placement, num_bytes
from knexa.backbones.pool import BackbonePool

SIZE = 400  # bytes of a model's weights


class Model(torch.nn.Linear):
    def __init__(self) -> None:
        super().__init__(99, 1)
        self.where = "cpu"

    def to(self, device):
        self.where = device
        # What a move does: every parameter's data become new tensors.
        return super().double() if self.weight.dtype is torch.float32 else super().float()


class Card:
    """A device's memory of so many bytes, and what the phase at work needed beside the weights."""

    def __init__(self, models, size: int) -> None:
        self.models, self.size, self.needed, self.released = models, size, 0, 0
        self.begun = self.used()

    def used(self) -> int:
        return SIZE * sum(loaded.model.where == "card" for loaded in self.models.values())

    def free(self) -> int:
        return self.size - self.used()

    def peak(self) -> int:
        most, self.begun = self.used() + self.needed - self.begun, self.used()
        self.needed = 0
        return most

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def models():
    return {name: SimpleNamespace(name=name, model=Model()) for name in "abc"}


def there(models) -> str:
    return "".join(name for name, loaded in models.items() if loaded.model.where == "card")


def test_a_backbone_that_fits_stays_and_the_one_that_waited_longest_leaves(models):
    assert {num_bytes(loaded) for loaded in models.values()} == {SIZE}
    card = Card(models, 2 * SIZE + 100)
    placed = Placement("card", card)
    seen = []
    for name in "abacb":
        placed.put_to_work(models[name])
        seen.append(there(models))
    assert seen == ["a", "ab", "ab", "ac", "bc"]
    assert placed.moved == card.released == 2


def test_what_a_phase_needed_is_left_free_for_the_next_one_on_that_backbone(models):
    card = Card(models, 3 * SIZE + 100)
    placed = Placement("card", card)
    placed.put_to_work(models["b"])
    card.needed = 150  # more than is left beside three backbones
    for name in "ac":
        placed.put_to_work(models[name])
    assert there(models) == "ac"  # a stranger is taken to need as much as the greediest known
    placed.put_to_work(models["a"])
    placed.put_to_work(models["b"])
    assert there(models) == "ab"
    placed.put_to_work(models["c"])  # known by now to need nothing
    assert there(models) == "abc"
    placed.put_to_work(models["b"])
    assert there(models) == "bc"


def test_a_backbone_too_large_for_the_rest_has_the_device_alone(models):
    placed = Placement("card", Card(models, SIZE - 1))
    for name in "abc":
        placed.put_to_work(models[name])
        assert there(models) == name


def test_room_is_made_for_the_one_at_work_and_once(models):
    placed = Placement("card", Card(models, 10 * SIZE))
    for name in "abc":
        placed.put_to_work(models[name])
    assert placed.make_room()
    assert there(models) == "c"
    assert not placed.make_room()


def test_a_phase_that_found_the_device_full_finds_more_room_the_next_time(models):
    card = Card(models, 3 * SIZE + 100)
    placed = Placement("card", card)
    for name in "ab":
        placed.put_to_work(models[name])
    had = card.free()
    card.needed = 300  # the phase on b fails here: what it asked for next was too much
    assert placed.make_room()
    for name in "cab":
        placed.put_to_work(models[name])
    assert card.free() > had


def test_what_a_phase_needs_once_there_is_room_is_remembered(models):
    card = Card(models, 3 * SIZE + 100)
    placed = Placement("card", card)
    for name in "ab":
        placed.put_to_work(models[name])
    card.needed = card.free()
    assert placed.make_room()
    card.needed = 700  # the phase, run again
    for name in "cb":
        placed.put_to_work(models[name])
    assert card.free() >= 700


@pytest.fixture
def crowded(models, monkeypatch):
    """A device that takes one backbone at a time, whatever it says of itself."""
    move = Model.to

    def move_there(self, device):
        if device == "card" and there(models):
            self.where = "between"
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return move(self, device)

    monkeypatch.setattr(Model, "to", move_there)
    return Placement("card", Card(models, 10 * SIZE))


def test_a_backbone_that_finds_no_place_takes_anothers(models, crowded):
    for name in "aba":
        crowded.put_to_work(models[name])
        assert there(models) == name
    assert crowded.moved == 2


def test_a_backbone_that_finds_no_place_at_all_stays_on_the_host_whole(models, crowded):
    models["c"].model.where = "card"  # another process's
    with pytest.raises(torch.OutOfMemoryError):
        crowded.put_to_work(models["a"])
    assert models["a"].model.where == "cpu"
    assert not crowded.make_room()


def test_a_move_within_inference_mode_leaves_weights_that_can_be_trained(models):
    placed = Placement("card", Card(models, SIZE))
    with torch.inference_mode():
        placed.put_to_work(models["a"])
        placed.put_to_work(models["b"])
    for name in "ab":
        model = models[name].model
        model(torch.ones(99, dtype=model.weight.dtype)).backward()
        assert model.weight.grad is not None


def test_a_pool_on_the_cpu_moves_nothing_and_has_no_room_to_make(monkeypatch):
    monkeypatch.delattr("knexa.backbones.pool.CudaMemory")
    pool = BackbonePool({})
    loaded = SimpleNamespace(name="a", model=None)
    pool._loaded["a"] = loaded
    assert pool.put_to_work("a") is loaded
    assert not pool.make_room()


def test_a_pool_on_a_device_puts_its_backbones_there(models, monkeypatch):
    monkeypatch.setattr("knexa.backbones.pool.CudaMemory", lambda: Card(models, SIZE))
    pool = BackbonePool({}, device="card")
    pool._loaded.update(models)
    pool.get("a")
    assert there(models) == ""
    for name in "ab":
        assert pool.put_to_work(name) is models[name]
        assert there(models) == name
    assert not pool.make_room()
