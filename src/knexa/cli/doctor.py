"""Shows the sandbox layers of this machine, its software and its hardware.

    knexa doctor

Starts the sandbox as a run does, lists the layers in force around a generated program, and runs a
program that looks around from inside. Exits with 1 if a layer is missing or the program sees what
it must not: such a machine runs experiments with a warning, unless evaluation.sandbox=strict. An
extra layer may be missing.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from knexa.cli.parser import Parser
from knexa.evaluation import Executor
from knexa.sandbox import inside
from knexa.sandbox.protection import LAYERS, missing, required
from knexa.tracking.environment import describe_environment

_GIB = 1 << 30


def main(arguments: Sequence[str]) -> int:
    """Print both tables; return the exit code."""
    Parser("knexa doctor", __doc__).parse_args(arguments)
    console = Console(highlight=False)
    with Executor() as executor:
        layers, refused = executor.layers, executor.refused
        seen = inside.look(executor)
    console.print(layer_table(layers, refused))
    console.print(machine_table())
    total, lacking = len(required(LAYERS)), required(missing(layers))
    if lacking:
        needs = "; ".join(dict.fromkeys(layer.needs for layer in lacking))
        console.print(
            f"{len(lacking)} of {total} layers are missing ({', '.join(x.name for x in lacking)})"
            f": runs warn, and evaluation.sandbox=strict refuses to start. To have them: {needs}.",
            style="yellow",
        )
    else:
        console.print(f"All {total} layers hold: evaluation.sandbox=strict runs here.")
    if seen:
        console.print(f"A program in the sandbox sees {seen}.", style="bold red")
    else:
        console.print(
            "A program in the sandbox sees no installed package, no knexa, no /proc, and not this "
            "machine's name."
        )
    return 1 if lacking or seen else 0


def layer_table(layers: Sequence[str], refused: Mapping[str, str]) -> Table:
    """Return the table of layers, given those in force and the reasons for missing ones."""
    table = Table(title="Around a generated program", title_justify="left", title_style="bold")
    for heading in ("layer", "here", "keeps a program from"):
        table.add_column(heading)
    lacking = missing(layers)
    for layer in LAYERS:
        if layer in lacking:
            why = refused.get(layer.name, f"needs {layer.needs}")
            here = Text(f"missing: {why}", style="yellow" if layer.is_extra else "bold red")
        else:
            version = "".join(n for n in layers if n.startswith(f"{layer.name}-"))
            here = Text("in force" + version.replace(layer.name, " ").replace(" -", ", ABI "))
            here.stylize("green")
        table.add_row(layer.name, here, layer.keeps_from)
    return table


def machine_table() -> Table:
    """Return the table of software and hardware."""
    table = Table(title="This machine", title_justify="left", title_style="bold", show_header=False)
    environment = describe_environment()
    packages, disk = dict(environment["packages"]), shutil.disk_usage(Path.cwd())
    rows = {
        "Python": f"{environment['python']} ({sys.executable})",
        "system": f"{environment['platform']}",
        "torch": packages.pop("torch", "not installed"),
        "GPU": _gpus() or "none",
        "cores": f"{environment['cpu_count']} that this process may use",
        "memory": _memory(),
        "free disk": f"{disk.free / _GIB:.1f} of {disk.total / _GIB:.1f} GiB at {Path.cwd()}",
        "W&B": os.environ.get("WANDB_MODE", "WANDB_MODE is not set: logger=wandb writes offline"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
    }
    for name, value in rows.items():
        table.add_row(name, Text(value))
    return table


def _gpus() -> str:
    """Return the names of NVIDIA GPUs according to the driver."""
    names = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return ", ".join(names)


def _memory() -> str:
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = (os.sysconf(name) * page / _GIB for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    return f"{total:.1f} GiB, {free:.1f} free"
