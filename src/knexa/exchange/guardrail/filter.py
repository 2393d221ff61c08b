"""The guardrail: a filter that vets every item that an agent sends or receives.

It stands in ``protocols.text``: in ``teach`` before a package leaves and in ``receive`` when one
arrives, because a peer may have none. A single finding decides what happens to its item; there is
no score that clean text could dilute.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from knexa.exchange.guardrail.findings import (
    PLACEHOLDER,
    SEVERITY,
    Finding,
    Rule,
    Severity,
    find,
)
from knexa.exchange.guardrail.folding import folded, keeps_places
from knexa.exchange.guardrail.values import Unreadable
from knexa.exchange.package import TextItem, unsendable
from knexa.recipe import Secret

Action = Literal["block", "redact", "count"]

# Redacting one finding may uncover another; items that are still not clean then are blocked.
_MAX_PASSES = 3
# An answer with more of them teaches nothing, and redacting each is a pass over the text.
_MAX_FINDINGS = 64

ALL_RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of vetting, in items; no finding's text is kept.

    Attributes:
        blocked: Items that were dropped.
        redacted: Items that pass with something replaced.
        counted: Items that pass unchanged although something was found.
        findings: Number of findings by kind, e.g. ``{"aws": 1, "email": 2}``.
    """

    blocked: int = 0
    redacted: int = 0
    counted: int = 0
    findings: dict[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of items, as rows of the run directory name them."""
        return {"blocked": self.blocked, "redacted": self.redacted, "counted": self.counted}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vetted:
    """The items that may pass, in order, and the report on all of them."""

    items: tuple[TextItem, ...]
    report: Report


@dataclass(frozen=True, kw_only=True)
class SiteRule:
    """A rule of the site's own, e.g. for customer numbers or project names.

    Attributes:
        name: Name of its findings in reports.
        pattern: A regular expression, searched in the whole text, as it is and folded. It must be
            fast on any text, since peers write the text.
        severity: Decides the action on a finding.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    pattern: Annotated[str, Secret]
    severity: Severity = "high"

    def __post_init__(self) -> None:
        try:
            compiled = re.compile(self.pattern)
        except re.error as error:
            raise ValueError(
                f"the pattern of site rule {self.name!r} is no regular expression: {error}"
            ) from None
        if compiled.search(""):
            raise ValueError(
                f"the pattern of site rule {self.name!r} matches the empty text, hence every "
                "answer; make it ask for at least one character"
            )
        if compiled.search(f"{PLACEHOLDER}{self.name}>"):
            raise ValueError(
                f"the pattern of site rule {self.name!r} matches its own redaction "
                f"{PLACEHOLDER + self.name + '>'!r}; make it narrower or rename the rule"
            )

    def find(self, text: str) -> Iterator[Finding]:
        """Yield what the pattern finds, as a finding of the rule ``name``."""
        for match in re.finditer(self.pattern, text):
            if match[0]:
                yield Finding(self.name, self.name, match[0])


@dataclass(frozen=True, kw_only=True)
class Guardrail:
    """Blocks, redacts or counts what its rules find in a completion.

    Items that no package may carry (control characters, too long), that cannot be read at a cost
    in proportion to their length, or with more than 64 findings are always blocked.

    Attributes:
        rules: What is looked for (see ``findings``); empty switches the filter off.
        high: Action on findings of high severity: credentials, cards, IBANs, canaries.
        medium: Action on e-mail addresses, phone numbers, national ids, random-looking strings.
        low: Action on public IP addresses.
        canaries: Strings planted in private data, which must never leave.
        site_rules: The site's own rules.
        allow: Texts that are no finding at this site, e.g. a public test key.
    """

    name: ClassVar[str] = "guardrail"

    rules: tuple[Rule, ...] = ALL_RULES
    high: Action = "block"
    medium: Action = "redact"
    low: Action = "count"
    canaries: Annotated[tuple[Annotated[str, Field(min_length=6)], ...], Secret] = ()
    site_rules: tuple[SiteRule, ...] = ()
    allow: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Secret] = ()

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.site_rules]
        taken = {name for name in names if name in ALL_RULES or names.count(name) > 1}
        if taken:
            raise ValueError(
                f"site rule {min(taken)!r} has the name of another rule; rename one of them"
            )

    def vet(self, items: Sequence[TextItem]) -> Vetted:
        """Return the items that may pass and what was found."""
        passed: list[TextItem] = []
        actions: Counter[str] = Counter()
        findings: Counter[str] = Counter()
        for item in items:
            kept, action, found = self._vet_item(item)
            actions[action] += 1
            findings.update(found)
            if kept is not None:
                passed.append(kept)
        report = Report(
            blocked=actions["block"],
            redacted=actions["redact"],
            counted=actions["count"],
            findings=dict(sorted(findings.items())),
        )
        return Vetted(items=tuple(passed), report=report)

    def _vet_item(self, item: TextItem) -> tuple[TextItem | None, str, list[str]]:
        """Return (the item that passes or None, what was done, kinds of findings)."""
        if unsendable(item) is not None:
            return None, "block", ["unsendable"]
        seen: set[Finding] = set()
        for attempt in range(_MAX_PASSES):
            text = item.completion
            try:
                found = self._find(text)
            except Unreadable:
                return None, "block", ["unreadable"]
            seen |= found
            kinds = [finding.kind for finding in seen]
            taken = {self._action(finding) for finding in found}
            if "block" in taken or len(found) > _MAX_FINDINGS:
                return None, "block", kinds
            if "redact" not in taken:
                return item, "redact" if attempt else "count" if found else "pass", kinds
            redact = [finding for finding in found if self._action(finding) == "redact"]
            if any(finding.text not in text for finding in redact):
                # Joined from pieces or written with escapes: there is no place to redact.
                return None, "block", kinds
            item = replace(item, completion=_redacted(text, redact))
            if unsendable(item) is not None:  # a redaction may be longer than what it hides
                return None, "block", kinds
        return None, "block", [finding.kind for finding in seen]

    def _find(self, text: str) -> set[Finding]:
        found = self._find_as_written(text)
        plain = folded(text)
        if plain != text:
            found |= _as_written(self._find_as_written(plain), plain, text)
        return found

    def _find_as_written(self, text: str) -> set[Finding]:
        by_site = (finding for rule in self.site_rules for finding in rule.find(text))
        found: set[Finding] = set()
        for finding in chain(find(text, frozenset(self.rules), self.canaries), by_site):
            if finding.text not in self.allow:
                found.add(finding)
                if len(found) > _MAX_FINDINGS:
                    break
        return found

    def _action(self, finding: Finding) -> Action:
        site = {rule.name: rule.severity for rule in self.site_rules}
        severity = (SEVERITY | site)[finding.rule]
        return {"high": self.high, "medium": self.medium, "low": self.low}[severity]


def _as_written(found: set[Finding], plain: str, text: str) -> set[Finding]:
    """Return findings of the folded text as the text spells them, where it has as many characters.

    Others are not in the text, so they cannot be redacted in it.
    """
    if not 0 < len(found) <= _MAX_FINDINGS or not keeps_places(text):
        return found
    places = {finding: plain.find(finding.text) for finding in found}
    return {
        replace(finding, text=text[place : place + len(finding.text)]) if place >= 0 else finding
        for finding, place in places.items()
    }


def _redacted(text: str, findings: list[Finding]) -> str:
    # Longest first, so that no half of a finding is left where another lies inside it.
    for finding in sorted(findings, key=lambda f: (-len(f.text), f.text, f.kind)):
        text = text.replace(finding.text, f"{PLACEHOLDER}{finding.kind}>")
    return text
