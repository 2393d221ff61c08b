"""``python -m knexa.membership_inference``: the command ``knexa audit``."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv.insert(1, "audit")
    runpy.run_module("knexa", run_name="__main__")
