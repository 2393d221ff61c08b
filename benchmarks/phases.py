"""The default run by phase, against a floor: the same tokens trained and generated in a bare loop.

    OMP_NUM_THREADS=1 python benchmarks/phases.py floor federation.num_rounds=2
    OMP_NUM_THREADS=1 python benchmarks/phases.py workers federation.num_rounds=2

``floor`` runs the command `knexa OVERRIDES` here, with one worker, and keeps what every phase
trained and generated. Then it goes through all of it again, with the same models in the same
process: forward, backward, clipping and AdamW of the same batches, and the forward passes of the
same sequences, grouped as they were, token by token. No Lightning, no scaling of losses, no
sampling, no profiles, no sandbox, no files. ``workers`` runs it with one worker on one core and
with two workers on two, each in a process of its own, and compares the speed-up with the ideal
schedule's: every phase spread over two workers as well as its tasks allow, everything else as it
was. (Left to itself, one worker runs its programs on all cores.) Nothing here is a test.

Clock time of another program's making is in both; the processor time of ``floor`` is that of this
process and its sandbox. Give it two idle cores where the clock matters. On a GPU the clock waits
for it, and the most memory that each phase had allocated there is printed as well, as far as it
rose above what the phase before it had; paper6.py makes the published models for it.
"""

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from processor import processor_seconds

from knexa.cli.commands import run_command_line
from knexa.engine import serialization


class Recorder:
    """Keeps what phases trained and generated, and what each phase took."""

    def __init__(self) -> None:
        self.phase = ""
        self.clock, self.processor, self.calls = Counter[str](), Counter[str](), Counter[str]()
        self.peak_bytes: dict[str, int] = defaultdict(int)
        self.fits: list[tuple[str, Any, Any, Any, Any, float]] = []
        self.generations: list[tuple[str, Any, Any, list[list[int]], list[list[int]], int]] = []

    def install(self) -> None:
        """Listen to the calls that train and generate, and to the phases around them."""
        from knexa.agents import learning, solve
        from knexa.backbones.load import adapter_state

        first_step, second_step = serialization.timed_first_step, serialization.timed_second_step
        fit, answer = learning.fit, solve.generate
        loaded: list[Any] = []

        def record_phase(phase: Callable[..., Any], context: Any, task: Any) -> Any:
            self.phase = phase.__name__
            self.calls[self.phase] += 1
            with self._recorded():
                return first_step(phase, context, task)

        def record_rest(begun: Any) -> Any:
            with self._recorded():
                return second_step(begun)

        def record_fit(backbone: Any, state: Any, batches: Any, **options: Any) -> Any:
            training, rate = options["training"], options["learning_rate"]
            self.fits.append((self.phase, backbone, state, batches, training, rate))
            return fit(backbone, state, batches, **options)

        def record_generation(model: Any, prompts: Any, **options: Any) -> Any:
            ids: list[list[int]] = [[] for _ in prompts]
            for ended in answer(model, prompts, **options):
                for index, generation in ended:
                    ids[index] = generation.ids
                yield ended
            adapter = adapter_state(loaded[-1])
            self.generations.append(
                (self.phase, loaded[-1], adapter, list(prompts), ids, options["batch_size"])
            )

        merged = solve.merged

        def remember(backbone: Any) -> Any:
            loaded[:] = [backbone]
            return merged(backbone)

        serialization.timed_first_step = record_phase  # type: ignore[assignment]
        serialization.timed_second_step = record_rest  # type: ignore[assignment]
        learning.fit = record_fit  # type: ignore[assignment]
        solve.generate = record_generation
        solve.merged = remember

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[None]:
        before = finish_device()
        clock, processor = time.perf_counter(), processor_seconds()
        try:
            yield
        finally:
            peak = finish_device()
            if peak != before:
                self.peak_bytes[self.phase] = max(peak, self.peak_bytes[self.phase])
            self.clock[self.phase] += time.perf_counter() - clock
            self.processor[self.phase] += processor_seconds() - processor


def finish_device() -> int:
    """Wait for the GPU, if there is one; return the most bytes allocated there.

    Since a backbone was last put to work there: to begin anew is the placement's, which reads it.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated())


def put_to_work(backbone: Any, others: set[Any]) -> None:
    """Give the GPU, if there is one, to the backbone alone."""
    import torch

    if torch.cuda.is_initialized():
        for other in others - {backbone}:
            other.model.to("cpu")
        backbone.model.to("cuda")


def train_bare(backbone: Any, state: Any, batches: Any, training: Any, rate: float) -> int:
    """Train an adapter as a plain loop does; return how many tokens it went through."""
    import torch

    from knexa.agents.lightning_module import adamw, num_tokens
    from knexa.agents.training import objective
    from knexa.backbones.load import load_adapter

    load_adapter(backbone, state.adapter)
    backbone.model.train()
    parameters = list(backbone.adapter_parameters.values())
    device = parameters[0].device
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(training.precision)
    mixed = torch.autocast(device.type, half) if half else contextlib.nullcontext()
    num_steps = -(-len(batches) // training.accumulate)
    optimizer, schedule = adamw(
        backbone.adapter_parameters, training, rate, state, num_steps=num_steps
    )
    for number, batch in enumerate(batches, start=1):
        with mixed:
            loss = objective(backbone.model, {key: t.to(device) for key, t in batch.items()})
        (loss / training.accumulate).backward()
        if number % training.accumulate == 0 or number == len(batches):
            torch.nn.utils.clip_grad_norm_(parameters, training.gradient_clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return num_tokens(batches)


def generate_bare(
    backbone: Any, adapter: Any, prompts: list[list[int]], answers: list[list[int]], size: int
) -> int:
    """Make the forward passes of these answers; return how many tokens they have."""
    import torch

    from knexa.backbones.load import load_adapter
    from knexa.backbones.merged import merged

    load_adapter(backbone, adapter)
    model = backbone.model.eval()
    device = next(model.parameters()).device
    order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
    with torch.inference_mode(), merged(backbone):
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            longest = max(len(prompts[i]) for i in chunk)
            input_BT = torch.tensor([[0] * (longest - len(prompts[i])) + prompts[i] for i in chunk])
            lengths = [len(prompts[i]) for i in chunk]
            mask_BT = torch.tensor([[0] * (longest - n) + [1] * n for n in lengths])
            input_BT, mask_BT = input_BT.to(device), mask_BT.to(device)
            cache, alive = None, list(chunk)
            for step in range(max(len(answers[i]) for i in chunk)):
                output = model(
                    input_ids=input_BT,
                    attention_mask=mask_BT,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                cache = output.past_key_values
                keep = [row for row, i in enumerate(alive) if len(answers[i]) > step + 1]
                if not keep:
                    break
                if len(keep) < len(alive):
                    cache.batch_select_indices(torch.tensor(keep, device=device))
                    mask_BT, alive = mask_BT[keep], [alive[row] for row in keep]
                input_BT = torch.tensor([[answers[i][step]] for i in alive], device=device)
                mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(alive), 1)], dim=1)
    return sum(map(len, answers))


def run(overrides: list[str]) -> None:
    """Run the command in a folder that is thrown away."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            code = run_command_line(overrides)
        finally:
            os.chdir(before)
    if code:
        sys.exit(code)


def floor(overrides: list[str]) -> None:
    """Print what each phase took and what its tokens take in a bare loop."""
    recorder = Recorder()
    recorder.install()
    clock, processor = time.perf_counter(), processor_seconds()
    run(["engine.num_workers=1", *overrides])
    whole = time.perf_counter() - clock, processor_seconds() - processor
    bare_clock, bare_processor, tokens = Counter[str](), Counter[str](), Counter[str]()
    work: list[tuple[Callable[..., int], tuple[Any, ...]]] = [
        *((train_bare, fit) for fit in recorder.fits),
        *((generate_bare, generation) for generation in recorder.generations),
    ]
    work.sort(key=lambda item: item[1][1].name)
    backbones = {backbone for _, (_, backbone, *_) in work}
    for make, (phase, backbone, *rest) in work:
        put_to_work(backbone, backbones)
        finish_device()
        clock, processor = time.perf_counter(), time.process_time()
        tokens[phase] += make(backbone, *rest)
        finish_device()
        bare_clock[phase] += time.perf_counter() - clock
        bare_processor[phase] += time.process_time() - processor
    columns = ("calls", "tokens", "clock s", "floor", "ratio", "CPU s", "floor", "ratio")
    print(f"\n{'phase':<18}" + "".join(f"{name:>10}" for name in columns))

    def row(name: str, counts: tuple[int, int], found: tuple[float, ...]) -> None:
        cells = [f"{counts[0]}", f"{counts[1]:,}"]
        for took, bare in (found[:2], found[2:]):
            cells += [f"{took:.1f}", f"{bare:.1f}", f"{took / bare:.2f}" if bare else "-"]
        print(f"{name:<18}" + "".join(f"{cell:>10}" for cell in cells))

    for phase, seconds in recorder.clock.most_common():
        found = (seconds, bare_clock[phase], recorder.processor[phase], bare_processor[phase])
        row(phase, (recorder.calls[phase], tokens[phase]), found)
    total = (bare_clock.total(), bare_processor.total())
    counts = (recorder.calls.total(), tokens.total())
    inside = (recorder.clock.total(), total[0], recorder.processor.total(), total[1])
    row("all phases", counts, inside)
    row("whole command", counts, (whole[0], total[0], whole[1], total[1]))
    for phase, peak in recorder.peak_bytes.items():
        if peak:
            print(f"{phase}: at most {peak / 2**30:.2f} GiB on the GPU")


def makespan(seconds: list[float]) -> float:
    """Return the shortest time in which two workers can do these tasks (exact up to 16)."""
    if len(seconds) > 16:
        loads = [0.0, 0.0]
        for each in sorted(seconds, reverse=True):
            loads[loads.index(min(loads))] += each
        return max(loads)
    half = sum(seconds) / 2
    sums = {0.0}
    for each in seconds:
        sums |= {each + known for known in sums}
    return sum(seconds) - max((known for known in sums if known <= half), default=0.0)


def trace(overrides: list[str]) -> None:
    """Run the command, and print the seconds of every task by call and of the whole run."""
    from knexa.engine.local import Pool

    plain, calls = Pool.map, []
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[: 1 if "engine.num_workers=1" in overrides else 2])

    def timed_map(self: Pool, phase: Any, tasks: Any, keys: Any, sizes: Any = None) -> Any:
        tasks_s: list[float] = []
        record = self._record

        def note(phase: Any, key: int, timed: tuple[Any, float]) -> Any:
            tasks_s.append(timed[1])
            return record(phase, key, timed)

        self._record = note  # type: ignore[method-assign]
        begin = time.perf_counter()
        try:
            return plain(self, phase, tasks, keys, sizes)
        finally:
            self._record = record  # type: ignore[method-assign]
            calls.append((phase.__name__, time.perf_counter() - begin, tasks_s))

    Pool.map = timed_map  # type: ignore[method-assign]
    begin = time.perf_counter()
    run(overrides)
    print(json.dumps({"calls": calls, "whole": time.perf_counter() - begin}))


def workers(overrides: list[str]) -> None:
    """Print the speed-up that two workers bring, and the best that they could."""
    found = {}
    for number in (1, 2):
        command = [sys.executable, __file__, "trace", f"engine.num_workers={number}", *overrides]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[number] = json.loads(output.splitlines()[-1])
    by_phase: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for (phase, one, tasks_s), (_, two, _) in zip(
        found[1]["calls"], found[2]["calls"], strict=True
    ):
        for index, value in enumerate((one, one - sum(tasks_s) + makespan(tasks_s), two)):
            by_phase[phase][index] += value
    sums = [sum(column) for column in itertools.islice(zip(*by_phase.values(), strict=True), 3)]
    columns = ("one", "ideal two", "two", "ideal", "reached", "share")
    print(f"{'phase':<18}" + "".join(f"{name:>11}" for name in columns))
    for phase, (one, ideal, two) in [*by_phase.items(), ("all phases", sums)]:
        cells = [f"{value:.1f} s" for value in (one, ideal, two)]
        cells += [f"{one / ideal:.2f}x", f"{one / two:.2f}x", f"{ideal / two:.2f}"]
        print(f"{phase:<18}" + "".join(f"{cell:>11}" for cell in cells))
    print(f"whole command: {found[1]['whole']:.1f} s and {found[2]['whole']:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["floor", "workers", "trace"])
    chosen, rest = parser.parse_known_args()
    {"floor": floor, "workers": workers, "trace": trace}[chosen.what](rest)
