"""Texts that are made to cost the guardrail much: fragments, repeated as often as a text allows.

The costliest of some 10,000 seeded combinations of what the rules look for, one of each sort, and
what was superlinear once.
"""

# (what the text begins with, what is repeated)
FRAGMENTS: tuple[tuple[str, str], ...] = (
    ('"""', "key=A1"),
    ("", "password"),
    ('"""', "password=x\n"),
    ("# ", "::password"),
    ('"""', "a@b.key"),
    ('"""', "a@b.\uff21"),
    ('"""', "]4111 "),
    ('"""', ".4111 "),
    ('"""', "1\u00bd"),
    ("", "\u200bx=('a','b')\n"),
    ('"""', "x=('a','b')\n"),
    ('"""', "if password=='a':\n pass\na@b."),
    ('"""', "curl -u a:"),
    ('"""', " \\\n"),
    ("", "\ufdfa"),
    ("", "\u0323\u0301"),
    ("", "sk-"),
    ("", "eyJ-"),
    ("x = 'a'\n", "x += 'b'\n"),
    ("x = ''\n", "x = (x, 'a')\npassword = x\n"),
    ("x = ''\n", "x = x or 'a'\n"),
    ("x = 'a'", " + 'a'"),
    ("x = 'ab'\n", "'%s' % x\n"),
    ("", "def get_password():\n return 'a1-Bcdefg'\n"),
    ("x = ", "["),
    ("x = ['", "a', '"),
)


def filled(opening: str, fragment: str, length: int) -> str:
    """Return a text of that many characters, or a little less so that it ends whole."""
    return opening + fragment * ((length - len(opening)) // len(fragment))
