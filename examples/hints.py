# python -m knexa -cd . experiment=paired exchange=hints debug=smoke 'trusted_modules=[hints]'
from dataclasses import dataclass

from knexa.agents.exchange_protocol import ExchangeContext, OutgoingPackage, ReceivedKnowledge
from knexa.agents.solve import solved
from knexa.agents.state import AgentState, KeptText
from knexa.exchange.package import PackageError
from knexa.protocols.distillation import Distillation


@dataclass(frozen=True, kw_only=True)
class Hints(Distillation):
    """A curriculum: students learn the public reference solutions of what a teacher solves."""

    name, carries, has_text = "hints", "hints", False

    def teach(self, context: ExchangeContext, state: AgentState, sender: int) -> OutgoingPackage:
        problems = self.problems(context)
        passed = solved(context.runtime, state, problems)
        ids = [problem.task_id for problem, ok in zip(problems, passed, strict=True) if ok]
        return OutgoingPackage(teacher=sender, payload="\n".join(ids).encode(), items_sent=len(ids))

    def receive(self, context: ExchangeContext, package: OutgoingPackage) -> ReceivedKnowledge:
        ids = dict.fromkeys(package.payload.decode(errors="replace").splitlines())
        asked = {problem.task_id: problem.canonical_solution for problem in self.problems(context)}
        if not asked.keys() >= ids.keys():
            raise PackageError("the package names a problem that was not asked for")
        texts = [KeptText(task_id=each, completion=asked[each]) for each in ids]
        return ReceivedKnowledge(texts=tuple(texts))
