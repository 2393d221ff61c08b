"""The roster: agents, their frozen backbones, and settings that follow from the models' size.

These are descriptions; ``knexa.backbones.load`` turns a ``Backbone`` into a model.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from knexa.recipe import AddedLater
from knexa.seeding import derive_rng

Family = Literal["qwen2", "gpt2", "bloom", "gpt_neox", "llama", "mistral", "phi", "other"]
"""Architecture families, in the order of a profile's one-hot bins (paper, section on profiles)."""

FAMILIES: tuple[Family, ...] = get_args(Family)

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
"""The precision of training, by Lightning's names."""

EMBEDDED_PREFIX = "embedded:"
"""A source that starts with this names a model that ships inside the package."""

CACHE_PREFIX = "cache:"
"""A source that starts with this names a model that ``knexa fetch`` put into the model cache."""

GGUF_PREFIX = "gguf:"
"""A source that starts with this names a GGUF file."""


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A LoRA adapter's shape (Hu et al. 2021): the update is ``alpha / rank * B @ A``.

    ``target_modules`` of None means every linear layer of the architecture's blocks
    (``knexa.backbones.lora.target_modules``).
    """

    rank: Annotated[int, Field(ge=1)]
    alpha: Annotated[int | float, Field(gt=0, description="a number > 0")]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    target_modules: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A frozen causal language model and the adapter that is attached to it.

    Attributes:
        source: ``embedded:tiny-qwen2``, ``cache:smollm2``, ``gguf:FILE``, a hub id such as
            ``Qwen/Qwen1.5-0.5B``, or a local folder.
        family: The architecture; decides the LoRA target modules and the profile's one-hot bin.
        lora: The adapter's shape.
        revision: Commit of the hub repository, or the SHA-256 (hex) of the GGUF file that a
            ``cache:`` or ``gguf:`` source must come from; None pins nothing.
        dtype: Type of the frozen weights in memory; adapters are always float32.
        max_length: Tokens of its sequences at most, solutions included, for a model that reads less
            than others of the roster: prompts keep their last tokens. None is the run's limits.
    """

    source: Annotated[str, Field(min_length=1)]
    family: Family
    lora: Lora
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_length: Annotated[Annotated[int, Field(ge=32)] | None, AddedLater(None)] = None


@dataclass(frozen=True, kw_only=True)
class Agent:
    """One member of the federation: its name and the backbone that its adapter belongs to."""

    name: Annotated[str, Field(min_length=1)]
    backbone: str


Attack = Literal["garbage", "wrong", "copied", "inflated", "forged", "sybil"]
"""What a byzantine agent does; implemented in ``knexa.agents.byzantine``."""


@dataclass(frozen=True, kw_only=True)
class Byzantine:
    """Byzantine agents, which lie to their peers and to the CPM.

    Attributes:
        num: How many lie.
        attack: What all of them do, one or several at once: teach ``garbage``, subtly ``wrong``
            programs or ``copied`` text; show ``inflated`` profiles; report ``forged`` rewards;
            be one agent under several names that praise each other (``sybil``).
        agents: Indices of agents of which the first ``num`` lie. None draws them in an order that
            depends on the run's seed alone, so that at one seed every method has the same Byzantine
            agents, and a larger ``num`` has those of a smaller one.
        forged_reward: Size of the raw reward that a forged report claims; the CPM refuses more than
            ``Reward.largest``.
    """

    num: Annotated[int, Field(ge=0)] = 0
    attack: Attack | Annotated[tuple[Attack, ...], Field(min_length=1)] = "wrong"
    agents: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    forged_reward: Annotated[float, Field(gt=0, le=1000)] = 1.0

    @property
    def attacks(self) -> frozenset[Attack]:
        """All attacks of the byzantine agents."""
        return frozenset([self.attack] if isinstance(self.attack, str) else self.attack)

    def check(self, num_agents: int) -> None:
        """Check that these byzantine agents exist and that at least one agent is honest.

        Raises:
            ValueError: Too many of them, or an agent that does not exist or is named twice.
        """
        if self.num >= num_agents:
            raise ValueError(
                f"byzantine.num={self.num} of {num_agents} agents leaves nobody honest to measure: "
                f"allowed are 0 to {num_agents - 1}"
            )
        named = range(num_agents) if self.agents is None else self.agents
        if len(set(named)) < len(named) or max(named, default=-1) >= num_agents:
            raise ValueError(
                f"byzantine.agents={list(named)} must name different agents by index, 0 to "
                f"{num_agents - 1}"
            )
        if self.num > len(named):
            raise ValueError(
                f"byzantine.agents={list(named)} names fewer than byzantine.num={self.num} agents: "
                "name more, or set it to null"
            )

    def draw(self, seed: int, num_agents: int) -> tuple[int, ...]:
        """Return the indices of the run's byzantine agents."""
        if self.agents is not None:
            return self.agents[: self.num]
        order = derive_rng(seed, "byzantine").permutation(num_agents)
        return tuple(int(agent) for agent in order[: self.num])


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """Settings that depend on the size of the models; other config groups interpolate them.

    A learning rate that tunes a 0.5B model does nothing to a 0.5M one, so the defaults of
    ``training``, ``evaluation`` and ``regret`` come from the roster.

    Attributes:
        local_learning_rate: Learning rate of the local update.
        kd_learning_rate: Learning rate of distillation.
        batch_size: Examples per forward pass.
        accumulate: Forward passes per optimizer step.
        local_epochs: Passes over the private data per round.
        exchange_steps: Optimizer steps of one exchange.
        max_length: Tokens of prompt and completion together.
        num_rounds: Rounds of the federation.
        regret_every: Counterfactual probes every so many rounds; 0 is never.
        max_new_tokens: Longest completion, in tokens.
        precision: Of training: 32 bits, or mixed on frozen weights that stay in 32.
        exchange_problems: Transfer problems that a teacher answers in a round; None is all.
    """

    local_learning_rate: Annotated[float, Field(gt=0)]
    kd_learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=1)]
    accumulate: Annotated[int, Field(ge=1)]
    local_epochs: Annotated[int, Field(ge=0)]
    exchange_steps: Annotated[int, Field(ge=1)]
    max_length: Annotated[int, Field(ge=8)]
    num_rounds: Annotated[int, Field(ge=0)]
    regret_every: Annotated[int, Field(ge=0)]
    max_new_tokens: Annotated[int, Field(ge=1)]
    precision: Precision
    exchange_problems: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, kw_only=True)
class Roster:
    """The federation's members, in roster order; an agent's index here is its index everywhere.

    ``size`` says how many there are, where the list is not meant: fewer are its first ones, and
    more repeat its backbones in the order of their first use, under names of their own.
    ``server`` names the backbone of a server agent, for matchmakers that have one; None is the
    first agent's. ``byzantine`` says which agents lie; servers never do.
    """

    name: ClassVar[str] = "roster"

    agents: tuple[Agent, ...]
    backbones: dict[str, Backbone]
    recommended: Recommended
    size: Annotated[int, Field(ge=2)] | None = None
    server: str | None = None
    byzantine: Byzantine = field(default_factory=Byzantine)

    def __post_init__(self) -> None:
        """Check that names are unique and refer to something."""
        if not self.agents:
            raise ValueError("agents is empty: name at least one agent")
        names = [agent.name for agent in self.agents]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(
                f"agents uses the name {repeated[0]!r} more than once: give each its own"
            )
        for agent in self.agents:
            if agent.backbone not in self.backbones:
                raise ValueError(
                    f"agent {agent.name!r} stands on backbone {agent.backbone!r}, which is not in "
                    f"backbones; known are {', '.join(sorted(self.backbones)) or 'none'}"
                )
        if self.size is not None:
            object.__setattr__(self, "agents", _resized(self.agents, self.size))
        if self.server is not None and self.server not in self.backbones:
            raise ValueError(
                f"server={self.server!r} is not in backbones; known are "
                f"{', '.join(sorted(self.backbones))}"
            )
        self.byzantine.check(self.num_agents)

    def servers(self, number: int) -> tuple[Agent, ...]:
        """Return that many server agents; their indices follow the agents'."""
        backbone = self.agents[0].backbone if self.server is None else self.server
        names = ["server"] if number == 1 else [f"server-{i}" for i in range(number)]
        return tuple(Agent(name=name, backbone=backbone) for name in names[:number])

    @property
    def num_agents(self) -> int:
        """Number of agents."""
        return len(self.agents)

    @property
    def used_backbones(self) -> tuple[str, ...]:
        """Names of the backbones that members use, in order of first use."""
        named = [] if self.server is None else [self.server]
        return tuple(dict.fromkeys([*(agent.backbone for agent in self.agents), *named]))

    def backbone_of(self, agent: int) -> Backbone:
        """Return the backbone of the agent with that roster index."""
        return self.backbones[self.agents[agent].backbone]


def _resized(agents: tuple[Agent, ...], size: int) -> tuple[Agent, ...]:
    """Return the first ``size`` agents; those beyond the list stand on its backbones in turn."""
    members = list(agents[:size])
    backbones = list(dict.fromkeys(agent.backbone for agent in agents))
    while len(members) < size:
        backbone = backbones[len(members) % len(backbones)]
        taken = {agent.name for agent in members}
        number = 1 + sum(agent.backbone == backbone for agent in members)
        while f"{backbone}-{number}" in taken:
            number += 1
        members.append(Agent(name=f"{backbone}-{number}", backbone=backbone))
    return tuple(members)
