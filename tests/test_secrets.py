"""Secrets of a config stand in no file that a run or a report leaves, W&B's among them.

Every byte is searched for them, however they were given. W&B's files are also searched for what it
would tell of the machine.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest

from knexa.cli.commands import run_command_line
from knexa.config import compose
from knexa.config.build import build_settings, secret_settings, without_secret_values
from knexa.config.components import canonical, without_secrets
from knexa.exchange.guardrail.filter import Guardrail
from knexa.recipe import Secret, secret_digest
from knexa.tracking.loggers import Logger
from tests.torture import OVERRIDES
from tests.whole_runs import run

TYPED = "[QXCANARY-typed-7f3a]"
ODD = 'QX"odd\\ \u00e9'
IN_FILE, SWEPT = "QXCANARY-file-91bc", ("QXSWEPT-first", "QXSWEPT-second")
PATTERN, ALLOWED = r"QXCUSTOMER-\d{8}", "QXALLOWED-55aa"
SECRETS = (TYPED, ODD, IN_FILE, *SWEPT, PATTERN, ALLOWED)
EXPERIMENT = f"""# @package _global_
guardrail:
  allow: [{ALLOWED}, {IN_FILE}]
"""


def spellings(secret: str) -> Iterator[bytes]:
    """Yield what a secret may look like in a file; its most telling part for odd ones."""
    yield secret.encode()
    yield json.dumps(secret)[1:-1].encode()
    yield repr(secret)[1:-1].encode()
    yield secret.encode("utf-16-le")
    yield max(secret.replace("\\", " ").replace('"', " ").split(), key=len).encode()


def all_bytes(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def found_in(folder: Path) -> list[tuple[str, Path]]:
    return [
        (secret, path)
        for path, content in all_bytes(folder).items()
        for secret in SECRETS
        if any(spelling in content for spelling in spellings(secret))
    ]


@pytest.fixture(scope="module")
def private_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run with secrets was typed, and a report on it; W&B's data are aside."""
    folder = tmp_path_factory.mktemp("qxworkingplace")
    aside = tmp_path_factory.mktemp("aside")
    (aside / "experiment").mkdir()
    (aside / "experiment" / "mine.yaml").write_text(EXPERIMENT)
    quoted = ODD.replace('"', '\\"')
    environment = {
        "WANDB_DATA_DIR": str(aside / "data"),
        "USER": "qxperson",
        "LOGNAME": "qxperson",
        "HOME": str(aside / "qxhome"),
    }
    run(
        folder,
        *(*OVERRIDES, "logger=wandb", "logger.finish_timeout_s=120", "engine.num_workers=1"),
        "experiment=mine",
        f'guardrail.canaries=["{TYPED}","{quoted}"]',
        f"guardrail.site_rules=[{{name: customer, pattern: '{PATTERN}'}}]",
        *("-cd", str(aside)),
        **environment,
    )
    done = subprocess.run(
        [sys.executable, "-m", "knexa", "report", "outputs", "--to", "report", "--wandb"],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_no_byte_of_a_run_its_mirror_and_its_report_holds_a_secret(private_run: Path) -> None:
    assert list(private_run.glob("outputs/smoke/*/wandb/offline-run-*/*.wandb"))
    assert list(private_run.glob("report/wandb/offline-run-*/*.wandb"))
    assert found_in(private_run) == []


@pytest.mark.slow
def test_what_stands_for_the_secrets_is_in_the_config(private_run: Path) -> None:
    (config,) = private_run.glob("outputs/smoke/*/config.yaml")
    text = config.read_text()
    for secret in ([TYPED, ODD], [ALLOWED, IN_FILE], PATTERN):
        assert secret_digest(secret) in text


def wandb_records(folder: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["outputs/smoke/*/wandb", "report/wandb"])
def test_wandb_is_told_nothing_of_the_machine(private_run: Path, where: str) -> None:
    (offline,) = private_run.glob(f"{where}/offline-run-*")
    records = wandb_records(offline)
    (told,) = [record["run"] for record in records if record.get("type") == "run"]
    assert told.get("host", "") == ""
    assert "git" not in told
    assert not [record for record in records if record.get("type") in ("environment", "stats")]
    sent = all_bytes(offline / "files") | {p: p.read_bytes() for p in offline.glob("*.wandb")}
    for path, content in sent.items():
        for private in ("qxworkingplace", sys.executable, sys.prefix, "qxperson", "qxhome"):
            assert private.encode() not in content, (private, path)


@pytest.mark.slow
def test_the_mirror_tells_the_command_and_the_commit(private_run: Path) -> None:
    (run,) = private_run.glob("outputs/smoke/*")
    (offline,) = run.glob("wandb/offline-run-*")
    environment = json.loads((run / "environment.json").read_text())
    (told,) = [record["run"] for record in wandb_records(offline) if record.get("type") == "run"]
    config = told["config"]["update"]
    assert config["command"] == environment["command"]
    assert config["command"].startswith("knexa debug=smoke ")
    assert "experiment=mine guardrail.canaries=scrypt:" in config["command"]
    assert config["git"] == environment["git"]


@pytest.mark.slow
def test_a_sweep_leaves_no_record_that_holds_a_secret(tmp_path: Path) -> None:
    swept = ",".join(f"[{secret}]" for secret in SWEPT)
    run(tmp_path, *OVERRIDES, "dry_run=true", f"guardrail.canaries={swept}", "-m")
    assert found_in(tmp_path) == []
    run(tmp_path, *OVERRIDES, "dry_run=true", "federation.num_rounds=1,2", "-m")
    assert list(tmp_path.rglob("multirun.yaml"))  # where nothing is secret, Hydra's record stays


def test_an_audit_is_recorded_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {"auc": 0.5, "tpr": 0.05, "advantage": 0.0}
    monkeypatch.setattr(
        "knexa.membership_inference.experiment.attack_run",
        lambda settings: {"packages": {"attack": measured}},
    )
    monkeypatch.chdir(tmp_path)
    swept = ",".join(f"[{secret}]" for secret in SWEPT)
    given = [
        "audit",
        "debug=smoke",
        "guardrail=standard",
        f"guardrail.canaries={swept}",
        "seed=0,1",
    ]
    assert run_command_line([*given, "training=default", f"guardrail.allow=[{ALLOWED}]"]) == 0
    (record,) = tmp_path.rglob("membership.json")
    assert found_in(tmp_path) == []
    assert len(json.loads(record.read_text())["powers"]) == len(SWEPT)
    assert not any(secret in capsys.readouterr().err for secret in SECRETS)


def test_the_secret_settings_of_the_default_config_are_these() -> None:
    (job,) = compose.compose(compose.parse_arguments([])).jobs
    assert set(secret_settings(job)) == {
        "guardrail.canaries",
        "guardrail.site_rules",
        "guardrail.allow",
    }


def settings_of(*overrides: str) -> Any:
    (job,) = compose.compose(compose.parse_arguments(list(overrides))).jobs
    return build_settings(job)


def test_a_secret_identifies_a_run_by_its_value_and_not_by_its_spelling() -> None:
    first = settings_of("guardrail.canaries=[canary-1]").config_hash
    assert settings_of('guardrail.canaries=["canary-1"]').config_hash == first
    assert settings_of("guardrail.canaries=[canary-2]").config_hash != first
    assert settings_of("guardrail.allow=[canary-1]").config_hash != first
    assert settings_of().config_hash != first


def test_a_digest_is_the_same_on_every_machine() -> None:
    assert secret_digest(["canary-1"]) == "scrypt:b595beebf9a1b146dd434ac2eb603f33"


def test_components_get_the_secrets_themselves() -> None:
    assert settings_of("guardrail.canaries=[canary-1]").guardrail.canaries == ("canary-1",)


def test_empty_secrets_stay_readable() -> None:
    assert settings_of().config["guardrail"]["canaries"] == []


class Nested:
    """A component with secrets of several shapes."""

    name = "nested"

    def __init__(
        self,
        *,
        key: Annotated[str, Secret] | None = None,
        keys: dict[str, Annotated[str, Secret]] | None = None,
        guardrail: Guardrail | None = None,
        open: str = "",
    ) -> None:
        pass


Nested.__module__ = "tests.test_secrets"


class KeyLogger(Logger):
    """A logger with a key to some service."""

    def __init__(self, *, api_key: Annotated[str, Secret]) -> None:
        pass


def test_secrets_are_found_below_optional_mapped_and_nested_values() -> None:
    node = {
        "_target_": "tests.test_secrets.Nested",
        "key": "hush",
        "keys": {"a": "hush"},
        "guardrail": {"canaries": ["hush-hush"]},
        "open": "hush",
    }
    found = canonical(node, trusted_modules=["tests"])
    assert found["key"] == found["keys"]["a"] == secret_digest("hush")
    assert found["guardrail"]["canaries"] == secret_digest(["hush-hush"])
    assert found["open"] == "hush"


def test_a_loggers_key_stays_out_of_environment_json() -> None:
    node = {"_target_": "tests.test_secrets.KeyLogger", "api_key": "hush"}
    found = without_secrets(node, trusted_modules=["tests"])
    assert found == {**node, "api_key": secret_digest("hush")}


@pytest.mark.parametrize(
    "argument",
    [
        "guardrail.canaries=[QXSECRET]",
        "+guardrail.canaries=[QXSECRET]",
        "guardrail.canaries.0=QXSECRET",
        "guardrail={canaries: [QXSECRET]}",
        "guardrail.canaries=[QXSECRET],[b]",
        "hydra.sweeper.params={guardrail.canaries: '[QXSECRET],[b]'}",
        "+hydra.sweeper.params.guardrail.canaries='[QXSECRET]'",
    ],
)
def test_the_command_is_told_without_secrets_however_they_are_typed(argument: str) -> None:
    secrets = ["guardrail.canaries", "guardrail.allow"]
    told = without_secret_values(["seed=1", argument, "guardrail=standard"], secrets)
    assert (told[0], told[2]) == ("seed=1", "guardrail=standard")
    assert "QXSECRET" not in told[1]
    assert told[1].partition("=scrypt:")[0] == argument.partition("=")[0]
