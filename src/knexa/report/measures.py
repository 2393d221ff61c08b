"""Statistics of a group: intervals over seeds, paired differences, curves, slopes.

Intervals are Student's 95 % over seeds. A slope's interval resamples seeds, always with the same
draws, so that equal runs give equal reports. Axes: S seeds, R rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from knexa.report.aggregate import Group, Study
from knexa.seeding import derive_rng
from knexa.statistics import (
    Interval,
    minimum_detectable_difference,
    paired_difference,
    paired_p_value,
    resampled_curves,
    student_curve,
    student_mean,
)

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One column.

    Attributes:
        name: Key in ``Run.values``; the column's name for ``--columns``.
        heading: The column's heading, with its unit.
        brief: The heading in LaTeX, a line a word; empty for the heading itself.
        scale: What values are multiplied by for showing.
        digits: Decimals.
        better: Which values are better, where that is sure.
        usual: Whether tables for reading have the column unless columns are chosen.
    """

    name: str
    heading: str
    brief: str = ""
    scale: float = 1.0
    digits: int = 0
    better: Literal["higher", "lower"] | None = None
    usual: bool = True


def _passed(name: str, heading: str, brief: str, *, usual: bool = True) -> Measure:
    """Return a share of passed problems, shown in percent."""
    return Measure(
        name=name,
        heading=heading,
        brief=rf"{brief} (\%)",
        scale=100,
        digits=1,
        better="higher",
        usual=usual,
    )


PASS = _passed("pass@1", "pass@1 %", "Pass@1")
SCORES = (
    PASS,
    _passed("own_pass@1", "own-data pass@1 %", "Own~data"),
    _passed("pass@5", "pass@5 %", "Pass@5"),
    _passed("pass@10", "pass@10 %", "Pass@10"),
    _passed("greedy_last", "greedy pass@1 %, last round", "Greedy, last"),
    _passed("greedy_peak", "greedy pass@1 %, peak", "Greedy, peak"),
    Measure(name="codebleu_fixed", heading="CodeBLEU (fixed)", digits=3, better="higher"),
    Measure(
        name="cumulative_regret",
        heading="cumulative regret",
        brief="Regret",
        digits=2,
        better="lower",
    ),
    Measure(name="random_regret", heading="random's regret there", digits=2, usual=False),
)
EQUAL_STEPS = _passed("equal_steps_pass@1", "greedy pass@1 % at equal steps", "At equal steps")
BYZANTINE = (
    _passed("honest_pass@1", "honest agents' pass@1 %", "Honest agents"),
    Measure(
        name="teaching_share",
        heading="liars' teaching over their fair share",
        brief="Liars' teaching",
        digits=2,
        better="lower",
    ),
    # Of the seeds where it happened alone: no column to be best in.
    Measure(name="shunned_after", heading="rounds until under a third of it", digits=0),
    Measure(name="rarely_asked_from", heading="first round of all under a third", digits=1),
)
"""Only runs with Byzantine agents have these."""
HIDDEN = (
    _passed("pass@1_plus", "pass@1 %, hidden tests too", "Pass@1+"),
    Measure(
        name="wrong_share",
        heading="wrong of verified answers %",
        brief=r"Wrong (\%)",
        scale=100,
        digits=1,
        better="lower",
    ),
)
"""Only runs on data with hidden tests have these."""
COSTS = (
    Measure(name="tokens_trained", heading="tokens trained", brief="Tokens trained"),
    Measure(name="tokens_generated", heading="tokens generated", brief="Tokens gen."),
    Measure(name="steps", heading="optimizer steps", brief="Steps"),
    Measure(name="kilobytes", heading="kB exchanged", brief="kB"),
    Measure(name="exchanges", heading="exchanges", brief="Exchanges"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Mean curve of a group with its pointwise interval."""

    x_R: Array
    mean_R: Array
    low_R: Array
    high_R: Array


def over_seeds(values: Sequence[float]) -> Interval | None:
    """Return mean and interval, None for no values."""
    return student_mean(values) if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Two methods compared on equal seeds.

    Attributes:
        difference: Mean of the differences with its interval.
        detectable: Smallest difference that so many seeds would have shown; None for one seed.
        p_value: Of the two-sided paired t test, uncorrected; None for one seed.
        num_seeds: Common seeds.
    """

    difference: Interval
    detectable: float | None
    p_value: float | None
    num_seeds: int


def paired(mine: dict[int, float], theirs: dict[int, float]) -> Paired | None:
    """Compare values by seed; None where no seed was measured under both."""
    seeds = sorted(mine.keys() & theirs.keys())
    if not seeds:
        return None
    a, b = (np.array([values[seed] for seed in seeds]) for values in (mine, theirs))
    several = len(seeds) > 1
    return Paired(
        difference=paired_difference(a, b),
        detectable=minimum_detectable_difference(a - b) if several else None,
        p_value=paired_p_value(a, b) if several else None,
        num_seeds=len(seeds),
    )


def band(x_R: Array, curves_SR: Array) -> Curves:
    """Return mean and interval of curves over seeds."""
    mean_R, low_R, high_R = student_curve(curves_SR)
    return Curves(x_R=x_R, mean_R=mean_R, low_R=low_R, high_R=high_R)


def learning_curve(group: Group) -> Curves | None:
    """Return greedy Pass@1 (mean over agents) at the rounds that all the group's curves have."""
    curves = [run.curve for run in group.runs if run.curve is not None]
    common = common_rounds([curve.rounds_R for curve in curves])
    if not common:
        return None
    curves_SR = np.array([c.means[np.isin(c.rounds_R, common)] for c in curves])
    return band(np.array(common, dtype=np.float64), curves_SR)


def steps_curve(group: Group, num_points: int = 60) -> Curves | None:
    """Return greedy Pass@1 over cumulative optimizer steps, up to the shortest run's end."""
    until = step_budget([group])
    if until is None:
        return None
    x_R = np.linspace(0, until, num_points)
    curves_SR = [
        np.interp(x_R, steps_R, curve.means)
        for run in group.runs
        if (curve := run.curve) is not None and (steps_R := curve.steps_R) is not None
    ]
    return band(x_R, np.array(curves_SR))


def step_budget(groups: Sequence[Group]) -> float | None:
    """Return the most optimizer steps that every run with a curve has reached, None for none."""
    ends = [
        float(run.curve.steps_R[-1])
        for group in groups
        for run in group.runs
        if run.curve is not None and run.curve.steps_R is not None
    ]
    return min(ends) if ends else None


def at_steps(group: Group, budget: float) -> dict[int, float]:
    """Return greedy Pass@1 by seed after that many optimizer steps, between rounds interpolated.

    A run whose curve begins later is left out: what it had then was not measured.
    """
    return {
        run.seed: float(np.interp(budget, steps_R, curve.means))
        for run in group.runs
        if (curve := run.curve) is not None
        and (steps_R := curve.steps_R) is not None
        and steps_R[0] <= budget
    }


def regret_curves(group: Group, arm: str) -> tuple[Array, Array] | None:
    """Return (rounds_R, cumulative_SR) of regret: best minus ``chosen`` or ``random``, summed.

    Only rounds that every run of the group probed are summed; a round of which a total is unknown
    (a plan that is not a pairing) ends the group's curve: None.
    """
    probes = [run.probes for run in group.runs if run.probes is not None]
    common = common_rounds([p.rounds_R for p in probes])
    if not common:
        return None
    regrets = [p.best_R - (p.chosen_R if arm == "chosen" else p.random_R) for p in probes]
    cumulative_SR = np.array(
        [
            np.cumsum(regret_R[np.isin(p.rounds_R, common)])
            for p, regret_R in zip(probes, regrets, strict=True)
        ]
    )
    if not np.isfinite(cumulative_SR).all():
        return None
    return np.array(common, dtype=np.float64), cumulative_SR


def common_rounds(rounds_of_runs: Sequence[NDArray[np.int64]]) -> list[int]:
    """Return the rounds that all runs have, ascending; none for no runs."""
    if not rounds_of_runs:
        return []
    return sorted(set.intersection(*(set(rounds_R.tolist()) for rounds_R in rounds_of_runs)))


def log_log_slope(
    rounds_R: Array, cumulative_SR: Array, first: float, last: float
) -> Interval | str:
    """Return the slope of log regret over log round in [first, last], or why there is none.

    Least squares through the mean over seeds; the interval resamples seeds. 1 is linear regret (as
    bad per round at the end as at the start), 0.5 the rate that theory gives LinUCB.
    """
    inside = (rounds_R >= first) & (rounds_R <= last)
    if inside.sum() < 4:
        return f"fewer than 4 probed rounds in {first:g} to {last:g}"
    mean_R = cumulative_SR[:, inside].mean(axis=0)
    if (mean_R <= 0).any():
        return "regret is not positive throughout"
    x_R = np.log(rounds_R[inside])
    x_R = x_R - x_R.mean()

    def slope(means_XR: Array) -> Array:
        return np.asarray(np.log(means_XR) @ x_R / (x_R @ x_R), dtype=np.float64)

    means_XR = resampled_curves(cumulative_SR[:, inside], 2_000, derive_rng(0, "report"))
    slopes = slope(means_XR[(means_XR > 0).all(axis=1)])
    low, high = np.quantile(slopes, [0.025, 0.975])
    return Interval(float(slope(mean_R[None])[0]), float(low), float(high))


def slope_range(study: Study, asked: tuple[float, float] | None) -> tuple[float, float]:
    """Return the rounds that slopes are fitted over: as asked, else the last nine tenths."""
    if asked is not None:
        return asked
    probes = [run.probes for group in study.groups for run in group.runs]
    ends = [float(probe.rounds_R[-1]) for probe in probes if probe is not None]
    last = max(ends, default=1.0)
    return max(1.0, float(np.ceil(last / 10))), last
