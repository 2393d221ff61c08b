"""Tables for papers: what fits, what is escaped, and that TeX takes it."""

import re
import shutil
import subprocess

import pytest

from knexa.report.aggregate import group_runs
from knexa.report.latex import COLUMN_WIDTH, escape, latex
from knexa.report.robust import robust_table
from knexa.report.runs import read_runs
from knexa.report.table import choose, tables
from tests.report.report_examples import write_run

PAPER = r"""\documentclass[10pt]{article}
\usepackage{booktabs,tabularx}
\begin{document}\hsize=%gpt \columnwidth=\hsize \linewidth=\hsize
%s
\end{document}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Runs of four methods that fill the usual columns: regret, own data, one missing seed."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        common = {"exchange": "akd_verified", "regret_power": 0.5}
        write_run(folder, "random", seed, passed=0.2, **common)
        write_run(folder, "oracle", seed, passed=0.4, needs=["probes"], **common)
        for matching in ("broadcast", "routed"):
            config = {"matching._name_": matching}
            passed = 0.3 + 0.01 * seed
            write_run(folder, "linucb", seed, passed=passed, config=config, **common)
    write_run(folder, "random", 3, passed=0.2, exchange="akd_verified", summary={"pass@10": None})
    return group_runs(read_runs([folder]))


@pytest.fixture(scope="module")
def written(study):
    found = (*tables(study, "random"), robust_table(study, "random"))
    return {table.name: latex(study, table) for table in found}


def body(text):
    """Return the rows between the rules, cells as lists."""
    rows = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert all(row.endswith(r" \\") for row in rows)
    return [row.removesuffix(r" \\").split(" & ") for row in rows]


def test_every_row_has_a_cell_for_each_column_and_braces_close(written):
    for text in written.values():
        kinds = re.search(r"X([rl]*)@", text)[1]
        assert {len(row) for row in body(text)} == {1 + len(kinds)}
        assert len(kinds) < 7
        source = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
        source = re.sub(r"\\[{}]", "", source)
        assert source.count("{") == source.count("}")
        assert sorted(re.findall(r"\\begin{(\w+)}", source)) == sorted(
            re.findall(r"\\end{(\w+)}", source)
        )


def test_methods_are_short_the_best_is_bold_and_an_oracle_is_marked(written):
    first, second, *_ = body(written["results"])
    assert first[:2] == [r"oracle$^\dagger$", r"40.0 {\scriptsize $\pm$0.0}"]
    assert second[0] == r"linucb (matching=\penalty200{}broadcast)"
    assert second[1] == r"\textbf{31.0} {\scriptsize $\pm$2.5}"
    assert r"$^\dagger$Sees counterfactual rewards" in written["results"]


def test_the_footnote_says_what_is_corrected_and_what_is_not(written):
    foot = written["results"].partition(r"\footnotesize")[2]
    assert r"95\,\% interval over seeds (Student's $t$), not corrected" in foot
    assert "Holm's method for 3 comparisons" in foot
    assert r"Exchange: akd\_\penalty200{}verified" in foot


def test_what_tex_reads_as_its_own_is_escaped():
    assert escape(r"50% of a&b#{x}~y^2\$") == (
        r"50\% of a\&b\#\{x\}\textasciitilde{}y\textasciicircum{}2\textbackslash{}\$"
    )


def test_chosen_columns_are_all_there_however_wide_and_that_is_said(study):
    names = ["pass@1", "pass@10", "difference", "detectable", "p", "codebleu_fixed"]
    (table, _) = choose(tables(study, "random"), names)
    text = latex(study, table)
    assert {len(row) for row in body(text)} == {7}
    assert "use table*" in text
    assert r"{\scriptsize $\pm$0.0 (3)}" in text  # of random's four seeds three have pass@10


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_tex_sets_the_tables_within_a_column(written, tmp_path):
    (tmp_path / "paper.tex").write_text(PAPER % (COLUMN_WIDTH, "\n\n".join(written.values())))
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout
    assert "Overfull" not in told.stdout
