"""What is the program `xe`? A thin client: it posts its words to a server, and then does what the server says.

Started by people and scripts, so it must start fast: standard library only, and what is seldom needed (TLS, file
transfers, the terminal) is imported when it is. Words and switches: spec xe-cli §2.1; texts and exit codes: §4.2.
"""

from __future__ import annotations

import os
import sys

from poolnet.xe import words
from poolnet.xe.frames import Ended
from poolnet.xe.session import Session

VERSION = "0.2"
USAGE = (
    "Usage:\n"
    "  {program} COMMAND [-s SERVER] [-p PORT] [-u USERNAME] [-pw PASSWORD | -pwf PASSWORD-FILE]\n"
    "     [--nossl] [--debug] [--debug-on-fail] [--traceparent VALUE] [NAME=VALUE ...]\n"
    "\n"
    "A list of the commands: {program} help [-s SERVER] [-p PORT]\n"
    "What one command does:  {program} help COMMAND [-s SERVER] [-p PORT]\n"
)


def main(given: list[str] | None = None) -> int:
    """Run `xe` with these words, or those of this process's command line; returns the exit code."""
    arguments = sys.argv[1:] if given is None else given
    trace: list[str] = []
    debug_on_fail = False
    try:
        if "-version" in arguments:
            sys.stdout.write(f"ThinCLI protocol: {VERSION}\n")
            return 0
        options = words.gather(arguments, dict(os.environ))
        debug_on_fail = options.debug_on_fail
        if "-help" in arguments or "--help" in arguments or not options.words:
            return _end(Ended(0, usage=True))
        code = Session(options, trace).run()
    except words.Refused as refusal:
        code = _end(Ended(refusal.code, refusal.text, usage=refusal.usage))
    except Ended as ended:
        code = _end(ended)
    except BrokenPipeError:
        # Nobody reads stdout any more; without this the interpreter would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    except KeyboardInterrupt:
        code = 1
    if code and debug_on_fail:
        sys.stderr.write("Debug info:\n" + "".join(f"{line}\n" for line in trace))
    return code & 0xFF


def _end(ended: Ended) -> int:
    """Write the last words of a session that ended otherwise than by the server's Exit."""
    sys.stdout.flush()
    sys.stderr.write(ended.text)
    if ended.usage:
        sys.stderr.write(USAGE.format(program=sys.argv[0]))
    return ended.code


if __name__ == "__main__":
    sys.exit(main())
