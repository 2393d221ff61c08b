import io
from dataclasses import replace
from pathlib import Path

from knexa.tracking.console import Console
from knexa.tracking.info import ClosingInfo
from knexa.tracking.rows import Floor, Floors, SkewSummary
from tests import row_examples
from tests.row_examples import score, scores
from tests.tracking.tracking_examples import start_info


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_that_names_round_and_phase(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    file = Terminal()
    console = Console(file=file)
    console.start(start_info(tmp_path))
    console.phase(0, "round 0/3: teaching", index=1, total=2)
    console.advance(0.5)
    console._progress.refresh()
    console.round_done(0, 3, {"pass@1_greedy": 0.125})
    console._progress.refresh()
    console.close()
    text = file.getvalue()
    assert "round 0/3: teaching" in text
    assert "ETA" in text
    assert "Pass@1 12.5%" in text
    assert "sent" not in text  # the plain line of a round is for logs


def test_the_bar_is_monotonic_over_phases_and_rounds(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=Terminal())
    console.start(start_info(tmp_path))
    seen = []
    for round in range(4):
        for index in range(3):
            console.phase(round, "phase", index=index, total=3)
            for fraction in (0.25, 1.0):
                console.advance(fraction)
                seen.append(console._progress.tasks[0].completed)
        console.round_done(round, 3, {})
        seen.append(console._progress.tasks[0].completed)
    console.phase(4, "final evaluation")
    before = console._progress.tasks[0].completed
    console.advance(1.0)
    total, last = console._progress.tasks[0].total, console._progress.tasks[0].completed
    console.close()
    assert seen == sorted(seen)
    assert seen[-1] == before == total - 1  # the final evaluation is still to come
    assert last == total


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path):
    file = io.StringIO()
    Console(file=file).warn("[bold]not bold[/] in [/tmp]")
    assert "[bold]not bold[/] in [/tmp]" in file.getvalue()


def test_a_long_condition_is_shown_to_its_end(tmp_path):
    condition = "faults: " + ", ".join(f"kind{number} 0.25" for number in range(20))
    output = io.StringIO()
    Console(file=output).start(replace(start_info(tmp_path), run_notes=(condition,)))
    assert "kind0 0.25" in output.getvalue()
    assert "kind19 0.25" in output.getvalue()


def test_codebleu_stands_beside_its_floors():
    floors = Floors(
        empty=Floor(compat=0.25, fixed=0.0), prompt_copy=Floor(compat=0.29, fixed=0.087)
    )
    bleus = {"codebleu_compat": score(0.4), "codebleu_fixed": score(0.3), "floors": floors}
    summary = row_examples.summary(scores=scores(**bleus))
    output = io.StringIO()
    info = ClosingInfo(run_path=Path("run"), summary=summary, rounds=[], exchanges=[])
    Console(file=output, quiet=True).close(info)
    lines = {line[:16].strip(): line for line in output.getvalue().splitlines()}
    assert "0.400  (an empty answer 0.250, a copied prompt 0.290)" in lines["CodeBLEU, compat"]
    assert "0.300  (an empty answer 0.000, a copied prompt 0.087)" in lines["CodeBLEU"]


def test_who_is_asked_about_what_fits_eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    rounds = [
        row_examples.round_row(agent=agent, name=f"qwen2-{agent}", pass_at_1_greedy=rate)
        for rate in (0.017, 0.345)
        for agent in range(3)
    ]
    exchanges = [
        row_examples.exchange_row(
            teachers=(0,),
            students=(1,),
            topics=(topic,),
            answers_asked=11,
            answers_right=7,
            answers_new=2,
        )
        for topic in (7, 7, 2)
    ]
    high = replace(score(1.0, num_agents=3), per_agent=(1.0, 1.0, 1.0))
    found = scores(pass_at={1: high}, own_pass_at={1: high}, codebleu_fixed=high)
    summary = row_examples.summary(scores=found)
    output = io.StringIO()
    info = ClosingInfo(run_path=Path("run"), summary=summary, rounds=rounds, exchanges=exchanges)
    Console(file=output, quiet=True).close(info)
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    assert sum(line.startswith("qwen2-") for line in lines) == 3
    (teacher,) = (line for line in lines if line.startswith("qwen2-0"))
    assert teacher.split()[-3:] == ["3", "string", "building"]
    assert "1.7% -> 34.5%" in teacher
    assert any(line.endswith("33 asked, 21 right, 6 new") for line in lines)


def test_who_is_asked_about_what_names_clusters_of_prompts():
    skew = SkewSummary(
        train_sizes=(4, 4),
        validation_sizes=(1, 1),
        categories=("word_letter", "nums_sum"),
        histograms=((1.0, 0.0), (0.0, 1.0)),
        jensen_shannon=((0.0, 1.0), (1.0, 0.0)),
        mean_jensen_shannon=1.0,
        num_draws=1,
    )
    rounds = [row_examples.round_row(agent=agent) for agent in range(2)]
    exchanges = [row_examples.exchange_row(topics=(1,))]
    summary = row_examples.summary(scores=scores(skew=skew))
    output = io.StringIO()
    info = ClosingInfo(run_path=Path("run"), summary=summary, rounds=rounds, exchanges=exchanges)
    Console(file=output, quiet=True).close(info)
    (teacher,) = (line for line in output.getvalue().splitlines() if line.startswith("agent-0"))
    assert teacher.split()[-3:] == ["1", "nums", "sum"]
