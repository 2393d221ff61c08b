import gzip
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from knexa.config.components import instantiate
from knexa.data.codelets import Codelets
from knexa.errors import UserError
from knexa.exchange.guardrail.filter import Guardrail, Report, Vetted
from knexa.exchange.guardrail.findings import PLACEHOLDER
from knexa.exchange.guardrail.providers import PROVIDER_KINDS
from knexa.exchange.package import TextItem
from tests.exchange.guardrail.credential_corpus import (
    ALPHANUMERIC,
    HEX,
    PREFIXED,
    draw,
    with_checksum,
)

ROOT = Path(__file__).parents[3]


def vet(text: str, guardrail: Guardrail | None = None) -> Vetted:
    return (guardrail or Guardrail()).vet([TextItem(task_id="t", completion=text)])


def test_a_piece_that_reads_like_a_prefix_of_a_literal_is_a_piece() -> None:
    key = PREFIXED["rubygems"](random.Random(1))
    for text in ("def f(x:\n    y = '{}' + '{}'\n", "y = '{}' + '{}'\n"):
        assert vet(text.format(key[:2], key[2:])).report.blocked == 1


def test_every_provider_kind_has_a_generator() -> None:
    assert set(PREFIXED) - {"private_key"} == set(PROVIDER_KINDS)


def test_a_credential_in_a_hundred_clean_items_is_blocked() -> None:
    clean = [TextItem(task_id=f"t{i}", completion="    return x + 1\n") for i in range(100)]
    key = PREFIXED["aws"](random.Random(0))
    leak = TextItem(task_id="leak", completion=f"    return {key!r}\n" + "    # padding\n" * 200)
    vetted = Guardrail().vet([*clean[:50], leak, *clean[50:]])
    assert vetted.items == tuple(clean)
    assert vetted.report == Report(blocked=1, findings={"aws": 1})


@pytest.mark.parametrize(
    "template",
    [
        "key = '{0}' + '{1}'\n",
        "key = ('{0}'\n       '{1}')\n",
        "    return '{0}' \\\n        '{1}'\n",
        "key = b'{0}' + b'{1}'\n",
        "key = f'{0}' f'{1}'\n",
        "broken( key = '{0}' + '{1}'\n",
        "key = '\\x67{0[1]}{0[2]}{0[3]}{0[4]}{0[5]}{0[6]}{0[7]}{0[8]}{1}'\n",
    ],
)
def test_a_credential_in_two_pieces_is_found(template: str) -> None:
    key = PREFIXED["github"](random.Random(1))
    assert vet(template.format(key[:9], key[9:])).report.blocked == 1


@pytest.mark.parametrize("label", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
def test_private_keys_are_blocked_with_or_without_their_end(label: str) -> None:
    begin, end = f"-----BEGIN {label}PRIVATE KEY-----", f"-----END {label}PRIVATE KEY-----"
    body = draw(random.Random(2), ALPHANUMERIC + "+/", 64)
    for text in (f'K = """{begin}\n{body}\n{end}"""', f"{begin}\n{body}"):
        assert vet(text).report == Report(blocked=1, findings=vet(text).report.findings)
        assert vet(text).report.findings["private_key"] == 1


@pytest.mark.parametrize(
    "template",
    [
        "password = '{}'\n",
        "self.db_password: str = '{}'\n",
        "connect(host='h', api_key='{}')\n",
        "config = {{'secret_key': '{}'}}\n",
        "os.environ['AUTH_TOKEN'] = '{}'\n",
        "def f(x, token='{}'):\n    return x\n",
        "    if password == '{}':\n        return True\n",
        "broken( api_key = '{}'\n",
        "dbPassword = '{}'\n",
        "password = '{}'.encode()\n",
        "password = f'{}'\n",
        "user, password = 'me', '{}'\n",
        "key = os.environ.get('API_KEY', '{}')\n",
        "    setattr(x, 'password', '{}')\n",
        "    password = given or '{}'\n",
    ],
)
def test_strings_given_to_secret_names_are_blocked(template: str) -> None:
    vetted = vet(template.format("hunter2-" + "Blue9"))
    assert vetted.report.blocked == 1
    assert vetted.report.findings["secret_assignment"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "password = 'your_password_here'\n",
        "password = ''\n",
        "token = 'START'\n",
        "token = 'identifier'\n",
        "api_key = '<API_KEY_1>'\n",
        "secret_word = 'two words 12'\n",
        "tokens = text.split('a1-B2-c3-D4')\n",
        "passed = 'hunter2-Blue9'\n",
        "    alphabet = 'abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ'\n",
        "    return 'this_is_a_rather_long_identifier_name'\n",
        "    return x@y.T + a@b.dot(c)\n",
        "    return 4111111111111112 + 1234567890123456\n",
        "    return n - 100 - 200 - 3000 + 1000000007\n",
        "    return 555-123-4567\n",
        "    return ('%s.%s' % (a, b)) + '1.2.3'\n",
        "MAIL = 'someone@example.org'\n",
        "HOST = '127.0.0.1'\n",
        "HOSTS = ['::1', 'fe80::1', '2001:db8::1', 'fd00::1:2:3:4:5']\n",
        "    return '12:34:56', '01:23:45:67:89:ab', x[1::2], 'a[20::3000::1]'\n",
        "    return '000-12-3456', '900-12-3456'\n",
        "    return 123-45-6789 + 12345678\n",
        "    return 'GB00 AAAA 1234 5678 9012 34'\n",
        "    pass\n",
        "",
    ],
)
def test_ordinary_code_passes_untouched(text: str) -> None:
    vetted = vet(text)
    assert vetted.report == Report()
    assert vetted.items[0].completion == text


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        ("email", "jane.doe+x@mail" + ".corp.com"),
        ("phone", "+44 20 7946 " + "0123"),
        ("phone", "(212) 555-" + "0187"),
        ("high_entropy", draw(random.Random(3), ALPHANUMERIC, 40)),
        ("high_entropy", draw(random.Random(4), HEX, 40)),
    ],
)
def test_personal_and_random_strings_are_redacted_in_place(kind: str, secret: str) -> None:
    vetted = vet(f"def f(x):\n    y = '{secret}'\n    return x\n")
    assert vetted.items[0].completion == (
        f"def f(x):\n    y = '{PLACEHOLDER}{kind}>'\n    return x\n"
    )
    assert vetted.report == Report(redacted=1, findings={kind: 1})


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        ("card", "4111 1111 1111 " + "1111"),
        ("card", "55555555555" + "54444"),
        ("iban", "GB82 WEST 1234 5698 " + "7654 32"),
        ("iban", "DE8937040044053201" + "3000"),
    ],
)
def test_card_and_account_numbers_are_blocked(kind: str, secret: str) -> None:
    assert vet(f"    # pay to {secret}\n    return 1\n").report.findings == {kind: 1}
    assert vet(f"x = '{secret}'\n").report.blocked == 1


@pytest.mark.parametrize(
    ("kind", "address"), [("ipv4", "93.184." + "216.34"), ("ipv6", "2001:4860:" + "4860::8888")]
)
def test_public_addresses_are_counted_and_pass(kind: str, address: str) -> None:
    text = f"HOST = '{address}'\n"
    assert vet(text).report == Report(counted=1, findings={kind: 1})
    assert vet(text).items[0].completion == text


# The examples of the authorities or of their encyclopedia articles.
NATIONAL_IDS = [
    ("us_ssn", "078-05-" + "1120"),
    ("french_nir", "2 69 05 49 588 157 " + "80"),
    ("spanish_dni", "12345678" + "Z"),
    ("spanish_dni", "X1234567" + "L"),
    ("italian_codice_fiscale", "MRTMTT25D09F205" + "Z"),
    ("brazilian_cpf", "111.444.777-" + "35"),
    ("indian_aadhaar", "9999 4105 " + "7058"),
    ("uk_nino", "AB 12 34 56 " + "C"),
]


@pytest.mark.parametrize(("kind", "number"), NATIONAL_IDS)
def test_national_ids_are_redacted_in_strings_comments_and_prose(kind: str, number: str) -> None:
    for text in ("x = '{}'\n", "    # of {}\n    return x\n", "It is {} , she said."):
        vetted = vet(text.format(number))
        assert vetted.report == Report(redacted=1, findings={kind: 1})
        assert number not in vetted.items[0].completion


@pytest.mark.parametrize(("kind", "number"), NATIONAL_IDS)
def test_a_national_id_with_a_wrong_digit_is_a_number(kind: str, number: str) -> None:
    if kind in ("us_ssn", "uk_nino"):  # without a checksum
        return
    places = [place for place, character in enumerate(number) if character.isdigit()]
    for place in places:
        other = str((int(number[place]) + 1) % 10)
        wrong = number[:place] + other + number[place + 1 :]
        assert kind not in vet(f"x = '{wrong}'").report.findings


def test_a_codice_fiscale_in_the_digits_of_another_script_is_redacted() -> None:
    arabic = str.maketrans("0123456789", "".join(chr(0x660 + digit) for digit in range(10)))
    number = dict(NATIONAL_IDS)["italian_codice_fiscale"].translate(arabic)
    vetted = vet(f"x = '{number}'\n")
    assert vetted.report == Report(redacted=1, findings={"italian_codice_fiscale": 1})


def test_a_token_with_its_own_checksum_is_blocked_without_its_prefix() -> None:
    token = with_checksum(random.Random(9))
    assert vet(f"x = '{token}'").report.findings["checksummed"] == 1
    assert vet(f"x = '{token}'").items == ()
    wrong = ("A" if token[0] != "A" else "B") + token[1:]
    assert vet(f"x = '{wrong}'").report == Report(redacted=1, findings={"high_entropy": 1})


def test_site_rules_find_what_the_site_says_with_its_severity() -> None:
    node = conf("standard") | {
        "site_rules": [
            {"name": "customer", "pattern": r"CUST-\d{8}", "severity": "high"},
            {"name": "project", "pattern": "(?i)project lyra", "severity": "medium"},
        ]
    }
    guardrail = instantiate(node, key="guardrail")
    assert vet("    # CUST-12345678\n", guardrail).report == Report(
        blocked=1, findings={"customer": 1}
    )
    vetted = vet("    # Project Lyra\n", guardrail)
    assert vetted.items[0].completion == f"    # {PLACEHOLDER}project>\n"
    assert vet("    # CUST-12345678, Project Lyra\n").report == Report()


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ([{"name": "x", "pattern": "("}], "no regular expression"),
        ([{"name": "x", "pattern": "a*"}], "matches the empty text"),
        ([{"name": "x", "pattern": "redacted"}], "matches its own redaction"),
        ([{"name": "email", "pattern": "@@"}], "has the name of another rule"),
        ([{"name": "x", "pattern": "@"}] * 2, "name of another rule"),
        ([{"name": "x", "pattern": "a", "severity": "deadly"}], "severity"),
    ],
)
def test_a_site_rule_that_cannot_work_is_refused_in_one_line(
    rules: list[dict[str, str]], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        instantiate(conf("standard") | {"site_rules": rules}, key="guardrail")
    assert "\n" not in str(refusal.value)


def test_canaries_are_blocked_also_in_pieces() -> None:
    guardrail = Guardrail(canaries=("[CANARY-7f3a91]",))
    for text in ("return '[CANARY-7f3a91]'", "x = '[CANA' + 'RY-7f3a91]'"):
        assert vet(text, guardrail).report == Report(blocked=1, findings={"canary": 1})
        assert vet(text).report == Report()


def test_allowed_texts_are_no_findings() -> None:
    key = PREFIXED["aws"](random.Random(5))
    assert vet(f"x = '{key}'", Guardrail(allow=(key,))).report == Report()
    other = PREFIXED["aws"](random.Random(6))
    assert vet(f"x = '{key} {other}'", Guardrail(allow=(key,))).report.blocked == 1


def test_actions_are_configurable_by_severity() -> None:
    key = PREFIXED["aws"](random.Random(7))
    vetted = vet(f"x = '{key}'", Guardrail(high="redact"))
    assert vetted.items[0].completion == f"x = '{PLACEHOLDER}aws>'"
    assert vet(f"x = '{key}'", Guardrail(high="count")).report.counted == 1


def test_what_cannot_be_redacted_in_one_place_is_blocked() -> None:
    key = PREFIXED["aws"](random.Random(8))
    assert vet(f"x = '{key[:7]}' + '{key[7:]}'", Guardrail(high="redact")).report.blocked == 1


def test_text_that_no_package_may_carry_is_blocked_even_without_rules() -> None:
    none = instantiate(conf("none"), key="guardrail")
    assert vet("\x00", none).report == Report(blocked=1, findings={"unsendable": 1})
    assert vet("password = 'hunter2-Blue9'", none).report == Report()


def conf(option: str) -> dict[str, object]:
    loaded = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "guardrail" / f"{option}.yaml"))
    assert isinstance(loaded, dict)
    return {str(key): value for key, value in loaded.items()}


def test_the_standard_option_is_the_default() -> None:
    assert instantiate(conf("standard"), key="guardrail") == Guardrail()


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_text_is_vetted_without_error_and_vetting_again_changes_nothing(text: str) -> None:
    vetted = vet(text)
    again = Guardrail().vet(vetted.items)
    assert again.items == vetted.items
    assert again.report.blocked == again.report.redacted == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["x = '", "'", "a@corp.com", "+44 20 7946 0123", "\n", "#", "1"])))
def test_redacting_twice_changes_nothing(pieces: list[str]) -> None:
    vetted = vet("".join(pieces))
    assert Guardrail().vet(vetted.items).items == vetted.items


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000,
        "-" * 30_000,
        "a" * 32_000,
        "'" * 32_000,
        "x='" * 10_000,
        "\\'" * 16_000,
        "1 " * 16_000,
        "4111 " * 6_000,
        "a@" * 16_000,
        "a." * 16_000,
        "token='" * 4_000,
        "token = " + " " * 30_000,
        "-----BEGIN PRIVATE KEY-----" * 1_000,
        "AA11" * 8_000,
        "pass_" * 6_000 + "'",
        "://a:" * 6_000,
        "x = " + "'a'+" * 7_000 + "'a'",
        "x = " + "1+" * 9_000 + "'a' 'b'",
        "eyJ" + "a" * 16_000 + "." + "eyJ" * 4_000,
        "eyJ-" * 8_000,
        "sk-" * 10_000,
        "Bearer " * 4_500,
        "Bearer " + "a" * 32_000,
        "Authorization: Basic " * 1_500,
        "hooks.slack.com/services/T" * 1_200,
        "1::" * 10_000,
        "2001:" * 6_000,
        "'1' " * 8_000,
        "x='1'" + "+'1'" * 7_000 + "(",
        "'" + "\\x41" * 8_000 + "'",
        "key:" * 8_000,
        "key is " * 4_500,
        "pat" * 10_000,
        "a~" * 16_000 + "1Q~",
    ],
)
@pytest.mark.timeout(30)  # a quadratic rule would take minutes
def test_hostile_text_does_not_blow_up_the_rules(text: str) -> None:
    vet(text)


def benchmark_solutions(folder: Path) -> list[TextItem]:
    rows = []
    for file, key in (("HumanEval.jsonl.gz", "canonical_solution"), ("mbpp.jsonl.gz", "code")):
        with gzip.open(folder / file, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                program = row.get("prompt", "") + row[key]
                rows += [(row["task_id"], row[key]), (f"{row['task_id']} whole", program)]
    return [TextItem(task_id=str(task), completion=text) for task, text in rows]


def test_no_canonical_solution_of_humaneval_and_mbpp_is_blocked_or_changed(
    benchmarks: Path,
) -> None:
    items = benchmark_solutions(benchmarks)
    assert len(items) == 2 * (164 + 974)
    vetted = Guardrail().vet(items)
    assert vetted.report.blocked == 0
    changed = {a.task_id for a, b in zip(items, vetted.items, strict=True) if a != b}
    # The docstring of this prompt quotes an MD5 digest; its solution alone passes as it is.
    assert changed <= {"HumanEval/162 whole"}


def test_no_codelet_is_found_anything_in() -> None:
    items = [
        TextItem(task_id=f"{problem.task_id} {part}", completion=text)
        for problem in Codelets().all_problems()
        for part, text in (
            ("solution", problem.canonical_solution),
            ("whole", problem.prompt + problem.canonical_solution),
        )
    ]
    assert Guardrail().vet(items) == Vetted(items=tuple(items), report=Report())
