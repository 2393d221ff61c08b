import pytest

from knexa.errors import UserError
from knexa.report.aggregate import group_runs, resolve_method, without_common_exchange
from knexa.report.runs import read_runs
from tests.report.report_examples import write_run


def study_of(folder):
    return group_runs(read_runs([folder]))


def test_local_only_is_one_method_whatever_it_did_not_use(tmp_path):
    write_run(tmp_path, "local_only", 0, exchange="akd")
    write_run(tmp_path, "local_only", 1, exchange="akd_verified")
    (group,) = study_of(tmp_path).groups
    assert (group.label, group.seeds) == ("local_only", (0, 1))


def test_runs_of_one_method_that_differ_are_rows_labelled_by_what_differs(tmp_path):
    for exploration in (0.5, 10.0, 2.0):
        write_run(tmp_path, "linucb", 0, config={"matchmaker.exploration": exploration})
    write_run(tmp_path, "random", 0)
    assert [group.label for group in study_of(tmp_path).groups] == [
        "linucb/akd (exploration=0.5)",
        "linucb/akd (exploration=2.0)",
        "linucb/akd (exploration=10.0)",
        "random/akd",
    ]


def test_differing_worlds_are_settings_and_differences_stay_within_them(tmp_path):
    for alpha in (0.1, 10.0):
        for matchmaker in ("linucb", "random"):
            write_run(tmp_path, matchmaker, 0, config={"partition.alpha": alpha})
    study = study_of(tmp_path)
    assert study.setting_keys == ("alpha",)
    assert study.settings == ((("alpha", "0.1"),), (("alpha", "10.0"),))
    for group in study.groups:
        reference = study.reference(group, "random/akd")
        assert reference.method == "random/akd"
        assert reference.setting == group.setting


def test_a_number_is_named_with_what_it_counts(tmp_path):
    for number in (0, 2):
        write_run(tmp_path, "linucb", 0, config={"roster.byzantine.num": number})
    assert study_of(tmp_path).setting_keys == ("byzantine.num",)


def test_rules_say_whose_they_are(tmp_path):
    for rules in ([], ["secrets"]):
        write_run(tmp_path, "linucb", 0, config={"guardrail.rules": rules})
    assert "linucb/akd (guardrail.rules=[])" in study_of(tmp_path).labels


def test_a_key_that_another_determines_is_noted_and_makes_no_column(tmp_path):
    for alpha in (0.1, 10.0):
        config = {"partition.alpha": alpha, "partition.min_train": int(10 * alpha)}
        write_run(tmp_path, "linucb", 0, config=config)
    study = study_of(tmp_path)
    assert study.setting_keys == ("alpha",)
    assert study.notes == ("With partition.alpha also change: partition.min_train.",)


def test_an_option_is_called_by_its_group_in_notes(tmp_path):
    for matching in ("routed", "exact"):
        config = {"matching._name_": matching, "matching.budget": len(matching)}
        write_run(tmp_path, "linucb", 0, config=config)
    assert study_of(tmp_path).notes == ("With matching also change: matching.budget.",)


def test_a_setting_that_repeats_the_seed_does_not_split_a_method(tmp_path):
    for seed in range(3):
        write_run(tmp_path, "linucb", seed, config={"partition.draw_seed": seed})
    (group,) = study_of(tmp_path).groups
    assert group.seeds == (0, 1, 2)


def test_a_seed_that_only_one_method_has_does_not_split_it(tmp_path):
    for seed in range(3):
        write_run(tmp_path, "random", seed)
        write_run(tmp_path, "neural_linear", seed, config={"matchmaker.seed": seed})
    assert [group.seeds for group in study_of(tmp_path).groups] == [(0, 1, 2), (0, 1, 2)]


def test_a_class_that_varies_is_named_by_its_group(tmp_path):
    for name in ("concat", "my_module.mine"):
        config = {"context._name_": name}
        write_run(tmp_path, "linucb", 0, config=config)
    labels = [group.label for group in study_of(tmp_path).groups]
    assert labels == ["linucb/akd (context=concat)", "linucb/akd (context=mine)"]


def test_reference_with_variants_is_the_one_that_agrees(tmp_path):
    for name in ("concat", "interaction"):
        for matchmaker in ("linucb", "random"):
            config = {"context._name_": name}
            write_run(tmp_path, matchmaker, 0, config=config)
    study = study_of(tmp_path)
    for group in study.groups:
        assert study.reference(group, "random/akd").variant == group.variant


def test_rows_of_an_ablation_are_called_by_what_each_changes(tmp_path):
    changes = (
        {},
        {"context.kind": "concat"},
        {"matching.kind": "greedy"},
        {"federation.mutual": 1},
    )
    for change in changes:
        whole = {"context.kind": "interaction", "matching.kind": "exact", "federation.mutual": 0}
        write_run(tmp_path, "linucb", 0, config=whole | change)
    study = study_of(tmp_path)
    assert study.labels == (
        "linucb/akd",
        "linucb/akd (context.kind=concat)",
        "linucb/akd (matching.kind=greedy)",
        "linucb/akd (mutual=1)",
    )
    (plain,) = (group for group in study.groups if not group.variant)
    assert all(study.reference(g, resolve_method(study, "linucb")) is plain for g in study.groups)
    assert study.setting_keys == ()


def test_a_method_that_only_compares_with_itself_is_no_reference(tmp_path):
    for exploration in (0.5, 1.0):
        write_run(tmp_path, "linucb", 0, config={"matchmaker.exploration": exploration})
    study = study_of(tmp_path)
    with pytest.raises(UserError, match=r"no two rows: name one of 'linucb/akd \(exploration=0.5"):
        resolve_method(study, "linucb")
    assert resolve_method(study, "linucb/akd (exploration=0.5)")


def test_equal_runs_count_once_and_contradicting_ones_are_refused(tmp_path):
    write_run(tmp_path / "a", "random", 0, passed=0.1)
    write_run(tmp_path / "b", "random", 0, passed=0.1)
    study = study_of(tmp_path)
    assert len(study.groups[0].runs) == 1
    assert study.notes == ("random/akd, seed 0: 2 equal runs, counted once.",)
    write_run(tmp_path / "c", "random", 0, passed=0.9)
    with pytest.raises(UserError, match="results differ"):
        study_of(tmp_path)


def test_runs_of_several_recipes_are_told_apart_in_one_line(tmp_path):
    for seed, recipe in enumerate((5, 5, 6)):
        write_run(tmp_path, "linucb", seed, summary={"recipe": recipe})
    assert study_of(tmp_path).notes == (
        "What the code computes differs between recipes (knexa/recipe.py), and these runs are of "
        "several: 5 (2 runs), 6 (1 run).",
    )


def test_runs_of_one_recipe_need_no_word_about_it(tmp_path):
    for seed in range(2):
        write_run(tmp_path, "linucb", seed, summary={"recipe": 5})
    assert study_of(tmp_path).notes == ()


def test_long_values_are_numbered_and_explained(tmp_path):
    for agents in (["ada"] * 9, ["bob"] * 9):
        write_run(tmp_path, "linucb", 0, config={"roster.agents": agents})
    study = study_of(tmp_path)
    assert study.settings == ((("agents", "#1"),), (("agents", "#2"),))
    assert len([note for note in study.notes if note.startswith("roster.agents #")]) == 2


def test_levels_are_in_their_order(tmp_path):
    for level in ("high", "low", "medium"):
        write_run(tmp_path, "linucb", 0, config={"federation.heterogeneity": level})
    assert [s[0][1] for s in study_of(tmp_path).settings] == ["low", "medium", "high"]


def test_a_bare_matchmaker_names_its_method_where_that_is_clear(tmp_path):
    write_run(tmp_path, "random", 0, exchange="akd")
    study = study_of(tmp_path)
    assert resolve_method(study, "random") == "random/akd"
    write_run(tmp_path, "random", 0, exchange="logits")
    with pytest.raises(UserError, match="random/akd, random/logits"):
        resolve_method(study_of(tmp_path), "random")


def test_figures_leave_out_an_exchange_that_all_share(tmp_path):
    write_run(tmp_path, "random", 0)
    write_run(tmp_path, "local_only", 0)
    names = without_common_exchange(study_of(tmp_path))
    assert names == {"local_only": "local_only", "random/akd": "random"}
    write_run(tmp_path, "linucb", 0, exchange="logits")
    assert "random/akd" in without_common_exchange(study_of(tmp_path)).values()
