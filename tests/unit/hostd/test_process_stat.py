from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from poolnet.hostd.process_stat import started_at, stat_of


def test_what_the_kernel_says_of_a_process_whatever_its_name(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    shutil.copy(str(shutil.which("sleep")), program)
    with subprocess.Popen((str(program), "600"), start_new_session=True) as process:
        pid = process.pid
        stat = stat_of(pid)
        assert stat is not None
        assert (stat.name, stat.parent, stat.session) == (program.name, os.getpid(), pid)
        assert started_at(pid) == stat.started >= started_at(os.getpid()) > 0
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        stopped = stat_of(pid)
        assert stopped == stat._replace(state="T")
        process.kill()
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        zombie = stat_of(pid)
        assert zombie is not None
        assert (zombie.state, started_at(pid)) == ("Z", 0)
    assert (stat_of(pid), started_at(pid)) == (None, 0)
