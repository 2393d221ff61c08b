"""The tables that a run prints: who takes part at its start, and how it ended."""

import os
import textwrap
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from knexa.tracking.info import AgentInfo, ClosingInfo, StartInfo
from knexa.tracking.metrics import agent_names
from knexa.tracking.rows import ExchangeRow, RegretTotals, Score

MAX_LISTED_AGENTS = 16


def start_tree(info: StartInfo) -> Tree:
    """Return the tree that describes the run."""
    tree = Tree(f"[bold]{escape(info.run_name)}[/]  {info.num_rounds} rounds")
    agents = tree.add(f"[bold]{len(info.agents)} agents[/]")
    agents.add(_agents_table(info.agents[:MAX_LISTED_AGENTS]))
    if len(info.agents) > MAX_LISTED_AGENTS:
        agents.add(f"and {len(info.agents) - MAX_LISTED_AGENTS} more")
    skew = "" if info.mean_js is None else f"  (mean Jensen-Shannon {info.mean_js:.2f})"
    data = tree.add(f"[bold]data[/]  {escape(info.data)}")
    data.add(f"partition  {escape(info.partition)}{skew}")
    if info.excluded:
        data.add(f"[yellow]excluded by the benchmark check[/]  {escape(', '.join(info.excluded))}")
    details = f"  ({escape(info.policy_details)})" if info.policy_details else ""
    policy = tree.add(f"[bold]matchmaker[/]  {escape(info.matchmaker)}{details}")
    needs = ", ".join(info.needs)
    policy.add(
        f"[yellow]sees beyond profiles and rewards: {escape(needs)}[/]"
        if needs
        else "sees profiles and rewards only"
    )
    tree.add(f"[bold]exchange[/]  {escape(info.exchange)}")
    for note in info.run_notes:
        first, *rest = textwrap.wrap(note, 84)
        branch = tree.add(f"[yellow]{escape(first)}[/]")
        for line in rest:
            branch.add(f"[yellow]{escape(line)}[/]")
    tree.add(f"[bold]workers[/]  {escape(info.workers)}")
    if info.sandbox:
        layers = tree.add(f"[bold]sandbox[/]  {len(info.sandbox)} layers")
        for line in textwrap.wrap(", ".join(info.sandbox), 84, break_on_hyphens=False):
            layers.add(escape(line))
    tree.add(f"[bold]files[/]  {escape(shown_path(info.run_path))}")
    if info.resumed_after is not None:
        tree.add(f"[bold]resumed[/]  after round {info.resumed_after}")
    return tree


def brief_result(info: ClosingInfo) -> str:
    """Return the line of a finished run."""
    parts = [f"{info.run_path.name} is done"]
    score = info.summary.scores.pass_at.get(1)
    if score is not None:
        parts.append(f"Pass@1 {_percent(score.mean)}")
    if info.summary.regret.random_regret is not None:
        parts.append(f"regret {_regret_line(info.summary.regret)}")
    return "  ".join(parts)


def agents_table(info: ClosingInfo) -> Table:
    """Return the closing table's rows per agent: scores at the start and the end, and roles.

    Where agents are asked about topics, every student learns from many directives a round; what a
    teacher is asked about takes the place of that number. In 80 columns nothing wraps.
    """
    table = _table("Agents")
    table.add_column("agent")
    for column in ("greedy Pass@1", "Pass@1", "own data", "CodeBLEU", "taught"):
        table.add_column(column, justify="right")
    asked = _topics_asked(info.exchanges)
    if asked:
        table.add_column("mostly about")
    else:
        table.add_column("learned", justify="right")
    names, scores = agent_names(info.rounds), info.summary.scores
    for agent, name in list(enumerate(names))[:MAX_LISTED_AGENTS]:
        rows = [row for row in info.rounds if row.agent == agent]
        curve = [row.pass_at_1_greedy for row in rows]
        known = [score for score in curve if score is not None]
        table.add_row(
            escape(name),
            f"{_percent(curve[0])} -> {_percent(known[-1])}" if known else "-",
            _percent(_of_agent(scores.pass_at.get(1), agent)),
            _percent(_of_agent(scores.own_pass_at.get(1), agent)),
            _number(_of_agent(scores.codebleu_fixed, agent)),
            str(sum(agent in row.teachers for row in info.exchanges)),
            escape(_most(asked[agent], scores.category_names()))
            if asked
            else str(sum(agent in row.students for row in info.exchanges)),
        )
    if len(names) > MAX_LISTED_AGENTS:
        table.caption = f"and {len(names) - MAX_LISTED_AGENTS} more, see rounds.jsonl"
    return table


def totals_table(info: ClosingInfo) -> Table:
    """Return the closing table's totals: scores with intervals, regret, traffic, files."""
    table = _table("Run", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    summary, scores = info.summary, info.summary.scores
    for k, score in sorted(scores.pass_at.items()):
        interval = f"{_percent(score.low)} to {_percent(score.high)}"
        table.add_row(f"Pass@{k}", f"{_percent(score.mean)}  (95 % CI {interval})")
    if (own := scores.own_pass_at.get(1)) is not None:
        interval = f"{_percent(own.low)} to {_percent(own.high)}"
        table.add_row("Pass@1, own data", f"{_percent(own.mean)}  (95 % CI {interval})")
    if (plus := scores.pass_at_plus.get(1)) is not None:
        interval = f"{_percent(plus.low)} to {_percent(plus.high)}"
        table.add_row("Pass@1, hidden too", f"{_percent(plus.mean)}  (95 % CI {interval})")
    fixed, compat, floors = scores.codebleu_fixed, scores.codebleu_compat, scores.floors
    if fixed and compat and floors:
        empty, copied = floors.empty, floors.prompt_copy
        table.add_row("CodeBLEU", _beside(fixed, empty.fixed, copied.fixed))
        table.add_row("CodeBLEU, compat", _beside(compat, empty.compat, copied.compat))
    if summary.regret.random_regret is not None:
        table.add_row("regret", _regret_line(summary.regret))
    table.add_row("sent", f"{summary.costs.kilobytes:,.1f} kB in {len(info.exchanges)} exchanges")
    if any(row.answers_asked is not None for row in info.exchanges):
        table.add_row("answers", _answers_line(info.exchanges))
    if (kept := scores.verified_answers) is not None:
        line = f"{kept.answers} kept that pass public tests, {kept.wrong} fail hidden ones"
        table.add_row("verified", line)
    if summary.needs:
        table.add_row("needs", escape(", ".join(summary.needs)))
    if scores.excluded:
        table.add_row("excluded", escape(", ".join(scores.excluded)))
    table.add_row("files", escape(shown_path(info.run_path)))
    if info.plots:
        table.add_row("plots", escape("plots/: " + ", ".join(path.stem for path in info.plots)))
    return table


def shown_path(path: Path) -> str:
    """Return the path relative to the working directory where it lies inside."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _agents_table(agents: Sequence[AgentInfo]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    has_models = any(agent.num_parameters for agent in agents)  # a federation of formulas has none
    table.add_column("agent", no_wrap=True)
    table.add_column("backbone" if has_models else "family", no_wrap=True)
    for column in ("params", "LoRA", "train", "val") if has_models else ():
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("mostly")
    for agent in agents:
        share = agent.num_trainable / max(1, agent.num_parameters)
        sizes = (
            _count(agent.num_parameters),
            f"{share:.2%}",
            str(agent.num_train),
            str(agent.num_validation),
        )
        table.add_row(
            escape(agent.name),
            escape(agent.backbone),
            *(sizes if has_models else ()),
            escape(", ".join(agent.top_categories).replace("_", " ")),
        )
    return table


def _table(title: str, *, show_header: bool = True) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=show_header,
        padding=(0, 2, 0, 0),
    )


def _beside(score: Score, empty: float, copied: float) -> str:
    floors = f"an empty answer {_number(empty)}, a copied prompt {_number(copied)}"
    return f"{_number(score.mean)}  ({floors})"


def _regret_line(regret: RegretTotals) -> str:
    chosen, rounds = regret.cumulative_regret, len(regret.regret_rounds)
    own = "not defined for these plans" if chosen is None else f"{chosen:.4f}"
    return f"{own}  (random {regret.random_regret:.4f}; {rounds} probed rounds)"


def _topics_asked(exchanges: Sequence[ExchangeRow]) -> dict[int, Counter[int]]:
    """Return how many students asked each teacher about each topic; empty without topics."""
    asked: dict[int, Counter[int]] = defaultdict(Counter)
    for row in exchanges:
        for teacher in row.teachers:
            for topic in row.topics or ():
                asked[teacher][topic] += len(row.students)
    return asked


def _most(asked: Counter[int], topics: Sequence[str]) -> str:
    return "".join(topics[topic] for topic, _ in asked.most_common(1))


def _answers_line(exchanges: Sequence[ExchangeRow]) -> str:
    asked = sum(row.answers_asked or 0 for row in exchanges)
    right = sum(row.answers_right or 0 for row in exchanges)
    new = sum(row.answers_new or 0 for row in exchanges)
    return f"{asked:,} asked, {right:,} right, {new:,} new"


def _of_agent(score: Score | None, agent: int) -> float | None:
    return score.per_agent[agent] if score and agent < len(score.per_agent) else None


def _count(number: int) -> str:
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
