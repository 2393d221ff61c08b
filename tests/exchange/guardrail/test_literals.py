"""How texts are read: folding, literals that are put together, and what cannot be read."""

import random

import pytest

from knexa.exchange.guardrail.filter import Guardrail, Report
from knexa.exchange.guardrail.folding import folded
from knexa.exchange.guardrail.literals import said
from knexa.exchange.guardrail.values import Unreadable
from knexa.exchange.package import DEFAULT_LIMITS, TextItem
from tests.exchange.guardrail.credential_corpus import ALPHANUMERIC, HEX, PREFIXED, draw


def report(text: str) -> Report:
    return Guardrail().vet([TextItem(task_id="t", completion=text)]).report


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("plain", "plain"),
        ("a\u200bb\u00adc\u2060d\ufe0fe", "abcde"),
        ("\uff21\uff11\U0001d41a", "A1a"),
        ("a\u00a0b\u202fc\u2013d", "a b c-d"),
        ("\u0664\u0665", "45"),
        ("\u201cx\u201d", '"x"'),
        ("caf\u00e9 \u4f60", "caf\u00e9 \u4f60"),
        ("\ufdfa", "\ufdfa"),  # folds to a whole phrase, so that the text would grow
    ],
)
def test_text_is_folded_as_a_reader_sees_it(text: str, plain: str) -> None:
    assert folded(text) == plain


@pytest.mark.parametrize(
    ("program", "string"),
    [
        ("x = 'ab' + 'cd'", "abcd"),
        ("x = 'ab'\nx += 'cd'\nx += 'ef'", "abcdef"),
        ("x = 'ab'\nx = x + 'cd'", "abcd"),
        ("x, y = 'ab', 'cd'\nz = y + x", "cdab"),
        ("(x, [y, *z]) = 'ab', ['cd', 'ef']\nw = x + y + z[0]", "abcdef"),
        ("x = '%s-%s' % ('ab', 'cd')", "ab-cd"),
        ("x = '%(k)s%%' % {'k': 'ab'}", "ab%"),
        ("x = '{}{}'.format('ab', 'cd')", "abcd"),
        ("x = '{1}{0}{k}{{'.format('ab', 'cd', k='ef')", "cdabef{"),
        ("x = '-'.join(['ab', 'cd'])", "ab-cd"),
        ("x = str.join('', ('ab', 'cd'))", "abcd"),
        ("x = f\"a{'b'}c{'d'}\"", "abcd"),
        ("x = str('ab') + bytes('cd', 'ascii').decode()", "abcd"),
        ("x = {'k': 'ab'}\ny = x['k'] + 'cd'", "abcd"),
        ("x = 'ab-cd'.replace('-', '')", "abcd"),
        ("x = (lambda: 'ab')() + 'cd'", "abcd"),
        ("self.x = 'ab'\nself.x += 'cd'", "abcd"),
        ("def f(x='ab'):\n    return x + 'cd'", "abcd"),
    ],
)
def test_strings_are_put_together_as_the_program_does(program: str, string: str) -> None:
    assert string in said(program).strings


@pytest.mark.parametrize(
    "program",
    [
        "x = 'ab' + y + 'cd'",
        "x = 'ab'\nx = f()\nx += 'cd'",
        "x = '{}{}'.format('ab', y)",
        "x = '%s%s' % ('ab', y)",
        "x = ''.join(['ab', *y, 'cd'])",
        "def f(x):\n    return x + 'cd'",
        "x = 'ab'\nfor x in y:\n    z = x + 'cd'",
    ],
)
def test_what_is_unknown_is_not_made_up(program: str) -> None:
    assert not any(string.startswith("abcd") for string in said(program).strings)


@pytest.mark.parametrize(
    "program",
    [
        "x = 'a'\n" + "x += x\n" * 40,
        "x = ''\n" + "x += 'abcdefgh'\n" * 2_000,
        "x = 'a' * 30_000\n" + "y = x + x\n" * 20,
        "x = " + "-" * 500 + "1",
        "x = " + "f(" * 90 + "'a'" + ")" * 90 + "\n" + "x" + ".y" * 1_000,
        "x = ()\n" + "x = (x, 'a')\npassword = x\n" * 1_000,
        "if a:\n    pass\n" + "elif a:\n    pass\n" * 400,
    ],
)
def test_a_program_that_is_too_intricate_is_dropped_never_passed_unread(program: str) -> None:
    with pytest.raises(Unreadable):
        said(program)
    text = program + "\npassword = 'hunter2-Blue9'\n"
    assert report(text) == Report(blocked=1, findings={"unreadable": 1})


def test_a_personal_datum_is_redacted_in_the_spelling_of_the_text() -> None:
    text = "x = '+49\u00a030\u00a01234\u00a05678'\n"
    vetted = Guardrail().vet([TextItem(task_id="t", completion=text)])
    assert vetted.items[0].completion == "x = '<redacted:phone>'\n"
    hidden = text.replace("4", "4\u200b", 1)  # more characters than the phone number has
    assert report(hidden) == Report(blocked=1, findings={"phone": 1})


def test_an_answer_with_more_findings_than_can_be_redacted_is_dropped() -> None:
    addresses = [f"a{i}@corp" + ".com" for i in range(65)]
    assert report(repr(addresses[:64])).redacted == 1
    assert report(repr(addresses)).blocked == 1


def test_an_answer_that_redactions_make_too_long_for_a_package_is_dropped() -> None:
    text = ("# ask a@b" + ".com\n") * 2_000
    assert len(text) < DEFAULT_LIMITS.max_completion
    assert report(text) == Report(blocked=1, findings={"email": 1})


@pytest.mark.parametrize(
    "template",
    [
        "sha1_of_a = '{}'\n",
        "checksums = {{'a': '{}', 'b': '{}'}}\n",
        "    # MD5: {}\n    return 1\n",
    ],
)
def test_a_named_digest_stays_and_a_secret_named_like_one_goes(template: str) -> None:
    digest = draw(random.Random(1), HEX, 40)
    assert report(template.replace("{}", digest)) == Report()
    assert report(f"x = '{digest}'\n").redacted == 1
    token = draw(random.Random(2), ALPHANUMERIC, 39) + "x"  # no digest's form
    assert report(template.replace("{}", token)).redacted == 1
    key = PREFIXED["aws"](random.Random(3))
    assert report(template.replace("{}", key)).blocked == 1
    assert report(f"password_hash = '{digest}'\n").blocked == 1
