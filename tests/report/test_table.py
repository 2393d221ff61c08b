import csv
import io
import json

import numpy as np
import pytest
import scipy.stats

from knexa.cli.commands import run_command_line
from knexa.recipe import RECIPE
from knexa.report.aggregate import group_runs
from knexa.report.formats import markdown, tidy_csv
from knexa.report.runs import read_runs
from knexa.report.table import tables
from knexa.statistics import student_mean
from knexa.tracking.rows import ByzantineSummary, Trust
from knexa.tracking.schema import as_document
from tests.report.report_examples import rewrite, write_run
from tests.row_examples import score


def results(folder, against=None):
    return tables(group_runs(read_runs([folder])), against)[0]


def costs(folder, against=None):
    return tables(group_runs(read_runs([folder])), against)[1]


def column(table, heading):
    place = table.headings.index(heading)
    return {row[0].text: row[place].text for row in table.rows}


def test_means_intervals_and_paired_differences_are_over_seeds(tmp_path):
    for seed, base in enumerate((0.10, 0.30, 0.50)):
        write_run(tmp_path, "random", seed, passed=base)
        write_run(tmp_path, "linucb", seed, passed=base + 0.02)
    table = results(tmp_path, "random/akd")
    # 4.303, the quantile of Student's t, times 20 / sqrt(3).
    assert column(table, "pass@1 %")["random/akd"] == "30.0 [-19.7, 79.7]"
    # The seeds differ by 20 points, the methods by exactly 2 on each: pairing shows it.
    assert column(table, "against random/akd") == {
        "linucb/akd": "+2.0 [+2.0, +2.0]",
        "random/akd": "0",
    }
    assert column(table, "detectable")["linucb/akd"] == "0.0"


def test_differences_use_the_seeds_that_both_methods_have_and_say_so(tmp_path):
    for seed in range(3):
        write_run(tmp_path, "linucb", seed, passed=0.3)
    for seed in range(1, 3):
        write_run(tmp_path, "random", seed, passed=0.2)
    cell = column(results(tmp_path, "random"), "against random/akd")["linucb/akd"]
    assert cell == "+10.0 [+10.0, +10.0] (2 seeds)"


def test_one_seed_has_no_interval(tmp_path):
    write_run(tmp_path, "random", 0, passed=0.1)
    assert column(results(tmp_path), "pass@1 %")["random/akd"] == "10.0"


def test_unfinished_runs_are_left_out(tmp_path):
    write_run(tmp_path, "random", 0)
    write_run(tmp_path, "random", 1, finished=False)
    assert [run.seed for run in read_runs([tmp_path])] == [0]


def test_what_a_method_sees_is_printed(tmp_path):
    write_run(tmp_path, "linucb", 0)
    write_run(tmp_path, "oracle", 0, needs=["probes"])
    write_run(tmp_path, "local_only", 0)
    assert column(results(tmp_path), "sees beyond profiles and rewards") == {
        "linucb/akd": "nothing",
        "oracle/akd": "probes",
        "local_only": "nothing",
    }


def test_measures_that_no_run_has_are_named_and_make_no_column(tmp_path):
    write_run(tmp_path, "linucb", 0, summary={"codebleu_fixed": None, "pass@10": None})
    table = results(tmp_path)
    assert "CodeBLEU (fixed)" not in table.headings
    (note,) = [note for note in table.notes if note.startswith("Not measured")]
    assert "CodeBLEU (fixed)" in note
    assert "pass@10 %" in note


def test_a_measure_of_some_seeds_says_of_how_many(tmp_path):
    write_run(tmp_path, "linucb", 0, passed=0.2)
    write_run(tmp_path, "linucb", 1, passed=0.2, summary={"codebleu_fixed": None})
    assert column(results(tmp_path), "CodeBLEU (fixed)") == {"linucb/akd": "0.500 (1 of 2 seeds)"}


def test_peak_shows_a_collapse(tmp_path):
    path = write_run(tmp_path, "linucb", 0, passed=0.4)
    rows = [json.loads(line) for line in (path / "rounds.jsonl").read_text().splitlines()]
    for row in rows:
        row["pass@1_greedy"] = {3: 0.9, 4: 0.1}.get(row["round"], 0.2)
    rewrite(path / "rounds.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    table = results(tmp_path)
    assert column(table, "greedy pass@1 %, peak") == {"linucb/akd": "90.0"}
    assert column(table, "greedy pass@1 %, last round") == {"linucb/akd": "10.0"}


def test_equal_steps_reads_the_longer_run_where_the_shorter_ended(tmp_path):
    # Both rise by 10 points a round; four agents spend 40 steps a round.
    write_run(tmp_path, "linucb", 0, passed=0.8, rounds=8, config={"federation.num_rounds": 4})
    write_run(tmp_path, "random", 0, passed=0.3, rounds=3, config={"federation.num_rounds": 4})
    table = costs(tmp_path, "random")
    assert set(column(table, "equal steps").values()) == {"120"}
    reached = column(table, "greedy pass@1 % at equal steps")
    assert reached == {"linucb/akd": "30.0", "random/akd": "30.0"}


def test_runs_without_curves_say_that_steps_cannot_be_compared(tmp_path):
    write_run(tmp_path, "linucb", 0, curve=False)
    assert any("equal optimizer steps" in note for note in costs(tmp_path).notes)


def test_one_curve_alone_is_no_comparison_at_equal_steps(tmp_path):
    write_run(tmp_path, "local_only", 0, rounds=2, config={"federation.num_rounds": 4})
    write_run(tmp_path, "linucb", 0, curve=False, config={"federation.num_rounds": 4})
    table = costs(tmp_path)
    assert "equal steps" not in table.headings
    assert any("equal optimizer steps" in note for note in table.notes)


def test_costs_that_nobody_had_are_named_and_make_no_column(tmp_path):
    write_run(tmp_path, "linucb", 0, summary={"tokens_trained": 0, "steps": 0})
    table = costs(tmp_path)
    assert not {"tokens trained", "optimizer steps"} & set(table.headings)
    (note,) = [note for note in table.notes if note.startswith("Zero or not recorded")]
    assert "tokens trained" in note
    assert "optimizer steps" in note


def test_formats_agree(tmp_path):
    for seed in range(2):
        write_run(tmp_path, "linucb", seed, exchange="akd_verified", passed=0.2 + 0.1 * seed)
    study = group_runs(read_runs([tmp_path]))
    table = tables(study)[0]
    assert "| linucb/akd_verified | 2 | 25.0 [-38.5, 88.5] |" in markdown(table)
    lines = list(csv.DictReader(io.StringIO(tidy_csv(study, table))))
    (line,) = [line for line in lines if line["measure"] == "pass@1 %"]
    assert (float(line["mean"]), line["seeds"]) == (pytest.approx(25.0), "2")
    assert line["name"] == "pass@1"


def write_three(folder, seeds=3):
    """Write three methods of which the oracle is best, and linucb best of those that count."""
    for seed in range(seeds):
        write_run(folder, "random", seed, passed=0.2 + 0.01 * seed)
        write_run(folder, "linucb", seed, passed=0.3 + 0.02 * seed)
        write_run(folder, "oracle", seed, passed=0.4 - 0.01 * seed, needs=["probes"])


def test_rows_are_by_score_and_the_best_that_could_be_deployed_is_bold(tmp_path):
    write_three(tmp_path)
    shown = markdown(results(tmp_path)).splitlines()[2:5]
    assert [line.split(" |")[0] for line in shown] == [
        "| oracle/akd",
        "| linucb/akd",
        "| random/akd",
    ]
    assert ["**" in line for line in shown] == [False, True, False]
    assert "**32.0** [27.0, 37.0]" in shown[1]


def test_the_best_is_of_each_setting_and_of_equal_values_none(tmp_path):
    for alpha, passed in ((0.1, 0.3), (10.0, 0.2)):
        for matchmaker in ("linucb", "random"):
            better = 0.1 * (matchmaker == "linucb") * (alpha == 0.1)
            config = {"partition.alpha": alpha}
            write_run(tmp_path, matchmaker, 0, passed=passed + better, config=config)
    bold = [line for line in markdown(results(tmp_path)).splitlines() if "**" in line]
    assert len(bold) == 1
    assert bold[0].startswith("| linucb/akd | 0.1 |")


def test_p_values_of_a_table_are_corrected_together_and_intervals_are_not(tmp_path):
    passed = {
        "random": (0.20, 0.25, 0.22, 0.24),
        "linucb": (0.30, 0.33, 0.31, 0.38),
        "c2ucb": (0.22, 0.24, 0.25, 0.26),
    }
    for matchmaker, values in passed.items():
        for seed, value in enumerate(values):
            write_run(tmp_path, matchmaker, seed, passed=value)
    table = results(tmp_path, "random")
    raw = {m: scipy.stats.ttest_rel(passed[m], passed["random"]).pvalue for m in passed}
    shown = column(table, "p (Holm)")
    assert shown["linucb/akd"] == f"{2 * raw['linucb']:.3f}"  # the smaller of two
    assert shown["c2ucb/akd"] == f"{raw['c2ucb']:.3f}"
    assert shown["random/akd"] == "-"
    interval = student_mean(100 * (np.array(passed["linucb"]) - passed["random"]))
    expected = f"{interval.mean:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]"
    assert column(table, "against random/akd")["linucb/akd"] == expected
    assert any("2 comparisons" in note and "not corrected" in note for note in table.notes)


def header(told, title):
    lines = told.splitlines()
    return lines[lines.index(f"## {title}") + 2]


def test_columns_are_chosen_and_ordered_and_the_csv_keeps_all(tmp_path, capsys):
    write_three(tmp_path / "runs")
    command = ["report", str(tmp_path / "runs"), "--against", "random"]
    chosen = ["--columns", "p,pass@1, codebleu_fixed"]
    assert run_command_line([*command, *chosen, "--to", str(tmp_path / "chosen")]) == 0
    told = capsys.readouterr().out
    assert header(told, "Results") == "| method | p (Holm) | pass@1 % | CodeBLEU (fixed) |"
    assert "Not shown (--columns, results.csv): seeds, difference, detectable" in told
    assert "| kB exchanged |" in header(told, "Costs")  # nothing of it was named
    assert run_command_line([*command, "--to", str(tmp_path / "usual")]) == 0
    for name in ("results", "costs"):
        one, other = (tmp_path / to / "tables" / f"{name}.csv" for to in ("chosen", "usual"))
        assert one.read_bytes() == other.read_bytes()


def test_columns_of_the_costs_leave_the_results_as_they_are(tmp_path, capsys):
    write_three(tmp_path)
    assert run_command_line(["report", str(tmp_path), "--columns", "seeds,steps"]) == 0
    told = capsys.readouterr().out
    assert header(told, "Costs") == "| method | seeds | optimizer steps |"
    assert header(told, "Results") == "| method | seeds |"
    assert run_command_line(["report", str(tmp_path), "--columns", "steps"]) == 0
    assert "| pass@1 % |" in header(capsys.readouterr().out, "Results")


def test_a_wrong_column_is_answered_with_the_one_that_was_meant(tmp_path, capsys):
    write_three(tmp_path)
    for wrong, answer in (("pas@1", "did you mean pass@1?"), ("method", "always comes first")):
        assert run_command_line(["report", str(tmp_path), "--columns", f"seeds,{wrong}"]) == 2
        assert answer in capsys.readouterr().err


def test_a_peak_that_is_the_last_round_is_not_shown(tmp_path):
    write_three(tmp_path)
    table = results(tmp_path)
    assert "greedy pass@1 %, peak" in table.headings
    assert "peak |" not in markdown(table)


def test_tables_are_printed_and_nothing_is_written_unless_asked(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "runs", "linucb", 0)
    monkeypatch.chdir(tmp_path)
    assert run_command_line(["report", "runs"]) == 0
    assert "| linucb/akd |" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere"],
        ["empty"],
        ["runs", "--against", "magic"],
        ["runs", "--slope", "9", "3"],
        ["runs", "--columns", "pas@1"],
        ["runs", "--columns", "pass@1,pass@1"],
        ["unscored", "--robust"],
        ["runs", "--to", "file"],
        ["damaged"],
        ["torn"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    write_run(tmp_path / "runs", "linucb", 0)
    write_run(tmp_path / "unscored", "linucb", 0, summary={"pass@1": None})
    (write_run(tmp_path / "damaged", "linucb", 0) / "summary.json").write_text("{")
    (write_run(tmp_path / "torn", "linucb", 0) / "config.yaml").unlink()
    assert run_command_line(["report", *arguments]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""


def test_runs_that_did_not_finish_are_left_out_by_name(tmp_path, capsys):
    write_run(tmp_path, "linucb", 0)
    unmarked = write_run(tmp_path, "linucb", 1, finished=False)
    ended = write_run(tmp_path, "linucb", 2, finished=False)
    (ended / "summary.json").unlink()
    for path in tmp_path.iterdir():
        (path / "environment.json").touch()
    assert run_command_line(["report", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert f"left out, not finished (2): {unmarked.name}, {ended.name}\n" in told
    assert "| linucb/akd | 1 |" in told


def test_runs_with_liars_show_the_honest_agents_and_who_was_let_teach(tmp_path):
    for seed, shunned in enumerate((7, None)):
        lied = as_document(
            ByzantineSummary(
                liars=(0,),
                attacks=("wrong",),
                teaching=(),
                lessons_among_liars=0,
                teaching_share=0.5,
                shunned_after=shunned,
                trust=Trust(liars=0.5, honest=0.5),
            )
        )
        write_run(tmp_path, "linucb", seed, summary={"byzantine": lied})
        honest = {"honest_pass@1": as_document(score(0.3)), "byzantine": lied}
        write_run(tmp_path, "random", seed, summary=honest)
    table = results(tmp_path)
    honest = column(table, "honest agents' pass@1 %")
    assert honest == {"linucb/akd": "-", "random/akd": "30.0 [30.0, 30.0]"}
    shares = column(table, "liars' teaching over their fair share")
    assert shares["linucb/akd"] == "0.50 [0.50, 0.50]"
    rounds = column(table, "rounds until under a third of it")
    assert rounds["linucb/akd"] == "7 (1 of 2 seeds)"
    assert any("Honest agents are" in note for note in table.notes)


def test_hidden_tests_have_columns_where_the_data_has_some(tmp_path):
    found = {"answers": 4, "wrong": 1, "wrong_share": 0.25}
    plus = {"pass@1_plus": as_document(score(0.1)), "verified_answers": found}
    write_run(tmp_path, "linucb", 0, summary=plus)
    table = results(tmp_path)
    assert column(table, "pass@1 %, hidden tests too") == {"linucb/akd": "10.0"}
    assert column(table, "wrong of verified answers %") == {"linucb/akd": "25.0"}
    write_run(tmp_path / "other")
    assert not any("hidden" in text for text in results(tmp_path / "other").headings)


def test_runs_without_liars_say_nothing_of_them(tmp_path):
    write_run(tmp_path)
    table = results(tmp_path)
    assert not any("liars" in text for text in (*table.headings, *table.notes))


def test_a_run_of_a_recipe_that_cannot_be_read_is_left_out_in_one_line(tmp_path, capsys):
    older = write_run(tmp_path, "linucb", 0, summary={"recipe": 5})
    config = (older / "config.yaml").read_text().replace(f"recipe: {RECIPE}\n", "")
    (older / "config.yaml").write_text(config)
    (older / "DONE").write_bytes(b"")  # as recipe 5 left it
    assert run_command_line(["report", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert f"{older} was made by recipe 5, and this version reads recipe 6 and later" in told
    assert told.count("\n") == 1
    write_run(tmp_path, "linucb", 1)
    assert run_command_line(["report", str(tmp_path)]) == 0
    assert "left out, made by recipe 5, which this version does not read (1)" in (
        capsys.readouterr().out
    )
