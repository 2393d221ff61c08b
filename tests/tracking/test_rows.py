"""The classes of rows: what is written, what is refused, and that the documents say the same."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from knexa.errors import UserError
from knexa.tracking.rows import (
    ByzantineSummary,
    ExchangeRow,
    Floor,
    Floors,
    RoundRow,
    ServerCosts,
    Trust,
    VerifiedAnswers,
    tables,
)
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.schema import ShapeError, as_document, columns, decode, encode
from tests.row_examples import (
    exchange_row,
    regret_row,
    round_row,
    sample_row,
    score,
    scores,
    summary,
)

CONCEPTS = Path(__file__).parents[2] / "docs" / "concepts.md"
SERVER = ServerCosts(delta=0.5, tokens_generated=1, tokens_trained=2, optimizer_steps=3)
LIED = ByzantineSummary(
    liars=(2,),
    attacks=("wrong",),
    teaching=(0.5, None),
    lessons_among_liars=0,
    teaching_share=0.5,
    shunned_after=None,
    trust=Trust(liars=0.25, honest=0.75),
)
FLOORS = Floors(empty=Floor(compat=0.25, fixed=0.0), prompt_copy=Floor(compat=0.3, fixed=0.1))


@pytest.fixture
def run_dir(tmp_path):
    with RunDirectory(tmp_path / "run") as run_dir:
        yield run_dir


@pytest.mark.parametrize(
    "record",
    [
        round_row(),
        round_row(train_loss=1.5, kilobytes_scouted=0.0),
        exchange_row(server=SERVER, issued_s=0.0, finished_s=1e-5, faults={"lost": 1}),
        regret_row(rewards=((None, 0.1), (0.2, None)), best_pairs=((1, 0),)),
        sample_row(completion="\ud800 is no text for most parsers"),
        sample_row(outcome="passed", outcome_plus="failed"),
        summary(
            scores=scores(
                pass_at={1: score(0.2), 10: score(0.4)},
                pass_at_plus={1: score(0.1), 10: score(0.3)},
                own_pass_at={1: score(0.5)},
                own_pass_at_plus={1: score(0.25)},
                verified_answers=VerifiedAnswers(answers=4, wrong=1, wrong_share=0.25),
            )
        ),
        summary(
            scores=scores(
                pass_at={1: score(0.2), 10: replace(score(0.4), num_problems=116)},
                own_pass_at={1: score(0.5)},
                honest_pass_at={1: score(0.3)},
                codebleu_fixed=score(0.1),
                floors=FLOORS,
            ),
            byzantine=LIED,
        ),
    ],
    ids=lambda record: type(record).__name__,
)
def test_what_is_read_is_what_was_written(record):
    assert decode(type(record), encode(record)) == record


def test_columns_stand_in_the_order_of_the_fields_under_their_own_names():
    keys = list(as_document(round_row(kilobytes_scouted=1.0)))
    assert keys == [column.name for column in columns(RoundRow)]
    assert keys[7] == "pass@1_greedy"


def test_what_a_federation_does_not_have_is_left_out_and_what_is_unknown_is_null():
    formula, model = as_document(round_row()), as_document(round_row(kilobytes_scouted=0.0))
    assert model.keys() - formula.keys() == {
        *("train_loss", "validation_loss", "learn_loss", "kilobytes_scouted", "sier"),
        *("codebleu_compat", "codebleu_fixed"),
    }
    assert model["train_loss"] is None
    never_arrived = as_document(exchange_row(issued_s=0.0, finished_s=2.0, faults={}))
    assert never_arrived["arrived_s"] is None
    assert "arrived_s" not in as_document(exchange_row())


def test_scores_stand_in_the_summary_by_their_k():
    document = as_document(summary(scores=scores(pass_at={5: score(0.5)})))
    assert document["pass@5"]["mean"] == 0.5
    assert not any(key.startswith("honest_") for key in document)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kilobytes": None}, "column kilobytes: Input should be a valid number"),
        ({"kilobytes": ...}, "there is no column kilobytes"),
        ({"kilograms": 1.0}, "column kilograms is unknown"),
        ({"items_sent": "3"}, "column items_sent: "),
        ({"server": {"delta": 0.5}}, "there is no column server.tokens_generated"),
    ],
)
def test_another_shape_is_one_line_with_the_file_and_who_wrote_it(run_dir, change, said):
    run_dir.start_environment()
    wrote = run_dir.read_environment()["packages"]["knexa"]
    document = as_document(exchange_row()) | change
    line = json.dumps({key: value for key, value in document.items() if value is not ...})
    run_dir.rows_path("exchanges").write_text(line + "\n")
    with pytest.raises(UserError, match="rerun=true") as caught:
        run_dir.read_rows(ExchangeRow)
    told = str(caught.value)
    assert told.startswith(f"{run_dir.rows_path('exchanges')}: {said}")
    assert f"written by knexa {wrote}," in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("version", "said"), [(99, "schema_version is 99"), (None, "schema_version is of none")]
)
def test_a_summary_of_another_version_is_one_line(run_dir, version, said):
    run_dir.write_summary(summary())
    document = json.loads(run_dir.summary.read_text()) | {"schema_version": version}
    if version is None:
        del document["schema_version"]
    run_dir.summary.write_text(json.dumps(document))
    with pytest.raises(UserError, match=said):
        run_dir.read_summary()


def test_a_row_of_a_wrong_shape_is_never_written(run_dir):
    with pytest.raises(ShapeError, match="column round"):
        run_dir.append([round_row(round=0.5)])
    assert not run_dir.rows_path("rounds").exists()


def test_the_documents_tables_are_those_of_the_code():
    text = CONCEPTS.read_text()
    assert tables() in text, "put in what python -m knexa.tracking.rows prints"
