"""Test nodes for a real ComfyUI server: slow, failing, reporting, expanding. They are the ones the recordings were
made with (their object_info entries name the module custom_nodes.golden_nodes), so names, category and texts stay."""

import time

from PIL import Image

import comfy.utils
from server import PromptServer


def _preview(step):
    return Image.new("RGB", (16, 16), ((step * 60) % 256, 80, 160))


class SlowProgress:
    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {
                "image": ("IMAGE",),
                "steps": ("INT", {"default": 4, "min": 1, "max": 10000}),
                "seconds_per_step": ("FLOAT", {"default": 0.1, "min": 0.0, "max": 60.0, "step": 0.01}),
                "preview": (["none", "jpeg", "png"],),
            },
            "optional": {
                "seed": ("INT", {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF}),
                "text": ("BOOLEAN", {"default": False}),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "golden"

    def run(self, image, steps, seconds_per_step, preview, seed=0, text=False, unique_id=None):
        bar = comfy.utils.ProgressBar(steps)
        for i in range(steps):
            time.sleep(seconds_per_step)
            if text:
                PromptServer.instance.send_progress_text("step %d of %d" % (i + 1, steps), unique_id)
            p = None
            if preview != "none":
                p = (preview.upper(), _preview(i), 16)
            bar.update_absolute(i + 1, steps, p)
        return (image,)


class FailAt:
    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"image": ("IMAGE",), "message": ("STRING", {"default": "boom"})}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "golden"

    def run(self, image, message):
        raise ValueError(message)


class BlockOutput:
    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"image": ("IMAGE",), "message": ("STRING", {"default": ""})}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "golden"

    def run(self, image, message):
        from comfy_execution.graph_utils import ExecutionBlocker

        return (ExecutionBlocker(message if message else None),)


class ReportText:
    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {
                "value": ("STRING", {"default": "hi", "multiline": True}),
                "count": ("INT", {"default": 1, "min": 0, "max": 8}),
            }
        }

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "golden"

    def run(self, value, count):
        return {"ui": {"text": [value] * count, "number": [count], "nothing": [None]}}


class ExpandToSlow:
    """Returns a subgraph: two SlowProgress nodes in a row (dynamic node ids)."""

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"image": ("IMAGE",), "steps": ("INT", {"default": 2, "min": 1, "max": 100})}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "golden"

    def run(self, image, steps):
        from comfy_execution.graph_utils import GraphBuilder

        g = GraphBuilder()
        a = g.node("SlowProgress", image=image, steps=steps, seconds_per_step=0.01, preview="none")
        b = g.node("SlowProgress", image=a.out(0), steps=steps, seconds_per_step=0.01, preview="none")
        return {"result": (b.out(0),), "expand": g.finalize()}


class BroadcastEvent:
    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"value": ("STRING", {"default": "x"})}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "golden"

    def run(self, value):
        PromptServer.instance.send_sync("golden.custom", {"value": value})
        return {}


class RaisingValidate:
    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"value": ("INT", {"default": 0})}}

    @classmethod
    def VALIDATE_INPUTS(s, value):
        if value == 1:
            return "value must not be 1"
        if value == 2:
            return False
        if value == 3:
            raise RuntimeError("validator blew up")
        return True

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "golden"

    def run(self, value):
        import torch

        return (torch.zeros((1, 8, 8, 3)),)


NODE_CLASS_MAPPINGS = {
    c.__name__: c
    for c in (SlowProgress, FailAt, BlockOutput, ReportText, ExpandToSlow, BroadcastEvent, RaisingValidate)
}
NODE_DISPLAY_NAME_MAPPINGS = {"SlowProgress": "Slow Progress"}
