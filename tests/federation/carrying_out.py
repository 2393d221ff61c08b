"""An exchange in one call: try a plan and commit its trials."""

from knexa.federation.world import Exchange, World
from knexa.matchmaking.plans import Plan


def carry_out(world: World, round_number: int, plan: Plan) -> list[Exchange]:
    return world.commit(round_number, world.try_learning(round_number, plan))
