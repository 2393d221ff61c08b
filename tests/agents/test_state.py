import torch

from knexa.agents.state import AgentState, KeptText, load_state, save_state


def test_a_saved_state_comes_back_bit_for_bit(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randn(3, 5, generator=generator)
    state = AgentState(
        index=4,
        adapter={"a.weight": tensor, "b.weight": tensor.T / 3},
        optimizer={"exp_avg/a.weight": tensor * 1e-20},
        optimizer_steps=17,
        replay=(KeptText(task_id="x/1", completion="    return 1\n"),),
    ).with_history(pass_at_1=(0.1, 1 / 3), train_loss=0.25, learn_rewards=(-1e-9,))
    save_state(tmp_path / "4.safetensors", state)
    loaded = load_state(tmp_path / "4.safetensors")
    for name in ("index", "optimizer_steps", "replay", "history"):
        assert getattr(loaded, name) == getattr(state, name)
    for name in ("adapter", "optimizer"):
        before, after = getattr(state, name), getattr(loaded, name)
        assert list(after) == list(before)
        assert all(torch.equal(after[key], before[key]) for key in before)
