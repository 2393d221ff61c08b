"""Builds a run's settings from a composed job: checks the whole config, computes its identity."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import Field

from knexa.agents.byzantine import TEXT_ATTACKS
from knexa.agents.exchange_protocol import ExchangeProtocol
from knexa.config.components import (
    TARGET,
    canonical,
    construct,
    instantiate,
    load_class,
    secret_parameters,
    without_secrets,
)
from knexa.config.compose import Job
from knexa.config.folders import options_of
from knexa.errors import UserError, one_line, unknown_key
from knexa.federation.settings import Components, Federation, LLMSettings, Settings
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.policy_check import check_matchmaker
from knexa.matchmaking.rewards import Measure
from knexa.recipe import RECIPE, AddedLater, secret_digest

_FOLDER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_RUNTIME_KEYS = ("name", "rerun", "dry_run", "trusted_modules", "engine", "logger")
"""Keys that do not determine results, and are no part of a run's identity."""


@dataclass(frozen=True, kw_only=True)
class RootKeys:
    """The keys that belong to no group; their annotations are their schema."""

    name: Annotated[
        str,
        Field(
            pattern=_FOLDER_NAME,
            max_length=100,
            description="a folder name of letters, digits, '.', '-' and '_'",
        ),
    ]
    seed: Annotated[int, Field(ge=0, lt=2**63, description="an integer >= 0 (and below 2**63)")]
    rerun: bool
    dry_run: bool
    trusted_modules: Annotated[
        tuple[str, ...], Field(description="a list of module names, e.g. [my_module]")
    ]


ROOT_KEYS = tuple(field.name for field in fields(RootKeys))
_SETTERS = ("experiment", "debug")
"""Groups whose options set keys of others."""
_KINDS: Mapping[str, type] = {
    group: next(kind for kind in get_args(hint) or (hint,) if kind is not type(None))
    for group, hint in get_type_hints(Components).items()
}
"""The base class of each group's components."""

COMPONENT_GROUPS = tuple(_KINDS)
_IN_EVERY_RUN = frozenset(
    group for group, hint in get_type_hints(Components).items() if not get_args(hint)
)


_UNCHANGED: Mapping[str, Any] = {
    group: mark.unchanged
    for group, hint in get_type_hints(Components, include_extras=True).items()
    for mark in get_args(hint)
    if isinstance(mark, AddedLater)
}
"""Of each group that came later: what identifies the component with which runs are as before."""


def build_components(job: Job) -> tuple[RootKeys, Components]:
    """Check a job's whole config by constructing its components; touches no files.

    Raises:
        UserError: One line for the first key that is unknown, missing, of the wrong type or range.
    """
    config = job.config
    for key in config:
        if key not in ROOT_KEYS and key not in COMPONENT_GROUPS:
            raise unknown_key(key, [*ROOT_KEYS, *COMPONENT_GROUPS])
    values = {key: config[key] for key in ROOT_KEYS if key in config}
    if type(values.get("name")) is int:  # name=2024: a folder name that YAML reads as a number
        values["name"] = str(values["name"])
    root: RootKeys = construct(RootKeys, values, key="")
    federation = _component(job, "federation", root)
    lacks = _lacking(job, federation)
    built: dict[str, Any] = {
        group: None if group in lacks else _component(job, group, root)
        for group in COMPONENT_GROUPS
        if group != "federation"
    }
    components = Components(federation=federation, **built)
    _check_matchmaker(job, components)
    _check_protocol(job, components)
    _check_byzantine(job, components)
    _check_topics(job, components)
    _check_partition(job, components)
    _check_context(components)
    _check_reward(job, components)
    _check_selection(job, components)
    _check_private_training(job, components)
    return root, components


def _component(job: Job, group: str, root: RootKeys) -> Any:
    """Construct the component of one group."""
    node = job.config.get(group)
    if not isinstance(node, Mapping):
        options = ", ".join(options_of(group))
        raise UserError(f"every run needs a {group}: set {group}= to one of {options}")
    trusted = root.trusted_modules
    return instantiate(node, key=group, kind=_KINDS[group], trusted_modules=trusted)


def _lacking(job: Job, federation: Federation) -> frozenset[str]:
    """Return the groups that the federation lacks; none of them may be set."""
    chosen = job.choices["federation"]
    if needed := sorted(federation.lacks & _IN_EVERY_RUN):
        raise UserError(f"federation={chosen} says that it lacks a {needed[0]}: every run needs it")
    for group in COMPONENT_GROUPS:
        if group in federation.lacks and job.config.get(group) is not None:
            setters = [f"{key}={job.choices[key]}" for key in _SETTERS if job.choices.get(key)]
            raise UserError(
                f"federation={chosen} has no {group}: leave out {group}= and "
                f"what sets {group}.*, such as {' or '.join(setters) or 'debug=smoke'}"
            )
    return federation.lacks


def build_settings(job: Job) -> Settings:
    """Build a job's settings; touches no files.

    Raises:
        UserError: As ``build_components``.
    """
    root, components = build_components(job)
    config = {"recipe": RECIPE} | {
        key: canonical(value, trusted_modules=root.trusted_modules)
        if key in COMPONENT_GROUPS and value is not None
        else value
        for key, value in job.config.items()
        if key not in _RUNTIME_KEYS
    }
    config = {
        key: value
        for key, value in config.items()
        if key not in _UNCHANGED or value != _UNCHANGED[key]
    }
    return (Settings if components.federation.lacks else LLMSettings)(
        seed=root.seed,
        name=root.name,
        matchmaker_name=str(job.choices["matchmaker"]),
        choices={group: str(job.choices.get(group)) for group in COMPONENT_GROUPS},
        config=config,
        session={
            key: without_secrets(job.config[key], trusted_modules=root.trusted_modules)
            if key in COMPONENT_GROUPS
            else job.config[key]
            for key in _RUNTIME_KEYS
        },
        dry_run=root.dry_run,
        **vars(components),
    )


def secret_settings(job: Job) -> dict[str, Any]:
    """Return the settings of a valid job that are, or contain, secrets: values by dotted key."""
    found: dict[str, Any] = {}
    for group in COMPONENT_GROUPS:
        node = job.config.get(group)
        if isinstance(node, Mapping):
            trusted = job.config["trusted_modules"]
            cls = load_class(node[TARGET], key=f"{group}.{TARGET}", trusted_modules=trusted)
            found |= {f"{group}.{name}": node.get(name) for name in secret_parameters(cls)}
    return found


def without_secret_values(arguments: Iterable[str], secrets: Iterable[str]) -> list[str]:
    """Return a command's arguments with digests in place of the values of secret settings.

    An argument that names such a setting, with or without its group, is taken to set it.
    """
    names = [re.escape(key.rpartition(".")[2]) for key in secrets]
    private = re.compile(rf"\b({'|'.join(names)})\b")
    shown = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        hides = bool(equals and names and private.search(argument))
        shown.append(f"{key}={secret_digest(value)}" if hides else argument)
    return shown


def _check_matchmaker(job: Job, components: Components) -> None:
    """Refuse a class that a run could not call or resume."""
    try:
        check_matchmaker(components.matchmaker)
    except UserError as error:
        raise UserError(f"matchmaker={job.choices['matchmaker']}: {error}") from error


def _check_byzantine(job: Job, components: Components) -> None:
    """Refuse attacks that the exchange cannot carry, and a trust gate where nobody is paired."""
    roster, exchange = components.roster, components.exchange
    threshold = components.federation.trust_gate
    if threshold is not None and components.matchmaker.protocol is not None:
        raise UserError(
            f"federation.trust_gate={threshold} keeps teachers out of pairs, and "
            f"matchmaker={job.choices['matchmaker']} chooses none; set it to null"
        )
    if roster is None or roster.byzantine.num == 0 or exchange is None:
        return
    told = ("garbage", "wrong", "copied") if exchange.has_text else ()
    # A sybil speaks for others, which may have other tokens.
    told = (*told, "sybil") if exchange.has_text and exchange.common == "nothing" else told
    used = sorted(roster.byzantine.attacks & {*TEXT_ATTACKS, "sybil"} - {*told})
    if used:
        raise UserError(
            f"roster.byzantine.attack={used[0]} needs text, and "
            f"exchange={job.choices['exchange']} sends {exchange.carries}; choose akd or "
            "akd_verified, or an attack on profiles or rewards"
        )


def _check_topics(job: Job, components: Components) -> None:
    """Refuse topics that are found among prompts where there are none."""
    if components.topics.of_prompts and components.data is None:
        raise UserError(
            f"topics={job.choices['topics']} are found among prompts, and "
            f"federation={job.choices['federation']} has none: set topics=categories"
        )


def _check_partition(job: Job, components: Components) -> None:
    """Refuse agents or groups of them that the data, where its size is known, is not enough for."""
    roster, data, partition = components.roster, components.data, components.partition
    if roster is None or data is None or partition is None:
        return
    if (num_problems := data.num_train_problems()) is not None:
        partition.check(num_problems, roster.num_agents)
    if partition.num_groups != data.num_groups():
        raise UserError(
            f"partition={job.choices['partition']} makes {partition.num_groups} "
            f"group{'s' * (partition.num_groups > 1)} of agents, and the data tells "
            f"{data.num_groups()} apart: partition=conventions goes with data.num_conventions=2"
        )


def _check_context(components: Components) -> None:
    """Refuse a context that reads features which the profile does not have."""
    try:
        components.context.num_features(len(components.profile.feature_names))
    except ValueError as error:
        raise UserError(one_line(error)) from error


def _check_reward(job: Job, components: Components) -> None:
    """Refuse a reward of something that nobody measures, or of answers that nobody keeps."""
    reward, exchange = components.reward, components.exchange
    if reward.measure not in get_args(Measure):
        raise UserError(
            f"reward={job.choices['reward']}: {type(reward).__name__}.measure is "
            f"{reward.measure!r}; it is one of {', '.join(get_args(Measure))}"
        )

    keeps = exchange is None or (exchange.verifies and exchange.rehearses)
    if reward.of_answers and not keeps:
        raise UserError(
            f"reward={job.choices['reward']} counts answers that pass and are kept, and "
            f"exchange={job.choices['exchange']} does not verify and keep them: "
            "choose akd_verified, or experiment=paired"
        )
    if components.federation.compare_reports and not reward.of_answers:
        raise UserError(
            "federation.compare_reports=true compares counts of answers, and "
            f"reward={job.choices['reward']} reports none: set reward=new_answers"
        )

    if exchange is not None and exchange.asks_missing:
        _check_asking(job, components, exchange)


def _check_asking(job: Job, components: Components, exchange: ExchangeProtocol) -> None:
    """Refuse students that ask for what they lack where that is not known, or not to be compared.

    Two honest students that ask different questions count different answers.
    """
    if not (exchange.verifies and exchange.rehearses):
        raise UserError(
            f"exchange={job.choices['exchange']} asks for answers that the student keeps none of, "
            "and does not verify and keep them: choose akd_verified"
        )
    if components.federation.compare_reports:
        raise UserError(
            "federation.compare_reports=true compares what students that asked the same report, "
            "and under exchange.ask=missing they ask different things: set exchange.ask=all"
        )


def _check_selection(job: Job, components: Components) -> None:
    """Refuse what does not fit the shape of the arms that the selection chooses among."""
    matching, matchmaker, exchange = components.matching, components.matchmaker, components.exchange
    chosen, name = f"matching={job.choices['matching']}", f"matchmaker={job.choices['matchmaker']}"
    learns = type(matchmaker).learn is not Matchmaker.learn
    if learns and matching.by_topic and not components.context.by_topic:
        raise UserError(
            f"context={job.choices['context']} does not describe the arms of {chosen}, which are "
            f"{_ARMS[True]}: choose context=topic, or experiment=paired for pairs"
        )
    if learns and components.context.by_topic and not components.reward.of_answers:
        raise UserError(
            f"context={job.choices['context']} counts answers, and "
            f"reward={job.choices['reward']} does not: set reward=new_answers, or experiment=paired"
        )
    if learns and components.context.by_topic and matching.is_lazy:
        raise UserError(
            f"context={job.choices['context']} sums over topics, and {chosen} prefilters pairs by "
            "their profiles: choose matching=auto, or context=interaction"
        )
    if matching.is_pairing:
        return
    if matchmaker.protocol is not None:
        raise UserError(f"{name} teaches groups, which {chosen} has none of: set matching=exact")
    if matching.by_topic and not matchmaker.by_topic:
        raise UserError(
            f"{name} scores pairs, and the arms of {chosen} are {_ARMS[True]}: choose another "
            "matchmaker, such as linucb"
        )
    if matching.by_topic and exchange is not None and not exchange.by_topic:
        raise UserError(
            f"exchange={job.choices['exchange']} teaches about everything at once, and {chosen} "
            "asks for topics: choose an exchange of text in pairs, such as akd_verified"
        )
    if matching.by_topic and not components.reward.of_answers:
        raise UserError(
            f"reward={job.choices['reward']} is of all that a student learns in a round, and the "
            f"arms of {chosen} are {_ARMS[True]}: set reward=new_answers"
        )
    for key, value in (("mutual", False), ("num_pairs", None)):
        if getattr(components.federation, key) != value:
            raise UserError(
                f"federation.{key} is about disjoint pairs, and {chosen} has none: leave it out"
            )
    if not matching.chooses and (components.regret.every or matchmaker.needs or learns):
        raise UserError(
            f"{chosen} leaves nothing to choose: set matchmaker=random regret=none with it"
        )


_ARMS = {True: "a teacher, a student and a topic", False: "a teacher and a student"}
"""What an arm is, by whether it has a topic."""


def _check_private_training(job: Job, components: Components) -> None:
    """Refuse a matchmaker that probes private data where training has a privacy budget."""
    training = components.training
    private = training is not None and training.budget is not None
    tries_pairs = "probes" in components.matchmaker.needs and not components.reward.of_answers
    if private and tries_pairs:
        raise UserError(
            f"training={job.choices['training']}: matchmaker={job.choices['matchmaker']} tries "
            "every pair on private data, which no budget of training counts; choose another of them"
        )


def _check_protocol(job: Job, components: Components) -> None:
    """Refuse an exchange that does not fit the matchmaker, and probes where no pairs teach."""
    matchmaker, exchange = components.matchmaker, components.exchange
    name, chosen, dictated = job.choices["matchmaker"], job.choices["exchange"], matchmaker.protocol
    if exchange is None:
        if dictated is not None:
            raise UserError(
                f"matchmaker={name} needs its own exchange, {dictated}, which "
                f"federation={job.choices['federation']} does not have; choose another matchmaker"
            )
        return
    kind = type(exchange)
    if not exchange.name:
        raise UserError(f"exchange={chosen}: {kind.__name__} declares no name")
    for method in ("teach", "receive", "learn", *(() if exchange.pairs else ("deliver",))):
        if getattr(kind, method) is getattr(ExchangeProtocol, method):
            raise UserError(f"exchange={chosen}: {kind.__name__} lacks {method}")
    if dictated is not None and exchange.name != dictated:
        raise UserError(
            f"exchange={chosen}: matchmaker={name} dictates its own protocol, "
            f"{dictated}; leave exchange out, or choose another matchmaker"
        )
    if dictated is None and not exchange.pairs:
        raise UserError(
            f"exchange={chosen} does not teach in pairs, which matchmaker={name} needs; leave "
            "exchange out, or choose the matchmaker that dictates it"
        )
    if not exchange.pairs and components.federation.sync == "async":
        raise UserError(
            f"federation.sync=async: matchmaker={name} teaches everybody at once, and so waits for "
            "everybody; set federation.sync=lockstep"
        )
    if not exchange.pairs and components.regret.every:
        raise UserError(
            f"regret.every={components.regret.every}: probes try pairs, and matchmaker={name} "
            "has none; set regret=none"
        )
    if "peer losses" in matchmaker.needs and not exchange.has_text:
        raise UserError(
            f"exchange={chosen}: matchmaker={name} chooses peers by their text, and this exchange "
            "sends none; choose one that does, such as akd"
        )
