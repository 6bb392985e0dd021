"""Workers in this process, which make parts of a video in any order."""

import random

from vfi.video.part import PartMaker


class ShuffledWorkers:
    """Two workers that take turns, and hand in their parts in another order than they were asked for.

    Args:
        work: the folder of work, for workers that write into it.
    """

    def __init__(self, plan, middle, work=None, seed=0):
        self.makers = [PartMaker(plan, middle, work=work) for _ in range(2)]
        self.random = random.Random(seed)
        self.made = []

    def run(self, numbers, tick):
        waiting = []
        for number in numbers:
            waiting.append(number)
            if len(waiting) == 4:
                yield self.make(waiting, tick)
        while waiting:
            yield self.make(waiting, tick)

    def make(self, waiting, tick):
        number = waiting.pop(self.random.randrange(len(waiting)))
        self.made.append(number)
        part = self.random.choice(self.makers).make(number)
        tick(part.frames)
        return part
