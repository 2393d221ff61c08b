"""Groups runs that differ in their seed alone, and names groups by the settings that vary.

The *setting* is what methods share: federation, roster, data, partition, privacy, training,
evaluation. Methods are compared within one setting. Options that belong to the method
(``METHOD_PARTS``, and two of the federation's) split it into *variants* where they vary. A variant
is named by its differences from most of the method's variants, so the rows of an ablation are named
by the one part that each changes.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from knexa.errors import UserError
from knexa.recipe import NAME
from knexa.report.runs import NO_EXCHANGE, Run, same_result

METHOD_PARTS = (
    "matchmaker",
    "exchange",
    "context",
    "profile",
    "matching",
    "reward",
    "guardrail",
    "regret",
)
_TELLING = (
    "partition.alpha",
    "federation.num_agents",
    "federation.heterogeneity",
    "federation.num_rounds",
)
_RULES = frozenset({"federation.mutual", "federation.trust_gate", "federation.compare_reports"})
"""Keys outside ``METHOD_PARTS`` that belong to the method."""
_COPIED = ".recommended."  # a roster's defaults: other keys hold what a run took of them
_LEVELS = ("low", "medium", "high")
_MAX_VALUE_LENGTH = 24
_OF_WHAT = frozenset({"num", "rules"})

_SCORES = {"pass@1": -1, "greedy_last": -1, "cumulative_regret": 1}
"""Rows are ordered by the first that any group has, with the sign that puts the best first."""

Named = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """One row of every table: a method in a setting, one run per seed.

    Attributes:
        method: ``matchmaker/exchange``.
        variant: What tells it from most of the method's rows, e.g. ``(("exploration", "0.5"),)``.
        setting: The world's differing settings, the same keys for every group.
        runs: By seed.
    """

    method: str
    variant: Named
    setting: Named
    runs: tuple[Run, ...]

    @property
    def label(self) -> str:
        """The method with its variant."""
        return f"{self.method} ({show_named(self.variant)})" if self.variant else self.method

    @property
    def needs(self) -> str:
        """What the method sees beyond profiles and rewards, for a table's cell."""
        needs = sorted({need for run in self.runs for need in run.needs})
        return " + ".join(needs) or "nothing"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The runs' seeds, ascending."""
        return tuple(run.seed for run in self.runs)

    def values(self, name: str) -> dict[int, float]:
        """Return a measure by seed, for the seeds that have it."""
        return {run.seed: run.values[name] for run in self.runs if name in run.values}


@dataclass(frozen=True, kw_only=True)
class Study:
    """All groups of a report.

    Attributes:
        groups: By setting, then score, best first, then label.
        setting_keys: Names of the differing settings, in the order of ``Group.setting``.
        notes: What was left out, merged or varies along, one sentence each.
    """

    groups: tuple[Group, ...]
    setting_keys: tuple[str, ...]
    notes: tuple[str, ...]

    @cached_property
    def settings(self) -> tuple[Named, ...]:
        """The settings that occur, in order."""
        return tuple(dict.fromkeys(group.setting for group in self.groups))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The groups' labels, each once, in order."""
        return tuple(sorted({group.label for group in self.groups}))

    def within(self, setting: Named) -> tuple[Group, ...]:
        """Return the groups of one setting."""
        return tuple(group for group in self.groups if group.setting == setting)

    def reference(self, group: Group, name: str) -> Group | None:
        """Return the group of label (or method) ``name`` that ``group`` is compared with.

        It is of the same setting; of a method's variants, the one that agrees with the group's.
        """
        rows = self.within(group.setting)
        candidates = [other for other in rows if other.label == name]
        candidates = candidates or [other for other in rows if other.method == name]
        if len(candidates) > 1:
            mine = dict(group.variant)
            candidates = [
                other
                for other in candidates
                if all(mine.get(key, value) == value for key, value in other.variant)
            ]
        return candidates[0] if len(candidates) == 1 else None

    def random_of(self, group: Group) -> Group | None:
        """Return random pairing in the same setting, of the same exchange if there are several."""
        names = {g.method for g in self.within(group.setting) if g.runs[0].matchmaker == "random"}
        name = f"random/{group.runs[0].exchange}" if len(names) > 1 else next(iter(names), None)
        return None if name is None else self.reference(group, name)


def resolve_method(study: Study, name: str) -> str:
    """Return the method or label that a user means by ``name``; a bare matchmaker may do.

    Raises:
        UserError: Nothing, or more than one method, is called so.
    """
    known = list(dict.fromkeys([group.method for group in study.groups] + list(study.labels)))
    meant = [name] if name in known else []
    meant = meant or sorted({g.method for g in study.groups if g.runs[0].matchmaker == name})
    if len(meant) != 1:
        raise UserError(f"--against {name}: the methods are {', '.join(known)}")
    references = [(group, study.reference(group, meant[0])) for group in study.groups]
    if len(references) > 1 and all(other is None or other is group for group, other in references):
        rows = ", ".join(repr(label) for label in study.labels)
        raise UserError(
            f"--against {name} compares no two rows: name one of {rows}, or read more runs"
        )
    return meant[0]


def group_runs(runs: Sequence[Run]) -> Study:
    """Group runs that differ in their seed alone.

    Raises:
        UserError: Two runs have one config and one seed, and yet came to different results.
    """
    notes = _recipes(runs)
    seeded = {
        key
        for key in {key for run in runs for key in run.config if key.endswith("seed")}
        if all(run.config.get(key, run.seed) == run.seed for run in runs)
    }
    configs = [_comparable(run, seeded | {"seed"}) for run in runs]
    own = {
        key
        for config in configs
        for key in config
        if key.split(".")[0] in METHOD_PARTS or key in _RULES
    }
    world = {key for config in configs for key in config} - own
    setting_keys = _telling_keys(configs, world, notes)
    by_method: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        by_method.setdefault(run.method, []).append(index)
    texts = _Values()
    groups: list[Group] = []
    for method, members in by_method.items():
        theirs = [configs[index] for index in members]
        keys = _telling_keys(theirs, own, notes, given=setting_keys)
        names, setting_names = _short_names(keys), _short_names(setting_keys)
        rows: dict[tuple[Named, Named], list[Run]] = {}
        for index in members:
            variant, setting = (
                tuple((short[key], texts.show(key, configs[index].get(key))) for key in these)
                for these, short in ((keys, names), (setting_keys, setting_names))
            )
            rows.setdefault((variant, setting), []).append(runs[index])
        usual = _usual({variant for variant, _ in rows})
        if usual:
            notes.append(f"Rows of {method} have {show_named(usual)} where they name no other.")
        for (variant, setting), found in rows.items():
            telling = tuple(pair for pair in variant if pair not in usual)
            kept = tuple(_one_per_seed(found, notes))
            groups.append(Group(method=method, variant=telling, setting=setting, runs=kept))
    score = next((name for name in _SCORES if any(g.values(name) for g in groups)), "pass@1")
    groups.sort(key=lambda g: (_order(g.setting), _rank(g, score), g.method, _order(g.variant)))
    return Study(
        groups=tuple(groups),
        setting_keys=tuple(_short_names(setting_keys).values()),
        notes=tuple(dict.fromkeys([*notes, *texts.notes])),
    )


def _rank(group: Group, name: str) -> float:
    """Return a number that is lower the better the group's mean; without the measure, infinite."""
    values = group.values(name).values()
    # Rounded, since equal values summed in another order differ in their last bits.
    return round(_SCORES[name] * sum(values) / len(values), 12) if values else math.inf


def _recipes(runs: Sequence[Run]) -> list[str]:
    """Return a sentence on the recipes of the runs, where they are not of one."""
    counts = Counter(run.recipe for run in runs)
    if len(counts) < 2:
        return []
    named = [
        f"{recipe} ({number} run{'s' * (number != 1)})" for recipe, number in sorted(counts.items())
    ]
    return [
        "What the code computes differs between recipes (knexa/recipe.py), and these runs are of "
        f"several: {', '.join(named)}."
    ]


def _usual(variants: Set[Named]) -> Named:
    """Return the values that more than half of at least three variants have."""
    if len(variants) < 3:
        return ()
    counts = Counter(pair for variant in variants for pair in variant)
    first = next(iter(variants))
    by_key = {key: [pair for pair in counts if pair[0] == key] for key, _ in first}
    most = [max(pairs, key=lambda pair: counts[pair]) for pairs in by_key.values()]
    return tuple(pair for pair in most if 2 * counts[pair] > len(variants))


def show_named(named: Named) -> str:
    """Return ``key=value, ...``."""
    return ", ".join(f"{key}={value}" for key, value in named)


def without_common_exchange(study: Study) -> dict[str, str]:
    """Return each label's short form: without the exchange where all methods share one."""
    exchanges = {group.runs[0].exchange for group in study.groups} - {None}
    if len(exchanges) != 1:
        return {label: label for label in study.labels}
    (common,) = exchanges
    short = {label: label.replace(f"/{common}", "", 1) for label in study.labels}
    return short if len(set(short.values())) == len(short) else {x: x for x in study.labels}


def _comparable(run: Run, seeded: set[str]) -> dict[str, str]:
    """Return what may tell runs apart, as JSON; without exchanges the method has no settings."""
    idle = METHOD_PARTS if run.matchmaker == NO_EXCHANGE else ()
    return {
        key: json.dumps(value, sort_keys=True)
        for key, value in run.config.items()
        if key not in seeded and key.split(".")[0] not in idle and _COPIED not in key
    }


def _telling_keys(
    configs: Sequence[Mapping[str, str]],
    among: set[str],
    notes: list[str],
    given: Sequence[str] = (),
) -> list[str]:
    """Return the fewest keys that tell the configs apart, beside those given already.

    A key that the chosen ones determine adds a column and no row, so it is only noted.
    """
    counts = {key: len({config.get(key) for config in configs}) for key in among}
    everywhere = {key for key in among if all(key in config for config in configs)}
    varying = sorted(
        (key for key, count in counts.items() if count > 1),
        key=lambda key: (
            key not in everywhere,  # a key that some runs lack would show as a dash
            key not in _TELLING,
            -counts[key],
            not key.endswith(NAME),
            key,
        ),
    )
    chosen: list[str] = []
    along: list[str] = []
    for key in varying:
        before = {tuple(config.get(k) for k in (*given, *chosen)) for config in configs}
        after = {tuple(config.get(k) for k in (*given, *chosen, key)) for config in configs}
        (chosen if len(after) > len(before) else along).append(key)
    if along:
        told, others = ([key.removesuffix(f".{NAME}") for key in keys] for keys in (chosen, along))
        shown = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if others[4:] else "")
        notes.append(f"With {', '.join((*given, *told))} also change: {shown}.")
    return chosen


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return each dotted key's last part where that is unambiguous; a ``_name_`` is its group.

    Some parts are unclear without the one before: ``byzantine.num``, ``guardrail.rules``.
    """
    parts = {key: key.removesuffix(f".{NAME}").split(".") for key in keys}
    short = {key: ".".join(p[-2:] if p[-1] in _OF_WHAT else p[-1:]) for key, p in parts.items()}
    taken = list(short.values())
    return {key: name if taken.count(name) == 1 else key for key, name in short.items()}


class _Values:
    """Shows config values in short; long ones become #1, #2, ... and a note."""

    def __init__(self) -> None:
        self._long: dict[str, list[str]] = {}
        self.notes: list[str] = []

    def show(self, key: str, value: str | None) -> str:
        if value is None:
            return "-"
        plain: Any = json.loads(value)
        if key.endswith(NAME):
            return str(plain).rpartition(".")[2]
        text = plain if isinstance(plain, str) else value
        text = {"null": "none"}.get(text, text)
        if len(text) <= _MAX_VALUE_LENGTH:
            return text
        seen = self._long.setdefault(key, [])
        if text not in seen:
            seen.append(text)
            begin = text if len(text) <= 160 else f"{text[:160]} ..."
            self.notes.append(f"{key} #{len(seen)} is {begin}")
        return f"#{seen.index(text) + 1}"


def _order(named: Named) -> list[tuple[int, float, str]]:
    """Return a sort key: numbers by value, then levels in the order of ``_LEVELS``, then text."""
    keys = []
    for _, value in named:
        try:
            keys.append((0, float(value), ""))
        except ValueError:
            level = _LEVELS.index(value) if value in _LEVELS else len(_LEVELS)
            keys.append((1, float(level), value))
    return keys


def _one_per_seed(runs: Sequence[Run], notes: list[str]) -> list[Run]:
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(run.seed, []).append(run)
    for seed, same in by_seed.items():
        if len(same) == 1:
            continue
        if not same_result(same):
            raise UserError(
                f"{same[0].path} and {same[1].path} are {same[0].method} of seed {seed} with one "
                "config, but their results differ: leave one out"
            )
        notes.append(f"{same[0].method}, seed {seed}: {len(same)} equal runs, counted once.")
    return [same[0] for _, same in sorted(by_seed.items())]
