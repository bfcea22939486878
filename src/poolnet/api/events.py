"""What has changed? Subscriptions, `event.from` with its tokens, and the older register and next (spec §5).

Everything rests on the database's feed of commit numbers: a token is the number up to which its holder has seen all.
Nothing is kept for a client between two calls of `event.from`; the older calls keep a position in one bounded queue.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from msgspec import Struct

from poolnet.api.answer import Codec, Shared
from poolnet.api.fragments import encode_record
from poolnet.api.sleepers import Sleepers, Waiters, Wake, at_once
from poolnet.db.database import Database
from poolnet.db.feed import Delta, Published
from poolnet.model import errors
from poolnet.model.registry import CLASSES
from poolnet.model.types import Ref, Row

BATCHING_S = 0.05  # spec §5.2: changes that follow a first one closely are reported together
FOREVER_S = 24 * 3600.0  # spec §5.2: a negative timeout
QUEUE_BYTES_MAX = 10_000_000  # spec §5.3
HEARTBEAT_S = 30.0
BATCHES_MAX = (
    4  # kept of one state of the database, for those who ask for the same; each may be as large as all of it
)
BATCHES_KEPT_S = 5.0
EVENTS_AT_ONCE = 200  # made in one turn
SUBSCRIPTIONS_MAX = 20_000  # of one session, in all its registrations; one body holds about as many
EVENT_CLASSES = {decl.name.lower(): name for name, decl in CLASSES.items() if decl.events}
COUNTED_CLASSES = {decl.name.lower(): decl.python_type for decl in CLASSES.values() if decl.in_database}
MESSAGE = "message"

_TOKEN = re.compile(r"\s*([+-]?\d{1,30})\s*,\s*([+-]?\d{1,30})\s*")


class ChangeEvent(Struct, frozen=True, kw_only=True, gc=False):
    """One event; `row` is the object now, or None when it is gone. Ten thousand of them are made at once."""

    id: str
    timestamp: str
    cls: str
    operation: str
    ref: str
    row: Row | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBatch:
    """The answer of `event.from` (with token and counts), or of `event.next` (without)."""

    events: tuple[ChangeEvent, ...]
    token: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    shared: Shared = field(default_factory=Shared, compare=False)


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """What a client wants to hear of: everything, whole classes, single objects. Class names are lower-case."""

    everything: bool = False
    classes: frozenset[str] = frozenset()
    objects: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Subscriptions:
        """Reads the strings of spec §5.1; unknown classes are accepted and never match."""
        classes, objects, everything = set(), set(), False
        for entry in entries:
            if entry == "*":
                everything = True
                continue
            name, slash, ref = entry.partition("/")
            if slash:
                objects.add((name.lower(), ref))
            else:
                classes.add(name.lower())
        return cls(everything, frozenset(classes), frozenset(objects))

    def class_names(self) -> frozenset[str]:
        """The names, as the model spells them, of the classes that could match."""
        if self.everything:
            return frozenset(EVENT_CLASSES.values())
        wanted = self.classes | {name for name, _ in self.objects}
        return frozenset(EVENT_CLASSES[name] for name in wanted if name in EVENT_CLASSES)

    def match(self, cls: str, ref: str) -> bool:
        """Whether an object of that class (lower-case) is subscribed to."""
        return self.everything or cls in self.classes or (cls, ref) in self.objects

    def only_tasks(self) -> bool:
        """Whether nothing but tasks is subscribed to; those are reported without waiting for company."""
        return not self.everything and self.class_names() <= {"task"}


class _Registration:
    """What a session wants to hear of with `next`, and the first event that it has not read."""

    def __init__(self, next_id: int) -> None:
        self.entries: set[str] = set()
        self.subscriptions = Subscriptions()
        self.next_id = next_id

    def change(self, entries: set[str]) -> None:
        """Sets all entries; an INTERNAL_ERROR if there are too many."""
        if len(entries) > SUBSCRIPTIONS_MAX:
            raise errors.internal_error(f"more than {SUBSCRIPTIONS_MAX} subscriptions")
        self.entries = entries
        self.subscriptions = Subscriptions.parse(entries)


class Events:
    """Answers the messages of class event.

    Args:
        database: Whose feed is followed.
        clock: The current time in UTC.
    """

    def __init__(self, *, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._registrations: dict[str, _Registration] = {}
        self._queue: deque[tuple[ChangeEvent, int]] = deque()  # with the size of each
        self._queue_bytes = 0
        self._next_id = 1
        self._dropped = 0  # the last id that fell out of the queue
        self._unsubscribe: Callable[[], None] | None = None
        self._heart: asyncio.Task[None] | None = None
        self._waiters = Waiters()
        self._for_changes = Sleepers(BATCHING_S)
        self._for_tasks = Sleepers(0.0)
        self._for_queue = Sleepers(0.0)
        self._following: asyncio.Task[None] | None = None
        self._batches: dict[tuple[Subscriptions, int, int], EventBatch] = {}
        self._batches_of = -1

    # --- event.from --------------------------------------------------------------------------------------------

    async def from_(
        self,
        session: str,
        entries: Sequence[str],
        token: str,
        timeout_s: float,
        wake: Wake = at_once,
    ) -> EventBatch:
        """Waits for changes after a token, and answers them with the next token (spec §5.2).

        A token of a later state than this one is of another database: all that there is answers it, as for a new
        client, for it would wait in vain. `wake` goes on at the client's turn: a change wakes all that wait.

        Raises:
            EVENT_FROM_TOKEN_PARSE_FAILURE: The token is not two numbers.
            SESSION_INVALID: The session ended while the call was waiting.
        """
        subscriptions = Subscriptions.parse(entries)
        feed = self._database.feed
        since, message_since = (n if n <= feed.number else 0 for n in parse_token(token))
        loop = asyncio.get_running_loop()
        limit_s = timeout_s if 0 <= timeout_s < FOREVER_S else FOREVER_S
        deadline = loop.time() + limit_s
        sleepers = self._for_tasks if subscriptions.only_tasks() else self._for_changes
        with self._waiters.of(session) as waiter:
            while True:
                number = feed.number
                batch = await self._batch(subscriptions, since, message_since, wake)
                if batch.events or token == "" or deadline <= loop.time():
                    return batch
                since = message_since = number  # nothing of it matched, so nobody misses it
                self._follow()
                if feed.number == number:
                    await sleepers.sleep(waiter, wake, until=deadline)
                if waiter.ended:
                    raise errors.session_invalid(Ref(session))

    def _follow(self) -> None:
        """Hears of changes from now on, as long as somebody sleeps."""
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(
                self._rouse(self._database.feed.number), name="event-following"
            )

    async def _rouse(self, number: int) -> None:
        feed = self._database.feed
        while True:
            await feed.wait(number)
            number = feed.number
            self._for_changes.rouse()
            self._for_tasks.rouse()

    async def _batch(
        self, subscriptions: Subscriptions, since: int, message_since: int, wake: Wake
    ) -> EventBatch:
        """What has changed since then; clients that have seen the same and want the same get the same object."""
        number = self._database.feed.number
        if self._batches_of != number:
            self._batches, self._batches_of = {}, number
        key = (subscriptions, since, message_since)
        batch = self._batches.get(key)
        if batch is None:
            counts = self._counts()
            if since <= 0 and message_since <= 0:
                events = await self._all(subscriptions, wake)
            else:
                events = self._collect(subscriptions, since, message_since)
            batch = EventBatch(events=events, token=make_token(number, number), counts=counts)
            self._keep(key, number, batch)
        return batch

    def _keep(self, key: tuple[Subscriptions, int, int], number: int, batch: EventBatch) -> None:
        if self._batches_of != number or len(self._batches) >= BATCHES_MAX:
            return
        if not self._batches:
            asyncio.get_running_loop().call_later(BATCHES_KEPT_S, self._batches.clear)
        self._batches[key] = batch

    def _collect(
        self, subscriptions: Subscriptions, since: int, message_since: int
    ) -> tuple[ChangeEvent, ...]:
        """What matches: messages first, then adds, mods, dels (spec §5.2)."""
        changes_since, names = self._database.feed.changes_since, subscriptions.class_names()
        return (
            *self._events(subscriptions, changes_since(message_since, names & {MESSAGE})),
            *self._events(subscriptions, changes_since(since, names - {MESSAGE})),
        )

    async def _all(self, subscriptions: Subscriptions, wake: Wake) -> tuple[ChangeEvent, ...]:
        """All that there is, as for a new client: in slices, for it may be ten thousand objects.

        What changes meanwhile is told as it is then, and once more to whoever goes on from the number before.
        """
        feed, view = self._database.feed, self._database.view
        names = subscriptions.class_names()
        found: list[ChangeEvent] = []
        for group in (names & {MESSAGE}, names - {MESSAGE}):
            objects = feed.everything(group)
            for start in range(0, len(objects), EVENTS_AT_ONCE):
                for number, name, ref in objects[start : start + EVENTS_AT_ONCE]:
                    cls = name.lower()
                    row = view.find(CLASSES[name].python_type, ref)
                    if row is not None and subscriptions.match(cls, ref):
                        found.append(_event("add", cls, ref, number, row))
                await _turn(wake)
        return tuple(found)

    def _counts(self) -> dict[str, int]:
        return {name: self._database.view.count(cls) for name, cls in COUNTED_CLASSES.items()}

    def _events(self, subscriptions: Subscriptions, delta: Delta) -> Iterable[ChangeEvent]:
        view = self._database.view
        for operation, changes in (("add", delta.created), ("mod", delta.modified), ("del", delta.deleted)):
            for change in changes:
                cls = change.class_name.lower()
                if not subscriptions.match(cls, change.ref):
                    continue
                row = (
                    None
                    if operation == "del"
                    else view.find(CLASSES[change.class_name].python_type, change.ref)
                )
                if row is None and operation != "del":
                    continue
                yield _event(operation, cls, change.ref, change.number, row)

    def wake_all(self) -> None:
        """Ends all waiting calls, at the server's end: they answer as if their session had ended."""
        for session in self._waiters.sessions():
            self.session_ended(session)

    def session_ended(self, session: str) -> None:
        """Wakes the calls of a session that ended; they answer SESSION_INVALID."""
        self._waiters.end(session)
        self._forget(session)

    async def inject(self, cls: str, ref: str) -> str:
        """Marks an object as modified, and gives a token from which that is the next change (spec §5.4).

        Raises:
            HANDLE_INVALID: There is no such object.
        """
        decl = CLASSES.get(cls)
        if decl is None or self._database.view.find(decl.python_type, Ref(ref)) is None:
            raise errors.handle_invalid(cls, Ref(ref))
        number = self._database.feed.number
        await self._database.touch(decl.python_type, Ref(ref))
        return make_token(number, number)

    # --- register, next ----------------------------------------------------------------------------------------

    def register(self, session: str, entries: Sequence[str]) -> None:
        """Adds to what a session hears of with `next` (spec §5.3).

        Raises:
            INTERNAL_ERROR: It has registered for more than anybody needs.
        """
        registration = self._registrations.get(session) or _Registration(self._next_id)
        registration.change({*registration.entries, *entries})
        self._registrations[session] = registration
        if self._unsubscribe is None:
            self._unsubscribe = self._database.feed.subscribe(self._hear)
            self._heart = asyncio.create_task(self._beat(), name="event-heartbeat")

    def unregister(self, session: str, entries: Sequence[str]) -> None:
        """Takes equal entries away again."""
        registration = self._registrations.get(session)
        if registration is not None:
            registration.change(registration.entries - set(entries))
            if not registration.entries:
                self._forget(session)

    async def next(self, session: str, wake: Wake = at_once) -> EventBatch:
        """Waits for at least one event that the session has registered for; `wake` as for `from_`.

        Raises:
            SESSION_NOT_REGISTERED: It has not registered for any.
            EVENTS_LOST: Events it has not read were dropped from the queue.
            SESSION_INVALID: The session ended while the call was waiting.
        """
        with self._waiters.of(session) as waiter:
            while True:
                registration = self._registrations.get(session)
                if registration is None:
                    digest = hashlib.sha256(session.encode()).hexdigest()[:32]
                    raise errors.session_not_registered(f"trackid={digest}")
                first, registration.next_id = registration.next_id, self._next_id
                if first <= self._dropped:
                    raise errors.events_lost()
                match = registration.subscriptions.match
                events = [event for event in self._newest_until(first) if match(event.cls, event.ref)]
                if events:
                    return EventBatch(events=tuple(reversed(events)))
                await self._for_queue.sleep(waiter, wake)
                if waiter.ended:
                    raise errors.session_invalid(Ref(session))

    def _newest_until(self, first: int) -> Iterator[ChangeEvent]:
        """The queue from its end back to the event of that id."""
        for event, _ in reversed(self._queue):
            if int(event.id) < first:
                return
            yield event

    @property
    def current_id(self) -> int:
        """The id of the next event."""
        return self._next_id

    def _hear(self, published: Published) -> None:
        """Queues the events of one commit."""
        groups = (("add", published.created), ("mod", published.modified), ("del", published.deleted))
        for operation, rows in groups:
            for row in rows:
                cls = row.wire_name.lower()
                wanted = (r.subscriptions.match(cls, row.ref) for r in self._registrations.values())
                if cls in EVENT_CLASSES and any(wanted):
                    self._enqueue(operation, row)
        self._for_queue.rouse()

    async def _beat(self) -> None:
        """Tells of the pool now and then, so that idle connections live (spec §5.3)."""
        pool = CLASSES["pool"].python_type
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            self._hear(
                Published(number=0, created=(), modified=tuple(self._database.view.all(pool)), deleted=())
            )

    def _enqueue(self, operation: str, row: Row) -> None:
        event = ChangeEvent(
            id=str(self._next_id),
            timestamp=f"{int(self._clock().timestamp())}.",
            cls=row.wire_name.lower(),
            operation=operation,
            ref=row.ref,
            row=row,
        )
        size = len(encode_record(Codec.JSON, CLASSES[row.wire_name], row))
        self._queue.append((event, size))
        self._next_id += 1
        self._queue_bytes += size
        while self._queue_bytes > QUEUE_BYTES_MAX:
            event, size = self._queue.popleft()
            self._queue_bytes -= size
            self._dropped = int(event.id)

    def _forget(self, session: str) -> None:
        """Ends a registration; nothing is queued while there is none."""
        self._registrations.pop(session, None)
        if not self._registrations and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
            if self._heart is not None:
                self._heart.cancel()
            self._queue.clear()
            self._queue_bytes = 0
            self._dropped = self._next_id - 1

    async def stop(self) -> None:
        """Forgets all registrations, at the server's end."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        for session in list(self._registrations):
            self._forget(session)
        if self._heart is not None:
            await asyncio.gather(self._heart, return_exceptions=True)


def _event(operation: str, cls: str, ref: str, number: int, row: Row | None) -> ChangeEvent:
    return ChangeEvent(
        id="0" if cls == MESSAGE else str(number),
        timestamp="0.0",
        cls=cls,
        operation=operation,
        ref=ref,
        row=row,
    )


async def _turn(wake: Wake) -> None:
    place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    wake(place)
    await place


def parse_token(token: str) -> tuple[int, int]:
    """The two commit numbers of a token; "" is the beginning.

    Raises:
        EVENT_FROM_TOKEN_PARSE_FAILURE: It is not two numbers joined by a comma.
    """
    if token == "":
        return 0, 0
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise errors.event_from_token_parse_failure(token)
    return int(found[1]), int(found[2])


def make_token(number: int, message_number: int) -> str:
    """A token in the reference's form: two numbers of 20 digits."""
    return f"{number:020d},{message_number:020d}"
