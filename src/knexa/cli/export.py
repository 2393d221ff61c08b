"""Exports an agent's adapter from a run, as a folder that plain PEFT loads.

    knexa export outputs/default/RUN --agent 2 --to adapter

The adapter is that of the run's latest checkpoint. The backbone is not copied; adapter_config.json
names it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from knexa.backbones.roster import CACHE_PREFIX, EMBEDDED_PREFIX, GGUF_PREFIX, Backbone, Roster
from knexa.backbones.sources import is_hub_id, local_folder
from knexa.cli.parser import Parser
from knexa.config.components import construct
from knexa.errors import UserError
from knexa.recipe import NAME
from knexa.tracking.run_directory import RunDirectory

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, CONFIG, README = "adapter_model.safetensors", "adapter_config.json", "README.md"


def export_adapter(run: Path, agent: str, to: Path) -> Path:
    """Write the adapter of one agent of a run; return the folder.

    Args:
        run: A run directory with a checkpoint.
        agent: The agent's roster index (from 0) or name.
        to: The folder to make; it may exist if it is empty.

    Raises:
        UserError: There is no such run, checkpoint or agent, a file of a finished run is not what
            it wrote, or ``to`` already holds something.
    """
    run_directory = RunDirectory(run)
    if run_directory.is_finished():
        run_directory.verify()
    roster = read_roster(run)
    index = agent_index(roster, agent)
    checkpoint = run_directory.latest_checkpoint()
    if checkpoint is None:
        raise UserError(f"{run} has no checkpoint: the run ended before its first round did")
    round_number, folder = checkpoint
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"--to {to} already holds something: name a folder that is new or empty")

    from knexa.agents.state import load_state

    state = load_state(folder / "agents" / f"{index}.safetensors")
    backbone = roster.backbone_of(index)
    to.mkdir(parents=True, exist_ok=True)
    write_adapter(to, backbone, state.adapter)
    name = roster.agents[index].name
    note = _note(backbone, name, index, run.resolve().name, round_number)
    (to / README).write_text(note, encoding="utf-8")
    return to


def read_roster(run: Path) -> Roster:
    """Return the roster of a run's config.

    Raises:
        UserError: The folder is no run directory, or its roster is of a class outside the package.
    """
    node = RunDirectory(run).read_config().get("roster")
    if not isinstance(node, dict):
        raise UserError(f"{run} has no roster: only runs of the LLM federation have adapters")
    if node[NAME] != Roster.name:
        raise UserError(f"{run} has a roster of {node[NAME]}, which only its own code can read")
    values = {key: value for key, value in node.items() if key != NAME}
    roster: Roster = construct(Roster, values, key="roster")
    return roster


def agent_index(roster: Roster, agent: str) -> int:
    """Return the roster index of an agent given by index or name.

    Raises:
        UserError: The roster has no such agent.
    """
    names = [member.name for member in roster.agents]
    if agent in names:
        return names.index(agent)
    if agent.isdecimal() and int(agent) < len(names):
        return int(agent)
    listed = ", ".join(f"{index} ({name})" for index, name in enumerate(names))
    raise UserError(f"--agent {agent}: the run has the agents {listed}")


def write_adapter(folder: Path, backbone: Backbone, adapter: "dict[str, Tensor]") -> None:
    """Write a folder in PEFT's layout: adapter_config.json and adapter_model.safetensors."""
    from safetensors.torch import save_file

    from knexa.backbones.lora import lora_config

    config = lora_config(backbone.lora, backbone.family)
    config.base_model_name_or_path = base_model(backbone)
    config.revision = _hub_revision(backbone)
    config.inference_mode = True
    config.save_pretrained(str(folder))
    tensors = {name: tensor.contiguous() for name, tensor in adapter.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def base_model(backbone: Backbone) -> str:
    """Return what transformers loads the backbone from: a hub id, or an absolute folder."""
    if backbone.source.startswith((EMBEDDED_PREFIX, CACHE_PREFIX, GGUF_PREFIX)):
        return str(local_folder(backbone, name=backbone.source))
    folder = Path(backbone.source).expanduser()
    return str(folder.resolve()) if folder.is_dir() else backbone.source


def _hub_revision(backbone: Backbone) -> str | None:
    """Return the commit that transformers has to ask the hub for."""
    return backbone.revision if is_hub_id(backbone.source) else None


def _note(backbone: Backbone, name: str, index: int, run: str, round_number: int) -> str:
    from knexa.backbones.load import tokenizer_class

    base = base_model(backbone)
    tokenizer = tokenizer_class(Path(base)) if Path(base).is_dir() else "AutoTokenizer"
    revision = f", revision {backbone.revision}" if backbone.revision else ""
    note = (
        f"# LoRA adapter of agent {index}, {name}\n\n"
        f"Exported from the knexa run `{run}` after round {round_number}.\n\n"
        f"- backbone: `{backbone.source}`{revision}\n"
        f"- LoRA: rank {backbone.lora.rank}, alpha {backbone.lora.alpha:g}\n\n"
        "```python\n"
        "from peft import PeftModel\n"
        f"from transformers import AutoModelForCausalLM, {tokenizer}\n\n"
        f'base = "{base}"\n'
    )
    commit = _hub_revision(backbone)
    options = f', revision="{commit}"' if commit else ""
    note += (
        f"model = AutoModelForCausalLM.from_pretrained(base{options}, dtype="
        f'"{backbone.dtype}")\n'
        'model = PeftModel.from_pretrained(model, "this folder")\n'
        f"tokenizer = {tokenizer}.from_pretrained(base{options})\n"
        "```\n"
    )
    if backbone.source.startswith(EMBEDDED_PREFIX):
        name = backbone.source.removeprefix(EMBEDDED_PREFIX)
        note += (
            "\nThe backbone ships inside knexa, so its folder differs between machines:\n"
            f"`from knexa.backbones.embedded import embedded_path; embedded_path('{name}')`.\n"
        )
    if backbone.source.startswith(CACHE_PREFIX):
        name = backbone.source.removeprefix(CACHE_PREFIX)
        note += f"\n`knexa fetch {name}` makes the backbone's folder, in the cache of its user.\n"
    return note


def main(arguments: Sequence[str]) -> int:
    """Write the adapter that the arguments name; return the exit code."""
    parser = Parser("knexa export", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory, of language models")
    parser.option("--agent", "AGENT", "roster index (from 0) or name")
    parser.option("--to", "DIR", "the folder to make, or an empty one", Path)
    parsed = parser.parse_args(arguments)
    folder = export_adapter(parsed.run, parsed.agent, parsed.to)
    print(f"wrote {folder / CONFIG} and {folder / WEIGHTS}")
    return 0
