"""The exchange protocols, one a file: what a teacher sends and how a student learns from it.

Shared by several: ``distillation`` (Eq. 2), ``text`` (answers as text) and ``adapters``. Nothing
outside this room asks which protocol a run has; what others must know is declared on the base
class, ``agents.exchange_protocol.ExchangeProtocol``. Torch is imported when a phase runs, not here.
"""
