"""``python -m knexa.evaluation``: the command ``knexa score``."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv.insert(1, "score")
    runpy.run_module("knexa", run_name="__main__")
