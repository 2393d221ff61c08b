"""The contents of a run directory's files: a class for each kind of row, and one for the summary.

All files but config.yaml and environment.json are written and read through these classes. Their
fields are the columns, in order; the text of a field is its meaning in docs/concepts.md
(``python -m knexa.tracking.rows`` prints the tables there).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, ClassVar, Literal

from pydantic import Field, SkipValidation

from knexa.data.problem import CATEGORIES
from knexa.statistics import Interval
from knexa.tracking.schema import Only, Record, Spread, table

SCHEMA_VERSION = 2
"""Increased when a column is added, removed or changed in meaning."""

RowsName = Literal["rounds", "exchanges", "regret", "timings"]


class Row(Record):
    """A line of ``<FILE>.jsonl``."""

    __slots__ = ()
    FILE: ClassVar[RowsName]


_Modelled = Annotated[float | None, Only("LLM agents only", beside="kilobytes_scouted")]
_Virtual = Annotated[float | None, Only("virtual time only", beside="finished_s")]
_TEXT = Only("LLM agents only")
_HIDDEN = Only("data with hidden tests only")
_Counts = Mapping[str, int]
_Shares = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRow(Row):
    """What was measured of one agent in one round."""

    FILE = "rounds"

    round: Annotated[int, "Round; 0 is before the first"]
    agent: Annotated[int, "Place in the roster, from 0"]
    name: Annotated[str, "The agent's name"]
    backbone: Annotated[str, "Its backbone; of a formula, its family"]
    train_loss: Annotated[_Modelled, "Mean loss of the local update, nats a token"] = None
    validation_loss: Annotated[_Modelled, "Loss on its own validation split, nats a token"] = None
    learn_loss: Annotated[_Modelled, "Mean loss of learning from a teacher, nats a token"] = None
    pass_at_1_greedy: Annotated[
        float | None,
        "Share of the test set that greedy answers solve; null: not measured",
        Field(alias="pass@1_greedy"),
    ]
    own_pass_at_1_greedy: Annotated[
        float | None,
        "The same, each category weighted by its share of the agent's own data",
        Field(alias="own_pass@1_greedy"),
    ]
    codebleu_compat: Annotated[_Modelled, "CodeBLEU of these answers, compat"] = None
    codebleu_fixed: Annotated[_Modelled, "CodeBLEU of these answers, fixed"] = None
    tokens_trained: Annotated[int, "Tokens trained on, in the update and in learning"]
    tokens_generated: Annotated[int, "Tokens generated in order to teach"]
    optimizer_steps: Annotated[int, "Optimizer steps, in the update and in learning"]
    kilobytes_received: Annotated[float, "kB of the packages that it learned from"]
    kilobytes_scouted: Annotated[_Modelled, "kB sent to choose peers by, and not learned from"] = (
        None
    )
    sier: Annotated[_Modelled, "Share of its answers that its guardrail found something in"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRow(AgentRow):
    """A row of rounds.jsonl: an agent in a round."""

    present: Annotated[bool, "Whether the agent was there"]
    busy: Annotated[bool, "Whether an exchange of an earlier round kept it busy"]
    copies_ignored: Annotated[int, "Copies of packages that it had already and ignored"]
    clock_s: Annotated[float, "End of the round, virtual seconds"]

    @classmethod
    def of(
        cls, row: AgentRow, *, present: bool, busy: bool, copies_ignored: int, clock_s: float
    ) -> "RoundRow":
        """Return the row with what the round loop knows of the agent."""
        measured = {field.name: getattr(row, field.name) for field in fields(AgentRow)}
        return cls(
            **measured, present=present, busy=busy, copies_ignored=copies_ignored, clock_s=clock_s
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganisationPrivacy(Record):
    """What differentially private training has cost one agent of a federation of processes."""

    delta: Annotated[float, "The chance that epsilon does not hold"]
    epsilon: Annotated[float, "Spent so far"]
    noise_multiplier: Annotated[float, "Noise of a step, over the clipping norm"]
    sample_rate: Annotated[float, "Chance of a problem to be in a batch"]
    steps: Annotated[int, "Optimizer steps so far"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganisationRow(Row):
    """A row of the rounds.jsonl in the folder of an agent that is a process of its own."""

    FILE = "rounds"

    round: Annotated[int, "Round, from 1"]
    agent: Annotated[int, "Place in the roster, from 0"]
    train_loss: Annotated[float | None, "Mean loss of the local update, nats a token"]
    validation_pass_at_1: Annotated[
        float, "Share of its validation split solved", Field(alias="validation_pass@1")
    ]
    validation_perplexity: Annotated[float, "Perplexity on its validation split"]
    lessons_learned: Annotated[int, "Packages that it has learned from so far"]
    lessons_taught: Annotated[int, "Packages that others have learned from it so far"]
    privacy: Annotated[
        OrganisationPrivacy | None, "What its training has cost", Only("`training=dp` only")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCosts(Record):
    """What a server agent spent on an exchange."""

    delta: Annotated[float, "Weight of a client's own text beside what the server teaches"]
    tokens_generated: Annotated[int, "Tokens that the server generated"]
    tokens_trained: Annotated[int, "Tokens that it trained on"]
    optimizer_steps: Annotated[int, "Its optimizer steps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRow(Row):
    """A row of exchanges.jsonl: a directive and its outcome."""

    FILE = "exchanges"

    id: Annotated[str, "The directive: round and place in its plan"]
    round: Annotated[int, "Round in which it ended"]
    teachers: Annotated[tuple[int, ...], "Agents whose packages arrived, or all where none did"]
    students: Annotated[tuple[int, ...], "Agents that were to learn; servers follow the agents"]
    protocol: Annotated[str, "Exchange protocol"]
    score: Annotated[float | None, "The matchmaker's score, if it gives one"]
    reward_raw: Annotated[float | None, "Students' mean reward; null: nobody learned"]
    reward_normalised: Annotated[float | None, "The same as the matchmaker learns it"]
    kilobytes: Annotated[float, "kB sent for it"]
    items_sent: Annotated[int, "Answers that were sent"]
    items_kept: Annotated[int, "Answers that were learned from"]
    topics: Annotated[
        tuple[int, ...] | None, "Categories asked about, from 0", Only("where not all")
    ] = None
    answers_asked: Annotated[
        int | None, "Transfer problems asked, over students", Only("rewards of answers only")
    ] = None
    answers_right: Annotated[
        int | None, "Of them answered right", Only("rewards of answers only")
    ] = None
    answers_new: Annotated[
        int | None, "Of these new to the student", Only("rewards of answers only")
    ] = None
    guardrail: Annotated[_Counts, "What gateways `blocked`, `redacted` and `counted`"]
    server: Annotated[ServerCosts | None, "What a server agent spent on it"]
    outcome: Annotated[str, "`delivered`, `late`, `lost`, `refused` or `dropped`"]
    issued_round: Annotated[int, "Round whose plan it is from"]
    issued_s: Annotated[_Virtual, "When that plan was made, virtual seconds"] = None
    arrived_s: Annotated[_Virtual, "When its last package arrived"] = None
    finished_s: Annotated[_Virtual, "When it was learned or given up"] = None
    faults: Annotated[
        _Counts | None, "What befell its packages, by kind", Only("virtual time only", "finished_s")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegretRow(Row):
    """A row of regret.jsonl: what a round's choices would have earned, in raw reward."""

    FILE = "regret"

    round: Annotated[int, "The probed round"]
    rewards: Annotated[
        tuple[tuple[float | None, ...], ...] | None,
        "By teacher and student; null: cannot be, over 32 agents, or by topic",
    ]
    no_teacher: Annotated[tuple[float, ...], "By agent: the same steps without a teacher"]
    best: Annotated[float, "Total of the best plan that `matching` allows"]
    chosen: Annotated[float | None, "Total of the plan; null: not of these arms"]
    random: Annotated[float | None, "Expected total of a random plan; null: some cannot be"]
    best_pairs: Annotated[tuple[tuple[int, int], ...], "Teacher and student of the best plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingRow(Row):
    """A row of timings.jsonl: how long a task took on the clock."""

    FILE = "timings"

    round: Annotated[int, "Round under way; after the last, the final evaluation"]
    phase: Annotated[str, "Phase"]
    agent: Annotated[int, "Agent whose task it was"]
    seconds: Annotated[float, "Seconds of clock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow(Record):
    """A row of samples.jsonl.zst: one final answer to a test problem."""

    task_id: Annotated[str, "Problem"]
    agent: Annotated[int, "Who answered"]
    sample: Annotated[int, "Number of the answer, from 0"]
    category: Annotated[int, "Category of the problem, from 0"]
    outcome: Annotated[str, "How the program ended; only `passed` is right"]
    outcome_plus: Annotated[str | None, "How it ended on hidden tests as well", _HIDDEN] = None
    codebleu_compat: Annotated[float, "CodeBLEU, compat"]
    codebleu_fixed: Annotated[float, "CodeBLEU, fixed"]
    completion: Annotated[SkipValidation[str], "The answer's text"]  # may hold lone surrogates


@dataclass(frozen=True, slots=True, kw_only=True)
class Score(Record):
    """A score of the whole federation, with its 95 % interval."""

    mean: Annotated[float, "Mean over agents"]
    low: Annotated[float, "Lower end of the 95 % interval"]
    high: Annotated[float, "Upper end"]
    per_agent: Annotated[tuple[float, ...], "By agent; of `honest_`, of the honest ones"]
    num_problems: Annotated[int | None, "Problems that count", _TEXT] = None

    @classmethod
    def of(
        cls, interval: Interval, per_agent: list[float], num_problems: int | None = None
    ) -> "Score":
        """Return a score from its interval and the agents' own."""
        return cls(**interval.as_dict(), per_agent=tuple(per_agent), num_problems=num_problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor(Record):
    """CodeBLEU of an answer without content."""

    compat: Annotated[float, "CodeBLEU, compat"]
    fixed: Annotated[float, "CodeBLEU, fixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors(Record):
    """CodeBLEU of answers without content."""

    empty: Annotated[Floor, "An empty answer"]
    prompt_copy: Annotated[Floor, "A copy of the prompt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePrivacy(Record):
    """What the released profiles have cost every agent."""

    epsilon: Annotated[float, "Spent"]
    delta: Annotated[float, "The chance that epsilon does not hold"]
    noise_multiplier: Annotated[float, "Noise over sensitivity"]
    sigma: Annotated[float, "Standard deviation of the noise"]
    clip: Annotated[float, "Largest L2 norm of a profile"]
    releases: Annotated[int, "Profiles that an agent has released"]
    unit: Annotated[str, "What is protected"]
    min_family: Annotated[int, "Fewest agents that may show a family"]
    families: Annotated[tuple[str, ...], "Family that each agent shows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPrivacy(Record):
    """What differentially private training has cost one agent."""

    epsilon: Annotated[float, "Spent"]
    noise_multiplier: Annotated[float, "Noise of a step, over the clipping norm"]
    sample_rate: Annotated[float, "Chance of a problem to be in a batch"]
    steps: Annotated[int, "Optimizer steps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPrivacy(Record):
    """What differentially private training has cost."""

    epsilon: Annotated[float, "The most that an agent has spent"]
    delta: Annotated[float, "The chance that epsilon does not hold"]
    clip: Annotated[float, "Largest L2 norm of an example's gradient"]
    unit: Annotated[str, "What is protected"]
    per_agent: Annotated[tuple[AgentPrivacy, ...], "By agent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy(Record):
    """What has been spent of the privacy budgets."""

    profiles: Annotated[ProfilePrivacy | None, "On profiles; null: nothing is promised"]
    training: Annotated[TrainingPrivacy | None, "On adapters; null: nothing is promised"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkewSummary(Record):
    """How different the agents' private data are."""

    train_sizes: Annotated[tuple[int, ...], "Training problems by agent"]
    validation_sizes: Annotated[tuple[int, ...], "Validation problems by agent"]
    categories: Annotated[tuple[str, ...], "Names of the categories; of clusters, their words"]
    histograms: Annotated[_Shares, "Share of each category in an agent's problems"]
    jensen_shannon: Annotated[_Shares, "Divergence of every pair of agents, bits"]
    mean_jensen_shannon: Annotated[float, "Its mean over pairs of different agents"]
    num_draws: Annotated[int, "Draws until every agent had enough"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedAnswers(Record):
    """What public tests let through: answers to transfer problems that agents keep at the end."""

    answers: Annotated[int, "Kept answers that pass the public tests, agent by agent"]
    wrong: Annotated[int, "Those of them that fail the hidden tests"]
    wrong_share: Annotated[float | None, "Their share; null without answers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores(Record):
    """The final scores, and what they are based on."""

    pass_at: Annotated[Mapping[int, Score], "Pass@k on the test set", Spread("pass@")]
    own_pass_at: Annotated[
        Mapping[int, Score],
        "The same, each category weighted by its share of the agent's own data",
        Spread("own_pass@"),
    ]
    honest_pass_at: Annotated[
        Mapping[int, Score], "The same of honest agents alone", Spread("honest_pass@")
    ]
    pass_at_plus: Annotated[
        Mapping[int, Score],
        "Pass@k on public and hidden tests; data with hidden tests only",
        Spread("pass@", "_plus"),
    ] = field(default_factory=dict)
    own_pass_at_plus: Annotated[
        Mapping[int, Score],
        "The same, weighted by own data",
        Spread("own_pass@", "_plus"),
    ] = field(default_factory=dict)
    verified_answers: Annotated[
        VerifiedAnswers | None, "What verification by public tests lets through", _HIDDEN
    ] = None
    codebleu_compat: Annotated[Score | None, "CodeBLEU, compat", _TEXT] = None
    codebleu_fixed: Annotated[Score | None, "CodeBLEU, fixed", _TEXT] = None
    outcomes: Annotated[_Counts | None, "How the final programs ended", _TEXT] = None
    excluded: Annotated[
        tuple[str, ...] | None, "Problems that the benchmark's check excluded", _TEXT
    ] = None
    floors: Annotated[Floors | None, "CodeBLEU of answers without content", _TEXT] = None
    privacy: Annotated[Privacy, "What was spent of the privacy budgets"]
    skew: Annotated[SkewSummary | None, "How different the agents' data are", _TEXT] = None
    data_shares: Annotated[_Shares, "By agent: share of each category in its training data"]
    groups: Annotated[
        tuple[int, ...] | None,
        "By agent: its group, by whose conventions it is scored",
        Only("`partition=conventions` only"),
    ] = None

    def category_names(self) -> tuple[str, ...]:
        """Return the names of what a problem's category counts, by its number, to be shown."""
        names = CATEGORIES if self.skew is None else self.skew.categories
        return tuple(name.replace("_", " ") for name in names)

    def named(self) -> dict[str, Score]:
        """Return every score by its name in summary.json, e.g. ``pass@5``."""
        scores = {f"pass@{k}": score for k, score in sorted(self.pass_at.items())}
        scores |= {f"own_pass@{k}": score for k, score in sorted(self.own_pass_at.items())}
        scores |= {f"honest_pass@{k}": s for k, s in sorted(self.honest_pass_at.items())}
        scores |= {f"pass@{k}_plus": score for k, score in sorted(self.pass_at_plus.items())}
        scores |= {f"own_pass@{k}_plus": s for k, s in sorted(self.own_pass_at_plus.items())}
        bleus = {"codebleu_compat": self.codebleu_compat, "codebleu_fixed": self.codebleu_fixed}
        return scores | {name: score for name, score in bleus.items() if score is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class RegretTotals(Record):
    """Regret over a run, in raw reward."""

    cumulative_regret: Annotated[float | None, "Best less chosen; null: no plan was a pairing"]
    random_regret: Annotated[float | None, "Best less random; null where it is never known"]
    regret_rounds: Annotated[tuple[int, ...], "Rounds that both sum"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs(Record):
    """What a run cost in all."""

    kilobytes: Annotated[float, "kB sent, in exchanges and to choose peers"]
    exchanges: Annotated[int, "Directives that ended"]
    mean_reward: Annotated[float | None, "Mean raw reward; null without exchanges"]
    tokens_trained: Annotated[int, "Tokens trained on"]
    tokens_generated: Annotated[int, "Tokens generated in order to teach"]
    sier: Annotated[float | None, "Mean of `sier` over rounds.jsonl"]
    steps: Annotated[int, "Optimizer steps"]
    tokens: Annotated[int, "Tokens trained on and generated"]
    directives: Annotated[_Counts, "Directives by outcome"]
    faults: Annotated[_Counts, "What went wrong, by kind"]
    clock_s: Annotated[float, "End of the last round, virtual seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust(Record):
    """Trust of the matchmaker's ledger at the end."""

    liars: Annotated[float, "Mean trust in Byzantine agents"]
    honest: Annotated[float, "Mean trust in the others"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ByzantineSummary(Record):
    """Byzantine agents, and how much they taught."""

    liars: Annotated[tuple[int, ...], "Byzantine agents"]
    attacks: Annotated[tuple[str, ...], "What they did"]
    teaching: Annotated[
        tuple[float | None, ...], "By round: Byzantine agents' share of teaching over the fair one"
    ]
    lessons_among_liars: Annotated[int, "Exchanges in which both agents were Byzantine"]
    teaching_share: Annotated[float | None, "`teaching` over all rounds"]
    shunned_after: Annotated[int | None, "Round from which on it stays under a third"]
    trust: Annotated[Trust, "Trust of the matchmaker's ledger"]
    questions: Annotated[
        tuple[int, ...] | None,
        "By round: topics that honest agents asked Byzantine ones about",
        Only("where arms have topics"),
    ] = None
    rarely_asked_from: Annotated[
        int | None,
        "Round from which on each round's `teaching` is under a third",
        Only("where arms have topics", beside="questions"),
    ] = None
    forgers: Annotated[
        tuple[int, ...] | None,
        "Agents whose reports the matchmaker proved forged",
        Only("`federation.compare_reports=true` only"),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Record):
    """summary.json: what came out of a run."""

    schema_version: Annotated[int, "Version of these tables"] = SCHEMA_VERSION
    seed: Annotated[int, "The run's seed"]
    config_hash: Annotated[str, "The run's identity"]
    recipe: Annotated[int, "Version of what the code computes"]
    matchmaker: Annotated[str, "Name of the matchmaker"]
    exchange: Annotated[str | None, "Name of the exchange; null among formulas"]
    needs: Annotated[tuple[str, ...], "What the matchmaker sees beyond profiles and rewards"]
    regret: Annotated[RegretTotals, "Regret", Spread()]
    costs: Annotated[Costs, "Costs", Spread()]
    scores: Annotated[Scores, "Scores", Spread()]
    byzantine: Annotated[
        ByzantineSummary | None,
        "Byzantine agents and their effect",
        Only("with Byzantine agents only"),
    ] = None


_FILES: tuple[tuple[str, type[Record]], ...] = (
    ("rounds.jsonl", RoundRow),
    ("exchanges.jsonl", ExchangeRow),
    ("regret.jsonl", RegretRow),
    ("timings.jsonl", TimingRow),
    ("samples.jsonl.zst", SampleRow),
    ("summary.json", Summary),
    ("rounds.jsonl of an agent that is a process of its own", OrganisationRow),
)


def tables() -> str:
    """Return the tables of docs/concepts.md in Markdown."""
    return "\n".join(f"### {title}\n\n{table(kind)}" for title, kind in _FILES)


if __name__ == "__main__":
    print(tables(), end="")
