"""``python -m knexa.report``: the command ``knexa report``."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv.insert(1, "report")
    runpy.run_module("knexa", run_name="__main__")
