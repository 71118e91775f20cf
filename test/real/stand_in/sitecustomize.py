"""A stand-in for torch and friends, so that a server which merely imports them starts without them.

Python imports sitecustomize by itself when it is on PYTHONPATH. It puts a finder in front of sys.meta_path that
answers `import torch` (and everything in NAMES, and every submodule) with a FakeModule. Whatever is asked of one is
a Stub that can be called, subclassed, iterated and compared without doing anything, except for the few tensor
operations that ComfyUI's image nodes need: those work on numpy arrays (Tensor, REAL). What needs a model cannot
run."""

import importlib
import importlib.abc
import importlib.machinery
import sys
import types

import numpy as _np

NAMES = (
    "torch",
    "torchvision",
    "torchaudio",
    "torchsde",
    "kornia",
    "spandrel",
    "transformers",
    "tokenizers",
    "sentencepiece",
    "torchdiffeq",
    "comfy_kitchen",
    "scipy",
    "av",
)


class _Meta(type):
    def __getattr__(cls, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        v = Stub(cls.__name__ + "." + name)
        return v

    def __iter__(cls):
        return iter(())

    def __or__(a, b):
        return object

    def __ror__(a, b):
        return object

    def __getitem__(cls, k):
        return cls


class Stub(metaclass=_Meta):
    def __init__(self, name="stub", *a, **k):
        self.__dict__["_n"] = name if isinstance(name, str) else "stub"

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Stub(self._n + "." + name)

    def __call__(self, *a, **k):
        if len(a) == 1 and not k and (isinstance(a[0], types.FunctionType) or isinstance(a[0], type)):
            return a[0]  # used as a decorator
        return Stub(self._n + "()")

    def __mro_entries__(self, bases):
        return (Stub,)

    def __enter__(self):
        return self

    def __exit__(self, *a):
        return False

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0

    def __bool__(self):
        return False

    def __getitem__(self, k):
        return self

    def __setitem__(self, k, v):
        pass

    def __contains__(self, x):
        return False

    def __hash__(self):
        return hash(self._n)

    def __eq__(self, o):
        return isinstance(o, Stub) and self._n == o._n

    def __lt__(self, o):
        return False

    def __gt__(self, o):
        return False

    def __le__(self, o):
        return True

    def __ge__(self, o):
        return True

    def __or__(self, o):
        return object

    def __ror__(self, o):
        return object

    def __add__(self, o):
        return self

    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = (
        __neg__
    ) = __mod__ = __and__ = __add__

    def __int__(self):
        return 0

    def __float__(self):
        return 0.0

    def __index__(self):
        return 0

    def __str__(self):
        return self._n

    __repr__ = __str__


class Module(object):
    def __init__(self, *a, **k):
        pass

    def __class_getitem__(cls, k):
        return cls


class device:
    def __init__(self, type="cpu", index=None):
        self.type = str(type).split(":")[0]
        self.index = index

    def __eq__(self, o):
        return isinstance(o, device) and o.type == self.type

    def __hash__(self):
        return hash(self.type)

    def __str__(self):
        return self.type

    __repr__ = __str__


class Tensor:
    def __init__(self, a=None):
        self.a = _np.asarray(a, dtype=_np.float32) if a is not None else _np.zeros(0, _np.float32)

    shape = property(lambda s: s.a.shape)
    device = device("cpu")
    dtype = property(lambda s: s.a.dtype)
    ndim = property(lambda s: s.a.ndim)

    def dim(self):
        return self.a.ndim

    def narrow(self, d, start, n):
        return Tensor(_np.take(self.a, range(start, start + n), axis=d))

    def cpu(self):
        return self

    def clone(self):
        return Tensor(self.a.copy())

    def to(self, *a, **k):
        return self

    def float(self):
        return self

    def contiguous(self):
        return self

    def detach(self):
        return self

    def numpy(self):
        return self.a

    def size(self, i=None):
        return self.a.shape if i is None else self.a.shape[i]

    def __len__(self):
        return len(self.a)

    def __iter__(self):
        return (Tensor(x) for x in self.a)

    def __getitem__(self, k):
        return Tensor(self.a[k.a if isinstance(k, Tensor) else k])

    def unsqueeze(self, d):
        return Tensor(_np.expand_dims(self.a, d))

    def squeeze(self, d=None):
        return Tensor(_np.squeeze(self.a, d))

    def movedim(self, a, b):
        return Tensor(_np.moveaxis(self.a, a, b))

    def permute(self, *d):
        return Tensor(self.a.transpose(d if not isinstance(d[0], (tuple, list)) else d[0]))

    def reshape(self, *d):
        return Tensor(self.a.reshape(d if not isinstance(d[0], (tuple, list)) else d[0]))

    view = reshape

    def expand(self, *d):
        return Tensor(_np.broadcast_to(self.a, [s if x == -1 else x for x, s in zip(d, self.a.shape)]))

    def repeat(self, *d):
        return Tensor(_np.tile(self.a, d))

    def __add__(s, o):
        return Tensor(s.a + (o.a if isinstance(o, Tensor) else o))

    def __sub__(s, o):
        return Tensor(s.a - (o.a if isinstance(o, Tensor) else o))

    def __mul__(s, o):
        return Tensor(s.a * (o.a if isinstance(o, Tensor) else o))

    def __truediv__(s, o):
        return Tensor(s.a / (o.a if isinstance(o, Tensor) else o))

    def __radd__(s, o):
        return Tensor(o + s.a)

    def __rsub__(s, o):
        return Tensor(o - s.a)

    def __rmul__(s, o):
        return Tensor(o * s.a)


def _arr(x):
    return x.a if isinstance(x, Tensor) else _np.asarray(x, dtype=_np.float32)


def _interpolate(t, size=None, mode="nearest", **k):
    a = _arr(t)
    h, w = size  # N,C,H,W; nearest for every mode
    ys = _np.arange(h) * a.shape[-2] // h
    xs = _np.arange(w) * a.shape[-1] // w
    return Tensor(a[..., ys, :][..., xs])


def _shape(a):
    return a[0] if a and isinstance(a[0], (tuple, list)) else a


REAL = {
    "full": lambda size, v, **k: Tensor(_np.full(size, v)),
    "zeros": lambda *a, **k: Tensor(_np.zeros(_shape(a))),
    "ones": lambda *a, **k: Tensor(_np.ones(_shape(a))),
    "cat": lambda ts, dim=0, **k: Tensor(_np.concatenate([_arr(t) for t in ts], axis=k.get("axis", dim))),
    "stack": lambda ts, dim=0: Tensor(_np.stack([_arr(t) for t in ts], dim)),
    "from_numpy": lambda a: Tensor(a),
    "tensor": lambda a, **k: Tensor(a),
    "Tensor": Tensor,
    "FloatTensor": Tensor,
    "device": device,
    "is_tensor": lambda x: isinstance(x, Tensor),
    "no_grad": lambda *a: Stub("ctx") if not a else a[0],
    "inference_mode": lambda *a, **k: Stub("ctx"),
    "set_grad_enabled": lambda *a: Stub("ctx"),
    "__version__": "2.4.0+stub",
    "clamp": lambda t, a=None, b=None, **k: Tensor(_np.clip(_arr(t), k.get("min", a), k.get("max", b))),
}


class FakeModule(types.ModuleType):
    def __getattr__(self, name):
        if name in ("__path__",):
            return []
        if name.startswith("__") and name.endswith("__") and name != "__version__":
            raise AttributeError(name)
        full = self.__name__ + "." + name
        if full in sys.modules:
            return sys.modules[full]
        if full == "torch.nn.functional.interpolate":
            return _interpolate
        if self.__name__ == "torch" and name in REAL:
            return REAL[name]
        if name == "__version__":
            return "4.60.0"
        if self.__name__ == "torch.version" and name == "__version__":
            return "2.4.0"
        if name == "Module" or (self.__name__ == "torch.nn" and name[:1].isupper()):
            c = type(name, (Module,), {})
        elif name[:1].isupper():
            c = type(name, (Stub,), {})
        elif self.__name__ == "torch" and name in (
            "cuda",
            "xpu",
            "mps",
            "backends",
            "version",
            "nn",
            "hub",
            "jit",
            "library",
            "utils",
        ):
            c = importlib.import_module(full)
        else:
            c = Stub(full)
        setattr(self, name, c)
        return c


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in NAMES:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return FakeModule(spec.name)

    def exec_module(self, mod):
        if mod.__name__ == "torch.version":
            mod.__version__ = "2.4.0"
            mod.cuda = None
            mod.hip = None
        if mod.__name__ == "torch":
            mod.__version__ = "2.4.0"
        if mod.__name__ in ("torch.cuda", "torch.xpu", "torch.mps", "torch.backends.mps"):
            mod.is_available = lambda: False
            mod.device_count = lambda: 0


sys.meta_path.insert(0, Finder())
