import json
import subprocess
import sys

import pytest

from tests.report.report_examples import write_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """Return (folder, printed text) of a pushed report, made in a process of its own."""
    folder = tmp_path_factory.mktemp("wandb_report")
    write_study(folder / "runs", seeds=2)
    command = [sys.executable, "-m", "knexa", "report", "runs", "--against", "random", "--wandb"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def records(folder, kind):
    (run,) = (folder / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [record[kind] for record in found if record.get("type") == kind]


def test_report_is_one_offline_run_with_curves_tables_and_figures(pushed):
    folder, printed = pushed
    (run_folder,) = (folder / "wandb").glob("offline-run-*")
    assert f"wandb sync {run_folder.relative_to(folder)}" in printed.replace(f"{folder}/", "")
    (run,) = records(folder, "run")
    assert (run["project"], run["job_type"], run["display_name"]) == ("knexa", "report", "report")
    assert run["config"]["update"]["methods"] == ["linucb/akd", "oracle/akd", "random/akd"]
    rows = [record["item"] for record in records(folder, "history")]
    name = "linucb+akd [num_agents=4]"
    curve = [row[f"pass@1_greedy/{name}/mean"] for row in rows[:-1]]
    assert curve[0] == 0
    assert curve[-1] == pytest.approx(0.345)  # 0.34 and 0.35
    logged = set().union(*rows)
    assert f"cumulative_regret/{name}/low" in logged
    for key in ("tables/results", "tables/costs_numbers", "figures/regret", "figures/graph"):
        assert any(entry.startswith(key) for entry in logged), key


def test_final_scores_are_in_the_summary(pushed):
    folder, _ = pushed
    summary = {}
    for record in records(folder, "summary"):
        summary |= record["update"]
    assert summary["final/oracle+akd [num_agents=6]/pass@1_mean"] == pytest.approx(0.465)


def test_only_wandb_files_are_written(pushed):
    folder, _ = pushed
    assert sorted(path.name for path in folder.iterdir()) == ["runs", "wandb"]
