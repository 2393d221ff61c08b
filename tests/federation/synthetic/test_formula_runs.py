"""``federation=synthetic`` through the application, as a user types it."""

import json
from pathlib import Path

import pytest

from knexa.cli.commands import run_command_line
from knexa.cli.exit_codes import EXIT_USER_ERROR
from knexa.recipe import RECIPE
from knexa.tracking.wandb_logger import Wandb

SHORT = ("logger=none", "federation.num_rounds=6", "federation.num_agents=6")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def only_run() -> Path:
    (done,) = Path("outputs").rglob("DONE")
    return done.parent


def rows(run: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("federation", ["synthetic", "synthetic/linear"])
def test_a_run_leaves_the_contracts_files(federation):
    assert run_command_line([f"federation={federation}", *SHORT]) == 0
    run = only_run()
    assert len(rows(run, "rounds")) == 6 * 7
    assert [row["round"] for row in rows(run, "regret")] == [1, 2, 3, 4, 5, 6]
    assert len(rows(run, "exchanges")) == 3 * 6
    summary = json.loads((run / "summary.json").read_text())
    assert summary["random_regret"] > 0
    assert summary["recipe"] == RECIPE
    assert ("pass@1" in summary) == (federation == "synthetic")
    assert (run / "plots" / "regret.png").stat().st_size > 1000


@pytest.mark.parametrize("federation", ["synthetic", "synthetic/linear"])
def test_skills_and_complementarity_work_on_formulas(federation):
    overrides = ["profile=skills", "context=complementarity", "reward=local_loss_raw"]
    assert run_command_line([f"federation={federation}", *SHORT, *overrides]) == 0
    assert rows(only_run(), "exchanges")


def test_policies_meet_on_formulas_what_they_stand_for():
    policies = "linucb,random,oracle,local_only,c2ucb"
    assert run_command_line(["-m", "federation=synthetic", *SHORT, f"matchmaker={policies}"]) == 0
    final = {
        run.parent.name.split("-")[0]: json.loads((run.parent / "summary.json").read_text())
        for run in Path("outputs").rglob("DONE")
    }
    assert len(final) == 5
    assert all(
        final["oracle"]["cumulative_regret"] <= s["cumulative_regret"] for s in final.values()
    )
    assert final["local_only"]["pass@1"]["mean"] < final["random"]["pass@1"]["mean"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["roster=tiny6"], "federation=synthetic has no roster"),
        (["reward=transfer_loss"], "use reward=local_loss"),
        (["matchmaker=pens"], "matchmaker=pens works on models and text"),
        (["federation.heterogeneity=extreme"], "one of low, medium, high"),
        (["partition.alpha=0.5"], "partition.alpha"),
        (["context=complementarity"], "set profile=skills"),
    ],
)
def test_what_formulas_do_not_have_is_refused_in_one_line(overrides, said, capsys):
    assert run_command_line(["federation=synthetic", *SHORT, *overrides]) == EXIT_USER_ERROR
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert said in error
    assert "\n" not in error
    assert not Path("outputs").exists()


def test_wandb_keeps_studies_apart_and_is_told_what_a_run_has(monkeypatch):
    told = []
    monkeypatch.setattr(Wandb, "start", lambda self, run: told.append(run))
    federation = ["federation=synthetic", *SHORT, "logger=wandb"]
    for study in ("name=first", "name=second", "name=first"):
        assert run_command_line([*federation, study, "rerun=true"]) == 0
    first, second, again = told
    assert first.id == again.id != second.id  # one of W&B's runs cannot be in two groups
    assert first.tags == ()  # no roster, no data, no exchange


def test_a_dry_run_shows_where_the_run_would_be_and_writes_nothing(capsys):
    assert run_command_line(["federation=synthetic", *SHORT, "dry_run=true"]) == 0
    shown = capsys.readouterr().out.splitlines()[-1].split()[-1]
    assert list(Path.cwd().iterdir()) == []
    assert run_command_line(["federation=synthetic", *SHORT]) == 0
    assert Path(shown) == only_run()


def test_a_state_that_no_checkpoint_can_hold_is_one_line(capfd, tmp_path, monkeypatch):
    (tmp_path / "setlike.py").write_text(
        "from knexa.matchmaking.linucb import LinUCB\n"
        "class Setlike(LinUCB):\n"
        "    def state_dict(self):\n"
        "        return {'pairs': {1, 2}}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = ("matchmaker._target_=setlike.Setlike", "trusted_modules=[setlike]")
    assert run_command_line(["federation=synthetic", *SHORT, *mine]) == EXIT_USER_ERROR
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("error: Setlike.state_dict: /matchmaker/pairs: cannot store a set")


@pytest.mark.slow
def test_private_profiles_cost_what_the_summary_says_and_leave_the_matchmaker_nothing():
    """The table of docs/security.md at its ends, for one seed."""
    common = ["federation=synthetic", "logger=none", "seed=0"]
    gaussian = ["privacy=gaussian", "privacy.min_family=1", "privacy.epsilon=8"]
    for overrides in (common, [*common, *gaussian]):
        assert run_command_line(overrides) == 0
    open_run, private = sorted(
        (json.loads((done.parent / "summary.json").read_text()) for done in Path().rglob("DONE")),
        key=lambda summary: summary["privacy"]["profiles"] is not None,
    )
    share = {
        name: summary["cumulative_regret"] / summary["random_regret"]
        for name, summary in (("open", open_run), ("private", private))
    }
    assert share["open"] < 0.75
    assert 0.9 < share["private"] < 1.2
    spent = private["privacy"]["profiles"]
    assert spent["releases"] == 100
    assert 0.95 * 8 < spent["epsilon"] <= 8
