#!/usr/bin/env python3
"""embed.py IN OUT NAME: a file as a C array NAME[] and NAME_len."""
import sys

data = open(sys.argv[1], "rb").read()
with open(sys.argv[2], "w") as out:
    out.write("#include <stddef.h>\n")
    out.write("extern const char %s[];\nextern const size_t %s_len;\n" % (sys.argv[3], sys.argv[3]))
    out.write("const char %s[] = {\n" % sys.argv[3])
    for i in range(0, len(data), 24):
        out.write("".join("%d," % (b if b < 128 else b - 256) for b in data[i:i + 24]) + "\n")
    out.write("0};\nconst size_t %s_len = sizeof(%s) - 1;\n" % (sys.argv[3], sys.argv[3]))
