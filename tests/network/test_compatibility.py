"""What organisations must configure alike, and which configurations are refused."""

import argparse
import logging
import sys
from pathlib import Path

import pytest

from knexa.cli import serve
from knexa.cli.commands import run_command_line
from knexa.cli.organisation import organisation_settings
from knexa.data import prompt_clusters
from knexa.errors import UserError
from knexa.network.compatibility import agreement, check_servable
from knexa.network.coordinator import Coordinator
from knexa.network.timing import MonotonicClock
from knexa.tracking.run_directory import RunDirectory
from tests.network.trial import certificates, copy_of_certificates


def test_organisations_agree_on_what_must_be_alike_and_on_nothing_else() -> None:
    ours = agreement(organisation_settings(["seed=3"]))
    own = ["seed=3", "training.batch_size=4", "evaluation.num_samples=2", "guardrail=none"]
    assert agreement(organisation_settings(own)) == ours
    assert agreement(organisation_settings(["seed=3", "topics=categories"])) == ours
    for different in (
        ["seed=4"],
        ["seed=3", "exchange.num_steps=3"],
        ["seed=3", "federation.num_rounds=9"],
        ["seed=3", "experiment=paired"],
        ["seed=3", "data.num_transfer=24"],
        ["seed=3", "topics=clusters"],
    ):
        assert agreement(organisation_settings(different)) != ours


def test_organisations_whose_software_finds_other_clusters_do_not_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = organisation_settings(["topics=clusters"])
    ours = agreement(settings)
    prompt_clusters.find_clusters.cache_clear()
    assert agreement(settings) == ours
    monkeypatch.setattr(prompt_clusters, "_NGRAM_LENGTHS", range(1, 2))
    prompt_clusters.find_clusters.cache_clear()
    assert agreement(settings) != ours
    prompt_clusters.find_clusters.cache_clear()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("matchmaker=oracle", "needs probes"),
        ("matchmaker=pens", "needs peer losses"),
        ("matchmaker=central_kd", "many teachers"),
        ("experiment=paired exchange=logits", "same tokenizer"),
        ("experiment=paired exchange=adapter", "same backbone"),
        ("federation/faults=lossy", "real"),
        ("roster.byzantine.num=1", "Byzantine agents"),
        ("federation=synthetic", "federation=llm"),
    ],
)
def test_what_organisations_cannot_do_is_refused_in_one_line(override: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        check_servable(organisation_settings(override.split()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "matchmaker=random",
        "matching.budget=64 federation.sync=async",
        "matching=one_to_many",
        "matching=broadcast matchmaker=random regret=none",
        "matchmaker=self_taught",
        "training=dp",
        "experiment=paired exchange=akd",
        "experiment=paired federation.mutual=true",
    ],
)
def test_what_they_can_do_is_not(override: str) -> None:
    check_servable(organisation_settings(override.split()))


def test_regret_that_nobody_can_measure_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        check_servable(organisation_settings(["regret=none"]))
        assert caplog.messages == []
        check_servable(organisation_settings([]))
    (said,) = caplog.messages
    assert "regret=none" in said


def run_cpm(folder: Path, *changes: str) -> int:
    given = ["--certificates", str(folder), "--listen", "127.0.0.1:0", "--state", str(folder / "s")]
    return run_command_line(["serve", *given, "experiment=paired", *changes])


@pytest.mark.parametrize("missing", ["cpm.pem", "cpm.key", "ca.pem", "revoked.crl"])
def test_no_certificate_no_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    folder = copy_of_certificates(tmp_path)
    (folder / missing).unlink()
    assert run_cpm(folder) == 2
    assert missing in capsys.readouterr().err
    assert not (folder / "s").exists()


def test_mistakes_on_the_command_line_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of_certificates(tmp_path)
    for changes, told in (
        (["--insecure"], "no option of this command"),
        (["matchmaker=oracle"], "needs probes"),
        (["seed=x"], "seed"),
        (["--listen", "203.0.113.1:1"], "cannot listen"),
    ):
        assert run_cpm(folder, *changes) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert told in error[-1], error
    common = ["--certificates", str(certificates()), "--state", str(tmp_path / "agent")]
    rest = ["--cpm", "127.0.0.1:1", "--listen", "127.0.0.1:0"]
    # tiny6 has no agent of that name.
    assert run_command_line(["join", "--name", "a0", *common, *rest]) == 2
    assert "not on the roster" in capsys.readouterr().err


def test_a_matchmakers_folder_is_its_own(tmp_path: Path) -> None:
    given = argparse.Namespace(exchange_s=1.0, beat_s=1.0)

    def opened(folder: Path, *overrides: str) -> Coordinator:
        with RunDirectory(folder) as run:
            settings = organisation_settings(["experiment=paired", *overrides])
            return serve._coordinator(given, settings, run, MonotonicClock())

    first = opened(tmp_path / "cpm")
    with RunDirectory(tmp_path / "cpm"):
        first._save(first, ())
    assert opened(tmp_path / "cpm", "guardrail=none").round == 1
    for other in ("matchmaker=thompson", "matchmaker.exploration=0.5", "context=concat", "seed=9"):
        with pytest.raises(UserError, match="another configuration"):
            opened(tmp_path / "cpm", other)
    with RunDirectory(tmp_path / "agent") as run:
        run.write_checkpoint(1, lambda to: (to / "progress.safetensors").touch())
    with pytest.raises(UserError, match="not a matchmaker's folder"):
        opened(tmp_path / "agent")


def test_a_missing_library_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "knexa.cli.organisation.find_spec", lambda name: None if name == "grpc" else sys
    )
    assert run_cpm(tmp_path) == 2
    assert "pip install 'knexa[peers]'" in capsys.readouterr().err
