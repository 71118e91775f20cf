"""Graphs that need no model, for tests."""


def save(prefix="e2e", color=0, size=16):
    return {
        "1": {"class_type": "EmptyImage",
              "inputs": {"width": size, "height": size, "batch_size": 1, "color": color}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


def slow(steps=3, seconds=0.05, preview="none", seed=0, prefix="slow", color=0):
    """EmptyImage -> SlowProgress (a test node) -> SaveImage."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": color}},
        "5": {"class_type": "SlowProgress",
              "inputs": {"image": ["1", 0], "steps": steps, "seconds_per_step": seconds, "preview": preview,
                         "seed": seed, "text": False}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": prefix}},
    }


def load(name, prefix="loaded"):
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": prefix}},
    }


def websocket_image(color=0):
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": color}},
        "save_image_websocket_node": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}},
    }


def fail(message="boom", color=0):
    """EmptyImage -> FailAt (a test node) -> SaveImage."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": color}},
        "4": {"class_type": "FailAt", "inputs": {"image": ["1", 0], "message": message}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "never"}},
    }


def text_only(value="hi"):
    """An output, but no image."""
    return {"1": {"class_type": "ReportText", "inputs": {"value": value, "count": 1}}}


def text_to_image(seed=1, text="a red fox", steps=4, size=128, batch=1, prefix="ComfyUI"):
    """What the simulator plays: checkpoint, two texts, sampler, decoder, SaveImage."""
    return {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": size, "height": size, "batch_size": batch}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["4", 1]},
              "_meta": {"title": "Positive Prompt"}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
        "3": {"class_type": "KSampler",
              "inputs": {"seed": seed, "steps": steps, "cfg": 7, "sampler_name": "euler", "scheduler": "normal",
                         "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
                         "latent_image": ["5", 0]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": prefix}},
    }


def image_to_image(image, seed=1, steps=4):
    graph = text_to_image(seed, steps=steps)
    graph["10"] = {"class_type": "LoadImage", "inputs": {"image": image}}
    graph["5"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    graph["3"]["inputs"]["denoise"] = 0.6
    return graph
