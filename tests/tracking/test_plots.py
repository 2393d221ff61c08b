import itertools
import logging
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knexa.tracking import plot_style as style
from knexa.tracking.metrics import agent_names
from knexa.tracking.plot_style import spread
from knexa.tracking.plots import draw_plots, learning_curve
from knexa.tracking.rows import RoundRow, SkewSummary
from knexa.tracking.run_directory import RunDirectory
from tests import row_examples
from tests.row_examples import exchange_row
from tests.tracking.tracking_examples import (
    NAMES,
    exchange_rows,
    regret_row,
    round_rows,
    sample_rows,
)


@pytest.fixture
def run_dir(tmp_path):
    with RunDirectory(tmp_path / "run") as run_dir:
        yield run_dir


def names(paths):
    return [path.stem for path in paths]


def test_pngs_carry_no_date_or_software(run_dir):
    run_dir.append(round_rows(0) + round_rows(1))
    (path,) = draw_plots(run_dir)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert b"tEXt" not in content
    assert b"tIME" not in content


def test_a_run_without_probes_has_no_regret_plot_and_says_so(run_dir, caplog):
    run_dir.append(round_rows(1))
    run_dir.append(exchange_rows(1))
    run_dir.plots.mkdir()
    (run_dir.plots / "regret.png").write_text("of an earlier start")
    with caplog.at_level(logging.INFO):
        assert names(draw_plots(run_dir)) == ["learning_curve", "pairing_matrix"]
    assert "no plot regret.png: the run has no counterfactual probes" in caplog.text
    assert not (run_dir.plots / "regret.png").exists()


def test_an_empty_run_draws_nothing(run_dir):
    assert draw_plots(run_dir) == []


def test_one_round_of_zeros_can_be_drawn(run_dir):
    run_dir.append([replace(row, pass_at_1_greedy=0.0) for row in round_rows(0)])
    run_dir.append([replace(regret_row(1), chosen=None, best_pairs=())])
    run_dir.write_samples([replace(row, outcome="failed", category=3) for row in sample_rows()])
    assert names(draw_plots(run_dir)) == ["learning_curve", "regret", "skills"]


def test_topics_are_called_what_the_run_says(run_dir, monkeypatch):
    named = []
    monkeypatch.setattr(style, "name_cells", lambda axes, rows, columns: named.append(columns))
    skew = SkewSummary(
        train_sizes=(4,) * 4,
        validation_sizes=(1,) * 4,
        categories=("word_letter", "nums_sum", "dict"),
        histograms=((1.0, 0.0, 0.0),) * 4,
        jensen_shannon=((0.0,) * 4,) * 4,
        mean_jensen_shannon=0.0,
        num_draws=1,
    )
    scores = row_examples.scores(skew=skew, data_shares=((1.0, 0.0, 0.0),) * 4)
    run_dir.append(round_rows(1))
    run_dir.append([exchange_row(topics=(2,))])
    run_dir.write_samples([replace(row, category=row.agent % 3) for row in sample_rows()])
    run_dir.write_summary(row_examples.summary(scores=scores))
    drawn = names(draw_plots(run_dir))
    assert {"questions", "skills"} <= set(drawn)
    assert named.count(("word letter", "nums sum", "dict")) == 2


def test_many_agents_can_be_drawn(run_dir):
    template = round_rows(1)[0]
    run_dir.append([replace(template, agent=i, name=f"a{i}") for i in range(100)])
    run_dir.append([exchange_row(teachers=(3,), students=(99,))])
    run_dir.write_samples(sample_rows())
    assert names(draw_plots(run_dir)) == ["learning_curve", "pairing_matrix"]


def test_a_single_measured_round_shows_every_agent_at_a_whole_round(run_dir):
    run_dir.append(round_rows(5))
    rounds = run_dir.read_rows(RoundRow)
    with style.applied():
        left = learning_curve(rounds, agent_names(rounds)).axes[0]
    agents = left.lines[: len(NAMES)]
    assert [line.get_xdata().tolist() for line in agents] == [[5]] * len(NAMES)
    assert all(line.get_marker() == "o" for line in agents)
    assert all(tick == round(tick) for tick in left.get_xticks())


@pytest.mark.parametrize("level", [0.0, 0.1, 0.9, 1.0])
def test_labels_stay_within_the_axes_where_there_is_room(level):
    places = spread([level] * 11, 0.1, within=(0.0, 1.0))
    assert places == pytest.approx(np.linspace(0, 1, 11))
    assert spread([0.0, level], 0.1, within=(0.0, 1.0)) == pytest.approx([0.0, max(level, 0.1)])


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 0.2))
def test_labels_are_spread_apart_in_order_and_around_their_lines(values, gap):
    values = sorted(values)
    places = spread(values, gap)
    assert all(b - a >= gap - 1e-9 for a, b in itertools.pairwise(places))
    assert np.mean(places) == pytest.approx(np.mean(values)) if values else places == []
    apart = all(b - a >= gap for a, b in itertools.pairwise(values))
    if apart:
        assert places == pytest.approx(values)
