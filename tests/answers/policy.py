"""The verdicts of the failure policy, by the kind of an answer, and what a call under attack is."""

import dataclasses
import zlib
from collections.abc import Callable

import pytest

from devservers.proxy import Call

STANDS = {"blocked", "put off"}
EVERYTHING = {
    "refused": {"blocked"},
    "moved": {"blocked"},
    "throttled": {"put off"},
    "failed": {"put off"},
    "garbled": {"put off"},
    "broken": {"put off"},
}
ITEM = {kind: {"dead letter"} for kind in EVERYTHING}
# Where an answer says how many rows there are, fewer are not all. It is put off, and where the source answers
# everything else it ends in dead letters: it is never taken for whole.
LISTED = EVERYTHING | {"short": {"put off", "dead letter"}}
LISTED_ITEM = ITEM | {"short": {"dead letter"}}
# AWS's own client reads the answers, and so does Elasticsearch's, which looks for a header of its server. What they
# cannot read may come from another server, which a person must look at.
AWS = ELASTICSEARCH = EVERYTHING | {"garbled": STANDS, "broken": STANDS}
# Whose turn it is not waits: Zoom's quotas do that every day. If it lasts, `status` shows how far the stream lags.
ZOOM = EVERYTHING | {"throttled": {"put off", "fine"}}
ZOOM_ITEM = ITEM | {"throttled": ZOOM["throttled"]}
ZOOM_LIST = ZOOM | {"short": {"put off"}}
# Zoom may never have all rows of a meeting: what there is counts, as incomplete, and each look back reads it again.
ZOOM_PARTICIPANTS = ZOOM | {"short": {"read again"}}
# Any answer tells the time.
CLOCK = {kind: {"fine"} for kind in EVERYTHING} | {"failed": {"put off"}, "broken": {"put off"}}
# Some of these answers are as good as whole ones: S3's answer to PUT has no body to be cut. A queue whose answer names
# no message is empty, as far as SQS's client can tell. What was deleted is deleted although the answer got lost.
AWS_OR_FINE = EVERYTHING | {"garbled": {*STANDS, "fine"}, "broken": {*STANDS, "fine"}}


@dataclasses.dataclass(frozen=True, eq=False)
class Attack:
    """A call under attack.

    Attributes:
        name: For people.
        concerns: Which calls are answered.
        policy: What may come of it, by the answer's kind.
        culprit: What the line in `status` must name.
        proxy: Which proxy.
    """

    name: str
    concerns: Callable[[Call], bool]
    policy: dict
    culprit: str = ""
    proxy: str = "opencast"


def cases(*attacks_and_answers):
    """Return pytest's parameters for each attack with each of its answers.

    Always tried is one answer of every second kind, another one for each call; the next call gets the other kinds. The
    rest is left to `make test-faults`.
    """
    parameters = []
    for number, (attack, answers) in enumerate(attacks_and_answers):
        for rank, kind in enumerate(attack.policy):
            alike = [answer for answer in answers if answer.kind == kind]
            if not alike:  # a test of its own gives these; test_docs.py sees to it that there is one
                continue
            quick = [answer for answer in alike if answer.reply.breaks != "drip"]
            chosen = quick[zlib.crc32(attack.name.encode()) % len(quick)]
            turn = (number + rank) % 2 == 0
            for answer in alike:
                marks = () if turn and answer is chosen else (pytest.mark.fault, pytest.mark.long)
                parameters.append(pytest.param(attack, answer, id=f"{attack.name} - {answer.name}", marks=marks))
    return parameters
