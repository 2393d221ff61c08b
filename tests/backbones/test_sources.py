"""Sources of backbones: found without a network, or missing in one line."""

import json
import socket
import threading
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from knexa.backbones import hub, model_cache, sources
from knexa.backbones.roster import Agent, Backbone, Lora, Recommended, Roster
from knexa.config.components import construct
from knexa.errors import UserError

SLOT = Lora(rank=4, alpha=8.0, dropout=0.0)
TINY6 = OmegaConf.load(Path(__file__).parents[2] / "conf" / "roster" / "tiny6.yaml")
REVISION = "8f445e36" * 5
HUB = Backbone(source="Qwen/Qwen1.5-0.5B", revision=REVISION, family="qwen2", lora=SLOT)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for variable in ("HF_HUB_OFFLINE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)


def roster_of(*backbones: Backbone) -> Roster:
    names = [f"b{index}" for index in range(len(backbones))]
    return Roster(
        agents=tuple(Agent(name=f"on-{name}", backbone=name) for name in names),
        backbones=dict(zip(names, backbones, strict=True)),
        recommended=construct(Recommended, dict(TINY6.recommended), key="recommended"),
    )


def backbone_from(source: str, revision: str | None = None) -> Backbone:
    return Backbone(source=source, revision=revision, family="llama", lora=SLOT)


def cached(tmp_path: Path, *files: str) -> Path:
    """Make a snapshot of HUB with empty files in the hub's cache; return its folder."""
    snapshot = tmp_path / "hub" / "models--Qwen--Qwen1.5-0.5B" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    for file in files:
        (snapshot / file).touch()
    return snapshot


def test_a_missing_folder_is_a_users_mistake() -> None:
    missing = Backbone(source="./no/such/folder", family="gpt2", lora=SLOT)
    with pytest.raises(UserError, match=r"roster\.backbones\.tiny\.source"):
        sources.resolve_source(missing, name="tiny")


@pytest.mark.usefixtures("empty_cache")
def test_offline_without_cache_ends_in_one_line_that_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    local = Backbone(source=str(tmp_path), family="gpt2", lora=SLOT)
    other = Backbone(source="bigscience/bloom-560m", family="bloom", lora=SLOT)
    with pytest.raises(UserError) as caught:
        sources.check_available(roster_of(HUB, local, other))
    message = str(caught.value)
    assert "\n" not in message
    for part in ("Qwen/Qwen1.5-0.5B", "bigscience/bloom-560m", "HF_HOME", "HF_HUB_OFFLINE"):
        assert part in message
    assert "roster.backbones.<name>.source=DIR" in message
    with pytest.raises(UserError, match=r"roster\.backbones\.q\.source=DIR"):
        sources.resolve_source(HUB, name="q")


@pytest.mark.usefixtures("empty_cache")
def test_an_unreachable_hub_is_given_up_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    with socket.socket() as unanswered:
        # Bound but not listening: connections are refused.
        unanswered.bind(("127.0.0.1", 0))
        port = unanswered.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        start = time.monotonic()
        with pytest.raises(UserError, match=r"no connection to 127\.0\.0\.1"):
            sources.check_available(roster_of(HUB))
        assert time.monotonic() - start < hub.PROBE_SECONDS + 2


@pytest.mark.usefixtures("empty_cache")
def test_a_name_that_never_resolves_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def resolve_forever(*_: object, **__: object) -> None:
        release.wait(60)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", resolve_forever)
    try:
        assert not hub._answers("hub.invalid", 443, seconds=0.05)
    finally:
        release.set()


@pytest.mark.usefixtures("empty_cache")
def test_a_listening_hub_counts_as_available(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        sources.check_available(roster_of(HUB))


@pytest.mark.usefixtures("empty_cache")
def test_a_cached_snapshot_is_found_without_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    snapshot = cached(tmp_path, "config.json", "tokenizer.json")
    with pytest.raises(UserError):
        sources.check_available(roster_of(HUB))
    (snapshot / "model.safetensors").touch()
    sources.check_available(roster_of(HUB))
    assert sources.resolve_source(HUB, name="q") == snapshot


@pytest.mark.usefixtures("empty_cache")
def test_weights_in_several_files_are_here_when_all_of_them_are(tmp_path: Path) -> None:
    parts = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    snapshot = cached(tmp_path, "config.json", "tokenizer.json", parts[0])
    index = {"weight_map": {"a": parts[0], "b": parts[1]}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    assert hub.cached_snapshot(HUB) is None
    (snapshot / parts[1]).touch()
    assert hub.cached_snapshot(HUB) == snapshot


@pytest.mark.usefixtures("empty_cache")
def test_a_model_that_was_not_fetched_is_one_line_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        sources.check_available(roster_of(backbone_from("cache:smollm2")))
    assert str(caught.value) == "cache:smollm2 has not been fetched: run knexa fetch smollm2"
    with pytest.raises(UserError, match=r"cache:other has not .*: knexa fetch gets smollm2"):
        sources.check_available(roster_of(backbone_from("cache:other")))


@pytest.mark.usefixtures("empty_cache")
def test_a_fetched_model_is_checked_for_its_digest_and_for_being_whole() -> None:
    with model_cache.making("smollm2") as work:
        (work / "model").mkdir()
        (work / "model" / "config.json").write_text("{}")
        model_cache.keep(work / "model", "smollm2", source="a test", sha256="ab")
    folder = model_cache.models_folder() / "smollm2"
    assert sources.resolve_source(backbone_from("cache:smollm2"), name="s") == folder
    assert sources.resolve_source(backbone_from("cache:smollm2", "ab"), name="s") == folder
    with pytest.raises(UserError, match="SHA-256 ab, and revision=cd pins another"):
        sources.resolve_source(backbone_from("cache:smollm2", "cd"), name="s")
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="is incomplete here: run knexa fetch smollm2"):
        sources.resolve_source(backbone_from("cache:smollm2"), name="s")
