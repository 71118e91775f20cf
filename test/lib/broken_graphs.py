"""Graphs that are broken in every way we can think of, made from a server's object_info by a seed.

    for what, graph in broken_graphs.make(info, seed=1, count=2000): ...

First a graph that is right (as far as object_info tells): an output class, a node for each of its links, and so on,
down to a depth. Then one to three mutations of it. `what` names them. The same seed and object_info give the same
graphs."""
import copy
import json
import random

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}

STRINGS = ["", " ", "abc", "12", " 7 ", "1_000", "-3", "+4", "0x10", "1e3", "1.5", "nan", "-inf", "1_0.5", "1__0", "_1", "1e400",
           "٧", "\u00a05\u2003", "１２", "𝟗", "日本語.png", "a'b", 'a"b', "a'b\"c", "back\\slash", "line\nbreak\ttab", "\u0000", "\ud800",
           "\u200b\u00ad", "😀", "True", "None", "x" * 300, "9" * 5000, "²", "1²", "Ⅷ", "İ", "\x7f\x1f"]
NUMBERS = [0, -1, 1, 2, 7, 10**6, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, -10**30, 10**308, 10**309, 0.0, -0.0,
           0.5, 1e-300, 1e300, -1e300, 5.0, 16.0, 1e16, 1e22, 123456.789, float("nan"), float("inf"), float("-inf")]
OTHERS = [None, True, False, {}, {"a": 1}, {"__value__": 3}, {"__value__": [1, 2]}, {"__value__": "7"}, {"__value__": None},
          {"__value__": {"__value__": 1}}, {"": []}]
LINKS = [[], [0], ["1"], ["1", 0, 0], [1, 0], [None, 0], [True, 0], [1.5, 0], [[], 0], [{}, 0], ["nobody", 0], ["", 0],
         [["1", 0], 0], [[[]]], ["１", 0]]
SLOTS = [1, 2, 7, -1, -2, -9, 10**20, "0", "", None, 0.0, 1.5, True, False, [], {}, float("nan")]
CLASSES = [None, "", "NoSuchClass", "saveimage", "SaveImage ", 5, True, 1.5, "日本", "a'b\n", "\ud800"]
NOT_NODES = [None, 5, "x", "class_type", [], ["class_type"], ["x"], True, 1.5, ""]
INPUTS = [None, [], {}, "", "x", 5, True, [1, 2], ["images"], "images", 1.5]


class Maker:
    def __init__(self, info, rng):
        self.info = info
        self.rng = rng
        self.classes = list(info)
        self.outputs = [c for c in info if info[c]["output_node"]]
        self.makers = {}
        for c in info:
            for slot, kind in enumerate(info[c]["output"]):
                if isinstance(kind, str):
                    self.makers.setdefault(kind, []).append((c, slot))

    def inputs(self, cls):
        """(name, type, options, required) of each."""
        for section in ("required", "optional"):
            for name, config in self.info[cls]["input"].get(section, {}).items():
                kind = config[0]
                options = config[1] if len(config) > 1 and isinstance(config[1], dict) else {}
                yield name, kind, options, section == "required"

    def literal(self, kind, options):
        rng = self.rng
        if isinstance(kind, list) or kind == "COMBO":
            choices = kind if isinstance(kind, list) else options.get("options") or []
            return rng.choice(choices) if choices else "none.safetensors"
        if kind == "INT":
            low, high = int(options.get("min", 0)), int(options.get("max", 100))
            return min(max(options.get("default", low) or 0, low), high) if rng.random() < 0.5 else rng.randint(
                low, min(high, low + 64))
        if kind == "FLOAT":
            return float(options.get("default", options.get("min", 1.0)) or 0.0)
        if kind == "BOOLEAN":
            return rng.random() < 0.5
        if kind == "STRING":
            return rng.choice(["text", "ComfyUI", "größer"])
        return "something"

    def node(self, graph, cls, depth):
        """Adds a node and what it needs; returns its id."""
        inputs = {}
        for name, kind, options, required in self.inputs(cls):
            if not required and self.rng.random() < 0.6:
                continue
            if isinstance(kind, list) or kind in WIDGETS or not self.makers.get(kind):
                inputs[name] = self.literal(kind, options)
                continue
            link = self.source(graph, kind, depth)
            if link:
                inputs[name] = link
            elif required:
                inputs[name] = ["nobody", 0]
        ident = str(len(graph) + 1) if self.rng.random() < 0.9 else self.rng.choice("abcä'é ") + str(len(graph))
        graph[ident] = {"class_type": cls, "inputs": inputs}
        if self.rng.random() < 0.1:
            graph[ident]["_meta"] = {"title": "A title"}
        return ident

    def source(self, graph, kind, depth):
        have = [(n, slot) for n in graph for slot, k in enumerate(self.info[graph[n]["class_type"]]["output"]) if k == kind]
        if have and (depth <= 0 or self.rng.random() < 0.5):
            n, slot = self.rng.choice(have)
            return [n, slot]
        # Leaves are preferred, so that graphs end.
        many = sorted(self.rng.sample(self.makers[kind], min(6, len(self.makers[kind]))),
                      key=lambda m: sum(not isinstance(k, list) and k not in WIDGETS for _, k, _, r in self.inputs(m[0]) if r))
        cls, slot = many[0] if depth <= 1 else self.rng.choice(many)
        return [self.node(graph, cls, depth - 1), slot] if depth > -3 else None

    def graph(self):
        graph = {}
        for _ in range(1 if self.rng.random() < 0.7 else self.rng.randint(2, 3)):
            self.node(graph, self.rng.choice(self.outputs), self.rng.randint(0, 3))
        return graph


# ---- mutations: each changes the graph in place, and says what it did, or None if it cannot here -------------------


def _value(rng):
    return copy.deepcopy(rng.choice(rng.choice([STRINGS, NUMBERS, NUMBERS, OTHERS])))


def _pick(m, graph, wanted):
    """A node and one of its class's inputs of which wanted(kind) is true."""
    all_ = [(n, i) for n in graph if isinstance(graph[n].get("inputs"), dict)
            for i in m.inputs(graph[n]["class_type"]) if wanted(i[1])]
    return m.rng.choice(all_) if all_ else (None, None)


def missing_input(m, graph):
    all_ = [(n, k) for n in graph for k in graph[n]["inputs"]]
    if not all_:
        return None
    n, k = m.rng.choice(all_)
    del graph[n]["inputs"][k]
    return "missing input"


def extra_input(m, graph):
    n = m.rng.choice(list(graph))
    graph[n]["inputs"][m.rng.choice(["extra", "", "é", "__proto__"])] = m.rng.choice([_value(m.rng), ["1", 0], ["nobody", 3]])
    return "extra input"


def _set(m, graph, wanted, name):
    n, i = _pick(m, graph, wanted)
    if n is None:
        return None
    graph[n]["inputs"][i[0]] = _value(m.rng)
    return name


def odd_int(m, graph):
    return _set(m, graph, lambda k: k == "INT", "odd INT")


def odd_float(m, graph):
    return _set(m, graph, lambda k: k == "FLOAT", "odd FLOAT")


def odd_string(m, graph):
    return _set(m, graph, lambda k: k == "STRING", "odd STRING")


def odd_boolean(m, graph):
    return _set(m, graph, lambda k: k == "BOOLEAN", "odd BOOLEAN")


def odd_choice(m, graph):
    return _set(m, graph, lambda k: isinstance(k, list), "odd choice")


def odd_combo(m, graph):
    return _set(m, graph, lambda k: k == "COMBO", "odd COMBO")


def literal_for_link(m, graph):
    return _set(m, graph, lambda k: not isinstance(k, list) and k not in WIDGETS, "literal for a link")


def out_of_range(m, graph):
    n, i = _pick(m, graph, lambda k: k in ("INT", "FLOAT"))
    if n is None or not {"min", "max"} & set(i[2]):
        return None
    side = m.rng.choice(sorted({"min", "max"} & set(i[2])))
    step = m.rng.choice([0, 1, -1, 1e-9, 10**12]) * (1 if side == "max" else -1)
    graph[n]["inputs"][i[0]] = m.rng.choice([lambda v: v, str, lambda v: {"__value__": v}])(i[2][side] + step)
    return "at or beyond a limit"


def bad_link(m, graph):
    n = m.rng.choice(list(graph))
    names = [i[0] for i in m.inputs(graph[n]["class_type"])]
    if not names:
        return None
    graph[n]["inputs"][m.rng.choice(names)] = copy.deepcopy(m.rng.choice(LINKS))
    return "bad link"


def bad_slot(m, graph):
    all_ = [(n, k) for n in graph for k, v in graph[n]["inputs"].items() if isinstance(v, list) and len(v) == 2]
    if not all_:
        return None
    n, k = m.rng.choice(all_)
    graph[n]["inputs"][k] = [graph[n]["inputs"][k][0], copy.deepcopy(m.rng.choice(SLOTS))]
    return "bad slot"


def wrong_type_link(m, graph):
    """Any input linked to any slot of any node; that may close a cycle."""
    n = m.rng.choice(list(graph))
    names = [i[0] for i in m.inputs(graph[n]["class_type"])]
    to = m.rng.choice(list(graph))
    if not names or not m.info[graph[to]["class_type"]]["output"]:
        return None
    graph[n]["inputs"][m.rng.choice(names)] = [to, m.rng.randrange(len(m.info[graph[to]["class_type"]]["output"]))]
    return "link of any type"


def cycle(m, graph):
    """A link back that fits its type, where there is one."""
    for n in m.rng.sample(list(graph), len(graph)):
        for name, kind, _, _ in m.inputs(graph[n]["class_type"]):
            back = [[to, slot] for to in graph for slot, k in enumerate(m.info[graph[to]["class_type"]]["output"]) if k == kind]
            if isinstance(kind, str) and back:
                graph[n]["inputs"][name] = m.rng.choice(back)
                return "link back"
    return None


def odd_class(m, graph):
    graph[m.rng.choice(list(graph))]["class_type"] = m.rng.choice(CLASSES + m.classes[:5])
    return "odd class"


def no_class(m, graph):
    del graph[m.rng.choice(list(graph))]["class_type"]
    return "no class"


def no_inputs(m, graph):
    del graph[m.rng.choice(list(graph))]["inputs"]
    return "no inputs"


def odd_inputs(m, graph):
    graph[m.rng.choice(list(graph))]["inputs"] = copy.deepcopy(m.rng.choice(INPUTS))
    return "odd inputs"


def no_output(m, graph):
    for n in [n for n in graph if m.info[graph[n]["class_type"]]["output_node"]]:
        del graph[n]
    return "no output"


def not_a_node(m, graph):
    place = m.rng.choice([m.rng.choice(list(graph)), "odd", ""])
    graph[place] = copy.deepcopy(m.rng.choice(NOT_NODES))
    return "not a node"


def validator(m, graph):
    if "RaisingValidate" not in m.info:
        return None
    graph["v"] = {"class_type": "RaisingValidate", "inputs": {"value": m.rng.choice([0, 1, 2, 3, "1", "x", None])}}
    return "a class that checks itself"


def custom_class(m, graph):
    mine = [c for c in m.classes if m.info[c]["python_module"].startswith("custom_nodes.")]
    if not mine:
        return None
    ident = m.node(graph, m.rng.choice(mine), 1)
    for name, _, _, _ in m.inputs(graph[ident]["class_type"]):
        if m.rng.random() < 0.4:
            graph[ident]["inputs"][name] = _value(m.rng)
    if not m.info[graph[ident]["class_type"]]["output_node"] and m.info[graph[ident]["class_type"]]["output"]:
        graph["p"] = {"class_type": "PreviewAny", "inputs": {"source": [ident, 0]}}
    return "a custom class"


# Last ones change what the others rely on (classes, inputs): they come last.
MUTATIONS = [missing_input, missing_input, extra_input, odd_int, odd_int, odd_float, odd_float, odd_string, odd_boolean, odd_choice,
             odd_choice, odd_combo, literal_for_link, out_of_range, out_of_range, bad_link, bad_slot, wrong_type_link,
             wrong_type_link, cycle, validator, custom_class]
LAST = [odd_class, no_class, no_inputs, odd_inputs, no_output, not_a_node]


def make(info, seed, count):
    """count pairs (what was done, graph), all different."""
    rng = random.Random(seed)
    maker = Maker(info, rng)
    seen = set()
    while len(seen) < count:
        graph = maker.graph()
        done = [f(maker, graph) for f in rng.sample(MUTATIONS, rng.choice([0, 1, 1, 1, 1, 2, 3]))]
        if rng.random() < (0.25 if any(done) else 1):
            done.append(rng.choice(LAST)(maker, graph))
        text = json.dumps(graph)
        if any(done) and text not in seen:
            seen.add(text)
            yield " + ".join(d for d in done if d), graph
