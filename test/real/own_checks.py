"""Which classes of ComfyUI check their inputs themselves: src/comfy/own_checks.h, made from the installed server.

    build/venv/bin/python test/real/own_checks.py            # writes the header anew
    build/venv/bin/python test/real/own_checks.py --check    # says whether it is what the server says

A class with VALIDATE_INPUTS (validate_inputs in the newer form) takes the inputs that this function names out of
ComfyUI's own checks of lists and limits, all of them if it takes **kwargs, and the types of links if it asks for
input_types. GET /object_info does not show that, so the gateway has to know it. Only classes whose module is `nodes` or
`comfy_extras.*` are listed: of others the gateway checks neither lists nor limits. The server's Python is asked, with
its modules imported as the server imports them (test/real/README.md)."""
import argparse
import os
import pathlib
import subprocess
import sys

import comfyui

HEADER = comfyui.ROOT / "src" / "comfy" / "own_checks.h"

# Runs in the server's Python. One line per class and argument.
ASK = r"""
import asyncio, inspect, logging, sys
sys.argv = ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
from comfy_api.internal import _ComfyNodeInternal, first_real_override
import nodes

asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
print("loaded", len(nodes.NODE_CLASS_MAPPINGS))
for name, cls in sorted(nodes.NODE_CLASS_MAPPINGS.items()):
    module = getattr(cls, "RELATIVE_PYTHON_MODULE", "nodes")
    if module != "nodes" and not module.startswith("comfy_extras."):
        continue
    if issubclass(cls, _ComfyNodeInternal):
        check = first_real_override(cls, "validate_inputs")
    else:
        check = getattr(cls, "VALIDATE_INPUTS", None)
    if check is None:
        continue
    spec = inspect.getfullargspec(check)
    inputs = cls.INPUT_TYPES()
    known = set(inputs.get("required", {})) | set(inputs.get("optional", {}))
    for argument in ["**"] if spec.varkw else spec.args:
        if argument in known or argument in ("**", "input_types"):
            print("check", name, argument)
"""


def ask():
    """[(class, argument)] of the installed server; argument may be "**" or "input_types"."""
    comfyui.install()
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env.update(PYTHONPATH=os.pathsep.join([str(comfyui.HERE / "stand_in"), "."]))
    run = subprocess.run([comfyui.CACHE / "venv" / "bin" / "python", "-c", ASK], cwd=comfyui.CACHE / "comfyui", env=env,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = [line.split() for line in run.stdout.splitlines()]
    if run.returncode or not any(line[:1] == ["loaded"] and int(line[1]) > 300 for line in lines):
        raise RuntimeError("the server's classes could not be read:\n" + run.stderr[-2000:])
    return [(line[1], line[2]) for line in lines if line[:1] == ["check"]]


def header(found):
    rows = "".join('    {"%s", "%s"},\n' % row for row in found)
    return """/* Made by test/real/own_checks.py from ComfyUI %s; do not edit.
 *
 * Its own classes that check inputs themselves, and which: then ComfyUI looks at neither their list nor their
 * limits. "**": all of them; "input_types": the types of links are left to the class. GET /object_info shows
 * nothing of it. */
#ifndef COMFY_OWN_CHECKS_H
#define COMFY_OWN_CHECKS_H

/* clang-format off */
static const struct {
    const char *cls, *input;
} own_checks[] = {
%s};
/* clang-format on */

#endif
""" % (comfyui.VERSION, rows)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--check", action="store_true", help="write nothing; status 1 if the header is not up to date")
    a = p.parse_args()
    text = header(ask())
    if a.check:
        same = HEADER.read_text() == text
        print("%s is %s" % (HEADER.name, "up to date" if same else "not what the server says"))
        return 0 if same else 1
    pathlib.Path(HEADER).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
