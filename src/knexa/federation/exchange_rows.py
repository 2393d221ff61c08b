"""The row of a directive that ended, the same in one process and over a network."""

from knexa.federation.world import Exchange
from knexa.tracking.rows import ExchangeRow


def exchange_row(
    round_number: int,
    exchange: Exchange,
    *,
    issued_round: int,
    outcome: str,
    normalised: float | None,
) -> ExchangeRow:
    """Return a directive's row of exchanges.jsonl, without the columns of virtual time.

    Args:
        round_number: The round in which it ended.
        exchange: What came of it; where nobody learned, what it cost.
        issued_round: The round whose plan it is from.
        outcome: ``delivered``, in time or not, or why nobody learned.
        normalised: Its reward as the matchmaker learns it; None: nobody learned.
    """
    directive, answers = exchange.directive, exchange.answers
    is_late = outcome == "delivered" and issued_round < round_number
    return ExchangeRow(
        id=directive.id,
        round=round_number,
        teachers=directive.teachers,
        students=directive.students,
        protocol=directive.protocol,
        score=directive.score,
        reward_raw=None if normalised is None else exchange.reward,
        reward_normalised=normalised,
        kilobytes=exchange.kilobytes,
        items_sent=exchange.items_sent,
        items_kept=exchange.items_kept,
        topics=directive.topics,
        answers_asked=sum(each.asked for each in answers) if answers else None,
        answers_right=sum(each.right for each in answers) if answers else None,
        answers_new=sum(each.new for each in answers) if answers else None,
        guardrail=exchange.guardrail,
        server=exchange.server,
        outcome="late" if is_late else outcome,
        issued_round=issued_round,
    )
