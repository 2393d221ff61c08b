"""``exchange=fedavg``: adapters of equal backbones become their mean (McMahan et al. 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from knexa.agents.exchange_protocol import GroupTransfer, RoundContext
from knexa.exchange.ensemble import average_tensors
from knexa.exchange.tensors import pack, schema_of, unpack
from knexa.protocols.adapters import AdapterExchange, ReceivedAdapter
from knexa.protocols.groups import (
    SERVER,
    common_fields,
    fetched_packages,
    training_sizes,
    upload_kilobytes,
)


@dataclass(frozen=True, kw_only=True)
class AdapterAveraging(AdapterExchange):
    """A group's adapters become their mean, weighted by training set size.

    All members begin with the same adapter, so that averaging A and B separately makes sense.
    """

    name: ClassVar[str] = "fedavg"
    pairs: ClassVar[bool] = False
    shares_start: ClassVar[bool] = True

    @property
    def share(self) -> float:
        """1: the mean already includes the student's own adapter."""
        return 1.0

    def deliver(
        self, context: RoundContext, teachers: Sequence[int], students: Sequence[int]
    ) -> GroupTransfer:
        """Return the members' mean adapter."""
        taught = fetched_packages(context, teachers)
        sizes_K = training_sizes(context, teachers)
        adapters = [r.adapter for _, r in taught if isinstance(r, ReceivedAdapter)]
        mean = average_tensors(adapters, sizes_K)
        sent = pack("adapter", SERVER, context.round_number, mean)
        received = ReceivedAdapter(
            guardrail=taught[0][1].guardrail, adapter=unpack(sent, "adapter", schema_of(mean))
        )
        return GroupTransfer(
            received=received,
            kilobytes=len(sent) / 1024,
            shared_kilobytes=upload_kilobytes(taught),
            **common_fields(taught),
        )
