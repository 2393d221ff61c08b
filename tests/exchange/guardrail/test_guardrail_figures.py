"""The guardrail's figures: what it lets through of generated credentials, and a second opinion.

``python benchmarks/guardrail.py`` prints them in full. That it blocks no clean program is in
``test_guardrail.py``.
"""

from pathlib import Path

import pytest

from knexa.exchange.guardrail.filter import ALL_RULES, Guardrail
from knexa.exchange.guardrail.findings import find
from knexa.exchange.package import TextItem
from tests.exchange.guardrail.credential_corpus import (
    BARE,
    CARRIERS,
    KINDS,
    LONG_CARRIERS,
    PREFIXED,
    corpus,
    leaks,
)

PER_CELL = 8  # credentials of a kind in a carrier


def test_the_corpus_has_at_least_25_kinds_and_never_repeats_a_credential() -> None:
    assert len(PREFIXED) >= 25
    secrets = [s for kind in KINDS for c in CARRIERS for s, _ in corpus(kind, c, PER_CELL)]
    assert len(set(secrets)) == len(secrets)


@pytest.mark.slow
@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_credential_with_a_form_of_its_own_is_stopped(carrier: str) -> None:
    guardrail = Guardrail()
    for kind in PREFIXED:
        for secret, text in corpus(kind, carrier, PER_CELL):
            assert not leaks(guardrail, secret, text), (kind, text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BARE)
def test_99_of_100_credentials_without_a_form_are_stopped(kind: str) -> None:
    guardrail = Guardrail()
    cases = [case for carrier in CARRIERS for case in corpus(kind, carrier, 3 * PER_CELL)]
    passed = [text for secret, text in cases if leaks(guardrail, secret, text)]
    assert len(passed) <= len(cases) / 100, passed


@pytest.mark.slow
@pytest.mark.parametrize("carrier", LONG_CARRIERS)
def test_a_credential_deep_inside_a_long_text_is_stopped(carrier: str) -> None:
    guardrail = Guardrail()
    for kind in list(PREFIXED)[::6]:
        for secret, text in corpus(kind, carrier, 1):
            # What is too long for a package would be stopped, but not because it was found.
            assert len(text) < 32 * 1024
            assert not leaks(guardrail, secret, text), kind


def test_a_text_longer_than_a_package_may_carry_is_read_by_pattern_all_the_same() -> None:
    padding = "x = y + 1\n" * 25_000
    texts = [text for kind in PREFIXED for _, text in corpus(kind, "code", 1)]
    text = padding + "".join(texts) + padding
    assert {f.kind for f in find(text, frozenset(ALL_RULES), ())} >= set(PREFIXED)
    vetted = Guardrail().vet([TextItem(task_id="t", completion=text)])
    assert vetted.report.findings == {"unsendable": 1}
    assert not vetted.items


def test_what_detect_secrets_finds_is_found(tmp_path: Path) -> None:
    from detect_secrets.core.scan import scan_file
    from detect_secrets.settings import default_settings

    guardrail, file, found = Guardrail(), tmp_path / "answer.py", 0
    with default_settings():
        for index, kind in enumerate(KINDS):
            for carrier in list(CARRIERS)[index % 4 :: 4]:
                ((secret, text),) = corpus(kind, carrier, 1)
                file.write_text(text)
                if list(scan_file(str(file))):
                    found += 1
                    assert not leaks(guardrail, secret, text), (kind, carrier)
    assert found > len(KINDS) * len(CARRIERS) / 4 / 4  # or the second opinion says nothing
