"""A gateway with a configuration file that a test changes while it runs."""
import contextlib
import json
import os
import pathlib
import signal
import tempfile

import targets


class Gateway:
    """settings: the file as nested dicts. process is targets.serve_process(); p.url is where it listens."""

    def __init__(self, folder, settings, data=None, args=(), ready_path="/readyz"):
        self.file = pathlib.Path(folder) / "comfymux.yaml"
        self.settings = {}
        self.change(settings)
        self.process = targets.serve_process([], data or pathlib.Path(folder) / "data", ["-c", self.file, *args],
                                             ready_path)

    @property
    def url(self):
        return self.process.url

    def change(self, settings):
        """Merges settings into the file (a section key by key; None takes a key out). A mapping in JSON is YAML."""
        for key, value in settings.items():
            if isinstance(value, dict):
                section = self.settings.setdefault(key, {})
                section.update(value)
                self.settings[key] = {k: v for k, v in section.items() if v is not None}
            elif value is None:
                self.settings.pop(key, None)
            else:
                self.settings[key] = value
        self.file.write_text(json.dumps({k: v for k, v in self.settings.items() if v != {}}, indent=1) + "\n")

    def hup(self):
        os.kill(self.process.pid, signal.SIGHUP)

    def reload(self, settings=None):
        """With these settings from now on. Returns the place in the log before it."""
        mark = self.process.mark()
        self.change(settings or {})
        self.hup()
        self.process.until_said(r"event\W+config_reloaded", mark)
        return mark


def servers(urls, **more):
    """The list for the file: s0, s1 ..."""
    return [{"name": "s%d" % i, "url": url, **more} for i, url in enumerate(urls)]


@contextlib.contextmanager
def gateway(settings, data=None, args=(), ready_path="/readyz"):
    with tempfile.TemporaryDirectory(prefix="comfymux-") as folder:
        g = Gateway(folder, settings, data, args, ready_path)
        with targets.running([g.process]):
            yield g
