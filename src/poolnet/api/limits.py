"""How much may one client ask of the server? Every bound on hostile or broken clients, with its reason.

Read by the codecs, `http` and `thincli`.
"""

from __future__ import annotations

from typing import Final

# Sizes of requests.
RPC_BODY_BYTES_MAX: Final = 300 * 1024  # the reference's limit (spec §1.1)
CLI_BODY_BYTES_MAX: Final = 204_800  # the reference's limit (xe-cli §1)
HEADER_LINE_BYTES_MAX: Final = 8190  # a request line or one header; what Apache and nginx allow
HEADERS_MAX: Final = 64  # real clients send fewer than 15

# Shape of requests. The deepest legal value is an array of structs of structs: under 10 levels.
WIRE_DEPTH_MAX: Final = 64
WIRE_VALUES_MAX: Final = (
    50_000  # the shortest legal XML value has 15 bytes, so 300 KiB hold at most 20,480 of them
)
METHOD_NAME_CHARS_MAX: Final = 256  # the longest real one has 61

# Connections. The reference serves 300 external clients; GUIs keep one for events and a few for calls.
CONNECTIONS_MAX: Final = (
    768  # all listeners together; the usual limit of 1024 open files leaves room for others
)

CONNECTIONS_OF_ADDRESS_MAX: Final = 256  # of one machine: it takes three to shut the others out
CONNECTIONS_RESERVED_LOCAL: Final = 64  # of these, kept for the Unix socket: root must get in during a flood
BACKLOG: Final = CONNECTIONS_MAX
CONNECTS_OF_MACHINE_BURST: Final = 32  # a GUI makes ten; each handshake takes the event loop a millisecond
CONNECTS_OF_MACHINE_PER_S: Final = 50.0  # a script of `xe` commands makes 15; more wait

# Calls. Above the rate a client waits longer for its answers; a GUI's start-up and 800 calls at once stay below.
CALLS_OF_MACHINE_BURST: Final = 1000
CALLS_OF_MACHINE_PER_S: Final = 400.0
CALLS_OF_SESSION_BURST: Final = 1000
CALLS_OF_SESSION_PER_S: Final = 300.0
BYTES_OF_MACHINE_BURST: Final = 4 * 1024 * 1024  # parsing takes about 0.1 s a MiB
BYTES_OF_MACHINE_PER_S: Final = 1024 * 1024
SESSION_CHARS: Final = 64  # of what is given as a session; real ones have 46
POLLS_OF_SESSION_MAX: Final = 32  # blocked event calls; GUIs have one, a script one for each thread
POLLS_OF_MACHINE_MAX: Final = 128
FULL_POLLS_OF_MACHINE_BURST: Final = (
    10  # event calls that are answered with all of the database; GUIs begin with one
)
FULL_POLLS_OF_MACHINE_PER_S: Final = 0.5
LARGE_ANSWER_BYTES: Final = 1024 * 1024
LARGE_ANSWERS_OF_MACHINE: Final = (
    4  # being sent at the same time: a client that reads nothing holds up its own machine alone
)
BACKGROUND_OF_SESSION_MAX: Final = 1000  # calls under way as `Async.`; 800 VLANs are made in one burst
BACKGROUND_MAX: Final = 4000
SLICE_S: Final = 0.0005  # of work for one answer, until others have their turn

# Times, in seconds.
BODY_TIMEOUT_S: Final = 30.0  # for the whole body; 300 KiB in that time is 10 KiB/s
KEEPALIVE_TIMEOUT_S: Final = 75.0  # idle between requests, and for the first request's head; nginx's default
HANDSHAKE_TIMEOUT_S: Final = 15.0  # TLS
SEND_STALL_TIMEOUT_S: Final = 60.0  # a client that reads nothing for that long is gone
LINGER_S: Final = 1.0  # the rest of a refused body is read that long, so that the client sees the refusal
SHUTDOWN_GRACE_S: Final = 5.0  # running calls may finish that long after a stop

# Answers.
SEND_SLICE_BYTES: Final = (
    128 * 1024
)  # encrypted and written in one turn; more only makes copies that wait for the client
JOINED_BYTES: Final = 32 * 1024  # of small pieces of an answer that many get

# The thin command line (xe-cli §11).
CLI_HELLO_TIMEOUT_S: Final = 30.0  # for the client's 35 bytes
CLI_FRAME_BYTES_MAX: Final = 64 * 1024  # of a client's frames, which are headers of at most 20 bytes
CLI_PROMPT_BYTES_MAX: Final = 64 * 1024  # one line of typing
CLI_LOAD_BYTES_MAX: Final = 33_554_432  # the reference's limit of a file (xe-cli §8.6)
CLI_CHUNKS_MAX: Final = 4096  # of one file, which clients send in one; empty ones would never come to an end
CLI_WAITS_MAX: Final = 10_000  # of one transfer: a month of them
CLI_BUFFER_BYTES: Final = 256 * 1024  # received and not yet read: reading pauses above
CLI_TRANSFER_QUIET_S: Final = 600.0  # a client that transfers a file says every 300 seconds that it goes on
