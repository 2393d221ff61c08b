"""The network that runs simulate: a virtual clock, packages in flight, and faults."""
