"""Where each of the profile's 32 features sits: 8 static, 12 dynamic, 12 data (paper, "Profiles").

One table for the room that writes profiles and the rooms that read them. Every feature is scaled to
about [0, 1] by its writer.
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

FEATURE_NAMES: tuple[str, ...] = FAMILIES + DYNAMIC_FEATURES + CATEGORIES
"""Names of all profile features, in order."""

NUM_STATIC = len(FAMILIES)
NUM_DYNAMIC = len(DYNAMIC_FEATURES)
NUM_DATA = len(CATEGORIES)
NUM_FEATURES = len(FEATURE_NAMES)

PASS_AT_1 = FEATURE_NAMES.index("pass_at_1")
CODEBLEU = FEATURE_NAMES.index("codebleu")
PERPLEXITY = FEATURE_NAMES.index("perplexity")
