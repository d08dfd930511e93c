import concurrent.futures
import json
import threading

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.errors import BlockedError, RetryableError
from uaharvest.sinks import Outgoing
from uaharvest.sinks.sqs import REQUEST_BYTES, REQUEST_ENTRIES, SqsSink, pack


def record(number, size=40):
    return Outgoing(number, float(number), json.dumps({"action_id": number, "fill": "x" * size}))


def records(count, size=40):
    return [record(number, size) for number in range(count)]


def deliver(sink, outgoing):
    """Return the confirmed and the refused records of a whole delivery."""
    confirmed, refused = [], []
    for delivery in sink.deliver(outgoing):
        confirmed += delivery.confirmed
        refused += delivery.refused
    return confirmed, refused


def deliver_until_error(sink, outgoing, error):
    """Return what was confirmed before `error`, the error, and that nothing was refused."""
    confirmed = []
    try:
        for delivery in sink.deliver(outgoing):
            assert not delivery.refused
            confirmed += delivery.confirmed
    except error as caught:
        return confirmed, str(caught)
    return pytest.fail(f"no {error.__name__}")


def ids(outgoing):
    return sorted(record.id for record in outgoing)


def refusal(code, operation="SendMessageBatch", status=400):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)


class Queue:
    """A client of a queue that answers as a test says; an entry that no rule settles is taken.

    Attributes:
        taken: The bodies that the queue has taken.
        sizes: How many entries each request had.
        lookups: How often its URL was asked for.
    """

    def __init__(self, *, entry=lambda body: None, request=lambda number: None, limit=REQUEST_BYTES):
        self.taken = []
        self.sizes = []
        self.lookups = 0
        self._entry = entry
        self._request = request
        self._limit = limit
        self._lock = threading.Lock()

    def get_queue_url(self, QueueName):  # noqa: N803
        self.lookups += 1
        return {"QueueUrl": f"url-{self.lookups}"}

    def get_queue_attributes(self, QueueUrl, AttributeNames):  # noqa: N803
        return {"Attributes": {"MaximumMessageSize": str(self._limit)}}

    def send_message_batch(self, QueueUrl, Entries):  # noqa: N803
        with self._lock:
            self.sizes.append(len(Entries))
            number = len(self.sizes)
        self._request(number)
        answer = {"Successful": [], "Failed": []}
        for entry in Entries:
            fate = self._entry(entry["MessageBody"])
            if fate is None:
                self.taken.append(entry["MessageBody"])
                answer["Successful"].append({"Id": entry["Id"]})
            elif fate != "silence":
                answer["Failed"].append({"Id": entry["Id"], **fate})
        return answer


def sink(queue, **options):
    return SqsSink(queue, "q", pause=lambda seconds: None, **options)


SENDER = {"SenderFault": True, "Code": "InvalidMessageContents", "Message": "bad character"}
SERVER = {"SenderFault": False, "Code": "InternalError", "Message": "try again"}


def times(count, fate):
    """Return a rule that gives the first `count` entries `fate`."""
    left = iter([fate] * count)
    return lambda body: next(left, None)


# Packing


@given(
    sizes=st.lists(st.integers(0, 400) | st.sampled_from([1000, 1023, 1024, 1025, 2000]), max_size=80),
    events_per_message=st.integers(1, 30),
    limit=st.integers(60, 1024),
)
def test_packing_loses_nothing_keeps_order_and_stays_within_every_limit(sizes, events_per_message, limit):
    outgoing = [record(number, size) for number, size in enumerate(sizes)]
    requests = list(pack(outgoing, events_per_message=events_per_message, limit=limit))
    messages = [message for request in requests for message in request.messages]
    refused = [record for request in requests for record, _ in request.refused]
    sent = [record for message in messages for record in message.records]
    brackets = 0 if events_per_message == 1 else 2
    assert sent == [record for record in outgoing if len(record.body) + brackets <= limit]
    assert refused == [record for record in outgoing if len(record.body) + brackets > limit]
    for request in requests:
        assert len(request.messages) <= REQUEST_ENTRIES
    for message in messages:
        assert len(message.body.encode()) <= limit
        assert len(message.records) <= events_per_message
        values = json.loads(message.body)
        expected = [json.loads(record.body) for record in message.records]
        assert (values if brackets else [values]) == expected


@given(sizes=st.lists(st.integers(0, 300_000), max_size=40), events_per_message=st.sampled_from([1, 2, 50]))
def test_no_request_is_longer_than_a_mebibyte_or_shorter_than_need_be(sizes, events_per_message):
    outgoing = [record(number, size) for number, size in enumerate(sizes)]
    requests = list(pack(outgoing, events_per_message=events_per_message, limit=REQUEST_BYTES))
    totals = [sum(len(message.body) for message in request.messages) for request in requests]
    assert all(total <= REQUEST_BYTES for total in totals)
    for request, total, following in zip(requests, totals, requests[1:], strict=False):
        full = len(request.messages) == REQUEST_ENTRIES
        assert full or total + len(following.messages[0].body) > REQUEST_BYTES


def test_a_message_holds_a_bare_object_or_an_array_of_that_many_with_fewer_at_the_end():
    bare = next(pack(records(1), events_per_message=1, limit=1000))
    assert [message.body for message in bare.messages] == [record(0).body]
    packed = next(pack(records(7), events_per_message=3, limit=1000))
    assert [len(json.loads(message.body)) for message in packed.messages] == [3, 3, 1]


def test_a_message_that_fills_the_limit_exactly_is_sent_and_one_byte_more_is_not():
    two = records(2)
    size = len(two[0].body) + len(two[1].body) + 3
    exact = next(pack(two, events_per_message=2, limit=size))
    split = next(pack(two, events_per_message=2, limit=size - 1))
    assert [len(message.records) for message in exact.messages] == [2]
    assert [len(message.records) for message in split.messages] == [1, 1]


def test_a_request_that_fills_a_mebibyte_exactly_is_one_and_with_one_byte_more_two():
    half = REQUEST_BYTES // 2
    size = half - len(record(1, 0).body)
    exact = [record(1, size), record(2, size)]
    longer = [record(1, size), record(2, size + 1)]
    assert len(list(pack(exact, events_per_message=1, limit=REQUEST_BYTES))) == 1
    assert len(list(pack(longer, events_per_message=1, limit=REQUEST_BYTES))) == 2


# Against a real server


@pytest.mark.parametrize("events_per_message", [1, 7])
def test_every_record_arrives_once_and_is_confirmed_once(aws, queue_name, events_per_message):
    client = boto3.client("sqs")
    outgoing = records(95)
    confirmed, refused = deliver(SqsSink(client, queue_name, events_per_message=events_per_message), outgoing)
    url = client.get_queue_url(QueueName=queue_name)["QueueUrl"]
    bodies = []
    while messages := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        bodies += [json.loads(message["Body"]) for message in messages]
    arrived = bodies if events_per_message == 1 else [value for body in bodies for value in body]
    assert sorted(value["action_id"] for value in arrived) == ids(outgoing) == ids(confirmed)
    assert not refused


def test_a_queue_that_is_missing_is_created_once_and_again_when_it_vanishes(aws):
    client = boto3.client("sqs")
    target = SqsSink(client, "made-by-the-sink", pause=lambda seconds: None)
    deliver(target, records(3))
    assert target.depth() == (3, 0)
    client.delete_queue(QueueUrl=client.get_queue_url(QueueName="made-by-the-sink")["QueueUrl"])
    confirmed, _ = deliver(target, records(50))
    assert len(confirmed) == 50
    assert target.depth() == (50, 0)


def test_the_depth_of_a_queue_is_what_waits_and_what_is_in_flight(aws, queue_name):
    client = boto3.client("sqs")
    target = SqsSink(client, queue_name)
    deliver(target, records(3))
    client.receive_message(QueueUrl=client.get_queue_url(QueueName=queue_name)["QueueUrl"])
    assert target.depth() == (2, 1)


def test_asking_for_the_depth_creates_no_queue(aws):
    client = boto3.client("sqs")
    with pytest.raises(BlockedError, match="SQS queue never-made does not exist yet"):
        SqsSink(client, "never-made").depth()
    assert not client.list_queues(QueueNamePrefix="never-made").get("QueueUrls")


def test_the_limit_of_an_old_queue_is_kept(aws):
    client = boto3.client("sqs")
    client.create_queue(QueueName="old", Attributes={"MaximumMessageSize": "2048"})
    outgoing = [record(0, 3000), *records(80)[1:]]
    confirmed, refused = deliver(SqsSink(client, "old", events_per_message=1000), outgoing)
    assert ids(confirmed) == list(range(1, 80))
    assert refused == [(outgoing[0], "3,030 bytes; a message of this queue holds 2,048")]


# What SQS says of single entries


def test_an_entry_that_fails_at_the_server_is_sent_again_alone():
    queue = Queue(entry=times(2, SERVER))
    confirmed, refused = deliver(sink(queue, threads=1), records(10))
    assert ids(confirmed) == list(range(10))
    assert not refused
    assert queue.sizes == [10, 2]


def test_an_entry_that_the_answer_does_not_mention_is_not_confirmed_but_sent_again():
    queue = Queue(entry=times(3, "silence"))
    confirmed, _ = deliver(sink(queue, threads=1), records(10))
    assert ids(confirmed) == list(range(10))
    assert queue.sizes == [10, 3]


def test_between_two_attempts_it_pauses_longer_each_time():
    pauses = []
    queue = Queue(entry=times(3, SERVER))
    deliver(SqsSink(queue, "q", threads=1, pause=pauses.append), records(1))
    assert len(pauses) == 3
    assert 0 < pauses[0] < pauses[1] < pauses[2]


def test_an_entry_that_keeps_failing_is_retryable_and_the_others_are_confirmed():
    queue = Queue(entry=lambda body: SERVER if '"action_id": 3,' in body else None)
    confirmed, said = deliver_until_error(sink(queue), records(10), RetryableError)
    assert ids(confirmed) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert "InternalError: try again" in said


def test_a_throttled_entry_is_sent_again_whoever_is_to_blame():
    queue = Queue(entry=times(1, {**SENDER, "Code": "KMS.ThrottlingException"}))
    confirmed, refused = deliver(sink(queue), records(1))
    assert (len(confirmed), refused) == (1, [])


def test_an_entry_that_is_denied_is_no_bad_record():
    queue = Queue(entry=lambda body: {**SENDER, "Code": "KMS.AccessDeniedException"})
    confirmed, said = deliver_until_error(sink(queue), records(1), BlockedError)
    assert not confirmed
    assert "KMS.AccessDeniedException" in said


def test_a_bad_record_is_refused_with_code_and_message_and_the_others_are_confirmed():
    outgoing = records(40)
    queue = Queue(entry=lambda body: SENDER if '"action_id": 3,' in body else None)
    confirmed, refused = deliver(sink(queue), outgoing)
    assert refused == [(outgoing[3], "InvalidMessageContents: bad character")]
    assert ids(confirmed) == [number for number in range(40) if number != 3]


def test_a_bad_record_does_not_refuse_the_others_in_its_array():
    outgoing = records(200)
    queue = Queue(entry=lambda body: SENDER if '"action_id": 3,' in body else None)
    confirmed, refused = deliver(sink(queue, events_per_message=50, threads=1), outgoing)
    assert refused == [(outgoing[3], "InvalidMessageContents: bad character")]
    assert ids(confirmed) == [number for number in range(200) if number != 3]
    assert queue.sizes == [4, 10, 10, 10, 10, 10]
    assert all(isinstance(json.loads(body), list) for body in queue.taken)


def test_three_bad_records_are_bad_records_however_few_there_are():
    _, refused = deliver(sink(Queue(entry=lambda body: SENDER)), records(3))
    assert len(refused) == 3


@pytest.mark.parametrize(("bad", "blocked"), [(5, False), (6, True)], ids=["5 of 100", "6 of 100"])
def test_more_than_five_percent_refused_is_blocked_and_none_of_them_is_reported(bad, blocked):
    queue = Queue(entry=times(bad, SENDER))
    if blocked:
        confirmed, said = deliver_until_error(sink(queue), records(100), BlockedError)
        assert "refuses 6 of 100 records: InvalidMessageContents" in said
    else:
        confirmed, refused = deliver(sink(queue), records(100))
        assert len(refused) == bad
    assert len(confirmed) == 100 - bad


@pytest.mark.parametrize("big", [1, 4, 100])
def test_what_is_too_big_for_the_queue_is_refused_each_and_never_blocks(big):
    queue = Queue(limit=1024)
    outgoing = [record(number, 2000) for number in range(big)] + [record(1000)]
    confirmed, refused = deliver(sink(queue), outgoing)
    assert (ids(confirmed), len(refused)) == ([1000], big)
    assert refused[0][1] == "2,028 bytes; a message of this queue holds 1,024"


def test_a_lecture_with_a_long_description_does_not_block_a_real_queue(aws):
    """300 kB of description in each of its useractions; the queue holds what queues held until 2025."""
    client = boto3.client("sqs")
    client.create_queue(QueueName="small", Attributes={"MaximumMessageSize": "262144"})
    outgoing = [record(number, 300_000) for number in range(8)] + [record(number) for number in range(8, 12)]
    confirmed, refused = deliver(SqsSink(client, "small"), outgoing)
    assert ids(confirmed) == [8, 9, 10, 11]
    assert sorted(row.id for row, _ in refused) == list(range(8))


def test_a_queue_that_was_made_smaller_meanwhile_refuses_by_size_and_does_not_block():
    def entry(body):
        return {**SENDER, "Code": "InvalidParameterValue"} if len(body) > 1024 else None

    queue = Queue(limit=REQUEST_BYTES, entry=entry)
    target = sink(queue)
    deliver(target, records(1))
    queue._limit = 1024
    confirmed, refused = deliver(target, [record(number, 2000) for number in range(8)] + [record(8)])
    assert (ids(confirmed), len(refused)) == ([8], 8)


@pytest.mark.parametrize("code", ["BatchRequestTooLong", "InvalidMessageContents", "413"])
def test_a_request_that_is_refused_for_what_is_in_it_goes_again_message_by_message(code):
    def send(QueueUrl, Entries):  # noqa: N803
        if len(Entries) > 1 or '"action_id": 3,' in Entries[0]["MessageBody"]:
            raise refusal(code)
        return {"Successful": [{"Id": Entries[0]["Id"]}]}

    queue = Queue()
    queue.send_message_batch = send
    confirmed, refused = deliver(sink(queue, threads=1), records(10))
    assert ids(confirmed) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert [row.id for row, _ in refused] == [3]
    assert code in refused[0][1]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"Failed": [{}]},
        {"Failed": [{"Id": "0"}]},
        {"Failed": [{"Id": "x", "SenderFault": True, "Code": "InvalidMessageContents"}]},
        {"Successful": [{"Id": "99"}, {}]},
    ],
)
def test_an_answer_that_says_nothing_of_a_message_confirms_and_refuses_nothing(answer):
    queue = Queue()
    queue.send_message_batch = lambda QueueUrl, Entries: answer  # noqa: N803
    deliver_until_error(sink(queue), records(1), RetryableError)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"Attributes": {}},
        {"Attributes": {"MaximumMessageSize": "many"}},
        {"Attributes": {"MaximumMessageSize": "0"}},
        {"Attributes": {"MaximumMessageSize": "1048576", "CreatedTimestamp": "yesterday"}},
        {"Attributes": {"MaximumMessageSize": "1048576", "MessageRetentionPeriod": "-1"}},
    ],
)
def test_a_queue_that_says_nothing_of_itself_blocks(attributes):
    queue = Queue()
    queue.get_queue_attributes = lambda **_: attributes
    for call in (lambda: deliver(sink(queue), records(1)), lambda: sink(queue).depth()):
        with pytest.raises(BlockedError, match="AWS_ENDPOINT_URL"):
            call()
    queue.get_queue_url = lambda **_: {}
    with pytest.raises(BlockedError, match="AWS_ENDPOINT_URL"):
        deliver(sink(queue), records(1))


@pytest.mark.parametrize("missing", ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"])
@pytest.mark.parametrize("told", [None, "", "some", "-1"])
def test_a_queue_that_does_not_say_how_full_it_is_is_not_empty(missing, told):
    attributes = {"MaximumMessageSize": "1048576"}
    attributes |= dict.fromkeys(["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"], "0")
    attributes |= {missing: told}
    queue = Queue()
    queue.get_queue_attributes = lambda **_: {
        "Attributes": {name: value for name, value in attributes.items() if value is not None}
    }
    with pytest.raises(BlockedError, match=f"SQS queue q: its attribute {missing} is missing or impossible"):
        sink(queue).depth()


@pytest.mark.parametrize("code", ["KMS.DisabledException", "KmsAccessDenied", "AccessDenied"])
def test_a_key_that_cannot_be_used_is_no_bad_record(code):
    queue = Queue(entry=lambda body: {"SenderFault": True, "Code": code, "Message": "key"})
    deliver_until_error(sink(queue), records(1), BlockedError)


def test_a_queue_that_is_made_keeps_messages_for_fourteen_days_and_a_short_one_is_named(aws):
    client = boto3.client("sqs")
    deliver(SqsSink(client, "made-for-long"), records(1))
    *_, made = SqsSink(client, "made-for-long").look()
    assert (made.retention, made.warning) == (1_209_600, "")
    client.create_queue(QueueName="short", Attributes={"MessageRetentionPeriod": "345600"})
    *_, short = SqsSink(client, "short").look()
    assert "4 days" in short.warning or "4 d" in short.warning


def test_who_makes_the_queue_at_the_same_time_with_other_attributes_is_no_failure():
    queue = Queue()
    looked = iter([refusal("QueueDoesNotExist", "GetQueueUrl"), None])

    def get_queue_url(QueueName):  # noqa: N803
        if error := next(looked):
            raise error
        return {"QueueUrl": "url"}

    def create_queue(**_):
        raise refusal("QueueNameExists", "CreateQueue")

    queue.get_queue_url, queue.create_queue = get_queue_url, create_queue
    assert len(deliver(sink(queue), records(1))[0]) == 1


@pytest.mark.parametrize(
    ("failure", "error", "words"),
    [
        (EndpointConnectionError(endpoint_url="http://sqs"), RetryableError, "SQS queue q cannot be reached"),
        (refusal("RequestThrottled", status=403), RetryableError, "RequestThrottled"),
        (refusal("AccessDenied", status=403), BlockedError, "AccessDenied on sqs:SendMessage for SQS queue q"),
    ],
    ids=["unreachable", "throttled", "denied"],
)
def test_when_a_request_fails_what_others_confirmed_is_reported_first(failure, error, words):
    def third(number):
        if number == 3:
            raise failure

    queue = Queue(request=third)
    confirmed, said = deliver_until_error(sink(queue), records(500), error)
    assert sorted(json.loads(body)["action_id"] for body in queue.taken) == ids(confirmed)
    assert len(confirmed) >= 20
    assert words in said


def test_after_a_failure_no_further_request_is_made():
    def fail(number):
        raise EndpointConnectionError(endpoint_url="http://sqs")

    queue = Queue(request=fail)
    deliver_until_error(sink(queue, threads=2), records(1000), RetryableError)
    assert len(queue.sizes) <= 4


def test_after_a_failure_no_entry_is_tried_again():
    denied = {**SENDER, "Code": "KMS.AccessDeniedException"}
    reported = threading.Event()
    fates = {"0": SERVER, "11": denied}
    queue = Queue(entry=lambda body: fates.get(str(json.loads(body)["action_id"])))
    target = SqsSink(queue, "q", threads=2, pause=lambda seconds: reported.wait(10))

    def consume():
        for delivery in target.deliver(records(20)):
            if 10 in ids(delivery.confirmed):  # its request has failed: now the pause of the other may end
                reported.set()

    with pytest.raises(BlockedError):
        consume()
    assert queue.sizes == [10, 10]


def test_requests_that_are_under_way_when_another_fails_are_waited_for():
    failed = threading.Event()

    def fate(number):
        if number == 1:
            failed.set()
            raise EndpointConnectionError(endpoint_url="http://sqs")
        assert failed.wait(10)

    queue = Queue(request=fate)
    confirmed, _ = deliver_until_error(sink(queue, threads=2), records(20), RetryableError)
    assert sorted(json.loads(body)["action_id"] for body in queue.taken) == ids(confirmed)
    assert len(confirmed) == 10 * (len(queue.sizes) - 1)


def test_when_the_source_of_the_records_fails_what_was_sent_is_confirmed_first():
    def source():
        yield from records(25)
        raise RetryableError("episodes cannot be looked up")

    queue = Queue()
    confirmed, said = deliver_until_error(sink(queue), source(), RetryableError)
    assert said == "episodes cannot be looked up"
    assert sorted(json.loads(body)["action_id"] for body in queue.taken) == ids(confirmed)
    assert len(confirmed) == 20


@pytest.mark.parametrize("code", ["QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"])
def test_a_queue_that_vanishes_is_looked_up_once_by_all_threads_together(code):
    together = threading.Barrier(4)

    def vanish(number):
        if number <= 4:
            together.wait(10)
            raise refusal(code)

    queue = Queue(request=vanish)
    confirmed, _ = deliver(sink(queue, threads=4), records(40))
    assert ids(confirmed) == list(range(40))
    assert queue.lookups == 2


def test_the_queue_is_looked_up_once_for_many_deliveries():
    queue = Queue()
    target = sink(queue)
    deliver(target, records(5))
    deliver(target, records(5))
    assert queue.lookups == 1


def test_a_look_up_that_is_denied_names_the_permission_and_takes_no_record():
    class Denied(Queue):
        def get_queue_url(self, QueueName):  # noqa: N803
            raise refusal("AccessDenied", "GetQueueUrl", 403)

    untouched = iter(records(1))
    with pytest.raises(BlockedError, match="AccessDenied on sqs:GetQueueUrl for SQS queue q"):
        list(sink(Denied()).deliver(untouched))
    assert next(untouched)


# Threads and memory


def test_no_more_records_are_taken_than_are_soon_sent():
    taken = []

    def source():
        for item in records(10_000):
            taken.append(item.id)
            yield item

    delivery = sink(Queue(), threads=2).deliver(source())
    next(delivery)
    assert len(taken) <= 10 * (2 * 2 + 1) + 1
    delivery.close()


def test_requests_go_out_by_several_threads_at_once():
    together = threading.Barrier(4)
    queue = Queue(request=lambda number: together.wait(10))
    confirmed, _ = deliver(sink(queue, threads=4), records(40))
    assert len(confirmed) == 40


def test_closing_a_delivery_waits_for_what_is_under_way_and_sends_nothing_more(monkeypatch):
    closing = threading.Event()
    wait = concurrent.futures.wait

    def wait_for_requests(futures):
        closing.set()  # so far no request but the first could end
        return wait(futures)

    monkeypatch.setattr(concurrent.futures, "wait", wait_for_requests)
    queue = Queue(request=lambda number: number == 1 or closing.wait(10))
    delivery = sink(queue, threads=2).deliver(records(1000))
    next(delivery)
    delivery.close()
    assert closing.is_set()
    assert len(queue.sizes) <= 1 + 2
    assert len(queue.taken) == 10 * len(queue.sizes)


def test_nothing_to_send_asks_for_nothing_and_confirms_nothing():
    queue = Queue()
    assert deliver(sink(queue), []) == ([], [])
    assert queue.sizes == []
