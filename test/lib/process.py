"""A server process of a test: started on a free port, awaited by asking it, stopped by its pid."""
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request


def free_port(count=1):
    """The first of `count` consecutive TCP ports of 127.0.0.1 that are free right now."""
    for _ in range(100):
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                for i in range(1, count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + i))
                return port
    raise RuntimeError("no %d consecutive free ports" % count)


class Process:
    """command is a list; log a path that is appended to. url + ready_path answers 200 when it is ready."""

    def __init__(self, name, command, url, log, ready_path="/prompt", cwd=None, env=None):
        self.name = name
        self.command = [str(c) for c in command]
        self.url = url
        self.log = pathlib.Path(log)
        self.ready_path = ready_path
        self.cwd = cwd
        self.env = env
        self.child = None

    def start(self):
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(self.command, cwd=self.cwd, env=self.env, stdin=subprocess.DEVNULL,
                                          stdout=out, stderr=subprocess.STDOUT)
        return self

    @property
    def pid(self):
        return self.child.pid

    def wait_ready(self, seconds=60):
        """The deadline is a safety net for a machine that hangs, not a measure of anything."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                raise RuntimeError("%s ended with status %d while starting:\n%s"
                                   % (self.name, self.child.returncode, self.tail()))
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(self.url + self.ready_path, timeout=5):
                    return self
            time.sleep(0.05)
        raise RuntimeError("%s was not ready after %d s:\n%s" % (self.name, seconds, self.tail()))

    def tail(self, count=40):
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        return ""

    def running(self):
        return self.child is not None and self.child.poll() is None

    def stop(self, sig=signal.SIGTERM, seconds=30):
        """Signal this process and wait for it (then SIGKILL). Returns its exit status as subprocess does, None if
        it was never started."""
        if not self.child:
            return None
        if self.child.poll() is None:
            os.kill(self.child.pid, sig)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        return self.child.returncode
