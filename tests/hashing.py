"""Argon2id as production has it, but for its cost."""

from unlocks.pins import PinHasher


class QuickHasher(PinHasher):
    time_cost = 1
    memory_cost = 8
