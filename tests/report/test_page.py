"""The figures and the page: what is drawn, what is left out, and that the page stands alone."""

import itertools
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from knexa.cli.commands import run_command_line
from knexa.report import curves, scores
from knexa.report.aggregate import group_runs
from knexa.report.drawing import looks
from knexa.report.figures import draw_all
from knexa.report.runs import read_runs
from knexa.tracking import plot_style as style
from tests.report.report_examples import rewrite, write_run, write_study

ALWAYS = {"final", "learning_curves", "learning_by_steps", "regret", "divergence"}
ALWAYS |= {"gain_by_size", "pairing", "graph", "agents"}
VOID = {"meta", "wbr"}


class Outline(HTMLParser):
    """Collects ids, links, text and unclosed elements of a page."""

    def __init__(self):
        super().__init__()
        self.ids, self.targets, self.elements, self.open, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            elif name in ("href", "src", "xlink:href"):
                self.targets.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_study(folder / "runs")
    arguments = [str(folder / "runs"), "--against", "random", "--to"]
    assert run_command_line(["report", *arguments, str(folder / "first")]) == 0
    assert run_command_line(["report", *arguments, str(folder / "second")]) == 0
    return folder


@pytest.fixture(scope="module")
def outline(report):
    found = Outline()
    found.feed((report / "first" / "index.html").read_text(encoding="utf-8"))
    return found


def reasons(folder, tmp_path):
    pictures = draw_all(group_runs(read_runs([folder])), tmp_path / "figures")
    return {picture.name: picture.missing for picture in pictures}


def rows_of(page, name):
    """Return the table's rows as the page has them, the heading first."""
    section = page[page.index(f'<h2 id="{name}">') :]
    return re.findall(r"<tr>(.*?)</tr>", section[: section.index("</table>")])


def test_every_figure_that_the_runs_hold_is_an_svg_a_png_and_a_pdf(report):
    figures = report / "first" / "figures"
    for name in ALWAYS:
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        ElementTree.parse(figures / f"{name}.svg")
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert {path.stem for path in figures.iterdir()} == ALWAYS


def test_pdfs_embed_truetype_fonts_and_no_dates(report):
    for path in (report / "first" / "figures").glob("*.pdf"):
        content = path.read_bytes()
        assert b"/FontFile2" in content
        assert b"/Type3" not in content
        assert b"Date" not in content


def test_tables_are_there_in_three_formats(report):
    names = {path.name for path in (report / "first" / "tables").iterdir()}
    assert names == {f"{t}.{e}" for t in ("results", "costs") for e in ("md", "csv", "tex")}


def test_equal_runs_make_equal_files(report):
    first, second = (
        {
            path.relative_to(report / name): path.read_bytes()
            for path in (report / name).rglob("*")
            if path.is_file()
        }
        for name in ("first", "second")
    )
    assert first == second


def test_page_is_well_formed_and_needs_no_network(report, outline):
    assert outline.open == []
    assert all(target.startswith(("#", "data:")) for target in outline.targets)
    assert not {"script", "link", "iframe", "img"} & {tag for tag, _ in outline.elements}
    assert "@import" not in (report / "first" / "index.html").read_text(encoding="utf-8")


def test_ids_are_unique_and_every_reference_leads_somewhere(report, outline):
    assert len(outline.ids) == len(set(outline.ids))
    page = (report / "first" / "index.html").read_text(encoding="utf-8")
    referred = {target[1:] for target in outline.targets if target.startswith("#")}
    referred |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert referred <= set(outline.ids)


def test_figures_are_named_for_who_cannot_see_them(outline):
    svgs = [attributes for tag, attributes in outline.elements if tag == "svg"]
    assert len(svgs) == len(ALWAYS)
    assert all(svg["role"] == "img" and len(svg["aria-label"]) > 30 for svg in svgs)
    assert all("width" not in svg and "viewbox" in svg for svg in svgs)


def test_page_follows_the_readers_colour_scheme(report):
    page = (report / "first" / "index.html").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in page
    light, dark = re.findall(r":root \{(.*?)\}", page, flags=re.DOTALL)
    used = set(re.findall(r"var\((--\w+)\)", page))
    for scheme in (light, dark):
        assert used <= set(re.findall(r"(--\w+):", scheme))


def test_page_says_what_is_left_out_and_who_sees_probes(outline):
    text = " ".join(outline.text)
    assert "no setting that is a number varies" in text
    assert "sees beyond profiles and rewards" in text
    assert " probes " in text


def test_the_best_value_is_bold_and_every_row_has_a_name(report):
    page = (report / "first" / "index.html").read_text(encoding="utf-8")
    _, *rows = rows_of(page, "results")
    assert all(row.startswith('<th scope="row">') for row in rows)
    of_linucb = [row for row in rows if "linucb" in row]
    assert all(re.search(r"<b>3\d\.\d</b> <small>", row) for row in of_linucb)
    assert not any("<b>" in row for row in rows if "oracle" in row)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine")
def test_the_first_column_stays_while_its_table_scrolls(report, tmp_path):
    page = (report / "first" / "index.html").read_text(encoding="utf-8")
    probe = """<script>
      const box = document.querySelector(".scroll"), edge = () => box.getBoundingClientRect().left;
      const cells = [...box.querySelector("tbody tr").children];
      box.scrollLeft = 100;
      document.body.dataset.moved = cells.slice(0, 2).map(
        cell => Math.round(cell.getBoundingClientRect().left - edge())).join();
      document.body.dataset.wide = document.documentElement.scrollWidth <= innerWidth;
      </script></body>"""
    (tmp_path / "page.html").write_text(page.replace("</body>", probe), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900"]
    shown = subprocess.run(
        ["chromium", *options, f"--user-data-dir={tmp_path}", "--dump-dom", tmp_path / "page.html"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    first, second = re.search(r'data-moved="(-?\d+),(-?\d+)"', shown).groups()
    assert int(first) == 0
    assert int(second) < 100
    assert 'data-wide="true"' in shown  # the table scrolls, not the page


def test_bare_runs_make_a_page_that_says_why_there_are_no_figures(tmp_path, capsys):
    path = write_run(tmp_path / "runs", "linucb", 0, curve=False)
    rewrite(path / "exchanges.jsonl", "")
    command = ["report", str(tmp_path / "runs"), "--to", str(tmp_path / "report")]
    assert run_command_line(command) == 0
    assert [path.stem for path in sorted((tmp_path / "report" / "figures").glob("*.svg"))] == [
        "final"
    ]
    assert "no figure pairing: no run has exchanges" in capsys.readouterr().out


def test_a_figure_of_an_earlier_report_does_not_stay(tmp_path):
    write_run(tmp_path / "runs", "linucb", 0, curve=False)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "agents.png").touch()
    assert (
        reasons(tmp_path / "runs", tmp_path)["agents"] == "no run measured its agents in two rounds"
    )
    assert not (tmp_path / "figures" / "agents.png").exists()


def test_large_federations_are_not_drawn_agent_by_agent(tmp_path):
    write_run(tmp_path / "runs", "linucb", 0, num_agents=70)
    missing = reasons(tmp_path / "runs", tmp_path)
    assert "more than 64 agents" in missing["pairing"]
    assert "more than 24 agents" in missing["graph"]
    assert missing["agents"] is None


def test_pass_rate_over_a_numeric_setting_is_drawn(tmp_path):
    for alpha in (0.1, 1.0, 10.0):
        write_run(tmp_path / "runs", "linucb", 0, config={"partition.alpha": alpha})
    assert reasons(tmp_path / "runs", tmp_path)["over_setting"] is None


def draw(function, folder):
    """Return the drawn figure of what the folder holds, laid out, with its renderer."""
    study = group_runs(read_runs([folder]))
    with style.applied():
        figure = function(study, looks(study))
        figure.draw_without_rendering()
    return figure, figure.canvas.get_renderer()


def test_pairs_of_seeds_that_rested_in_different_rounds_are_not_mixed_up(tmp_path):
    for seed, rested in ((0, 2), (1, 3)):
        path = write_run(tmp_path, "linucb", seed) / "exchanges.jsonl"
        rows = path.read_text().splitlines(keepends=True)
        rewrite(path, "".join(row for row in rows if f'"round": {rested},' not in row))
    figure, _ = draw(curves.divergence, tmp_path)
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1, 4]


def test_titles_of_panels_do_not_run_into_each_other(tmp_path):
    for num_agents in (8, 16):
        for level in ("low", "medium", "high"):
            config = {"federation.num_agents": num_agents, "federation.heterogeneity": level}
            write_run(tmp_path, "linucb", 0, num_agents=num_agents, config=config)
    figure, renderer = draw(curves.learning, tmp_path)
    boxes = [axes.title.get_window_extent(renderer) for axes in figure.axes]
    boxes += [axes._left_title.get_window_extent(renderer) for axes in figure.axes]
    titles = [box for box in boxes if box.width > 0]
    assert len(titles) == 6
    assert not any(a.overlaps(b) for a, b in itertools.combinations(titles, 2))


def test_slopes_of_many_methods_leave_the_lines_their_panel(tmp_path):
    for place in range(8):
        config = {"matchmaker.exploration": float(place)}
        for seed in (0, 1):
            write_run(tmp_path, "linucb", seed, rounds=20, regret_power=0.5, config=config)
    figure, renderer = draw(curves.regret, tmp_path)
    panel = figure.axes[1]
    low, high = panel.get_ylim()
    assert high / low < 1.5 * 20  # random's expectation goes from 1 to 20
    assert panel.get_legend().get_window_extent(renderer).x0 >= panel.get_window_extent().x1


def test_no_bar_hides_a_seed(tmp_path):
    for seed, passed in enumerate((0.1, 0.2, 0.3)):
        write_run(tmp_path, "linucb", seed, passed=passed)
    figure, _ = draw(scores.final, tmp_path)
    seeds, bar, _ = figure.axes[0].lines
    assert sorted(seeds.get_xdata()) == [10, 20, 30]
    assert set(seeds.get_ydata()).isdisjoint(bar.get_ydata())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    write_run(tmp_path / "runs")
    (tmp_path / "file").touch()
    command = ["report", str(tmp_path / "runs"), "--to", str(tmp_path / "file" / "report")]
    assert run_command_line(command) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"error: {tmp_path / 'file'}")
