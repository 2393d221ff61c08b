"""An agent's state between two phases: an immutable value that phases take and return."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from knexa.engine.object_refs import HasLarge

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptText:
    """A teacher's completion of a transfer problem, and its weight beside the others.

    Checkpoints leave the weight out: in rehearsal every text counts alike.
    """

    task_id: str
    completion: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The measurements that an agent's profile is made from, on its own or public data.

    ``pass_at_1``, ``codebleu`` and ``perplexity`` hold the last two measurements on the validation
    split, newest last. ``skills`` is the share of public transfer problems solved greedily, one
    value a category, where the profile shows it. ``learn_rewards`` and ``teach_rewards`` are the
    raw rewards (Eq. 3) of the agent's exchanges. ``sier`` is the share of the answers it last sent
    in which its own guardrail found something.
    """

    pass_at_1: tuple[float, ...] = ()
    codebleu: tuple[float, ...] = ()
    perplexity: tuple[float, ...] = ()
    train_loss: float | None = None
    teach_yield: float | None = None
    skills: tuple[float, ...] = ()
    learn_rewards: tuple[float, ...] = ()
    teach_rewards: tuple[float, ...] = ()
    sier: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState(HasLarge):
    """One agent's state; phases return a new one and never change it in place.

    Attributes:
        index: The agent's place in the roster.
        adapter: LoRA tensors by parameter name, fp32 on the CPU.
        optimizer: AdamW moments, ``exp_avg/<name>`` and ``exp_avg_sq/<name>``; empty before
            training.
        optimizer_steps: AdamW steps taken so far.
        replay: Teacher text that the agent keeps and rehearses, oldest first.
        history: The measurements that its profile is made from.
    """

    large: ClassVar[tuple[str, ...]] = ("adapter", "optimizer", "replay")

    index: int
    adapter: "dict[str, torch.Tensor]"
    optimizer: "dict[str, torch.Tensor]" = field(default_factory=dict)
    optimizer_steps: int = 0
    replay: tuple[KeptText, ...] = ()
    history: History = field(default_factory=History)

    @property
    def kept_problems(self) -> set[str]:
        """The transfer problems to which the agent keeps text; ``replay`` must be here."""
        return {text.task_id for text in self.replay}

    def with_history(self, **changes: Any) -> "AgentState":
        """Return the state with those fields of its history replaced."""
        return replace(self, history=replace(self.history, **changes))

    def after_teaching(self, *, items_kept: int, items_sent: int, reward: float) -> "AgentState":
        """Return the teacher of a pair with the outcome of the exchange in its history."""
        return self.with_history(
            teach_yield=items_kept / max(items_sent, 1),
            teach_rewards=(*self.history.teach_rewards, reward),
        )

    def after_learning(self, reward: float) -> "AgentState":
        """Return the student with the exchange's reward in its history."""
        return self.with_history(learn_rewards=(*self.history.learn_rewards, reward))


def save_state(path: Path, state: AgentState) -> None:
    """Write an agent's state to one safetensors file."""
    from knexa.tracking.tree_file import save_tree

    save_tree(
        path,
        {
            "index": state.index,
            "adapter": state.adapter,
            "optimizer": state.optimizer,
            "optimizer_steps": state.optimizer_steps,
            "replay": [[item.task_id, item.completion] for item in state.replay],
            "history": asdict(state.history),
        },
    )


def load_state(path: Path) -> AgentState:
    """Read the state that ``save_state`` wrote, bit for bit."""
    from knexa.tracking.tree_file import load_tree

    tree = load_tree(path)
    history: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in tree["history"].items()
    }
    return AgentState(
        index=tree["index"],
        adapter=tree["adapter"],
        optimizer=tree["optimizer"],
        optimizer_steps=tree["optimizer_steps"],
        replay=tuple(KeptText(task_id=task, completion=text) for task, text in tree["replay"]),
        history=History(**history),
    )
