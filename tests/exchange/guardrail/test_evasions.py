"""What the guardrail stops of texts that were chosen to evade it, and its false alarms.

``evasions_tuned.py`` is what the rules were made with: each case is a test. Of
``evasions_reported.py`` only the totals are held, those that docs/security.md gives.
"""

import pytest

from knexa.exchange.guardrail.filter import Guardrail
from tests.exchange.guardrail import evasions_reported as reported
from tests.exchange.guardrail import evasions_tuned as tuned
from tests.exchange.guardrail.evasions import (
    Case,
    Corpus,
    cases,
    false_alarms,
    score,
    stopped,
    vetted,
)

TUNED = [
    *cases(tuned.CREDENTIALS, tuned.GENERATORS),
    *cases(tuned.PERSONAL, tuned.GENERATORS),
]
HARMLESS = list(cases(tuned.HARMLESS, tuned.GENERATORS, harmless=True))
PROMISED = [case for case in TUNED if case.group != tuned.NOT_PROMISED]


def test_the_corpora_are_large_and_share_neither_kinds_of_secrets_nor_texts() -> None:
    assert not tuned.GENERATORS.keys() & reported.GENERATORS.keys()
    texts: set[str] = set()
    for corpora, least in (
        ((tuned.CREDENTIALS, reported.CREDENTIALS), 100),
        ((tuned.PERSONAL, reported.PERSONAL), 45),
        ((tuned.HARMLESS, reported.HARMLESS), 100),
    ):
        for corpus in corpora:
            templates = [template for group in corpus.values() for _, template in group]
            assert len(templates) >= least
            assert not texts & set(templates)
            texts |= set(templates)


def test_every_case_but_a_harmless_one_holds_its_secret() -> None:
    for case in TUNED:
        assert case.pieces, case
        assert all(piece in case.text for piece in case.pieces), case


@pytest.mark.parametrize("case", PROMISED, ids=lambda case: f"{case.group} {case.kind}")
def test_an_evasion_leaves_no_half_of_its_secret_behind(case: Case) -> None:
    assert stopped(case, Guardrail()), vetted(case, Guardrail())


@pytest.mark.parametrize(
    "case",
    [case for case in HARMLESS if case.group != tuned.NOT_PROMISED],
    ids=lambda case: case.group,
)
def test_what_merely_looks_like_a_secret_passes_as_it_is(case: Case) -> None:
    assert vetted(case, Guardrail()) == case.text


# The least that docs/security.md reports of the corpus that tunes nothing.
@pytest.mark.parametrize(
    ("corpus", "stopped_cases", "all_cases"),
    [(reported.CREDENTIALS, 99, 111), (reported.PERSONAL, 48, 48)],
    ids=["credentials", "personal data"],
)
def test_evasions_that_tuned_nothing_are_stopped_as_reported(
    corpus: Corpus, stopped_cases: int, all_cases: int
) -> None:
    totals = score(corpus, reported.GENERATORS, Guardrail()).values()
    good, number = (sum(column) for column in zip(*totals, strict=True))
    assert number == all_cases
    assert good >= stopped_cases


def test_false_alarms_among_texts_that_tuned_nothing_are_as_reported() -> None:
    totals = false_alarms(reported.HARMLESS, reported.GENERATORS, Guardrail()).values()
    blocked, redacted, number = (sum(column) for column in zip(*totals, strict=True))
    assert number == 100
    assert blocked <= 1
    assert redacted <= 2
