"""Messages come out of a stream whole, however the network cuts it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolnet.ovsdb.framing import FramingError, MessageStream

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4)


@given(
    messages=MESSAGES, ascii_only=st.booleans(), separator=st.sampled_from(["", "\n", "  "]), data=st.data()
)
def test_any_cut_gives_the_same_messages(
    messages: list[object], ascii_only: bool, separator: str, data: st.DataObject
) -> None:
    stream = separator.join(json.dumps(message, ensure_ascii=ascii_only) for message in messages).encode()
    reader = MessageStream()
    read: list[object] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        read += [json.loads(message) for message in reader.feed(stream[:size])]
        stream = stream[size:]
    assert read == messages


def test_byte_by_byte_a_string_full_of_braces_and_quotes_stays_one_message() -> None:
    message = json.dumps({'a"{': '\\"}{', "b": ["}", '\\\\"', "\\"]}).encode()
    reader = MessageStream()
    parts = [found for byte in message for found in reader.feed(bytes([byte]))]
    assert parts == [message]


@pytest.mark.parametrize("stream", [b"}", b'{"a": 1} x {"b": 2}', b'{"a": 1}}'])
def test_what_is_no_sequence_of_objects_is_refused(stream: bytes) -> None:
    with pytest.raises(FramingError):
        MessageStream().feed(stream)
