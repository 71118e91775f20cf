#!/usr/bin/env python3
"""Writes object_info.json: the entries of GET /object_info that the simulator offers.

    object_info_take.py BODY.json[.gz] > object_info.json

BODY is the answer of a ComfyUI server (0.3.75 was used) that has the test nodes of test/real installed. One class
stands on a line, so that a new version shows as a readable difference. Lists of files are emptied: the simulator
fills them from its own folders. The classes are those that src/sim/nodes*.c can execute.
"""
import gzip
import json
import sys

CLASSES = """
EmptyImage LoadImage LoadImageMask LoadImageOutput ImageScale ImageScaleBy ImageInvert ImageBatch ImageCrop ImageFlip
ImagePadForOutpaint RepeatImageBatch ImageFromBatch MaskToImage ImageToMask SolidMask InvertMask SaveImage PreviewImage
SaveImageWebsocket PreviewAny PrimitiveInt PrimitiveFloat PrimitiveBoolean PrimitiveString PrimitiveStringMultiline
GetImageSize
CheckpointLoaderSimple CLIPTextEncode EmptyLatentImage EmptySD3LatentImage KSampler KSamplerAdvanced KSamplerSelect
BasicScheduler RandomNoise BasicGuider CFGGuider SamplerCustomAdvanced VAEDecode VAEEncode VAELoader LoraLoader
LoraLoaderModelOnly CLIPSetLastLayer LatentUpscale LatentUpscaleBy UNETLoader CLIPLoader DualCLIPLoader
ConditioningCombine ConditioningZeroOut FluxGuidance ModelSamplingSD3 UpscaleModelLoader ImageUpscaleWithModel
SlowProgress FailAt BlockOutput ReportText ExpandToSlow BroadcastEvent RaisingValidate
""".split()

FILES = {"LoadImage": ["image"], "LoadImageMask": ["image"]}


def main():
    raw = open(sys.argv[1], "rb").read()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    body = json.loads(raw)
    lines = []
    for name in sorted(CLASSES, key=list(body).index):  # as the server lists them
        entry = body[name]
        for field in FILES.get(name, []):
            entry["input"]["required"][field][0] = []
        lines.append(json.dumps(name) + ": " + json.dumps(entry))
    print("{\n" + ",\n".join(lines) + "\n}")


main()
