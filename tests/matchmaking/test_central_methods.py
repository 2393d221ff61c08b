"""The plans of methods that are not pairings."""

import numpy as np
import pytest

from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.central_kd import CentralKD
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.fedavg import FedAvg
from knexa.matchmaking.fedid import FedID
from knexa.matchmaking.fedskd import FedSKD
from knexa.matchmaking.matchings import Exact
from knexa.matchmaking.regret import chosen_pairs
from knexa.matchmaking.round_view import RoundView


def view(num_agents: int, round_number: int = 1, kinds: str | None = None) -> RoundView:
    mask_NN = None
    if kinds is not None:
        kinds_N = np.array(list(kinds))
        mask_NN = (kinds_N[:, None] == kinds_N) & ~np.eye(num_agents, dtype=bool)
    return RoundView(
        round=round_number,
        profiles_NF=np.zeros((num_agents, 32)),
        context=Interaction(),
        matching=Exact(),
        num_pairs=num_agents // 2,
        protocol="p",
        rng=np.random.default_rng(0),
        admissible_NN=mask_NN,
    )


def sides(matchmaker: Matchmaker, seen: RoundView) -> list[tuple[tuple[int, ...], ...]]:
    return [(directive.teachers, directive.students) for directive in matchmaker.propose(seen)]


def test_central_kd_is_one_directive_from_all_to_all():
    assert sides(CentralKD(), view(3)) == [((0, 1, 2), (0, 1, 2))]
    assert chosen_pairs(CentralKD().propose(view(3)), 3) is None


def test_fedids_server_follows_the_agents():
    assert sides(FedID(), view(3)) == [((0, 1, 2), (3, 0, 1, 2))]
    assert FedID.num_servers == 1


def test_fedavg_groups_equal_backbones_and_leaves_out_who_is_alone():
    assert sides(FedAvg(), view(6, kinds="qgbnqg")) == [((0, 4), (0, 4)), ((1, 5), (1, 5))]
    assert sides(FedAvg(), view(4, kinds="aaba")) == [((0, 1, 3), (0, 1, 3))]
    with pytest.raises(ValueError, match="share a backbone"):
        FedAvg().propose(view(3))


def test_fedskd_meets_everybody_both_ways_once_a_cycle():
    met = [pair for t in range(1, 6) for pair in sides(FedSKD(), view(6, t))]
    assert len(met) == len(set(met)) == 6 * 5


@pytest.mark.parametrize(
    ("policy", "protocol"),
    [(CentralKD, "ensemble"), (FedID, "fedid"), (FedAvg, "fedavg"), (FedSKD, "similarity")],
)
def test_each_dictates_its_protocol(policy, protocol):
    assert policy.protocol == protocol
