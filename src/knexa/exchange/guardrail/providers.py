"""Credentials by the formats that their providers publish.

Each kind has marker substrings, one of which every match contains: text without them, nearly all of
it, costs only substring searches. Patterns are as narrow as the formats allow, since matches are
blocked.
"""

import re
from collections.abc import Iterator
from zlib import crc32

# (kind, substrings of which one must occur, pattern).
_PROVIDERS: tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...] = tuple(
    (kind, markers, re.compile(pattern))
    for kind, markers, pattern in (
        ("age", ("AGE-SECRET-KEY-",), r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b"),
        ("airtable", ("pat",), r"\bpat[A-Za-z0-9]{14}\.[0-9a-f]{64}\b"),
        ("anthropic", ("sk-ant-",), r"\bsk-ant-[\w-]{20,255}"),
        ("atlassian", ("ATATT3xFfGF0",), r"\bATATT3xFfGF0[\w=-]{40,255}"),
        ("aws", ("AKIA", "ASIA", "ABIA", "ACCA"), r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b"),
        ("azure_secret", ("Q~",), r"(?<![\w.~-])[\w.~-]{3}\dQ~[\w.~-]{31,34}(?![\w.~-])"),
        ("azure_storage", ("AccountKey=",), r"AccountKey=[A-Za-z0-9+/]{86}=="),
        ("basic_auth", ("asic ",), r"\bAuthorization\W{1,8}[Bb]asic [A-Za-z0-9+/]{8,1024}={0,2}"),
        ("bearer", ("earer ",), r"\b[Bb]earer [\w.+/-]{20,}+={0,2}"),
        ("cloudflare", ("v1.0-",), r"\bv1\.0-[0-9a-f]{24}-[0-9a-f]{146}\b"),
        ("databricks", ("dapi",), r"\bdapi[0-9a-f]{32}\b"),
        ("digitalocean", ("_v1_",), r"\bdo[opr]_v1_[0-9a-f]{64}\b"),
        ("discord", (".",), r"\b[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,40}"),
        ("docker", ("dckr_pat_",), r"\bdckr_pat_[\w-]{20,64}"),
        ("doppler", ("dp.",), r"\bdp\.(?:pt|st|ct|sa|scim|audit)\.(?:[\w-]{1,35}\.)?\w{40,44}\b"),
        ("facebook", ("EAA",), r"\bEAA[A-Za-z0-9]{80,255}\b"),
        ("figma", ("figd_",), r"\bfigd_[\w-]{38,64}"),
        ("github", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b"),
        ("github_fine_grained", ("github_pat_",), r"\bgithub_pat_[A-Za-z0-9_]{22,255}\b"),
        (
            "gitlab",
            ("pat-", "gldt-", "glft-", "glsoat-", "glrt-", "glcbt-", "glimt-", "glptt-", "agent-"),
            r"\bgl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent)-[\w-]{20,64}",
        ),
        ("google_api", ("AIza",), r"\bAIza[\w-]{35}"),
        ("google_oauth", ("ya29.",), r"\bya29\.[\w-]{20,255}"),
        ("google_secret", ("GOCSPX-",), r"\bGOCSPX-[\w-]{28}"),
        (
            "grafana",
            ("glsa_", "glc_"),
            r"\b(?:glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}\b|glc_[\w+/=]{32,400})",
        ),
        ("groq", ("gsk_",), r"\bgsk_[A-Za-z0-9]{48,64}\b"),
        ("heroku", ("HRKU-",), r"\bHRKU-[\w-]{36,64}"),
        ("hugging_face", ("hf_",), r"\bhf_[A-Za-z0-9]{30,64}\b"),
        ("json_web_token", (".eyJ",), r"\.eyJ[\w-]{10,}+\.[\w-]{10,}+"),
        ("linear", ("lin_",), r"\blin_(?:api|oauth)_[A-Za-z0-9]{32,64}\b"),
        ("mailchimp", ("-us",), r"\b[0-9a-f]{32}-us\d{1,2}\b"),
        ("mailgun", ("key-",), r"\bkey-[0-9a-f]{32}\b"),
        ("new_relic", ("NRAK-",), r"\bNRAK-[A-Z0-9]{27}\b"),
        ("notion", ("ntn_", "secret_"), r"\b(?:ntn_[A-Za-z0-9]{40,50}|secret_[A-Za-z0-9]{43})\b"),
        ("npm", ("npm_",), r"\bnpm_[A-Za-z0-9]{36}\b"),
        ("nvidia", ("nvapi-",), r"\bnvapi-[\w-]{60,70}"),
        ("openai", ("sk-",), r"\bsk-[\w-]{20,}+"),
        ("postman", ("PMAK-",), r"\bPMAK-[0-9a-f]{24}-[0-9a-f]{34}\b"),
        ("pulumi", ("pul-",), r"\bpul-[0-9a-f]{40}\b"),
        ("pypi", ("pypi-",), r"\bpypi-[\w-]{50,255}"),
        ("replicate", ("r8_",), r"\br8_[A-Za-z0-9]{37}\b"),
        ("rubygems", ("rubygems_",), r"\brubygems_[0-9a-f]{48}\b"),
        ("sendgrid", ("SG.",), r"\bSG\.[\w-]{22}\.[\w-]{43}"),
        ("sentry", ("sntry",), r"\bsntry(?:s_[\w+/=-]{60,400}|u_[0-9a-f]{64}\b)"),
        ("shopify", ("shp",), r"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}\b"),
        ("slack", ("xox",), r"\bxox[abeoprs]-[A-Za-z0-9-]{10,255}"),
        ("slack_app", ("xapp-",), r"\bxapp-\d-[A-Z0-9]{8,16}-\d{10,16}-[0-9a-f]{32,64}\b"),
        (
            "slack_webhook",
            ("hooks.slack.com",),
            r"hooks\.slack\.com/services/T\w{1,20}/B\w{1,20}/\w{20,64}",
        ),
        ("square", ("sq0",), r"\bsq0[a-z]{3}-[\w-]{22,43}"),
        ("stripe", ("k_live_", "k_test_"), r"\b[srp]k_(?:live|test)_[A-Za-z0-9]{16,255}\b"),
        ("stripe_webhook", ("whsec_",), r"\bwhsec_[A-Za-z0-9+/]{32,64}"),
        ("supabase", ("sbp_",), r"\bsbp_[0-9a-f]{40}\b"),
        ("telegram", (":AA",), r"\b\d{8,10}:AA[\w-]{33}"),
        ("terraform", (".atlasv1.",), r"\b[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,70}"),
        ("twilio", ("SK", "AC"), r"\b(?:SK|AC)[0-9a-f]{32}\b"),
        ("url_password", ("://",), r"\b\w{2,16}://[^\s:@/'\"]{0,64}:[^\s:@/'\"{}]{3,64}@[\w.-]+"),
        ("vault", ("hvs.", "hvb.", "hvr."), r"\bhv[sbr]\.[\w-]{20,255}"),
    )
)
_MARKED = tuple((marker, kind, pattern) for kind, marks, pattern in _PROVIDERS for marker in marks)
# Those that words do not hold, as "pattern" holds Airtable's.
_TELLING_MARKERS = tuple(marker for marker, _, _ in _MARKED if len(marker) > 2 and marker != "pat")
PROVIDER_KINDS: tuple[str, ...] = tuple(kind for kind, _, _ in _PROVIDERS)
"""The kinds of credentials that are recognised by their format."""

# Otherwise words with hyphens would do.
_WITH_DIGITS = frozenset({"bearer", "openai"})
_DIGIT = re.compile(r"\d")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?s:.*?)"
    r"(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)"
)
_CHECKSUMMED = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]{36}(?![A-Za-z0-9])")
_BASE_62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def provider_keys(text: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, key) of the credentials in a text."""
    for marker, kind, pattern in _MARKED:
        if marker in text:
            for match in pattern.finditer(text):
                if kind not in _WITH_DIGITS or _DIGIT.search(match[0]):
                    yield kind, match[0]


def has_marker(text: str) -> bool:
    """Return whether the start of some provider's credentials occurs, whatever follows it."""
    return any(marker in text for marker in _TELLING_MARKERS)


def checksummed(text: str) -> Iterator[str]:
    """Yield tokens that end in their own checksum, like GitHub's and npm's without their prefix.

    They are 30 characters and their CRC-32 in 6 digits of base 62; a chance match has probability
    1 / (4 * 10^9).
    """
    for match in _CHECKSUMMED.finditer(text):
        value, digits = crc32(match[0][:30].encode()), []
        for _ in range(6):
            value, digit = divmod(value, 62)
            digits.append(_BASE_62[digit])
        if match[0][30:] == "".join(reversed(digits)):
            yield match[0]


def private_keys(text: str) -> Iterator[str]:
    """Yield private key blocks, to their end marker or the end of the text."""
    if "PRIVATE KEY" in text:
        for match in _PRIVATE_KEY.finditer(text):
            yield match[0]
