import gzip
import json
import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from knexa.components import instantiate
from knexa.data.codelets import Codelets
from knexa.exchange.findings import PLACEHOLDER, PROVIDER_KINDS
from knexa.exchange.guardrail import Guardrail, Report, Vetted
from knexa.exchange.package import TextItem

ROOT = Path(__file__).parents[2]
ALPHANUMERIC = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits


def vet(text: str, guardrail: Guardrail | None = None) -> Vetted:
    return (guardrail or Guardrail()).vet([TextItem(task_id="t", completion=text)])


def draw(rng: random.Random, alphabet: str, length: int) -> str:
    return "".join(rng.choices(alphabet, k=length))


# Every credential is drawn here, so that none is ever written down.
CREDENTIALS: dict[str, Callable[[random.Random], str]] = {
    "aws": lambda r: "AKIA" + draw(r, UPPER, 16),
    "github": lambda r: r.choice(["ghp_", "gho_", "ghs_"]) + draw(r, ALPHANUMERIC, 36),
    "github_fine_grained": lambda r: "github_pat_" + draw(r, ALPHANUMERIC, 59),
    "gitlab": lambda r: "glpat-" + draw(r, ALPHANUMERIC, 20),
    "slack": lambda r: "xoxb-" + draw(r, string.digits, 12) + "-" + draw(r, ALPHANUMERIC, 24),
    "slack_webhook": lambda r: (
        f"https://hooks.slack.com/services/T{draw(r, UPPER, 8)}/B{draw(r, UPPER, 8)}/"
        f"{draw(r, ALPHANUMERIC, 24)}"
    ),
    "stripe": lambda r: "sk_live_" + draw(r, ALPHANUMERIC, 24),
    "anthropic": lambda r: "sk-ant-api03-" + draw(r, ALPHANUMERIC + "-_", 90),
    "openai": lambda r: "sk-" + draw(r, ALPHANUMERIC, 47) + "7",
    "google_api": lambda r: "AIza" + draw(r, ALPHANUMERIC + "-_", 35),
    "google_oauth": lambda r: "ya29." + draw(r, ALPHANUMERIC, 60),
    "hugging_face": lambda r: "hf_" + draw(r, ALPHANUMERIC, 34),
    "npm": lambda r: "npm_" + draw(r, ALPHANUMERIC, 36),
    "pypi": lambda r: "pypi-" + draw(r, ALPHANUMERIC, 100),
    "sendgrid": lambda r: "SG." + draw(r, ALPHANUMERIC, 22) + "." + draw(r, ALPHANUMERIC, 43),
    "twilio": lambda r: "SK" + draw(r, HEX, 32),
    "mailgun": lambda r: "key-" + draw(r, HEX, 32),
    "mailchimp": lambda r: draw(r, HEX, 32) + "-us14",
    "telegram": lambda r: draw(r, "123456789", 9) + ":AA" + draw(r, ALPHANUMERIC, 33),
    "discord": lambda r: "M" + ".".join(draw(r, ALPHANUMERIC, n) for n in (23, 6, 27)),
    "digitalocean": lambda r: "dop_v1_" + draw(r, HEX, 64),
    "azure_storage": lambda r: "AccountKey=" + draw(r, ALPHANUMERIC + "+/", 86) + "==",
    "databricks": lambda r: "dapi" + draw(r, HEX, 32),
    "shopify": lambda r: "shpat_" + draw(r, HEX, 32),
    "docker": lambda r: "dckr_pat_" + draw(r, ALPHANUMERIC, 27),
    "vault": lambda r: "hvs." + draw(r, ALPHANUMERIC, 90),
    "age": lambda r: "AGE-SECRET-KEY-1" + draw(r, UPPER, 58),
    "json_web_token": lambda r: (
        "eyJ"
        + draw(r, ALPHANUMERIC, 20)
        + ".eyJ"
        + ".".join((draw(r, ALPHANUMERIC, 40), draw(r, ALPHANUMERIC, 43)))
    ),
    "url_password": lambda r: f"postgres://app:{draw(r, ALPHANUMERIC, 12)}@db.corp.net/main",
}
CONTEXTS = (
    "    return '{}'\n",
    "import os\n\ndef f(x):\n    # {}\n    return x\n",
    "client = Client('{}')",
    "not python at all: {} (",
)


def test_every_provider_kind_has_a_generator() -> None:
    assert set(CREDENTIALS) == set(PROVIDER_KINDS)


@pytest.mark.parametrize("kind", PROVIDER_KINDS)
def test_generated_credentials_are_blocked_wherever_they_stand(kind: str) -> None:
    rng = random.Random(f"credential {kind}")
    for context in CONTEXTS:
        for _ in range(25):
            vetted = vet(context.format(CREDENTIALS[kind](rng)))
            assert vetted.items == ()
            assert kind in vetted.report.findings


def test_a_credential_in_a_hundred_clean_items_is_blocked() -> None:
    clean = [TextItem(task_id=f"t{i}", completion="    return x + 1\n") for i in range(100)]
    key = CREDENTIALS["aws"](random.Random(0))
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
    ],
)
def test_a_credential_in_two_pieces_is_found(template: str) -> None:
    key = CREDENTIALS["github"](random.Random(1))
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


def test_public_addresses_are_counted_and_pass() -> None:
    text = "HOST = '93.184." + "216.34'\n"
    assert vet(text).report == Report(counted=1, findings={"ipv4": 1})
    assert vet(text).items[0].completion == text


def test_canaries_are_blocked_also_in_pieces() -> None:
    guardrail = Guardrail(canaries=("[CANARY-7f3a91]",))
    for text in ("return '[CANARY-7f3a91]'", "x = '[CANA' + 'RY-7f3a91]'"):
        assert vet(text, guardrail).report == Report(blocked=1, findings={"canary": 1})
        assert vet(text).report == Report()


def test_allowed_texts_are_no_findings() -> None:
    key = CREDENTIALS["aws"](random.Random(5))
    assert vet(f"x = '{key}'", Guardrail(allow=(key,))).report == Report()
    other = CREDENTIALS["aws"](random.Random(6))
    assert vet(f"x = '{key} {other}'", Guardrail(allow=(key,))).report.blocked == 1


def test_actions_are_configurable_by_severity() -> None:
    key = CREDENTIALS["aws"](random.Random(7))
    vetted = vet(f"x = '{key}'", Guardrail(high="redact"))
    assert vetted.items[0].completion == f"x = '{PLACEHOLDER}aws>'"
    assert vet(f"x = '{key}'", Guardrail(high="count")).report.counted == 1


def test_what_cannot_be_redacted_in_one_place_is_blocked() -> None:
    key = CREDENTIALS["aws"](random.Random(8))
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
