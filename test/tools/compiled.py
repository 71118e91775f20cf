"""Print our own C files that the given build folder compiles, one a line. For clang-tidy."""
import json
import os
import sys

build = sys.argv[1]
root = os.getcwd()
files = set()
for entry in json.load(open(os.path.join(build, "compile_commands.json"))):
    path = os.path.normpath(os.path.join(entry["directory"], entry["file"]))
    rel = os.path.relpath(path, root)
    if rel.endswith(".c") and rel.split(os.sep)[0] in ("src", "test", "bench"):
        files.add(rel)
print("\n".join(sorted(files)))
