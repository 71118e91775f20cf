"""The text of a scenario, taken apart. README.md says what it means."""
import json
import pathlib

WORDS_END = " \t"


class Fault(Exception):
    """Something is wrong at a line: file:line: message."""

    def __init__(self, line, message):
        super().__init__("%s: %s" % (line.where, message))


class Line:
    def __init__(self, path, number, text, words):
        self.path, self.number, self.text, self.words = path, number, text.strip(), words

    @property
    def where(self):
        return "%s:%d" % (self.path, self.number)


class Pair:
    """key=value, or key~value: the value stands in it."""

    def __init__(self, key, op, value):
        self.key, self.op, self.value = key, op, value

    def holds(self, got):
        if self.op == "~":
            return str(self.value) in (got if isinstance(got, str) else json.dumps(got))
        if isinstance(got, (str, type(None))) or isinstance(self.value, (dict, list)):
            return got == (None if self.value == "null" else self.value)
        return json.dumps(got) == str(self.value)

    def __str__(self):
        return "%s%s%s" % (self.key, self.op, json.dumps(self.value))


class Block:
    """kind name args, with the indented lines under it."""

    def __init__(self, head):
        self.head = head
        self.kind, self.args = head.words[0], head.words[1:]
        self.lines = []


def value_at(text, i):
    """One value: a JSON string, object or list, or a bare word. (value, where it ends)"""
    if text[i] in '"{[':
        value, end = json.JSONDecoder().raw_decode(text, i)
        return value, end
    end = i
    while end < len(text) and text[end] not in WORDS_END:
        end += 1
    return text[i:end], end


def split(text):
    words, i = [], 0
    while i < len(text):
        if text[i] in WORDS_END:
            i += 1
        elif text[i] == "#":
            break
        elif text[i] in '"{[':
            value, i = value_at(text, i)
            words.append(value)
        else:
            start = i
            while i < len(text) and text[i] not in WORDS_END + "=~":
                i += 1
            if i > start and i + 1 < len(text) and text[i] in "=~" and text[i + 1] not in WORDS_END:
                value, end = value_at(text, i + 1)
                words.append(Pair(text[start:i], text[i], value))
                i = end
            else:
                while i < len(text) and text[i] not in WORDS_END:
                    i += 1
                words.append(text[start:i])
    return words


def read(path):
    """The blocks of a file."""
    blocks = []
    path = pathlib.Path(path)
    for number, text in enumerate(path.read_text().splitlines(), 1):
        line = Line(path.name, number, text, None)
        if not line.text or line.text.startswith("#"):
            continue
        try:
            line.words = split(line.text)
        except json.JSONDecodeError as e:
            raise Fault(line, "not JSON: %s" % e) from e
        if text[0] not in WORDS_END:
            blocks.append(Block(line))
        elif blocks:
            blocks[-1].lines.append(line)
        else:
            raise Fault(line, "an indented line needs a block above it")
    return blocks
