"""The shipped configs: every option, experiment and sweep composes and passes its own checks."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from knexa.cli.organisation import organisation_settings
from knexa.config import compose
from knexa.config import sweeps as multirun
from knexa.config.build import COMPONENT_GROUPS, build_components
from knexa.config.folders import config_folder, options_of, sweep_folder
from knexa.engine.local import Workers
from knexa.errors import UserError
from knexa.federation.llm.setup import build_runtime
from knexa.federation.settings import LLMSettings
from knexa.matchmaking.linucb import LinUCB

WHOLE_RUNS = [
    (group, option)
    for group in ("experiment", "debug", "hparams_search", "sweep")
    for option in options_of(group)
]
WHOLE_RUNS += [("experiment", f"ablation/{name}") for name in options_of("experiment/ablation")]
OPTIONS = [("federation", f"synthetic/{name}") for name in options_of("federation/synthetic")]
OPTIONS += [("federation/faults", option) for option in options_of("federation/faults")]
OPTIONS += [(group, option) for group in COMPONENT_GROUPS for option in options_of(group)]


def jobs(*arguments: str) -> tuple[compose.Job, ...]:
    compose.register_sweeps()
    return compose.compose(compose.parse_arguments(arguments)).jobs


@pytest.mark.parametrize(("group", "option"), WHOLE_RUNS)
def test_every_named_run_composes_and_validates(group: str, option: str) -> None:
    composed = jobs(f"{group}={option}")
    assert composed
    for job in composed:
        build_components(job)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_runs_by_the_command_that_its_file_opens_with(group: str, option: str) -> None:
    opening = (config_folder() / group / f"{option}.yaml").read_text().splitlines()[0]
    command = shlex.split(opening.removeprefix("# python -m knexa ").partition(" && ")[0])
    (job,) = jobs(*command)
    assert job.choices[group] == option
    build_components(job)


def test_every_group_has_its_default() -> None:
    (job,) = jobs()
    for group in COMPONENT_GROUPS:
        assert job.choices[group] in options_of(group)


def test_paper_experiment_is_the_published_one() -> None:
    (job,) = jobs("experiment=paper")
    chosen = {group: job.choices[group] for group in COMPONENT_GROUPS}
    assert (
        chosen
        | {
            "matchmaker": "linucb",
            "roster": "paper6",
            "data": "humaneval_mbpp",
            "partition": "sizes",
            "context": "concat",
            "matching": "greedy",
            "exchange": "akd",
            "reward": "local_loss",
        }
        == chosen
    )
    assert job.config["matchmaker"]["regularization"] == 0.01
    assert job.config["matchmaker"]["exploration"] == 1.0
    assert job.config["reward"]["normalization"] == "zscore"
    assert job.config["federation"]["num_rounds"] == 20
    assert job.config["partition"]["train"] == [45, 43, 44, 46, 54, 44]
    assert job.config["training"]["precision"] == "16-mixed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("matchmaker.exploration=1e308",), "matchmaker.exploration"),
        (("federation=synthetic", "federation.num_agents=100000"), "<= 8192"),
        (("federation=synthetic", "federation.num_agents=1"), ">= 2"),
        (("roster.size=1",), ">= 2"),
        (("evaluation.ks=[]",), "a list of integers >= 1"),
    ],
)
def test_values_that_make_no_sense_are_one_line(arguments: tuple[str, ...], said: str) -> None:
    (job,) = jobs(*arguments)
    with pytest.raises(UserError, match=re.escape(said)):
        build_components(job)


def test_a_precision_that_needs_a_gpu_is_one_line_without() -> None:
    settings = organisation_settings(["training.precision=16-mixed"])
    with pytest.raises(UserError, match=r"precision=16-mixed needs a GPU.*bf16-mixed") as caught:
        build_runtime(settings, Workers(1, "cpu", "test"))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_compiling_where_nothing_compiles_is_one_line(monkeypatch, tmp_path) -> None:
    settings = organisation_settings(["training.compile=true"])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"training\.compile=true.*compiler") as caught:
        build_runtime(settings, Workers(1, "cpu", "test"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("matchmaker", options_of("matchmaker"))
def test_experiment_takes_every_matchmaker(matchmaker: str) -> None:
    (job,) = jobs("experiment=paper", f"matchmaker={matchmaker}")
    build_components(job)


def test_sweep_needs_no_flag_and_can_be_overridden() -> None:
    composed = jobs("sweep=smoke", "seed=5,6,7")
    points = {(job.choices["matchmaker"], job.config["seed"]) for job in composed}
    assert points == {(name, seed) for name in ("linucb", "random") for seed in (5, 6, 7)}
    assert {job.config["name"] for job in composed} == {"sweep-smoke"}


def all_files() -> list[Path]:
    chosen_by_config = config_folder() / "hydra"  # never by a user's command
    files = [*config_folder().rglob("*.yaml"), *sweep_folder().rglob("*.yaml")]
    return sorted(path for path in files if not path.is_relative_to(chosen_by_config))


@pytest.mark.parametrize("path", all_files(), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_file_opens_with_the_command_that_runs_it(path: Path) -> None:
    comments = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()[:2]
        if line.startswith("# python -m knexa")
    ]
    assert comments, path
    if path.parent.name in COMPONENT_GROUPS:
        (command,) = comments
        assert path.parent.name in command


def test_search_checks_both_ends_of_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    points: list[Any] = []
    monkeypatch.setattr(multirun, "_BASIC_SWEEPER", "some.other.Sweeper")
    points += jobs("-m", "partition.alpha=interval(0.1,0.9)", "roster.size=4,5")
    found = {(job.config["partition"]["alpha"], job.config["roster"]["size"]) for job in points}
    assert found == {(0.1, 4), (0.9, 4), (0.1, 5)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("context=concat",), "context=concat does not describe the arms of .*experiment=paired"),
        (("experiment=paired", "context=topic"), "context=topic counts answers, and reward=local"),
        (("matching=prefiltered",), "context=topic sums over topics, .* matching=auto"),
        (("reward=local_loss",), "set reward=new_answers, or experiment=paired"),
        (("matchmaker=random", "reward=local_loss"), "set reward=new_answers"),
        (("exchange=akd",), "exchange=akd does not verify and keep them: .*experiment=paired"),
        (("reward=new_answers", "exchange=similarity"), "choose akd_verified"),
        (("exchange.ask=missing", "federation.compare_reports=true"), "set exchange.ask=all"),
        (("exchange.ask=none",), "exchange.ask=none: must be one of all, missing"),
        (("matching=one_to_many", "matchmaker=central_kd"), "set matching=exact"),
        (("federation.mutual=true",), "federation.mutual is about disjoint"),
        (("federation.num_pairs=2",), "federation.num_pairs is about disjoint"),
        (("matching.budget=0",), "matching.budget=0"),
        (("matching=broadcast", "matchmaker=random"), "set matchmaker=random regret=none"),
        (("matching=broadcast", "regret=none"), "set matchmaker=random regret=none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_arms_that_do_not_fit_are_one_line(arguments: tuple[str, ...], said: str) -> None:
    (job,) = jobs(*arguments)
    with pytest.raises(UserError, match=said) as caught:
        build_components(job)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", [("matchmaker=central_kd",), ("exchange=akd", "matching=exact")])
def test_only_who_keeps_right_answers_asks_for_the_missing_ones(other: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"unknown key exchange\.ask; allowed"):
        jobs("exchange.ask=missing", *other)


@pytest.mark.parametrize("matching", ["routed", "one_to_many", "exact"])
@pytest.mark.parametrize(
    "matchmaker",
    [
        *("linucb", "c2ucb", "thompson", "neural_linear", "oracle", "pens"),
        *("random", "round_robin", "heuristic", "self_taught", "local_only"),
    ],
)
def test_matchmakers_run_on_every_shape(matchmaker: str, matching: str) -> None:
    (job,) = jobs(f"matchmaker={matchmaker}", f"matching={matching}")
    build_components(job)


def test_a_context_recommends_how_much_linucb_explores() -> None:
    for arguments, expected in (
        ((), (0.1, 0.3)),
        (("context=topic_public",), (0.1, 0.3)),
        (("matchmaker.exploration=2",), (0.1, 2.0)),
        (("experiment=paired",), (0.01, 1.0)),
        (("experiment=paper",), (0.01, 1.0)),
    ):
        (job,) = jobs(*arguments)
        matchmaker = build_components(job)[1].matchmaker
        assert isinstance(matchmaker, LinUCB)
        assert (matchmaker.regularization, matchmaker.exploration) == expected


@pytest.mark.parametrize("matchmaker", ["central_kd", "fedid", "fedavg", "fedskd"])
@pytest.mark.parametrize("experiment", [(), ("experiment=paper",), ("debug=smoke",)])
def test_a_matchmaker_brings_its_own_exchange(matchmaker: str, experiment: tuple[str, ...]) -> None:
    (job,) = jobs(*experiment, f"matchmaker={matchmaker}")
    _, components = build_components(job)
    assert components.exchange is not None
    assert components.exchange.name == components.matchmaker.protocol
    assert components.regret.every == 0 or matchmaker == "fedskd"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("matchmaker=central_kd", "exchange=akd"), "dictates its own protocol, ensemble"),
        (("matchmaker=fedid", "exchange=ensemble"), "dictates its own protocol, fedid"),
        (("matchmaker=linucb", "exchange=ensemble"), "does not teach in pairs"),
        (("matchmaker=random", "exchange=fedavg"), "does not teach in pairs"),
        (("matchmaker=central_kd", "regret=probes"), "set regret=none"),
        (("matchmaker=pens", "exchange=adapter"), "sends none"),
        (("matchmaker=central_kd", "exchange.vote=maybe"), "exchange.vote=maybe"),
        (("experiment=paired", "exchange=adapter", "+exchange.num_steps=2"), "exchange.num_steps"),
        (("experiment=paired", "matchmaker=oracle", "training=dp"), "no budget of training counts"),
        (("training=dp", "training.precision=bf16-mixed"), "32 bits only"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_exchange_that_does_not_fit_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    (job,) = jobs(*arguments)
    with pytest.raises(UserError, match=said) as caught:
        build_components(job)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-m", "reward.gamma=interval(0,1)"), r"reward\.gamma=interval.*only a search"),
        (("-m", "seed=range(3,0)"), r"seed=range\(3,0\): there is no such value"),
        (("-m", "name=glob(*)"), r"name=glob\(\*\): there is no such value"),
        (("-m", "partition.alpha=${nowhere}", "seed=1,2"), "partition.alpha: .*nowhere"),
        (("sweep=smoek",), r"sweep=smoek: no such option \(did you mean smoke"),
        (("context=[[1]]",), r"context=\[\[1\]\]: no such option"),
        (("federation=synthetic", "exchange=akd"), "exchange=akd needs a roster, .*leave it out"),
        (("federation=synthetic", "partition.alpha=1"), "no partition is chosen .*synthetic"),
        (("roster.backbones.gpt2.source=x",), r"did you mean roster\.backbones\.tiny-gpt2\?"),
        (("matchmaker=LinUCB",), r"did you mean linucb\?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_swept_or_resolved_is_one_line(
    arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        jobs(*arguments)
    assert "\n" not in str(caught.value)


def test_a_sweep_goes_through_a_group_by_pattern_and_keeps_interpolations() -> None:
    composed = jobs("-m", "matchmaker=glob(f*)", "partition.alpha=${seed}", "seed=3")
    assert {job.choices["matchmaker"] for job in composed} == {"fedavg", "fedid", "fedskd"}
    assert {job.config["partition"]["alpha"] for job in composed} == {3}


def test_points_that_differ_in_their_seed_alone_are_composed_alike() -> None:
    shared = jobs("-m", "matchmaker=neural_linear,random", "seed=3,4")
    for job in shared:
        (alone,) = jobs(f"matchmaker={job.choices['matchmaker']}", f"seed={job.config['seed']}")
        assert job.config == alone.config  # neural_linear interpolates the seed
        assert job.choices == alone.choices
        assert set(job.overrides) == set(alone.overrides)
    assert {job.config["seed"] for job in shared} == {3, 4}


def test_slurm_without_srun_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match="this machine has no srun"):
        jobs("-m", "hydra/launcher=slurm", "seed=1,2")


def test_an_option_that_is_no_yaml_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "matchmaker").mkdir()
    (tmp_path / "matchmaker" / "mine.yaml").write_text("noise: [")
    with pytest.raises(UserError, match=r"not YAML: .*mine\.yaml"):
        jobs("-cd", str(tmp_path), "matchmaker=mine")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("defaults: [{override /matchmaker: random}]", "cannot choose matchmaker.*command line"),
        ("matchmaker: {exploration: 2.0}", r"sets matchmaker\.exploration=2\.0, without effect"),
        ("matchmaker: random", "sets matchmaker=random, without effect"),
    ],
)
def test_an_experiment_that_cannot_choose_the_matchmaker_says_so(
    tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{content}\n")
    mine = ("-cd", str(tmp_path), "experiment=mine")
    with pytest.raises(UserError, match=said) as caught:
        jobs(*mine)
    assert "\n" not in str(caught.value)


def test_an_experiment_may_set_what_the_matchmakers_file_leaves_open(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nmatchmaker: {step: 0.5}"
    )
    (job,) = jobs("-cd", str(tmp_path), "experiment=mine")
    assert job.config["matchmaker"]["step"] == 0.5


def test_the_command_line_beats_an_experiment_over_the_matchmaker(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nmatchmaker: {exploration: 2.0}"
    )
    (job,) = jobs("-cd", str(tmp_path), "experiment=mine", "matchmaker.exploration=3.0")
    assert job.config["matchmaker"]["exploration"] == 3.0


def test_what_sets_a_group_that_the_federation_has_not_is_named() -> None:
    (job,) = jobs("experiment=byzantine", "federation=synthetic")
    with pytest.raises(UserError, match=r"has no roster: .* such as experiment=byzantine"):
        build_components(job)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("matchmaker=random",), r"hparams_search=linucb varies matchmaker\.exploration.*random"),
        (("hydra.sweeper.n_trials=0",), r"hydra\.sweeper\.n_trials=0: must be an integer >= 1"),
        (("hydra.sweeper.n_jobs=0",), r"hydra\.sweeper\.n_jobs=0: must be an integer >= 1"),
        (("engine.num_threads=range(3,0)",), r"range\(3,0\): there is no such value"),
    ],
    ids=" ".join,
)
def test_a_search_that_cannot_try_anything_is_one_line(
    arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        jobs("hparams_search=linucb", *arguments)


@pytest.mark.parametrize("group", COMPONENT_GROUPS)
def test_a_class_of_another_groups_kind_is_one_line(group: str) -> None:
    other = "knexa.matchmaking.contexts.Concat"
    if group == "context":
        other = "knexa.matchmaking.random.Random"
    (job,) = jobs(f"{group}._target_={other}")
    with pytest.raises(UserError) as caught:
        build_components(job)
    name = other.rpartition(".")[2]
    told = (
        f"{group}._target_={other}: {name} is no {group}: choose one of knexa's, or derive it from"
    )
    assert str(caught.value).startswith(f"{told} knexa.")
    assert "\n" not in str(caught.value)


def test_a_class_without_what_its_kind_must_have_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "undealt.py").write_text(
        "from knexa.data.partition import Partition\nclass Undealt(Partition):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (job,) = jobs(
        "partition=iid", "partition._target_=undealt.Undealt", "trusted_modules=[undealt]"
    )
    with pytest.raises(
        UserError, match=r"partition\._target_=undealt\.Undealt: Undealt lacks split"
    ):
        build_components(job)


def test_settings_are_of_a_federation_that_has_all_groups_or_say_which_it_lacks() -> None:
    whole, formulas = organisation_settings([]), organisation_settings(["federation=synthetic"])
    assert isinstance(whole, LLMSettings)
    assert not isinstance(formulas, LLMSettings)
    for group in COMPONENT_GROUPS:
        assert getattr(whole, group) is not None
        assert (getattr(formulas, group) is None) == (group in formulas.federation.lacks)
