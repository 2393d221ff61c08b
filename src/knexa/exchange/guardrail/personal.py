"""Personal data that is recognised by its format: addresses, cards, accounts and national ids.

Checksums are checked, so that few other numbers are taken for ids: of random numbers of the right
length one passes in 10 (Luhn, Verhoeff), 23 (DNI), 26 (codice fiscale), 97 (NIR, IBAN) or 100
(CPF). Not covered: names, street addresses, dates of birth, and ids of other countries.
"""

import ipaddress
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_Valid = Callable[[str], bool | str | None]


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of personal data: its pattern, and what of a match is valid, if anything."""

    rule: str
    kind: str
    pattern: re.Pattern[str]
    valid: _Valid = bool

    def find(self, text: str) -> Iterator[str]:
        """Yield the matches in a text."""
        for match in self.pattern.finditer(text):
            valid = self.valid(match[0])
            if valid:
                yield valid if isinstance(valid, str) else match[0]


def _digits(number: str) -> list[int]:
    return [int(character) for character in number if character.isdecimal()]


# Cards and accounts

_CARD_ISSUERS = (  # the first digits and the lengths
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|2(?:2[2-9]|[3-6]|7[01]|720)"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"3(?:0[0-5]|6|8)"), (14,)),
    (re.compile(r"6011|64[4-9]|65|35[2-8]"), (16, 19)),
)


def luhn(number: str) -> bool:
    """Check a card number's issuer, length and last digit (ISO/IEC 7812)."""
    digits = _digits(number)
    plain = "".join(map(str, digits))
    if len(set(digits)) < 2 or not any(
        issuer.match(plain) and len(plain) in lengths for issuer, lengths in _CARD_ISSUERS
    ):
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


# ISO 13616: the length of an account number by country.
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}


def iban(match: str) -> str | None:
    """Return the account number that a match begins with, None where it begins with none.

    The country says how long it is, and the rearranged number is 1 modulo 97 (ISO 13616).
    """
    places = [place for place, character in enumerate(match) if character.isalnum()]
    length = _IBAN_LENGTHS.get(match[:2].upper(), len(match) + 1)
    if len(places) < length or (len(places) > length and places[length] == places[length - 1] + 1):
        return None
    number = match[: places[length - 1] + 1]
    plain = "".join(character for character in number if character.isalnum())
    if (
        not plain.isascii()
        or int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 != 1
    ):
        return None
    # Half of every account number is digits; a sentence that begins like one is letters.
    return number if sum(c.isdigit() for c in plain) >= length / 2 else None


# Internet addresses

# RFC 2606 and 6761: names reserved for examples and tests.
_RESERVED_HOST = re.compile(r"(?i)[@.](?:example(?:\.\w+)?|[\w.-]+\.(?:test|invalid|localhost))$")
_LOCAL_IPV4 = re.compile(r"0\.|10\.|127\.|169\.254\.|172\.(?:1[6-9]|2\d|3[01])\.|192\.168\.|255\.")
_GLOBAL_IPV6 = re.compile(r"[23][0-9A-Fa-f]{3}:")


def _public_ipv6(address: str) -> bool:
    try:
        return bool(_GLOBAL_IPV6.match(address)) and ipaddress.IPv6Address(address).is_global
    except ValueError:
        return False


# National ids


def _ssn(number: str) -> bool:
    """Check that the US Social Security Administration may issue it; there is no checksum."""
    area, group, serial = number.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _nir(number: str) -> bool:
    """Check a French NIR: 97 less the remainder of the number, Corsica's letters as 19 and 18."""
    plain = re.sub(r"\W", "", number).upper().replace("2A", "19").replace("2B", "18")
    return int(plain[13:]) == 97 - int(plain[:13]) % 97


def _dni(number: str) -> bool:
    """Check a Spanish DNI or NIE: a letter for the remainder by 23."""
    plain = number.replace("-", "").upper()
    value = int(plain[:-1].translate(str.maketrans("XYZ", "012")))
    return plain[-1] == "TRWAGMYFPDXBNJZSQVHLCKE"[value % 23] and len(set(plain[:-1])) > 1


_ODD_DIGITS = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)
_ODD_LETTERS = (*_ODD_DIGITS, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_ODD_PLACES = dict(
    zip("0123456789" + string.ascii_uppercase, (*_ODD_DIGITS, *_ODD_LETTERS), strict=True)
)


def _codice_fiscale(code: str) -> bool:
    """Check the last letter of an Italian codice fiscale."""
    code = "".join(str(int(c)) if c.isdecimal() else c for c in code)  # digits of any script
    code = code.upper()
    total = sum(_ODD_PLACES[c] for c in code[0:15:2])
    total += sum(int(c) if c.isdigit() else ord(c) - ord("A") for c in code[1:15:2])
    return code[15] == chr(ord("A") + total % 26)


def _cpf(number: str) -> bool:
    """Check both check digits of a Brazilian CPF."""
    digits = _digits(number)
    for place in (9, 10):
        total = sum(d * (place + 1 - i) for i, d in enumerate(digits[:place]))
        if digits[place] != total * 10 % 11 % 10:
            return False
    return len(set(digits)) > 1


_VERHOEFF_STEP = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _dihedral(a: int, b: int) -> int:
    """Multiply in the dihedral group of order 10, as Verhoeff's checksum does."""
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
    return 5 + (a - b) % 5 if b < 5 else (a - b) % 5


def _verhoeff(number: str) -> bool:
    """Check an Aadhaar number's last digit."""
    check = 0
    for place, digit in enumerate(reversed(_digits(number))):
        for _ in range(place % 8):
            digit = _VERHOEFF_STEP[digit]
        check = _dihedral(check, digit)
    return check == 0


def _nino(number: str) -> bool:
    """Check that British National Insurance may issue the prefix; there is no checksum."""
    return number[:2].upper() not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


_SIGN = r"[ ./_-]"
ANYWHERE: tuple[Shape, ...] = (
    Shape(
        "card",
        "card",
        re.compile(
            # In fours, also beside other numbers; or groups of any length that stand alone.
            r"(?<![\w.-])(?:[2-6]\d{3}[ -]?\d{4}[ -]?\d{4}[ -]?\d{3,4}|3\d{14})(?![\w.-])"
            rf"|(?<!\w)(?<!\d{_SIGN})(?:\d{{13,19}}|\d{{2,8}}({_SIGN}{{1,2}})\d{{2,8}}(?:\1\d{{1,8}}){{0,8}})"
            rf"(?!\w)(?!{_SIGN}{{1,2}}\d)"
        ),
        luhn,
    ),
    Shape(
        "iban",
        "iban",
        re.compile(
            rf"(?<![^\W_])[A-Za-z]{{2}}{_SIGN}?\d(?:{_SIGN}{{0,2}}\d)"
            rf"(?:{_SIGN}{{0,2}}[A-Za-z0-9]){{11,30}}"
        ),
        iban,
    ),
)
"""Looked for in the whole text, arithmetic included."""

EMAIL = Shape(
    "email",
    "email",
    re.compile(
        r"(?<![\w.+-])[^\W_][\w.+-]{0,63}@(?:[^\W_](?:[\w-]{0,62})\.){1,8}[^\W\d_]{2,24}(?![\w(])"
    ),
    lambda address: not _RESERVED_HOST.search(address),
)

IN_PROSE: tuple[Shape, ...] = (
    Shape(
        "phone",
        "phone",
        re.compile(
            r"(?<![\w.+)-])(?:\+\d{1,3}[ ./-]?(?:\(\d{1,4}\)[ ./-]?)?\d{1,4}(?:[ ./-]?\d{2,4}){2,4}"
            r"|\(\d{3}\) ?\d{3}[-. ]\d{4}|\d{3}([-. ])\d{3}\1\d{4})(?![\w-])"
        ),
    ),
    Shape(
        "ipv4",
        "ipv4",
        re.compile(
            r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.])"
        ),
        lambda address: not _LOCAL_IPV4.match(address),
    ),
    Shape(
        "ipv6",
        "ipv6",
        re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){2,7}(?::?[0-9A-Fa-f]{1,4}){0,6}(?![\w:])"),
        _public_ipv6,
    ),
    *(
        Shape("national_id", kind, re.compile(rf"(?<![\w.-]){pattern}(?![\w-])"), valid)
        for kind, pattern, valid in (
            ("us_ssn", r"\d{3}-\d{2}-\d{4}", _ssn),
            (
                "french_nir",
                r"[12] ?\d ?\d ?(?:0 ?[1-9]|1 ?[0-2]|[2-9] ?\d) ?(?:\d ?\d|2 ?[ABab])(?: ?\d){8}",
                _nir,
            ),
            ("spanish_dni", r"(?i:(?:\d{8}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z])", _dni),
            (
                "italian_codice_fiscale",
                r"(?i:[A-Z]{6}\d\d[ABCDEHLMPRST]\d\d[A-Z]\d{3}[A-Z])",
                _codice_fiscale,
            ),
            ("brazilian_cpf", r"\d{3}\.\d{3}\.\d{3}-\d\d", _cpf),
            ("indian_aadhaar", r"[2-9]\d{3}([ -])\d{4}\1\d{4}", _verhoeff),
            (
                "uk_nino",
                r"(?i:[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z])([ -]?)\d\d\1\d\d\1\d\d\1(?i:[A-D])",
                _nino,
            ),
        )
    ),
)
"""Looked for in strings, comments and prose only: elsewhere it would be arithmetic."""
