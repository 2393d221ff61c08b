"""What hidden tests say at the end of a run; nothing of it goes back to the agents."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from knexa.agents.state import KeptText
from knexa.data.problem import HiddenTests
from knexa.engine.local import num_cores
from knexa.evaluation import Execution, Executor, Limits, Outcome
from knexa.evaluation.hidden_tests import run_hidden
from knexa.tracking.rows import SampleRow, VerifiedAnswers


class HiddenReport:
    """Judges final answers, and the answers that agents kept, by hidden tests."""

    def __init__(
        self,
        hidden: Iterable[HiddenTests],
        limits: Limits,
        *,
        beside_others: bool,
        is_strict: bool,
    ) -> None:
        """Use one core where other runs share the machine, else all of them."""
        self._hidden = {each.task_id: each for each in hidden}
        self._limits, self._is_strict = limits, is_strict
        self._num_workers = 1 if beside_others else num_cores()

    def __bool__(self) -> bool:
        """Return whether there are any hidden tests."""
        return bool(self._hidden)

    def judged(self, samples: Sequence[SampleRow]) -> list[SampleRow]:
        """Return the samples with ``outcome_plus``; hidden tests run where the public ones pass."""
        passed = [row for row in samples if row.outcome == Outcome.PASSED]
        found = iter(self._run([(row.task_id, row.completion) for row in passed]))
        return [
            replace(
                row,
                outcome_plus=str(next(found).outcome)
                if row.outcome == Outcome.PASSED
                else row.outcome,
            )
            for row in samples
        ]

    def verified(self, executor: Executor, stores: Sequence[Sequence[KeptText]]) -> VerifiedAnswers:
        """Return what of the answers that each agent keeps is wrong though it passes public tests.

        ``executor`` has run most of them before; answers that the sandbox loses do not count.
        """
        kept = [
            answer
            for store in stores
            for answer in dict.fromkeys((text.task_id, text.completion) for text in store)
        ]
        public = executor.run([(self._hidden[task].problem, text) for task, text in kept])
        passing = [each for each, run in zip(kept, public, strict=True) if run.passed]
        outcomes = [execution.outcome for execution in self._run(passing)]
        known = [each for each in outcomes if each is not Outcome.INFRASTRUCTURE_ERROR]
        wrong = sum(each is not Outcome.PASSED for each in known)
        return VerifiedAnswers(
            answers=len(known), wrong=wrong, wrong_share=wrong / len(known) if known else None
        )

    def _run(self, answers: Sequence[tuple[str, str]]) -> list[Execution]:
        return run_hidden(
            self._limits,
            [(self._hidden[task], completion) for task, completion in answers],
            num_workers=self._num_workers,
            is_strict=self._is_strict,
        )
