"""What a run is made of: the checked components and the root values."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One run's components, one field a config group, and the values they do not own.

    Attributes:
        seed: Root of every random draw.
        name: First folder under ``outputs/``.
        matchmaker_name: The chosen option of the ``matchmaker`` group, e.g. ``linucb``.
        choices: The chosen option of every config group.
        config: What determines the results, as plain values: the recipe, and of each component its
            name (``_name_``) and its parameters. ``config.yaml`` holds it, equal byte for byte when
            the same config runs again.
        session: The rest of the resolved config (name, rerun, dry_run, trusted_modules, engine,
            logger), which may differ between equal runs and belongs into ``environment.json``.
        dry_run: Build everything and train nothing.
        beside_others: Other runs print to the same terminal: say little.
    """

    seed: int
    name: str
    matchmaker_name: str
    choices: dict[str, str]
    config: dict[str, Any]
    session: dict[str, Any]
    dry_run: bool
    beside_others: bool = False

    matchmaker: Any
    federation: Any
    roster: Any
    data: Any
    partition: Any
    profile: Any
    context: Any
    matching: Any
    reward: Any
    exchange: Any
    guardrail: Any
    privacy: Any
    training: Any
    evaluation: Any
    regret: Any
    engine: Any
    logger: Any

    @cached_property
    def config_hash(self) -> str:
        """SHA-256 (hex) of what identifies the run; 8 digits of it name the directory.

        The digest of the data (``data.fingerprint()``, where the component has one) stands in for
        ``data.path``, so that moving the files changes nothing and editing them does.

        Raises:
            UserError: The data files are missing.
        """
        identity = dict(self.config)
        if hasattr(self.data, "fingerprint"):
            node = {key: value for key, value in identity["data"].items() if key != "path"}
            identity["data"] = node | {"fingerprint": self.data.fingerprint()}
        document = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(document.encode()).hexdigest()

    @property
    def run_path(self) -> Path:
        """outputs/<name>/<matchmaker>-s<seed>-<hash8> under the current folder."""
        folder = f"{self.matchmaker_name}-s{self.seed}-{self.config_hash[:8]}"
        return Path("outputs") / self.name / folder
