"""A backbone that reads less than others of its roster, and says so."""

from dataclasses import replace

import pytest

from knexa.agents.text import encode_prompt
from knexa.backbones.load import load_backbone
from knexa.cli.organisation import organisation_settings
from knexa.engine.local import Workers
from knexa.errors import UserError
from knexa.federation.llm.setup import SHORTEST_PROMPT, build_runtime
from tests.federation.llm.small_worlds import runtime

GPT2 = "roster.backbones.tiny-gpt2.max_length"


def test_its_prompts_keep_their_last_tokens_and_leave_room_for_the_solution() -> None:
    world = runtime()
    backbone = world.roster.backbones["tiny-gpt2"]
    whole = load_backbone(backbone)
    short = load_backbone(replace(backbone, max_length=48))
    problem = max(world.benchmark.train, key=lambda each: len(each.prompt))
    prompt = encode_prompt(whole.tokenizer, problem.prompt, 1000)
    room = 48 - world.evaluation.max_new_tokens
    assert len(prompt) > room
    assert world.prompt(whole, problem) == prompt
    assert world.prompt(short, problem) == prompt[-room:]
    assert len(world.example(whole, problem).ids) > 48
    example = world.example(short, problem)
    assert len(example.ids) == 48
    assert example.ids[: example.num_prompt] == prompt[-example.num_prompt :]


def refused(*overrides: str) -> str:
    settings = organisation_settings(overrides)
    with pytest.raises(UserError) as caught:
        build_runtime(settings, Workers(1, "cpu", "a test"))
    return str(caught.value)


def test_sequences_that_do_not_fit_are_one_line_that_names_the_way_out() -> None:
    message = refused("training.max_length=512")
    assert "training.max_length + evaluation.max_new_tokens is 576" in message
    assert "backbone tiny-qwen2 has 256 positions" in message
    assert "give roster.backbones.tiny-qwen2 max_length: 256" in message


def test_a_limit_beyond_the_positions_or_without_room_for_a_prompt_is_one_line() -> None:
    assert f"{GPT2} is 300, but backbone tiny-gpt2 has 256" in refused(f"+{GPT2}=300")
    least = 64 + SHORTEST_PROMPT
    message = refused(f"+{GPT2}={least - 1}")
    assert f"{GPT2}={least - 1} leaves no room for a prompt beside" in message
    assert f"must be {least} or more" in message


def test_a_roster_without_limits_is_the_run_that_it_was() -> None:
    plain = organisation_settings([])
    assert organisation_settings([f"+{GPT2}=null"]).config_hash == plain.config_hash
    assert organisation_settings([f"+{GPT2}=200"]).config_hash != plain.config_hash
