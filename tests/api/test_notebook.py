"""The notebook of ``examples/`` runs from its first cell to its last."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "from_python.ipynb"
WRITE = "%%writefile "


@pytest.mark.slow
def test_the_notebook_runs_cell_by_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    plt.switch_backend("agg")
    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        code = "".join(cell["source"])
        if code.startswith(WRITE):  # the only magic of Jupyter's that it uses
            name, _, text = code.removeprefix(WRITE).partition("\n")
            Path(name).write_text(text, encoding="utf-8")
        else:
            exec(compile(code, f"<{cell['id']}>", "exec"), names)
    del sys.modules["pair_memory"]
    assert len(list(tmp_path.glob("outputs/from_python/*/DONE"))) == 6
    (axes,) = names["figure"].axes
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["linucb", "pair_memory", "random"]
    for line in axes.get_lines():
        missed = line.get_ydata()
        assert len(missed) == 30
        assert 0 < missed[0] < missed[-1]
    compared = names["table"].query("measure == 'against random'").set_index("method")
    assert list(compared.index) == ["linucb", "pair_memory"]
    plt.close(names["figure"])
