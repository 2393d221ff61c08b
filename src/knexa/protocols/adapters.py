"""Shared by ``adapter`` and ``fedavg``, whose packages are adapters; nothing is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from knexa.agents.exchange_protocol import (
    NOTHING_FOUND,
    Common,
    ExchangeContext,
    ExchangeProtocol,
    Learned,
    Measurement,
    OutgoingPackage,
    ReceivedKnowledge,
    summed,
)
from knexa.agents.state import AgentState
from knexa.agents.training import FitReport
from knexa.exchange.ensemble import average_tensors
from knexa.exchange.tensors import pack, unpack


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedAdapter(ReceivedKnowledge):
    """A teacher's adapter, or the mean of many: tensors by name, one item."""

    large: ClassVar[tuple[str, ...]] = ("adapter",)

    adapter: Mapping[str, NDArray[Any]]

    @property
    def items_kept(self) -> int:
        """Number of sent items that are learned from."""
        return 1


class AdapterExchange(ExchangeProtocol):
    """Base of the protocols whose agents send their adapters to others with the same backbone."""

    common: ClassVar[Common] = "backbone"
    carries: ClassVar[str] = "adapter"
    has_text: ClassVar[bool] = False
    by_topic: ClassVar[bool] = False

    @property
    def share(self) -> float:
        """How far a student's adapter moves towards the received one, 0 to 1."""
        raise NotImplementedError

    def teach(self, context: ExchangeContext, state: AgentState, sender: int) -> OutgoingPackage:
        """Return the adapter."""
        arrays = {name: tensor.numpy() for name, tensor in state.adapter.items()}
        name = context.runtime.members[state.index].name
        return OutgoingPackage(
            teacher=state.index,
            payload=pack("adapter", name, context.round_number, arrays),
            items_sent=1,
            guardrail=NOTHING_FOUND,
        )

    def receive(self, context: ExchangeContext, package: OutgoingPackage) -> ReceivedAdapter:
        """Return the adapter.

        Raises:
            PackageError: The package does not hold exactly the backbone's LoRA tensors.
        """
        runtime = context.runtime
        loaded = runtime.pool.get(runtime.members[package.teacher].backbone)
        schema = {
            name: ("float32", tuple(parameter.shape))
            for name, parameter in loaded.adapter_parameters.items()
        }
        arrays = unpack(package.payload, "adapter", schema)
        return ReceivedAdapter(guardrail=NOTHING_FOUND, adapter=arrays)

    def combine(self, received: Sequence[ReceivedKnowledge]) -> ReceivedKnowledge:
        """Return the plain mean of the adapters."""
        each = [r for r in received if isinstance(r, ReceivedAdapter)]
        mean = average_tensors([r.adapter for r in each], np.ones(len(each)))
        return replace(each[0], guardrail=summed([r.guardrail for r in each]), adapter=mean)

    def learn(
        self,
        context: ExchangeContext,
        state: AgentState,
        received: ReceivedKnowledge | None,
        before: Measurement,
    ) -> tuple[AgentState, Learned]:
        """Move the adapter towards the received one; AdamW's moments do not change."""
        import torch

        from knexa.agents.scoring import measure

        kept = 0
        if isinstance(received, ReceivedAdapter):
            other = {name: torch.from_numpy(array) for name, array in received.adapter.items()}
            mixed = {
                name: (1.0 - self.share) * own + self.share * other[name]
                for name, own in state.adapter.items()
            }
            state, kept = replace(state, adapter=mixed), received.items_kept
        after = measure(context.runtime, state)
        return state, Learned(before, after, FitReport(None, 0, 0), kept)
