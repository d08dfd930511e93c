"""The delivered ids of a stream, by epoch of its watermark."""

from typing import Generic

import redis

from uaharvest import keys
from uaharvest.runs.delivered import digest, former_epoch, known_key
from uaharvest.runs.stream import K, R, S, Stream
from uaharvest.runs.watermark import Watermark


class Epochs(Generic[S, K, R]):
    """The delivered ids of a stream for one destination."""

    def __init__(self, stream: Stream[S, K, R], client: "redis.Redis", destination: str) -> None:
        """Store them in `client`; `destination` is source and queue as text."""
        self._stream = stream
        self._redis = client
        self._destination = destination
        self.digest = digest(destination)

    def ids(self, epoch: str) -> K:
        """Return the delivered ids of an epoch."""
        return self._stream.delivered_ids(self._redis, known_key(self._stream.name, epoch, self._destination))

    def take_over_former(self, mark: Watermark) -> None:
        """Copy the ids before the watermark from the last epoch to a new one, so that those rows are not sent again."""
        former = self._redis.get(keys.EPOCH(self._stream.name, self.digest))
        if former and former != mark.epoch:
            self.ids(mark.epoch).take_over(self.ids(str(former)), mark.at)

    def forget_former(self, epoch: str) -> None:
        """Forget the ids of the epoch before `epoch`, once a commit has proved that `epoch` is the current one."""
        former = former_epoch(self._redis, self._stream.name, epoch, self._destination)
        if former:
            self.ids(former).forget()
