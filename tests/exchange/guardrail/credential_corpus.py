"""Seeded credentials of many kinds, and texts that carry one.

Every generator follows the provider's published format, never a pattern under test. All is drawn
here, so that no credential is ever written down.
"""

import base64
import json
import random
import string
import uuid
from collections.abc import Callable
from zlib import crc32

from knexa.exchange.guardrail.filter import Guardrail
from knexa.exchange.package import TextItem

Generator = Callable[[random.Random], str]

ALPHANUMERIC = string.ascii_letters + string.digits
URL_SAFE = ALPHANUMERIC + "-_"
BASE_64 = ALPHANUMERIC + "+/"
BASE_32 = string.ascii_uppercase + "234567"
UPPER = string.ascii_uppercase + string.digits
LOWER = string.ascii_lowercase + string.digits
HEX = "0123456789abcdef"
BECH_32 = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"


def draw(rng: random.Random, alphabet: str, length: int) -> str:
    return "".join(rng.choices(alphabet, k=length))


def in_base_62(value: int, length: int) -> str:
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    shown = ""
    for _ in range(length):
        value, digit = divmod(value, 62)
        shown = digits[digit] + shown
    return shown


def with_checksum(rng: random.Random) -> str:
    """30 characters and their CRC-32, as in GitHub's and npm's tokens."""
    body = draw(rng, ALPHANUMERIC, 30)
    return body + in_base_62(crc32(body.encode()), 6)


def url_safe(rng: random.Random, fields: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def web_token(rng: random.Random) -> str:
    header = {"alg": rng.choice(["HS256", "RS256", "ES256"]), "typ": "JWT"}
    payload = {"sub": str(rng.randrange(10**10)), "iat": 1_600_000_000 + rng.randrange(10**8)}
    signature = base64.urlsafe_b64encode(rng.randbytes(32)).decode().rstrip("=")
    return f"{url_safe(rng, header)}.{url_safe(rng, payload)}.{signature}"


def private_key(rng: random.Random) -> str:
    label = rng.choice(["", "RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED "])
    body = base64.b64encode(rng.randbytes(rng.choice([120, 600, 1200]))).decode()
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    return "\n".join(
        [f"-----BEGIN {label}PRIVATE KEY-----", *lines, f"-----END {label}PRIVATE KEY-----"]
    )


def discord(rng: random.Random) -> str:
    user = base64.b64encode(str(rng.randrange(10**17, 10**18)).encode()).decode().rstrip("=")
    return f"{user}.{draw(rng, URL_SAFE, 6)}.{draw(rng, URL_SAFE, rng.choice([27, 38]))}"


def url_password(rng: random.Random) -> str:
    scheme = rng.choice(["postgres", "mysql", "redis", "amqp", "https", "mongodb"])
    user = rng.choice(["app", "root", "svc-etl"])
    return f"{scheme}://{user}:{draw(rng, ALPHANUMERIC, rng.randint(8, 24))}@db.corp.net:5432/main"


def pypi(rng: random.Random) -> str:
    location = base64.urlsafe_b64encode(b"\x02\x01\x08pypi.org\x02").decode().rstrip("=")
    return "pypi-" + location[:16] + draw(rng, URL_SAFE, rng.randint(140, 170))


def basic_auth(rng: random.Random) -> str:
    pair = f"svc{rng.randrange(100)}:{draw(rng, ALPHANUMERIC, 14)}"
    return "Authorization: Basic " + base64.b64encode(pair.encode()).decode()


# Told by their form, wherever they stand; by the guardrail's name of the kind.
PREFIXED: dict[str, Generator] = {
    "age": lambda r: "AGE-SECRET-KEY-1" + draw(r, BECH_32, 58),
    "airtable": lambda r: "pat" + draw(r, ALPHANUMERIC, 14) + "." + draw(r, HEX, 64),
    "anthropic": lambda r: "sk-ant-api03-" + draw(r, URL_SAFE, 93) + "AA",
    "atlassian": lambda r: "ATATT3xFfGF0" + draw(r, URL_SAFE, 171) + "=" + draw(r, UPPER, 8),
    "aws": lambda r: r.choice(["AKIA", "ASIA"]) + draw(r, BASE_32, 16),
    "azure_secret": lambda r: (
        draw(r, ALPHANUMERIC, 3) + draw(r, string.digits, 1) + "Q~" + draw(r, ALPHANUMERIC, 34)
    ),
    "azure_storage": lambda r: (
        "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey="
        + base64.b64encode(r.randbytes(64)).decode()
    ),
    "basic_auth": basic_auth,
    "bearer": lambda r: "Bearer " + draw(r, URL_SAFE, 39) + "7",
    "cloudflare": lambda r: "v1.0-" + draw(r, HEX, 24) + "-" + draw(r, HEX, 146),
    "databricks": lambda r: "dapi" + draw(r, HEX, 32),
    "digitalocean": lambda r: r.choice(["dop", "doo", "dor"]) + "_v1_" + draw(r, HEX, 64),
    "discord": discord,
    "docker": lambda r: "dckr_pat_" + draw(r, URL_SAFE, 27),
    "doppler": lambda r: "dp.pt." + draw(r, ALPHANUMERIC, 43),
    "facebook": lambda r: "EAA" + draw(r, ALPHANUMERIC, r.randint(90, 200)),
    "figma": lambda r: "figd_" + draw(r, URL_SAFE, 40),
    "github": lambda r: r.choice(["ghp_", "gho_", "ghu_", "ghs_"]) + with_checksum(r),
    "github_fine_grained": lambda r: (
        "github_pat_" + draw(r, ALPHANUMERIC, 22) + "_" + draw(r, ALPHANUMERIC, 59)
    ),
    "gitlab": lambda r: r.choice(["glpat-", "gldt-", "glrt-"]) + draw(r, URL_SAFE, 20),
    "google_api": lambda r: "AIzaSy" + draw(r, URL_SAFE, 33),
    "google_oauth": lambda r: "ya29.a0" + draw(r, URL_SAFE, 160),
    "google_secret": lambda r: "GOCSPX-" + draw(r, URL_SAFE, 28),
    "grafana": lambda r: "glsa_" + draw(r, ALPHANUMERIC, 32) + "_" + draw(r, HEX, 8),
    "groq": lambda r: "gsk_" + draw(r, ALPHANUMERIC, 52),
    "heroku": lambda r: "HRKU-" + str(uuid.UUID(int=r.getrandbits(128), version=4)),
    "hugging_face": lambda r: "hf_" + draw(r, string.ascii_letters, 34),
    "json_web_token": web_token,
    "linear": lambda r: "lin_api_" + draw(r, ALPHANUMERIC, 40),
    "mailchimp": lambda r: draw(r, HEX, 32) + f"-us{r.randint(1, 21)}",
    "mailgun": lambda r: "key-" + draw(r, HEX, 32),
    "new_relic": lambda r: "NRAK-" + draw(r, UPPER, 27),
    "notion": lambda r: "ntn_" + draw(r, string.digits, 11) + draw(r, ALPHANUMERIC, 35),
    "npm": lambda r: "npm_" + with_checksum(r),
    "nvidia": lambda r: "nvapi-" + draw(r, URL_SAFE, 64),
    "openai": lambda r: (
        r.choice(["sk-", "sk-proj-"])
        + draw(r, ALPHANUMERIC, 20)
        + "T3BlbkFJ"
        + draw(r, ALPHANUMERIC, 20)
    ),
    "postman": lambda r: "PMAK-" + draw(r, HEX, 24) + "-" + draw(r, HEX, 34),
    "private_key": private_key,
    "pulumi": lambda r: "pul-" + draw(r, HEX, 40),
    "pypi": pypi,
    "replicate": lambda r: "r8_" + draw(r, ALPHANUMERIC, 37),
    "rubygems": lambda r: "rubygems_" + draw(r, HEX, 48),
    "sendgrid": lambda r: "SG." + draw(r, URL_SAFE, 22) + "." + draw(r, URL_SAFE, 43),
    "sentry": lambda r: "sntrys_" + draw(r, BASE_64, 100) + "_" + draw(r, BASE_64, 43),
    "shopify": lambda r: r.choice(["shpat_", "shpss_", "shpca_"]) + draw(r, HEX, 32),
    "slack": lambda r: (
        r.choice(["xoxb-", "xoxp-"])
        + "-".join(draw(r, string.digits, r.randint(10, 13)) for _ in range(2))
        + "-"
        + draw(r, ALPHANUMERIC, 24)
    ),
    "slack_app": lambda r: (
        f"xapp-1-A{draw(r, UPPER, 10)}-{draw(r, string.digits, 13)}-{draw(r, HEX, 64)}"
    ),
    "slack_webhook": lambda r: (
        f"https://hooks.slack.com/services/T{draw(r, UPPER, 8)}/B{draw(r, UPPER, 10)}/"
        + draw(r, ALPHANUMERIC, 24)
    ),
    "square": lambda r: "sq0csp-" + draw(r, URL_SAFE, 43),
    "stripe": lambda r: (
        r.choice(["sk_live_", "rk_live_", "sk_test_"]) + draw(r, ALPHANUMERIC, r.choice([24, 99]))
    ),
    "stripe_webhook": lambda r: "whsec_" + draw(r, ALPHANUMERIC, 32),
    "supabase": lambda r: "sbp_" + draw(r, HEX, 40),
    "telegram": lambda r: draw(r, "123456789", r.randint(8, 10)) + ":AA" + draw(r, URL_SAFE, 33),
    "terraform": lambda r: draw(r, ALPHANUMERIC, 14) + ".atlasv1." + draw(r, ALPHANUMERIC, 67),
    "twilio": lambda r: r.choice(["SK", "AC"]) + draw(r, HEX, 32),
    "url_password": url_password,
    "vault": lambda r: r.choice(["hvs.", "hvb."]) + draw(r, URL_SAFE, 95),
}

# Without a form of their own: told by how they look or by the name they are given to.
BARE: dict[str, Generator] = {
    "aws_secret_access_key": lambda r: draw(r, BASE_64, 40),
    "github_token": with_checksum,  # the prefix cut off
    "datadog_api_key": lambda r: draw(r, HEX, 32),
    "wandb_api_key": lambda r: draw(r, HEX, 40),
    "okta_api_token": lambda r: "00" + draw(r, URL_SAFE, 40),
    "azure_openai_api_key": lambda r: base64.b64encode(r.randbytes(63)).decode(),
    "heroku_api_key": lambda r: str(uuid.UUID(int=r.getrandbits(128), version=4)),
    "algolia_api_key": lambda r: draw(r, LOWER, 32),
    "session_secret": lambda r: draw(r, ALPHANUMERIC, 32),
}
KINDS: dict[str, Generator] = PREFIXED | BARE


def literal(secret: str) -> str:
    return json.dumps(secret)


def halves(secret: str, rng: random.Random) -> tuple[str, str]:
    cut = rng.randint(2, len(secret) - 2)
    return literal(secret[:cut]), literal(secret[cut:])


def escaped(secret: str) -> str:
    """The literal with its first character and one of every five written as \\xNN."""
    return (
        '"' + "".join(f"\\x{ord(c):02x}" if i % 5 == 0 else c for i, c in enumerate(secret)) + '"'
    )


def code_lines(number: int) -> list[str]:
    return [f"    total_{i} = total_{i // 2} + {i} * x" for i in range(1, number + 1)]


def prose_lines(number: int) -> list[str]:
    return [f"Step {i}: sort the list, then return item {i % 7} of it." for i in range(number)]


def in_the_middle(lines: list[str], line: str) -> str:
    middle = len(lines) // 2
    return "\n".join([*lines[:middle], line, *lines[middle:]])


def _comment(name: str, secret: str, rng: random.Random) -> str:
    return (
        "def f(x):\n" + "".join(f"    # {line}\n" for line in secret.split("\n")) + "    return x\n"
    )


def _joined(name: str, secret: str, rng: random.Random) -> str:
    a, b = halves(secret, rng)
    return f"    y = {a} + {b}\n    return y\n"


def _implicitly_joined(name: str, secret: str, rng: random.Random) -> str:
    a, b = halves(secret, rng)
    return f"y = (\n    {a}\n    {b}\n)\n"


def _joined_in_broken_code(name: str, secret: str, rng: random.Random) -> str:
    a, b = halves(secret, rng)
    return f"def f(x:\n    y = {a} + {b}\n"


def _long_code(name: str, secret: str, rng: random.Random) -> str:
    lines = in_the_middle(code_lines(800), f"    y = {literal(secret)}")
    return f"def f(x, total_0=0):\n{lines}\n    return y\n"


# (name of the variable, secret, generator) -> text.
Carrier = Callable[[str, str, random.Random], str]
CARRIERS: dict[str, Carrier] = {
    "code": lambda n, s, r: f"def f(x):\n    y = {literal(s)}\n    return y\n",
    "function body": lambda n, s, r: f"    if x:\n        return {literal(s)}\n    return None\n",
    "named": lambda n, s, r: f"{n} = {literal(s)}\n",
    "argument": lambda n, s, r: f"client = Client({n}={literal(s)}, retries=3)\n",
    "dict entry": lambda n, s, r: f"    c = {{'host': 'h', '{n}': {literal(s)}}}\n    return c\n",
    "f-string": lambda n, s, r: f"    return f'{{user}} {literal(s)[1:-1]} {{host}}'\n",
    "bytes": lambda n, s, r: f"y = b{literal(s)}\n",
    "triple-quoted": lambda n, s, r: f'y = """\n{s}\n"""\n',
    "joined": _joined,
    "implicitly joined": _implicitly_joined,
    "escaped": lambda n, s, r: f"y = {escaped(s)}\n",
    "comment": _comment,
    "docstring": lambda n, s, r: (
        f'def f(x):\n    """Use {s} here.\n\n    Always.\n    """\n    return x\n'
    ),
    "prose": lambda n, s, r: f"To log in, please use {s} and nothing else.",
    "markdown": lambda n, s, r: f"Do this:\n```python\nlogin({literal(s)})\n```\nThen rest.\n",
    "json": lambda n, s, r: json.dumps({"host": "h", n: s}, indent=1),
    "env file": lambda n, s, r: f"HOST=h\n{n.upper()}={s}\nPORT=1\n",
    "yaml": lambda n, s, r: f"host: h\n{n}: {s}\nport: 1\n",
    "broken code": lambda n, s, r: f"def f(x:\n    y = {literal(s)}\n    return y\n",
    "joined in broken code": _joined_in_broken_code,
}
# At most the 32 KiB of one answer.
LONG_CARRIERS: dict[str, Carrier] = {
    "800 lines of code": _long_code,
    "500 lines of prose": lambda n, s, r: in_the_middle(prose_lines(500), f"The key is {s} today."),
    "7,000 short lines": lambda n, s, r: in_the_middle(["x=1"] * 7000, f"y={literal(s)}"),
}


def corpus(kind: str, carrier: str, number: int) -> list[tuple[str, str]]:
    """Return (secret, text) pairs of a kind in a carrier, always the same ones."""
    rng = random.Random(f"{kind} in {carrier}")
    secrets = [KINDS[kind](rng) for _ in range(number)]
    make = (CARRIERS | LONG_CARRIERS)[carrier]
    name = kind if kind in BARE else "value"
    return [(secret, make(name, secret, rng)) for secret in secrets]


def leaks(guardrail: Guardrail, secret: str, text: str) -> bool:
    """Say whether an answer passes with the secret, or half of it, or unchanged."""
    passed = guardrail.vet([TextItem(task_id="t", completion=text)]).items
    if not passed:
        return False
    left, half = passed[0].completion, len(secret) // 2
    return left == text or secret[:half] in left or secret[half:] in left
