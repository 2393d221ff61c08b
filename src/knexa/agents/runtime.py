"""What a process needs to run phases: the frozen backbones, the data and the components.

A runtime is built once per process, before workers are forked, so that they share its backbones. It
holds nothing that lasts from phase to phase: every phase begins by loading its agent's adapter.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from knexa.agents.byzantine import ByzantineAgents
from knexa.agents.state import AgentState, KeptText
from knexa.agents.text import encode_example, encode_prompt
from knexa.agents.training import Example, Training
from knexa.data.problem import Problem
from knexa.evaluation.settings import Evaluation

if TYPE_CHECKING:
    from knexa.backbones.load import LoadedBackbone
    from knexa.backbones.pool import BackbonePool
    from knexa.backbones.roster import Agent, Roster
    from knexa.data.benchmark import Benchmark
    from knexa.data.partition import AgentData
    from knexa.evaluation import Executor
    from knexa.exchange.guardrail.filter import Guardrail


@dataclass(kw_only=True)
class Runtime:
    """The constant inputs of every phase of one run.

    Attributes:
        secret_noise: Whether the noise of private training comes from the system's entropy instead
            of the run's seed, which all organisations of a network know.
        servers: Server agents, which have no private data; their indices follow the agents'.
        measure: The quantity that rewards compare (``matchmaking.rewards.Measure``).
        measures_skills: Whether profiles show pass rates by category on the probe set.
        byzantine: The Byzantine agents, and their attacks.
        is_alone: Whether one process runs every phase of every agent.
    """

    seed: int
    num_rounds: int
    roster: "Roster"
    benchmark: "Benchmark"
    splits: "list[AgentData]"
    pool: "BackbonePool"
    executor: "Executor"
    training: Training
    evaluation: Evaluation
    guardrail: "Guardrail"
    accelerator: str
    secret_noise: bool = False
    servers: "tuple[Agent, ...]" = ()
    measure: str = "validation_loss"
    measures_skills: bool = False
    byzantine: ByzantineAgents = field(default_factory=ByzantineAgents)
    is_alone: bool = False
    transfer_by_id: dict[str, Problem] = field(init=False)

    def __post_init__(self) -> None:
        self.transfer_by_id = {problem.task_id: problem for problem in self.benchmark.transfer}

    @property
    def members(self) -> "tuple[Agent, ...]":
        """The agents and then the servers, by index."""
        return (*self.roster.agents, *self.servers)

    def private(self, index: int) -> "tuple[Problem, ...]":
        """Return a member's private training problems; a server has none."""
        return self.splits[index].train if index < len(self.splits) else ()

    def test(self, index: int) -> "tuple[Problem, ...]":
        """Return the test set as an agent's group means it."""
        group = self.splits[index].group
        return tuple(problem.as_meant_by(group) for problem in self.benchmark.test)

    def local_batches(self, index: int) -> int:
        """Return how many batches of private data a local update of a member takes."""
        batches_per_epoch = -(-len(self.private(index)) // self.training.batch_size)
        return self.training.local_epochs * batches_per_epoch

    def backbone(self, state: AgentState) -> "LoadedBackbone":
        """Return the agent's backbone with the state's adapter in its slot."""
        from knexa.backbones.load import load_adapter

        loaded = self.pool.put_to_work(self.members[state.index].backbone)
        load_adapter(loaded, state.adapter)
        return loaded

    def make_room(self) -> bool:
        """Free accelerator memory kept for other phases; return whether there was any."""
        return self.pool.make_room()

    def example(
        self, loaded: "LoadedBackbone", problem: Problem, completion: str | None = None
    ) -> Example:
        """Return the training sequence of a problem: its canonical solution unless one is given."""
        text = problem.canonical_solution if completion is None else completion
        length = min(self.training.max_length, loaded.max_length or self.training.max_length)
        return Example(*encode_example(loaded.tokenizer, problem.prompt, text, length))

    def kept_example(self, loaded: "LoadedBackbone", text: KeptText) -> Example:
        """Return the training sequence of a kept completion of a transfer problem."""
        example = self.example(loaded, self.transfer_by_id[text.task_id], text.completion)
        return replace(example, weight=text.weight)

    def prompt(self, loaded: "LoadedBackbone", problem: Problem) -> list[int]:
        """Return the tokens that a solution of the problem continues."""
        length = self.training.max_length
        if loaded.max_length is not None:  # room for the solution
            length = min(length, loaded.max_length - self.evaluation.max_new_tokens)
        return encode_prompt(loaded.tokenizer, problem.prompt, length)
