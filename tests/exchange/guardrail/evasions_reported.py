"""The corpus whose totals docs/security.md reports. It tunes nothing.

It was written before the rules that it judges, of other secrets, carriers, spellings and languages
than ``evasions_tuned.py``. Whoever changes a rule looks at the totals by group and at no case.
"""

import base64
import random
import string
import uuid

from tests.exchange.guardrail.credential_corpus import ALPHANUMERIC, HEX, LOWER, URL_SAFE, draw
from tests.exchange.guardrail.evasions import Corpus, Generator

_WORDS = ("tulip", "harbor", "copper", "meadow", "falcon", "winter", "pepper", "saddle", "orbit")


def _phrase(rng: random.Random) -> str:
    """A password as people make them: words, a sign, a number."""
    one, two = rng.sample(_WORDS, 2)
    return f"{one.title()}{rng.choice('!#%*')}{two}{rng.randint(10, 999)}"


def _leet(rng: random.Random) -> str:
    one, two = rng.sample(_WORDS, 2)
    return f"{one}_{two}".translate(str.maketrans("aeo", "430")) + str(rng.randint(1, 99))


def _card(rng: random.Random, prefix: str, length: int, groups: tuple[int, ...]) -> str:
    body = prefix + draw(rng, string.digits, length - len(prefix) - 1)
    total = sum(sum(divmod(int(c) * (2 - i % 2), 10)) for i, c in enumerate(reversed(body)))
    number, shown = body + str(-total % 10), []
    for size in groups:
        shown.append(number[:size])
        number = number[size:]
    return " ".join(shown)


def _iban(rng: random.Random, country: str, length: int) -> str:
    account = draw(rng, string.digits, length)
    value = int("".join(str(int(c, 36)) for c in f"{account}{country}00"))
    number = f"{country}{98 - value % 97:02d}{account}"
    return " ".join(number[i : i + 4] for i in range(0, len(number), 4))


def _dni(rng: random.Random) -> str:
    value = rng.randrange(10**7, 10**8)
    return f"{value}{'TRWAGMYFPDXBNJZSQVHLCKE'[value % 23]}"


GENERATORS: dict[str, Generator] = {
    "phrase": _phrase,
    "leet": _leet,
    "hex_token": lambda r: draw(r, HEX, 40),
    "base_64": lambda r: base64.b64encode(r.randbytes(33)).decode(),
    "uuid": lambda r: str(uuid.UUID(int=r.getrandbits(128), version=4)),
    "short_token": lambda r: draw(r, LOWER, 18) + "7Q",
    "stripe": lambda r: "sk_" + "live_" + draw(r, ALPHANUMERIC, 24),
    "slack": lambda r: (
        ("xoxb-" + draw(r, string.digits, 11) + "-" + draw(r, string.digits, 12) + "-")
        + draw(r, ALPHANUMERIC, 24)
    ),
    "sendgrid": lambda r: "SG." + draw(r, URL_SAFE, 22) + "." + draw(r, URL_SAFE, 43),
    "google": lambda r: "AIza" + draw(r, URL_SAFE, 35),
    "npm": lambda r: "npm_" + draw(r, ALPHANUMERIC, 36),
    "hugging_face": lambda r: "hf_" + draw(r, string.ascii_letters, 34),
    "digitalocean": lambda r: "dop_v1_" + draw(r, HEX, 64),
    "visa": lambda r: _card(r, "4", 16, (4, 4, 4, 4)),
    "mastercard": lambda r: _card(r, "53", 16, (4, 4, 4, 4)),
    "amex": lambda r: _card(r, "37", 15, (4, 6, 5)),
    "discover": lambda r: _card(r, "6011", 16, (4, 4, 4, 4)),
    "dutch_iban": lambda r: _iban(r, "NL", 14),
    "spanish_iban": lambda r: _iban(r, "ES", 20),
    "belgian_iban": lambda r: _iban(r, "BE", 12),
    "polish_iban": lambda r: _iban(r, "PL", 24),
    "mail": lambda r: f"{r.choice(_WORDS)}.{r.choice(_WORDS)}{r.randint(1, 99)}@" + "orbitmail.net",
    "greek_mail": lambda r: (
        f"{r.choice(_WORDS)}{r.randint(1, 99)}@" + "\u03b1\u03b8\u03ae\u03bd\u03b1.gr"
    ),
    "umlaut_mail": lambda r: f"j\u00f6rg.{r.choice(_WORDS)}@" + "gr\u00fcnwald-bank.de",
    "dutch_phone": lambda r: (
        f"+31 6 {r.randint(10, 99)} {r.randint(10, 99)} {r.randint(1000, 9999)}"
    ),
    "us_phone": lambda r: f"({r.randint(210, 989)}) {r.randint(220, 989)}-{r.randint(1000, 9999)}",
    "dni": _dni,
    "ssn": lambda r: f"{r.randint(100, 660)}-{r.randint(10, 99)}-{r.randint(1000, 9999)}",
}

CREDENTIALS: Corpus = {
    "unicode": (
        ("stripe", "key = '[[s:zero_width]]'\n"),
        ("slack", "    # use [[s:soft_hyphen]] to post\n    return 1\n"),
        ("google", "MAPS = '[[s:monospace]]'\n"),
        ("npm", "The registry wants [[s:joiner]] from you."),
        ("hugging_face", "tok = '[[s:variation]]'\n"),
        ("phrase", "password = '[[s:bold]]'\n"),
        ("phrase", "pass\u200bword: [[s]]\n"),
        ("phrase", "db_p\u00adassword = '[[s]]'\n"),
        ("hex_token", "session_\uff53ecret = '[[s]]'\n"),
        ("phrase", "password\u00a0=\u00a0'[[s]]'\n"),
        ("digitalocean", "x = '[[s:bold]]'\n"),
        ("sendgrid", '    """Mail goes out with [[s:wide]] here."""\n    return 2\n'),
        ("phrase", "api_key\u3000=\u3000[[s]]\n"),
        ("uuid", "access_token = '[[s:zero_width]]'\n"),
    ),
    "assignment": (
        ("phrase", "secret = ''\nsecret += '[[s]]'\n"),
        ("leet", "passwd = str('[[s]]')\n"),
        ("phrase", "token = bytes('[[s]]', 'ascii')\n"),
        ("phrase", "host, (user, password) = 'h', ('u', '[[s]]')\n"),
        ("leet", "[login, passphrase] = ['me', '[[s]]']\n"),
        ("phrase", "passwords = ['[[s]]', 'x']\n"),
        ("phrase", "credentials = ('admin', '[[s]]')\n"),
        ("phrase", "api_key = (lambda: '[[s]]')()\n"),
        ("leet", "get_secret = lambda name, default='x': '[[s]]'\n"),
        ("phrase", "def fetch_password():\n    return '[[s]]'\n"),
        ("phrase", "class Vault:\n    def token(self):\n        yield '[[s]]'\n"),
        ("phrase", "    match password:\n        case '[[s]]':\n            return True\n"),
        ("leet", "    match given:\n        case {'token': '[[s]]'}:\n            return 1\n"),
        ("phrase", "    if '[[s]]' == password:\n        return True\n"),
        ("phrase", "    return hmac.compare_digest(password, '[[s]]')\n"),
        ("phrase", "    if password in ('a', '[[s]]'):\n        return 1\n"),
        ("phrase", "passwords = {'[[s]]'}\n"),
        ("leet", "secrets = {'db': '[[s]]'}\n"),
        ("phrase", "config.update(password='[[s]]')\n"),
        ("phrase", "config.setdefault('password', '[[s]]')\n"),
        ("phrase", "for password in ['[[s]]']:\n    try_it(password)\n"),
        ("phrase", "with connect(pw := '[[s]]') as password:\n    pass\n"),
        ("phrase", "PASSWORD: Final = '[[s]]'.strip()\n"),
        ("leet", "password = ''.join(['[[s]]'])\n"),
        ("phrase", "password = {'value': '[[s]]'}['value']\n"),
        ("phrase", "password = SecretStr('[[s]]')\n"),
        ("leet", "password = '[[s]]'[:]\n"),
        ("phrase", "*rest, password = 'a', 'b', '[[s]]'\n"),
        ("phrase", "def login(user, *, passphrase: str = '[[s]]'):\n    return user\n"),
        ("phrase", "    client.set_password('[[s]]')\n"),
    ),
    "languages": (
        ("phrase", "wachtwoord = '[[s]]'\n"),
        ("leet", "l\u00f6senord = '[[s]]'\n"),
        ("phrase", "has\u0142o = '[[s]]'\n"),
        ("phrase", "haslo_bazy = '[[s]]'\n"),
        ("phrase", "sifre = '[[s]]'\n"),
        ("phrase", "heslo: '[[s]]'\n"),
        ("leet", "salasana = '[[s]]'\n"),
        ("phrase", "\u30d1\u30b9\u30ef\u30fc\u30c9 = '[[s]]'\n"),
        ("phrase", "\u5bc6\u78bc\uff1a[[s]]\n"),
        ("phrase", "parola_chiave = '[[s]]'\n"),
        ("phrase", "jelsz\u00f3 = '[[s]]'\n"),
        ("leet", "adgangskode = '[[s]]'\n"),
        ("phrase", "\u03ba\u03c9\u03b4\u03b9\u03ba\u03cc\u03c2 = '[[s]]'\n"),
        ("phrase", "config = {'clave_secreta': '[[s]]'}\n"),
    ),
    "configuration": (
        ("phrase", "dsn = 'Server=db1;Database=crm;Uid=sa;Pwd=[[s]];'\n"),
        ("leet", "conn = 'host=db port=5432 user=etl password=[[s]] sslmode=require'\n"),
        ("phrase", "machine ftp.corp.net login etl password [[s]]\n"),
        ("leet", "default\n  login bob\n  password [[s]]\n"),
        ("phrase", "wget --user=bob --password=[[s]] https://h.net/x\n"),
        ("phrase", "curl --user bob:[[s]] https://h.net/x\n"),
        ("leet", "    os.system('curl -u bob:[[s]] https://h.net')\n"),
        ("phrase", "sshpass -p [[s]] ssh bob@h\n"),
        ("phrase", "mysql -u root -p[[s]] crm\n"),
        ("phrase", "PGPASSWORD=[[s]] psql -h db crm\n"),
        ("leet", "spring.datasource.password=[[s]]\n"),
        ("phrase", "services:\n  db:\n    environment:\n      - POSTGRES_PASSWORD=[[s]]\n"),
        ("phrase", "smtp:\n  user: bob\n  password: [[s]]\n  port: 25\n"),
        ("phrase", "ENV ADMIN_TOKEN [[s]]\n"),
        ("phrase", "<add key='x' password=\"[[s]]\" />\n"),
        ("leet", "<password>[[s]]</password>\n"),
        ("phrase", "docker run -e MYSQL_ROOT_PASSWORD=[[s]] mysql\n"),
        ("uuid", "curl -H 'X-Api-Key: [[s]]' https://h.net\n"),
        ("phrase", "redis-cli -a [[s]] ping\n"),
        ("phrase", "requests.get(url, auth=('bob', '[[s]]'))\n"),
        ("phrase", "export SECRET_KEY='[[s]]'\n"),
        ("leet", "set password=[[s]]\n"),
        ("phrase", "net use z: \\\\h\\d /user:bob [[s]]\n"),
        ("phrase", '$password = "[[s]]";\n'),
        ("phrase", "password => '[[s]]',\n"),
        ("phrase", "The password of the wiki is [[s]] until May.\n"),
        ("phrase", "    # login: bob / password: [[s]]\n    return 0\n"),
        ("leet", "[client]\nuser = bob\npassword = [[s]]\n"),
    ),
    "split": (
        ("slack", "t = '[[a]]%s' % '[[b]]'\n"),
        ("stripe", "t = '{}{}'.format('[[a]]', '[[b]]')\n"),
        ("google", "t = ''.join(('[[a]]', '[[b]]'))\n"),
        ("npm", "a = '[[a]]'\nb = '[[b]]'\nt = a + b\n"),
        ("sendgrid", "t = '[[a]]'\nt += '[[b]]'\n"),
        ("digitalocean", "    # [[a]]\n    # [[b]]\n    return 1\n"),
        ("slack", "The token is [[a]]-\n[[b]] as told.\n"),
        ("stripe", "t = f\"{'[[a]]'}{'[[b]]'}\"\n"),
        ("hugging_face", "t = '[[s:backslash_lines]]'\n"),
        ("npm", "parts = ['[[a]]', '[[b]]']\nt = ''.join(parts)\n"),
        ("google", "t = '%s%s' % ('[[a]]', '[[b]]')\n"),
        ("stripe", "t = ''.join(([[s:list]]))\n"),
        ("slack", "t = 'X[[b]]'.replace('X', '[[a]]')\n"),
        ("phrase", "password = '[[a]]' + '[[b]]'\n"),
        ("phrase", "password = '[[a]]'\npassword += '[[b]]'\n"),
        ("hex_token", "k = ('[[a]]'\n     '[[b]]')\n"),
        ("base_64", "print('[[a]]', '[[b]]', sep='')\n"),
        ("sendgrid", "t = str.join('', ['[[a]]', '[[b]]'])\n"),
        ("stripe", "class K:\n    a = '[[a]]'\n    b = '[[b]]'\n    t = a + b\n"),
        ("google", "t = (b'[[a]]' + b'[[b]]').decode()\n"),
    ),
    "escapes": (
        ("stripe", "t = '[[s:octal]]'\n"),
        ("npm", "t = '[[s:unicode]]'\n"),
        ("slack", "t = b'[[s:hex]]'\n"),
        ("hugging_face", "t = '[[s:names]]'\n"),
        ("phrase", "password = '[[s:hex]]'\n"),
    ),
}

PERSONAL: Corpus = {
    "cards": (
        ("visa", "card = '[[s:dashes]]'\n"),
        ("mastercard", "    # paid with [[s:dots]]\n    return 1\n"),
        ("amex", "card = '[[s]]'\n"),
        ("amex", "card = '[[s:dashes]]'\n"),
        ("discover", "card = '[[s:no_break]]'\n"),
        ("visa", "card = '[[s:narrow]]'\n"),
        ("visa", "card = '[[s:eights]]'\n"),
        ("mastercard", "card = '[[s:double_space]]'\n"),
        ("visa", "card = '[[s:wide]]'\n"),
        ("visa", "card = [[s:plain]]\n"),
        ("discover", "card = [[s:underscores]]\n"),
        ("mastercard", "card = '[[a]]' + '[[b]]'\n"),
        ("visa", "card = '[[s:zero_width]]'\n"),
        ("visa", "card = '[[s:arabic]]'\n"),
        ("mastercard", "pay('[[s:pairs]]')\n"),
    ),
    "accounts": (
        ("dutch_iban", "to = '[[s:lower]]'\n"),
        ("spanish_iban", "to = '[[s:dashes]]'\n"),
        ("belgian_iban", "    # to [[s:no_break]]\n    return 1\n"),
        ("polish_iban", "to = '[[s:threes]]'\n"),
        ("dutch_iban", "to = '[[s:lower_dashes]]'\n"),
        ("spanish_iban", "to = '[[s:dots]]'\n"),
        ("belgian_iban", "to = '[[a]]' + '[[b]]'\n"),
        ("polish_iban", "Please pay to IBAN:[[s]] today."),
        ("dutch_iban", "to = '[[s:zero_width]]'\n"),
        ("spanish_iban", "to = '[[s:wide]]'\n"),
    ),
    "mail": (
        ("mail", "to = '[[s:wide]]'\n"),
        ("mail", "    # ask [[s:zero_width]]\n    return 1\n"),
        ("greek_mail", "to = '[[s]]'\n"),
        ("umlaut_mail", "Write to [[s]] please."),
        ("umlaut_mail", "to = ['[[s]]']\n"),
        ("mail", "to = '[[a]]' + '[[b]]'\n"),
        ("mail", "to = '%s%s' % ('[[a]]', '[[b]]')\n"),
        ("mail", "link = 'mailto:[[s]]?subject=x'\n"),
        ("mail", "to = 'Bob <[[s]]>'\n"),
        ("mail", "to = '[[s:hex]]'\n"),
    ),
    "phones": (
        ("dutch_phone", "tel = '[[s:no_break]]'\n"),
        ("dutch_phone", "tel = '[[s:dots]]'\n"),
        ("us_phone", "tel = '[[s:narrow]]'\n"),
        ("dutch_phone", "tel = '[[s:wide]]'\n"),
        ("dutch_phone", "    # call [[s:en_dash]]\n    return 1\n"),
        ("us_phone", "Call [[s]] now."),
        ("dutch_phone", "tel = '[[a]]' '[[b]]'\n"),
    ),
    "national ids": (
        ("dni", "who = '[[s:lower]]'\n"),
        ("dni", "who = '[[s:wide]]'\n"),
        ("ssn", "who = '[[s:zero_width]]'\n"),
        ("ssn", "who = '[[a]]' + '[[b]]'\n"),
        ("dni", "    # is [[s]]\n    return 1\n"),
        ("ssn", "She is [[s]], he is not."),
    ),
}

HARMLESS: Corpus = {
    "named constants": (
        ("hex_token", "GIT_COMMIT = '[[s]]'\n"),
        ("hex_token", "expected_sha1 = '[[s]]'\n"),
        ("hex_token", "    assert sha1(b'abc').hexdigest() == '[[s]]'\n"),
        ("hex_token", "checksums = {'a.tar.gz': '[[s]]'}\n"),
        ("hex_token", "    # the digest of the empty text is [[s]]\n    return h\n"),
        ("uuid", "NAMESPACE_DNS = uuid.UUID('[[s]]')\n"),
        ("uuid", "guid = '[[s]]'\n"),
        ("uuid", "request_id = '[[s]]'\n"),
        ("uuid", "    # e.g. UUID [[s]]\n    return u\n"),
        ("base_64", "TEST_VECTOR = '[[s]]'\n"),
        ("base_64", "test_vectors = [('abc', '[[s]]')]\n"),
        ("base_64", "expected_digest = '[[s]]'\n"),
        ("base_64", "INTEGRITY = 'sha256-[[s]]'\n"),
        ("hex_token", "def test_vector():\n    return '[[s]]'\n"),
        ("hex_token", "fingerprint: '[[s]]'\n"),
        ("hex_token", "ETAG = '[[s]]'\n"),
        ("hex_token", "md5sum = '[[s]]'[:32]\n"),
        ("uuid", "ids = {'uuid': '[[s]]'}\n"),
        ("uuid", "device(uuid='[[s]]')\n"),
        ("hex_token", "hashlib_cases = dict(sha1='[[s]]')\n"),
    ),
    "names that are no secrets": (
        ("", "password_length = 'at least 8'\n"),
        ("", "password_pattern = r'^(?=.*[A-Z])(?=.*\\d).{8,}$'\n"),
        ("", "token_types = ['NUMBER', 'PLUS_SIGN', 'LPAREN']\n"),
        ("", "token_re = r'[A-Za-z_][A-Za-z0-9_]*'\n"),
        ("", "key = 'max_length_2'\n"),
        ("", "sort_key = lambda row: row['name_1']\n"),
        ("", "primary_key = 'user_id_2'\n"),
        ("", "public_key = 'n=3233,e=17'\n"),
        ("", "keyboard = 'qwertyuiop1234567890'\n"),
        ("", "passage = 'Chapter-12: the sea'\n"),
        ("", "compass = {'N': 'north-0', 'E': 'east-90'}\n"),
        ("", "secretary = 'Ms. Jones-2'\n"),
        ("", "tokens = ['a1', 'b2', 'c3']\n"),
        ("", "passing_grade = 'C-minus-70'\n"),
        ("", "token = tokens[0] + '_1'\n"),
        ("", "def is_valid_password(p):\n    return len(p) > 7 and p != 'password'\n"),
        ("", "password = input('Password (8+ chars): ')\n"),
        ("", "password = os.environ['DB_PASSWORD_1']\n"),
        ("", "password = getpass('Enter-your-password-2: ')\n"),
        ("", "parola = 'abracadabra'\n"),
        ("", "clave = 'sol_mayor'\n"),
        ("", "heslo = 'slovo'\n"),
        ("", "secret_message = 'meet me at 10, by the oak'\n"),
        ("", "secret_number = 1234567\n"),
        ("", "caesar_key = 3\n"),
        ("", "token_count = Counter('a-b-c-1'.split('-'))\n"),
        ("", "API_KEY = '{{ api_key_1 }}'\n"),
        ("", "api_key = '$API_KEY_1'\n"),
        ("", "password = '********'\n"),
        ("", "    raise ValueError('Password must have 8-64 characters')\n"),
    ),
    "numbers": (
        ("", "    return 4532015112830366 // 3\n"),
        ("", "fibs = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233]\n"),
        ("", "primes = '2 3 5 7 11 13 17 19 23 29 31 37 41 43 47'\n"),
        ("", "pi = '3.14159265358979323846264338327950288'\n"),
        ("", "MOD = 1_000_000_007\n"),
        ("", "    # ISBN 978-3-16-148410-0\n    return ok\n"),
        ("", "date = '2024-01-31 12:30:45'\n"),
        ("", "when = '20240131123045'\n"),
        ("", "version = '1.2.3.4'\n"),
        ("", "x = 0x1234_5678_9abc_def0\n"),
        ("", "ranges = '100-200-3000'\n"),
        ("", "matrix = '1 2 3 4\\n5 6 7 8\\n9 0 1 2\\n3 4 5 6'\n"),
        ("", "mask = '1111 0000 1111 0000'\n"),
        ("", "coords = '51.5074, -0.1278'\n"),
        ("", "ean = '4006381333931'\n"),
        ("", "time = '12:34:56.789012'\n"),
        ("", "    return [int(d) for d in '73167176531330624919225119674426']\n"),
        ("", "board = '53..7....6..195....98....6.8...6...34..8.3..17...2...6'\n"),
        ("", "roman = {'MMXXIV': 2024, 'MCMXCIX': 1999}\n"),
        ("", "assert add('123456789', '987654321') == '1111111110'\n"),
    ),
    "text": (
        ("", "ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'\n"),
        ("", "HEX_DIGITS = '0123456789abcdefABCDEF'\n"),
        ("", "BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'\n"),
        ("", "dna = 'ATGCGTACGTTAGCATCGATCGGATTACA'\n"),
        ("", "url = 'https://docs.python.org/3/library/re.html#re.compile'\n"),
        ("", "path = '/usr/lib/python3.11/site-packages/numpy/core/_methods.py'\n"),
        ("", "fmt = '%Y-%m-%dT%H:%M:%S.%f%z'\n"),
        ("", "regex = r'(?:[a-z0-9!#$%&]+)@(?:[a-z0-9]+)'\n"),
        ("", "    # from pkg.mod1.sub2 import TheClass3 as OtherClass4\n    return 1\n"),
        ("", "css = 'color:#ff00aa;background:#00ff11;margin:0 2px'\n"),
        ("", "moves = 'e4 e5 Nf3 Nc6 Bb5 a6 Ba4 Nf6 O-O Be7'\n"),
        ("", "fen = 'rnbqkbnr/pppppppp/8/8/4P3/8/PPPP1PPP/RNBQKBNR b KQkq e3 0 1'\n"),
        ("", "s = 'the quick brown fox jumps over 13 lazy dogs'\n"),
        ("", "words = ''.join(['foo', 'bar', 'Baz1'])\n"),
        ("", "label = '{}-{}'.format('step', 12)\n"),
        ("", "text = 'caf\u00e9 na\u00efve \u4f60\u597d \u041f\u0440\u0438\u0432\u0435\u0442'\n"),
        ("", "flag = '\U0001f469\u200d\U0001f469\u200d\U0001f467'\n"),
        ("", "half = '\u00bd \u00b2 \ufb01ne \u2460'\n"),
        ("", "persian = '\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645'\n"),
        ("", "price = '1\u00a0234\u00a0567,89'\n"),
        ("", "    @property\n    def name(self):\n        return self._name\n"),
        ("", "handle = '@python and @numpy_dev'\n"),
        ("", "mail = 'user@localhost'\n"),
        ("", "    return is_email('a@b') and not is_email('a@@b.c')\n"),
        ("", "curl_help = 'curl -u user:password URL'\n"),
        ("", "usage = 'prog --password PASSWORD --user USER'\n"),
        ("", "xml = '<token>identifier</token>'\n"),
        ("", "    match token:\n        case 'IDENT_1':\n            return 1\n"),
        ("", "def get_token():\n    return 'LEFT_PAREN_1'\n"),
        ("", "def password_strength(p):\n    return 'strong-1' if len(p) > 9 else 'weak-0'\n"),
    ),
}
