"""JSON-RPC 1.0 and 2.0 as spec §1.4 has them."""

from __future__ import annotations

import json

import pytest

from poolnet.api import jsonrpc
from poolnet.api.jsonrpc import JsonCall
from poolnet.api.limits import WIRE_DEPTH_MAX
from poolnet.api.wire import Malformed, Mark, Marked, Wire, WireCall


@pytest.mark.parametrize(
    ("body", "version_2", "request_id", "params"),
    [
        (b'{"method":"m.n","params":[],"id":1}', False, 1, ()),
        (
            b'{"id":"x","method":"m.n","params":["a",1,1.5,true,null,[],{}]}',
            False,
            "x",
            ("a", 1, 1.5, True, None, [], {}),
        ),
        (b'{"jsonrpc":"2.0","method":"m.n","id":0}', True, 0, ()),
        (b'{"jsonrpc":"2.0","method":"m.n","params":null,"id":-5}', True, -5, ()),
        (b'{"jsonrpc":"2.0","method":"m.n","params":{"a":1},"id":""}', True, "", ({"a": 1},)),
        (
            b'{"jsonrpc":"2.0","method":"m.n","params":[123456789012345678901234567890],"id":1}',
            True,
            1,
            (123456789012345678901234567890,),
        ),
        (b'{"method":"x","method":"m.n","params":[{"k":1,"k":2}],"id":1,"more":[]}', False, 1, ({"k": 2},)),
        (b'{"method":"m.n","params":["\xe6\x97\xa5"],"id":1}', False, 1, ("日",)),
        (b'{"method":"m.n","params":["\\ud83d\\ude00"],"id":1}', False, 1, ("😀",)),
        (
            b'{"method":"m.n","params":["b\xffd","ok"],"id":1}',
            False,
            1,
            (Marked(Mark.NOT_UTF8, "b\ufffdd"), "ok"),
        ),
    ],
)
def test_each_form_of_a_request_is_read(
    body: bytes, version_2: bool, request_id: int | str, params: tuple[Wire, ...]
) -> None:
    assert jsonrpc.decode_call(body) == JsonCall(
        call=WireCall("m.n", params), version_2=version_2, request_id=request_id
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'[{"method":"m.n","params":[],"id":1}]',
        b'{"method":"m.n","params":[]}',
        b'{"method":"m.n","params":[],"id":null}',
        b'{"method":"m.n","params":[],"id":1.5}',
        b'{"method":"m.n","params":[],"id":true}',
        b'{"method":"m.n","params":[],"id":[]}',
        b'{"method":"m.n","id":1}',
        b'{"method":"m.n","params":null,"id":1}',
        b'{"method":"m.n","params":{},"id":1}',
        b'{"jsonrpc":"2.0","method":"m.n","params":"x","id":1}',
        b'{"jsonrpc":"2.0","method":"m.n","params":[]}',
        b'{"jsonrpc":"1.0","method":"m.n","params":[],"id":1}',
        b'{"jsonrpc":2.0,"method":"m.n","params":[],"id":1}',
        b'{"method":1,"params":[],"id":1}',
        b'{"params":[],"id":1}',
        b'{"method":"","params":[],"id":1}',
        b'{"method":"' + b"m" * 300 + b'","params":[],"id":1}',
        b'{"method":"m.n","params":[NaN],"id":1}',
        b'{"method":"m.n","params":[Infinity],"id":1}',
        b'{"method":"m.n","params":[1e999],"id":1}',
        b'{"method":"m.n","params":[' + b"9" * 5000 + b'],"id":1}',
        b'{"method":"m.n","params":["\\ud800"],"id":1}',
        b'{"method":"m.n","params":' + b"[" * 100_000,
        b'{"method":"m.n","params":' + b"[" * 100 + b"]" * 100 + b',"id":1}',
        b'{"method":"m.n","params":[' + b'{"a":' * 100_000,
        b'{"method":"m.n","params":[' + b"0," * 60_000 + b'0],"id":1}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_no_request_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        jsonrpc.decode_call(body)


def test_values_may_be_nested_as_deeply_as_the_limit_says() -> None:
    nested = "[" * (WIRE_DEPTH_MAX - 1) + "]" * (WIRE_DEPTH_MAX - 1)
    jsonrpc.decode_call(f'{{"method":"m.n","params":[{nested}],"id":1}}'.encode())


V1 = JsonCall(call=WireCall("m", ()), version_2=False, request_id='i"d')
V2 = JsonCall(call=WireCall("m", ()), version_2=True, request_id=7)


def test_answers_of_version_1() -> None:
    assert b"".join(jsonrpc.success_pieces(V1, [b"[1]"])) == b'{"result":[1],"error":null,"id":"i\\"d"}'
    assert jsonrpc.encode_failure(V1, "CODE", ("p1", 'p"2')) == (
        b'{"result":null,"error":["CODE","p1","p\\"2"],"id":"i\\"d"}'
    )


def test_answers_of_version_2() -> None:
    assert b"".join(jsonrpc.success_pieces(V2, [b"[1]"])) == b'{"jsonrpc":"2.0","result":[1],"id":7}'
    assert jsonrpc.encode_failure(V2, "CODE", ("p1",)) == (
        b'{"jsonrpc":"2.0","error":{"code":1,"message":"CODE","data":["p1"]},"id":7}'
    )


def test_errors_before_dispatch_are_raw_arrays_with_the_id_0() -> None:
    assert json.loads(jsonrpc.encode_failure_before_dispatch("HOST_STILL_BOOTING", ())) == {
        "jsonrpc": "2.0",
        "error": ["HOST_STILL_BOOTING"],
        "id": 0,
    }
