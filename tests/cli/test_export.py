import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from knexa.agents.state import AgentState, save_state
from knexa.backbones import model_cache
from knexa.backbones.load import initial_adapter, load_backbone
from knexa.backbones.lora import adapter_parameters, attach, write_tensors
from knexa.backbones.roster import Lora
from knexa.cli import export
from knexa.cli.commands import run_command_line
from knexa.recipe import RECIPE
from knexa.tracking.run_directory import RunDirectory

LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.05}
TINY6 = yaml.safe_load((Path(__file__).parents[2] / "conf/roster/tiny6.yaml").read_text())
ROSTER = {"_name_": "roster"} | {key: TINY6[key] for key in TINY6 if key != "_target_"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    config = GPT2Config(
        vocab_size=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=32,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(base: Path) -> list[dict[str, torch.Tensor]]:
    """Two agents' adapters with neither half zero."""
    model = attach(AutoModelForCausalLM.from_pretrained(base), Lora(**LORA), "gpt2")
    shapes = {name: p.shape for name, p in adapter_parameters(model).items()}
    generator = torch.Generator().manual_seed(0)
    return [
        {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        for _ in range(2)
    ]


@pytest.fixture
def run(tmp_path: Path, base: Path, adapters: list[dict[str, torch.Tensor]]) -> Path:
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    roster = {
        "_name_": "roster",
        "agents": [{"name": name, "backbone": "tiny"} for name in ("ann", "bob")],
        "backbones": {"tiny": {"source": str(base), "family": "gpt2", "lora": LORA}},
        "recommended": TINY6["recommended"],
    }
    directory.write_config({"recipe": RECIPE, "roster": roster, "seed": 1})

    def write(folder: Path) -> None:
        (folder / "agents").mkdir()
        for index, adapter in enumerate(adapters):
            state = AgentState(index=index, adapter=adapter)
            save_state(folder / "agents" / f"{index}.safetensors", state)

    directory.write_checkpoint(7, write)
    return directory.path


def export_to(folder: Path, run: Path, agent: str) -> int:
    return run_command_line(["export", str(run), "--agent", agent, "--to", str(folder)])


@pytest.mark.parametrize("agent", ["1", "bob"])
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_plain_peft_loads_the_agents_adapter(
    run: Path, base: Path, adapters: list[dict[str, torch.Tensor]], tmp_path: Path, agent: str
) -> None:
    from peft import PeftConfig, PeftModel

    assert export_to(tmp_path / "out", run, agent) == 0
    named = PeftConfig.from_pretrained(tmp_path / "out").base_model_name_or_path
    assert Path(named) == base.resolve()
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(named), tmp_path / "out"
    ).eval()
    ours = attach(AutoModelForCausalLM.from_pretrained(base), Lora(**LORA), "gpt2").eval()
    write_tensors(adapter_parameters(ours), adapters[1])
    ids = torch.arange(12)[None]
    with torch.no_grad():
        logits = plain(ids).logits
        assert torch.equal(logits, ours(ids).logits)
        with plain.disable_adapter():
            assert not torch.equal(logits, plain(ids).logits)


def test_the_note_says_where_the_adapter_comes_from(run: Path, tmp_path: Path) -> None:
    assert export_to(tmp_path / "out", run, "0") == 0
    note = (tmp_path / "out" / "README.md").read_text()
    assert "`run` after round 7" in note
    assert "agent 0, ann" in note
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["fan_in_fan_out"]) == (4, 8.0, True)


def test_a_fetched_backbone_is_named_by_its_folder_in_the_cache(
    run: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with model_cache.making("small") as work:
        shutil.copytree(base, work / "model")
        model_cache.keep(work / "model", "small", source="a test", sha256="ab")
    backbone = {"source": "cache:small", "revision": "ab", "family": "gpt2", "lora": LORA}
    roster = ROSTER | {"agents": [{"name": "a", "backbone": "b"}], "backbones": {"b": backbone}}
    RunDirectory(run).write_config({"recipe": RECIPE, "roster": roster, "seed": 1})
    assert export_to(tmp_path / "out", run, "0") == 0
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    named = (config["base_model_name_or_path"], config["revision"])
    assert named == (str(tmp_path / "cache" / "knexa" / "models" / "small"), None)
    assert "`knexa fetch small` makes" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_notes_own_program_reads_text_as_the_agent_did(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunDirectory(run).write_config({"recipe": RECIPE, "roster": ROSTER, "seed": 1})
    loaded = load_backbone(export.read_roster(run).backbones["tiny-qwen2"])

    def write(folder: Path) -> None:
        (folder / "agents").mkdir()
        state = AgentState(index=0, adapter=initial_adapter(loaded, seed=1))
        save_state(folder / "agents" / "0.safetensors", state)

    RunDirectory(run).write_checkpoint(8, write)
    assert export_to(tmp_path / "out", run, "0") == 0
    note = (tmp_path / "out" / "README.md").read_text()
    program = note.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(program.replace("this folder", "out"), found)
    text = "def first_two(names):\n    return names[:2]\n"
    assert found["tokenizer"].encode(text) == loaded.tokenizer.encode(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--agent", "2", "--to", "out"], "--agent 2: the run has the agents 0 (ann)"),
        (["RUN", "--agent", "eve", "--to", "out"], "1 (bob)"),
        (["nowhere", "--agent", "0", "--to", "out"], "no config.yaml"),
        (["RUN", "--agent", "0", "--to", "RUN"], "already holds something"),
    ],
)
def test_mistakes_end_in_one_line_and_write_nothing(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    words = [str(run) if word == "RUN" else word for word in arguments]
    assert run_command_line(["export", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_without_a_checkpoint_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "checkpoint").rename(tmp_path / "elsewhere")
    assert export_to(tmp_path / "out", run, "0") == 2
    assert "no checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"roster": {"_target_": "knexa.backbones.roster.Roster"}}, "made by recipe 5 or older"),
        ({"recipe": RECIPE, "roster": {"_name_": "mine.Roster"}}, "a roster of mine.Roster"),
        ({"recipe": RECIPE, "roster": None}, "has no roster"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_line(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    config: dict[str, Any],
    message: str,
) -> None:
    RunDirectory(run).write_config(config)
    assert export_to(tmp_path / "out", run, "0") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
