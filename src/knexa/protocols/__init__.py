"""The exchange protocols, one a file: what a teacher sends and how a student learns from it.

Shared by several: ``distillation`` (Eq. 2), ``text`` (answers as text), ``adapters`` and ``groups``
(many teachers). All that other packages need to know of a protocol is declared on the base class,
``agents.exchange_protocol.ExchangeProtocol``. Torch is imported when a phase runs, not here.
"""
