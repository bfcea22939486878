"""How are JSON-RPC 1.0 and 2.0 read and answered (spec §1.4)? `http` asks.

Values are encoded by `fragments`; here are the parser of a request, with its limits, and the envelopes of both versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from poolnet.api.fragments import json_string
from poolnet.api.limits import METHOD_NAME_CHARS_MAX, WIRE_DEPTH_MAX, WIRE_VALUES_MAX
from poolnet.api.wire import Malformed, Mark, Marked, Wire, WireCall

_REPLACEMENT = "\ufffd"


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonCall:
    """A request, and what its answer must repeat."""

    call: WireCall
    version_2: bool
    request_id: int | str


def decode_call(body: bytes) -> JsonCall:
    """Reads a request of either version.

    Bytes that are no UTF-8 do not spoil the call: the texts that have them come out as `Marked` (spec §1.3).

    Raises:
        Malformed: it is not JSON (NaN and infinities are not), not an object, nested too deeply, a batch, has another
            version than 2.0, no method, parameters of the wrong kind, or an id that is no integer or string, so also
            if it is a notification.
    """
    suspicious = False
    try:
        body.decode()
    except UnicodeDecodeError:
        body, suspicious = body.decode(errors="replace").encode(), True
    try:
        request: Wire = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise Malformed(str(error)) from None
    except RecursionError:
        raise Malformed("nested too deeply") from None
    _check_shape(request)
    if not isinstance(request, dict):
        raise Malformed("not an object")
    version_2 = "jsonrpc" in request
    if version_2 and request["jsonrpc"] != "2.0":
        raise Malformed("an unknown version")
    method, request_id = request.get("method"), request.get("id")
    if not isinstance(method, str) or not method or len(method) > METHOD_NAME_CHARS_MAX:
        raise Malformed("a method name is missing or too long")
    if isinstance(request_id, bool) or not isinstance(request_id, int | str):
        raise Malformed("an id must be an integer or a string")
    params = _params(request, version_2=version_2)
    if suspicious:
        params = tuple(_mark(value) for value in params)
    return JsonCall(call=WireCall(method, params), version_2=version_2, request_id=request_id)


def _check_shape(tree: Wire) -> None:
    """Refuses trees that are too deep or have too many values, without recursion."""
    level: list[Wire] = [tree]
    values = 1
    depth = 0
    while level:
        depth += 1
        if depth > WIRE_DEPTH_MAX + 2:  # the request's object and the array of parameters are two
            raise Malformed("nested too deeply")
        below: list[Wire] = []
        for value in level:
            if isinstance(value, list):
                below.extend(value)
            elif isinstance(value, dict):
                below.extend(value.values())
        values += len(below)
        if values > WIRE_VALUES_MAX:
            raise Malformed("too many values")
        level = below


def _params(request: dict[str, Wire], *, version_2: bool) -> tuple[Wire, ...]:
    params = request.get("params")
    if isinstance(params, list):
        return tuple(params)
    if version_2 and params is None:
        return ()
    if version_2 and isinstance(params, dict):
        return (params,)
    raise Malformed("params must be an array")


def _mark(value: Wire) -> Wire:
    """Marks the texts that had bytes which are no UTF-8; the depth is bounded already."""
    if isinstance(value, str):
        return Marked(Mark.NOT_UTF8, value) if _REPLACEMENT in value else value
    if isinstance(value, list):
        return [_mark(item) for item in value]
    if isinstance(value, dict):
        return {name: _mark(item) for name, item in value.items()}
    return value


def success_pieces(call: JsonCall, value: Iterable[bytes]) -> list[bytes]:
    """Puts an encoded value in the envelope of a success."""
    request_id = _id_text(call)
    if call.version_2:
        return [b'{"jsonrpc":"2.0","result":', *value, f',"id":{request_id}}}'.encode()]
    return [b'{"result":', *value, f',"error":null,"id":{request_id}}}'.encode()]


def encode_failure(call: JsonCall, code: str, params: Sequence[str]) -> bytes:
    """Writes the envelope of a failure."""
    if call.version_2:
        text = (
            f'{{"jsonrpc":"2.0","error":{{"code":1,"message":{json_string(code)},'
            f'"data":{_array(params)}}},"id":{_id_text(call)}}}'
        )
    else:
        text = f'{{"result":null,"error":{_array((code, *params))},"id":{_id_text(call)}}}'
    return text.encode(errors="replace")


def encode_failure_before_dispatch(code: str, params: Sequence[str]) -> bytes:
    """Writes an error of emergency mode: 2.0 with a raw array and the id 0, whoever asked (spec §1.4)."""
    text = f'{{"jsonrpc":"2.0","error":{_array((code, *params))},"id":0}}'
    return text.encode(errors="replace")


def _array(texts: Sequence[str]) -> str:
    return f"[{','.join(json_string(text) for text in texts)}]"


def _id_text(call: JsonCall) -> str:
    request_id = call.request_id
    return json_string(request_id) if isinstance(request_id, str) else str(request_id)
