"""The same as run.mjs for Python packages: run.py PACKAGE URL < graphs.json. The interpreter has the packages."""
import base64
import concurrent.futures
import json
import sys
import threading

name, url = sys.argv[1:]
graphs = json.load(sys.stdin)


def comfy_api_simplified():
    from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

    api = ComfyApiWrapper(url)
    return lambda graph: list(api.queue_and_wait_images(ComfyWorkflowWrapper(graph), "Save").values())


def comfy_toolkit():
    import comfy_toolkit

    client = comfy_toolkit.ComfyClient(url)

    def run(graph):
        result = client.submit_and_track(graph)
        return [client.download(i) for i in result["images"]]

    return run


run = {"comfy-api-simplified": comfy_api_simplified, "comfy-toolkit": comfy_toolkit}[name]()


one_line = threading.Lock()


def tell(job):
    images = [base64.b64encode(i).decode() for i in run(graphs[job])]
    with one_line:
        print(json.dumps({"job": job, "images": images}), flush=True)


half = (len(graphs) + 1) // 2
for job in range(half):
    tell(job)
with concurrent.futures.ThreadPoolExecutor() as pool:
    list(pool.map(tell, range(half, len(graphs))))
