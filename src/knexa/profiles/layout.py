"""The order of a profile's features, for all that writes and reads profiles.

``profile=paper32`` is 8 static, 12 dynamic and 12 data features (paper, "Profiles"). The longer
profiles insert features before the data histogram, which is always the last ``NUM_DATA``. The
writers scale every feature to about [0, 1].
"""

from knexa.backbones.roster import FAMILIES
from knexa.data.problem import CATEGORIES

DYNAMIC_FEATURES: tuple[str, ...] = (
    "pass_at_1",  # on the agent's own validation split, never on the global test set
    "codebleu",
    "perplexity",
    "change_pass_at_1",
    "change_codebleu",
    "change_perplexity",
    "train_loss",
    "data_size",
    "teach_yield",
    "learn_gain",
    "teach_gain",
    "exchanges",
)

SKILL_FEATURES: tuple[str, ...] = tuple(f"skill_{category}" for category in CATEGORIES)
"""Share of the public transfer problems of each category that the agent solves."""

FEATURE_NAMES: tuple[str, ...] = FAMILIES + DYNAMIC_FEATURES + CATEGORIES
"""Names of all features of ``profile=paper32``, in order."""

_WITH_TRUST = (*FAMILIES, *DYNAMIC_FEATURES, "trust", "sier")

TRUST_FEATURE_NAMES: tuple[str, ...] = _WITH_TRUST + CATEGORIES
"""Names of all features of ``profile=trust``, in order."""

SKILLS_FEATURE_NAMES: tuple[str, ...] = _WITH_TRUST + SKILL_FEATURES + CATEGORIES
"""Names of all features of ``profile=skills``, in order."""

NUM_STATIC = len(FAMILIES)
NUM_DYNAMIC = len(DYNAMIC_FEATURES)
NUM_DATA = len(CATEGORIES)
NUM_FEATURES = len(FEATURE_NAMES)

PASS_AT_1 = FEATURE_NAMES.index("pass_at_1")
CODEBLEU = FEATURE_NAMES.index("codebleu")
PERPLEXITY = FEATURE_NAMES.index("perplexity")

TRUST = TRUST_FEATURE_NAMES.index("trust")
"""The column that the CPM fills in, in ``profile=trust`` and ``profile=skills``."""

_FIRST_SKILL = SKILLS_FEATURE_NAMES.index(SKILL_FEATURES[0])
SKILLS = slice(_FIRST_SKILL, _FIRST_SKILL + len(SKILL_FEATURES))
"""The per-category pass rates of ``profile=skills``."""
