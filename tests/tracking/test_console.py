import io

from tracking_examples import start_info

from knexa.tracking.console import Console
from knexa.tracking.info import RoundInfo


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_that_names_round_and_phase(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    file = Terminal()
    console = Console(file=file)
    console.start(start_info(tmp_path))
    console.phase(0, "teach", index=1, total=2)
    console.advance(0.5)
    console._progress.refresh()
    console.round_done(RoundInfo(round=0, num_rounds=3, metrics={"pass@1_greedy": 0.125}))
    console._progress.refresh()
    console.close()
    text = file.getvalue()
    assert "round 0: teach" in text
    assert "ETA" in text
    assert "Pass@1 12.5%" in text
    assert "round 0/3" not in text


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
        console.round_done(RoundInfo(round=round, num_rounds=3, metrics={}))
        seen.append(console._progress.tasks[0].completed)
    total = console._progress.tasks[0].total
    console.close()
    assert seen == sorted(seen)
    assert seen[-1] == total


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path):
    file = io.StringIO()
    Console(file=file).warn("[bold]not bold[/] in [/tmp]")
    assert "[bold]not bold[/] in [/tmp]" in file.getvalue()
