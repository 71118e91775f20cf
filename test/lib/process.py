"""A server process of a test: started on a free port, awaited by asking it, stopped by its pid."""
import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request


def free_port():
    """A TCP port of 127.0.0.1 that is free right now, for a server that cannot pick one itself."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


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
        self.killed = False  # by kill(): its exit status says nothing

    def start(self):
        self.killed = False
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

    def said(self, pattern, after=0):
        """Matches of this pattern in what it has logged, from this place on."""
        return [m.group(0) for m in re.finditer(pattern, self.log.read_text(errors="replace")[after:], re.M)]

    def mark(self):
        """The present end of its log, for said() and until_said()."""
        return len(self.log.read_text(errors="replace"))

    def until_said(self, pattern, after=0, count=1, seconds=60):
        """Waits for so many matches."""
        deadline = time.monotonic() + seconds
        while len(self.said(pattern, after)) < count:
            assert time.monotonic() < deadline, "%s did not say %s:\n%s" % (self.name, pattern, self.tail())
            assert self.child is None or self.child.poll() is None, "%s ended:\n%s" % (self.name, self.tail())
            time.sleep(0.02)
        return self.said(pattern, after)

    def kill(self):
        """SIGKILL, as a crash; start() brings it back."""
        self.killed = True
        os.kill(self.child.pid, signal.SIGKILL)
        self.child.wait()

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


class Announced(Process):
    """One that is started with --listen 127.0.0.1:0 and prints the address of each of its servers on a line. Started
    again, it takes the same port."""

    LINE = re.compile(r"^(?:comfymux listens on )?(http://127\.0\.0\.1:\d+)$", re.M)

    def __init__(self, name, command, log, count=1, **more):
        super().__init__(name, command, None, log, **more)
        self.count = count
        self.urls = []

    def wait_ready(self, seconds=60):
        deadline = time.monotonic() + seconds
        while not self.urls:
            found = self.LINE.findall(self.log.read_text(errors="replace"))
            if len(found) >= self.count:
                self.urls = found[:self.count]
                self.url = self.urls[0]
                if self.count == 1:
                    self.command = [c.replace("127.0.0.1:0", self.url[len("http://"):]) for c in self.command]
            elif self.child.poll() is not None:
                raise RuntimeError("%s ended with status %d while starting:\n%s"
                                   % (self.name, self.child.returncode, self.tail()))
            elif time.monotonic() > deadline:
                raise RuntimeError("%s did not say where it listens:\n%s" % (self.name, self.tail()))
            else:
                time.sleep(0.02)
        return super().wait_ready(seconds)
