import logging

import pytest

from knexa.cli.commands import run_command_line
from knexa.evaluation import Executor
from knexa.sandbox import protection


def test_doctor_agrees_with_the_sandbox(capsys: pytest.CaptureFixture[str]) -> None:
    with Executor() as executor:
        lacking = protection.missing(executor.layers)
    assert run_command_line(["doctor"]) == (1 if protection.required(lacking) else 0)
    text = capsys.readouterr().out
    for word in (*(layer.name for layer in protection.LAYERS), "Python", "torch", "W&B", "disk"):
        assert word in text
    assert text.count("in force") == len(protection.LAYERS) - len(lacking)
    assert "sees no installed package" in text


def test_doctor_says_what_a_program_sees(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("knexa.sandbox.inside.look", lambda _: "/usr/lib/python3/dist-packages")
    assert run_command_line(["doctor"]) == 1
    assert "A program in the sandbox sees /usr/lib/python3/dist-packages." in " ".join(
        capsys.readouterr().out.split()
    )


def test_doctor_asks_for_no_extra_layer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tuple(layer.name for layer in protection.LAYERS if not layer.is_extra)
    monkeypatch.setattr(Executor, "layers", names)
    monkeypatch.setattr(Executor, "refused", {"memory-cgroup": "none is to be had"})
    assert run_command_line(["doctor"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "missing: none is to be had" in text
    assert "evaluation.sandbox=strict runs here" in text


def test_doctor_names_a_missing_layer_and_why(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = tuple(layer.name for layer in protection.LAYERS if layer.name != "landlock")
    monkeypatch.setattr(Executor, "layers", names)
    monkeypatch.setattr(Executor, "refused", {"landlock": "Not implemented"})
    with caplog.at_level(logging.CRITICAL):
        assert run_command_line(["doctor"]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "missing: Not" in text
    total = len(protection.LAYERS) - 1
    assert f"1 of {total} layers are missing (landlock)" in text
    assert "evaluation.sandbox=strict refuses" in text
