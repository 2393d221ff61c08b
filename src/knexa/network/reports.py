"""What a student reports of a directive: the message that carries it, and what cannot be."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isclose, isfinite
from typing import Any, Final

from knexa.matchmaking.answers import TopicAnswers
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.plans import Directive, Feedback
from knexa.matchmaking.rewards import Reward
from knexa.network import messages
from knexa.network.refusals import RefusedError

OUTCOMES: Final = {
    messages.Report.LEARNED: "learned",
    messages.Report.LOST: "lost",
    messages.Report.REFUSED: "refused",
}
_CODES: Final = {outcome: code for code, outcome in OUTCOMES.items()}
GUARDRAIL_KINDS: Final = ("blocked", "redacted", "counted")
_MAX_ITEMS: Final = 1 << 20
_COUNTS: Final = ("category", "asked", "right", "new")


@dataclass(frozen=True, kw_only=True)
class StudentReport:
    """A student's report on a directive.

    ``outcome`` is ``learned``, ``lost`` or ``refused``; the coordinator sets ``dropped`` itself.
    ``answers`` are counts by topic, where it learned under a reward of answers.
    """

    outcome: str
    reward: float = 0.0
    kilobytes: float = 0.0
    items_sent: int = 0
    items_kept: int = 0
    guardrail: dict[str, int] = field(default_factory=dict)
    answers: tuple[TopicAnswers, ...] = ()

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "StudentReport":
        """Return the report that ``dataclasses.asdict`` was given."""
        answers = tuple(TopicAnswers(**counts) for counts in fields["answers"])
        return cls(**{**fields, "answers": answers})


def report_message(directive_id: str, report: StudentReport) -> Any:
    """Return a report as a ``messages.Report``."""
    answers = [messages.TopicAnswers(**asdict(counts)) for counts in report.answers]
    fields = {name: getattr(report, name) for name in StudentReport.__dataclass_fields__}
    told = {"outcome": _CODES[report.outcome], "answers": answers}
    return messages.Report(directive_id=directive_id, **{**fields, **told})


def read_report(message: Any) -> StudentReport:
    """Return the report that a peer's ``messages.Report`` carries, of any size as yet.

    Raises:
        RefusedError: It has an outcome that there is not.
    """
    if message.outcome not in OUTCOMES:
        raise RefusedError("feedback", f"there is no outcome {message.outcome}")
    return StudentReport(
        outcome=OUTCOMES[message.outcome],
        reward=message.reward,
        kilobytes=message.kilobytes,
        items_sent=message.items_sent,
        items_kept=message.items_kept,
        guardrail=dict(message.guardrail),
        answers=tuple(
            TopicAnswers(**{name: getattr(counts, name) for name in _COUNTS})
            for counts in message.answers
        ),
    )


def check_report(report: StudentReport, directive: Directive, cpm: CPM, reward: Reward) -> None:
    """Refuse a report that no honest student of the directive makes.

    Raises:
        RefusedError: Reward or counts cannot be, or the reward is not what the counts are worth.
    """
    id_, answers, topics = directive.id, report.answers, cpm.topics
    is_counted, counted = reward.of_answers and report.outcome == "learned", tuple[int, ...]()
    if is_counted:
        wanted = topics.categories if directive.topics is None else directive.topics
        counted = tuple(category for category in topics.categories if category in wanted)
    if tuple(each.category for each in answers) != counted:
        raise RefusedError("feedback", f"{id_} is counted on other topics than it asks about")
    try:
        cpm.check(Feedback(directive_id=id_, reward=report.reward, answers=answers))
    except ValueError as error:
        raise RefusedError("feedback", str(error)) from None
    if is_counted and not isclose(report.reward, reward.worth(answers, topics)):
        raise RefusedError(
            "feedback", f"{id_}: a reward of {report.reward:g} is not what its answers are worth"
        )
    if not (isfinite(report.kilobytes) and 0 <= report.kilobytes < 1e9):
        raise RefusedError("feedback", "no package has so many kilobytes")
    counts = [report.items_sent, report.items_kept, *report.guardrail.values()]
    kinds = set(report.guardrail)
    if not all(0 <= count <= _MAX_ITEMS for count in counts) or kinds - set(GUARDRAIL_KINDS):
        raise RefusedError("feedback", "the counts of a package are implausible")
