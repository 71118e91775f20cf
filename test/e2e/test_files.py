"""Uploads, masks, and files by their names: what a client may call a file, and what it gets for it."""
import asyncio
import contextlib
import io
import json
import os
import random
import struct
import tempfile
import zlib

import aiohttp
import pytest
from PIL import Image, PngImagePlugin

import graphs
import targets
from comfy_client import Client, images


@contextlib.contextmanager
def plant(count=1, sim_args=(), args=(), data=None):
    with contextlib.ExitStack() as stack:
        try:
            s = stack.enter_context(targets.sims(count, sim_args))
            data = data or stack.enter_context(tempfile.TemporaryDirectory(prefix="comfymux-"))
            p = targets.serve_process(s.urls, data, args)
            stack.enter_context(targets.running([p]))
        except targets.Missing as e:
            targets.skip_or_fail(e)
        yield p, s


@pytest.fixture(scope="module")
def shared():
    with plant() as (p, _):
        yield p


def run(p, flow):
    async def go():
        async with Client(p.url) as c:
            return await flow(c)

    return asyncio.run(go())


def noise(mode="RGB", size=(16, 12)):
    return Image.frombytes(mode, size, os.urandom(size[0] * size[1] * len(mode)))


def encoded(im, kind="PNG", **how):
    out = io.BytesIO()
    im.save(out, kind, **how)
    return out.getvalue()


def decoded(data):
    im = Image.open(io.BytesIO(data))
    im.load()
    return im


async def view(c, filename, headers=None, method="GET", **query):
    async with c.http.request(method, c.url + "/view", params={"filename": filename, **query}, headers=headers) as r:
        return r.status, await r.read()


async def send(c, path, *fields):
    """fields: (name, value) or (name, bytes, filename)"""
    form = aiohttp.FormData()
    for f in fields:
        if len(f) == 2:
            form.add_field(*f)
        else:
            form.add_field(f[0], f[1], filename=f[2], content_type="image/png")
    async with c.http.post(c.url + path, data=form) as r:
        body = await r.read()
        return r.status, json.loads(body) if r.content_type == "application/json" else body


async def one_image(c, graph):
    prompt_id = await c.submit(graph)
    record = await c.until_state(prompt_id)
    assert record["state"] == "succeeded", record
    (image,) = images(await c.history(prompt_id))
    return prompt_id, image


# ---- uploads -----------------------------------------------------------------------------------------------------


def test_the_first_of_each_field_counts(shared):
    async def flow(c):
        status, got = await send(c, "/upload/image", ("subfolder", "one"), ("subfolder", "two"), ("image", b"A", "f.bin"),
                                 ("image", b"B", "g.bin"), ("type", "temp"), ("type", "input"))
        assert (status, got) == (200, {"name": "f.bin", "subfolder": "one", "type": "temp"})
        assert await view(c, "f.bin", type="temp", subfolder="one") == (200, b"A")
        assert (await view(c, "g.bin", type="temp", subfolder="one"))[0] == 404

    run(shared, flow)


def test_a_subfolder_has_many_spellings(shared):
    async def flow(c):
        for given in ("d/e", "d/./e/", "d//e", "x/../d/e"):
            status, got = await send(c, "/upload/image", ("image", b"same", "s.bin"), ("subfolder", given))
            assert (status, got) == (200, {"name": "s.bin", "subfolder": given, "type": "input"})
            assert await view(c, "s.bin", type="input", subfolder=given) == (200, b"same")
        for bad, seen in (("..", 403), ("/etc", 403), ("d/../..", 403), ("a\\b", 404), ("a\nb", 404)):
            assert (await send(c, "/upload/image", ("image", b"x", "s.bin"), ("subfolder", bad)))[0] == 400, bad
            assert (await view(c, "s.bin", type="input", subfolder=bad))[0] == seen, bad

    run(shared, flow)


def test_what_is_uploaded_as_an_output_can_be_viewed_and_read(shared):
    async def flow(c):
        im = noise()
        for kind in ("output", "temp"):
            name = "up_%s.png" % kind
            await c.upload(name, encoded(im), type=kind)
            assert (await view(c, name, type=kind))[0] == 200
            assert (await view(c, "%s [%s]" % (name, kind)))[0] == 200
            assert (await view(c, name, type="input"))[0] == 404
            assert name in await c.get("/internal/files/" + kind)
            await one_image(c, graphs.load("%s [%s]" % (name, kind)))
        assert (await view(c, "up_output.png"))[0] == 200  # output is the default

    run(shared, flow)


def test_a_list_of_files(shared):
    async def flow(c):
        names = ["l%d.bin" % i for i in range(4)]
        for name in names:
            await c.upload(name, name.encode())
            await asyncio.sleep(0.005)  # another millisecond
        await c.upload("deep.bin", b"x", subfolder="deep")
        listed = await c.get("/internal/files/input")
        assert [n for n in listed if n in names] == names[::-1] and "deep.bin" not in listed
        prompt_id, image = await one_image(c, graphs.save(prefix="sub/l", color=5))
        outputs = await c.get("/internal/files/output")
        (name,) = [n for n in outputs if n.startswith(prompt_id)]
        assert name == "%s/sub/%s" % (prompt_id, image["filename"])
        await one_image(c, graphs.load(name + " [output]"))
        async with c.http.get(c.url + "/internal/files/nope") as r:
            assert r.status == 400 and await r.json() == {"error": "Invalid directory type"}
        async with c.http.get(c.url + "/internal/folder_paths") as r:
            assert r.status == 404

    run(shared, flow)


def test_choosers_offer_what_was_uploaded():
    with plant(2) as (p, _):

        async def flow(c):
            await c.until_all_up()

            async def choices(cls, name):
                one = (await c.get("/object_info/" + cls))[cls]["input"]["required"][name]
                every = (await c.get("/object_info"))[cls]["input"]["required"][name]
                assert one == every
                return one[1]["options"] if one[0] == "COMBO" else one[0]

            assert await choices("LoadImage", "image") == []
            async with c.http.get(c.url + "/object_info") as r:
                etag = r.headers["ETag"]
            async with c.http.get(c.url + "/object_info", headers={"If-None-Match": etag}) as r:
                assert r.status == 304
            for name in ("b.png", "a.webp", "t.txt", "v.mp4", "s.flac", "no"):
                await c.upload(name, encoded(noise()))
            await c.upload("m.glb", b"glTF", subfolder="3d")
            await c.upload("deep.png", encoded(noise()), subfolder="deep")
            assert await choices("LoadImage", "image") == ["a.webp", "b.png"]
            async with c.http.get(c.url + "/object_info", headers={"If-None-Match": etag}) as r:
                assert r.status == 200
            await one_image(c, graphs.load("b.png"))  # what is staged for it is nobody's choice
            for s in await c.servers():
                await c.post("/mux/v1/servers/%s/resume" % s, None)
            assert await choices("LoadImage", "image") == ["a.webp", "b.png"]
            info = await c.get("/object_info")
            if "LoadAudio" in info:
                assert await choices("LoadAudio", "audio") == ["s.flac", "v.mp4"]
            # every upload shows in the very next answer, whoever else asks meanwhile
            async def upload_and_look(i):
                async with Client(p.url) as own:
                    for k in range(12):
                        await own.upload("n%d.png" % i, encoded(noise()), overwrite="true", subfolder="")
                        await own.upload("n%d_%d.png" % (i, k), encoded(noise()))
                        path = "/object_info" + random.choice(("", "/LoadImage"))
                        listed = (await own.get(path))["LoadImage"]["input"]["required"]["image"][0]
                        assert "n%d_%d.png" % (i, k) in listed

            await asyncio.gather(*(upload_and_look(i) for i in range(12)))

        run(p, flow)
        p.kill()
        p.start()
        p.wait_ready()

        async def again(c):
            listed = (await c.get("/object_info/LoadImage"))["LoadImage"]["input"]["required"]["image"][0]
            assert listed[:2] == ["a.webp", "b.png"] and len(listed) == 2 + 12 + 144

        run(p, again)


# ---- the name under which an input was staged --------------------------------------------------------------------


def test_a_staged_name_comes_back():
    """A picture that was made holds the graph with the name its input had on the server. Dropped into a window, that name
    is asked for: it means the same bytes, whatever the upload's name means by then, on every server."""
    with plant(2) as (p, _):

        async def flow(c):
            await c.until_all_up()
            first, second = noise(), noise()
            cat = (await c.upload("my-cat.png", encoded(first)))["name"]
            _, image = await one_image(c, graphs.load(cat))
            text = json.loads(decoded(await c.view(image)).text["prompt"])
            staged = text["1"]["inputs"]["image"]
            assert staged.startswith("my-cat.") and staged != cat
            assert await view(c, staged, type="input") == (200, encoded(first))
            assert await view(c, staged + " [input]") == (200, encoded(first))
            await c.upload(cat, encoded(second), overwrite="true")
            assert await view(c, staged, type="input") == (200, encoded(first))
            for name in await c.servers():  # each of them, whether it has been given the file or not
                for other in await c.servers():
                    await c.post("/mux/v1/servers/%s/%s" % (other, "resume" if other == name else "drain"), None)
                await c.until_server(name, "up")
                prompt_id, image = await one_image(c, graphs.load(staged, prefix="again_" + name))
                made = decoded(await c.view(image))
                assert json.loads(made.text["prompt"])["1"]["inputs"]["image"] == staged  # it does not grow
                want = Image.eval(first, lambda v: 255 - v).tobytes()
                assert all(abs(a - b) <= 1 for a, b in zip(made.convert("RGB").tobytes(), want))
                assert (await c.history(prompt_id))["prompt"][2]["1"]["inputs"]["image"] == staged
            wrong = staged[:-8] + ("0" if staged[-8] != "0" else "1") + staged[-7:]
            assert (await view(c, wrong, type="input"))[0] == 404

        run(p, flow)


def test_a_plain_name_means_the_only_output_that_has_it(shared):
    async def flow(c):
        prefix = "only%d" % random.randrange(1 << 30)
        prompt_id, image = await one_image(c, graphs.save(prefix=prefix, color=0x102030))
        status, data = await view(c, image["filename"])
        assert status == 200 and data == await c.view(image)
        _, loaded = await one_image(c, graphs.load(image["filename"] + " [output]"))
        assert decoded(await c.view(loaded)).convert("RGB").getpixel((0, 0)) in ((0xef, 0xdf, 0xcf), (0xee, 0xde, 0xce))

    run(shared, flow)


# ---- masks -------------------------------------------------------------------------------------------------------


async def mask(c, name, data, ref, **fields):
    return await send(c, "/upload/mask", ("image", data, name), ("original_ref", ref if isinstance(ref, str) else json.dumps(ref)),
                      *fields.items())


def composed(original, alpha):
    want = original.convert("RGBA")
    want.putalpha(alpha.convert("RGBA").getchannel("A"))
    return want


@pytest.mark.parametrize("original", ["RGB", "RGBA", "L", "P"])
@pytest.mark.parametrize("of", ["RGBA", "RGB", "LA"])
def test_a_mask_is_put_onto_its_original(shared, original, of):
    async def flow(c):
        im = noise("RGB").convert("P") if original == "P" else noise(original)
        alpha = noise(of)
        info = PngImagePlugin.PngInfo()
        info.add_text("prompt", '{"1": "h\\u00e9"}')
        info.add_text("workflow", "w" * 5000)
        await c.upload("orig_%s.png" % original, encoded(im, pnginfo=info), overwrite="true")
        name = "mask_%s_%s.png" % (original, of)
        status, got = await mask(c, name, encoded(alpha), {"filename": "orig_%s.png" % original, "type": "input"},
                                 subfolder="clipspace", type="input")
        assert (status, got) == (200, {"name": name, "subfolder": "clipspace", "type": "input"}), got
        status, data = await view(c, name, type="input", subfolder="clipspace")
        made = decoded(data)
        assert status == 200 and made.mode == "RGBA" and made.format == "PNG"
        assert made.tobytes() == composed(im, alpha).tobytes()
        assert made.text == {"prompt": '{"1": "h\\u00e9"}', "workflow": "w" * 5000}

    run(shared, flow)


def test_names_of_masks(shared):
    """A name is taken when there is one whose bytes are not the mask's, as on a stock server."""
    async def flow(c):
        await c.upload("o.png", encoded(noise()))
        data = encoded(noise("RGBA"))
        ref = {"filename": "o.png", "type": "input"}
        names = [(await mask(c, "n.png", data, ref))[1]["name"] for _ in range(3)]
        assert names == ["n.png", "n (1).png", "n (2).png"]
        assert (await mask(c, "n.png", data, ref, overwrite="true"))[1]["name"] == "n.png"
        await c.upload("same.png", data)
        assert (await mask(c, "same.png", data, ref))[1]["name"] == "same.png"
        assert await view(c, "same.png", type="input") == (200, data)

    run(shared, flow)


def test_a_mask_of_an_output_and_of_an_original_that_is_nowhere(shared):
    async def flow(c):
        prompt_id, image = await one_image(c, graphs.save(prefix="masked", color=0x336699))
        alpha = noise("RGBA", (16, 16))
        ref = {"filename": image["filename"], "subfolder": image["subfolder"]}  # output is the default
        status, got = await mask(c, "om.png", encoded(alpha), ref)
        assert status == 200
        made = decoded((await view(c, got["name"], type="input"))[1])
        assert made.tobytes() == composed(Image.new("RGB", (16, 16), (0x33, 0x66, 0x99)), alpha).tobytes()
        ref = {"filename": "%s/%s [output]" % (image["subfolder"], image["filename"])}
        assert (await mask(c, "om.png", encoded(alpha), ref))[1]["name"] == "om (1).png"
        # as on a stock server: a name, but no file
        for ref in ({"filename": "nope.png", "type": "input"}, {"filename": "../o.png", "type": "input"},
                    {"filename": "o.png", "type": "foo"}, {"filename": "o.png", "subfolder": "..", "type": "input"},
                    {"filename": "/etc/passwd", "type": "input"}, {"filename": ""}):
            status, got = await mask(c, "void.png", encoded(alpha), ref)
            assert (status, got) == (200, {"name": "void.png", "subfolder": "", "type": "input"}), ref
            assert (await view(c, "void.png", type="input"))[0] == 404

    run(shared, flow)


def test_hostile_masks(shared):
    def bomb(w, h):
        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 6, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))

    async def flow(c):
        await c.upload("ho.png", encoded(noise()))
        await c.upload("text.png", b"no picture")
        await c.upload("bomb.png", bomb(60000, 60000))
        good, ref = encoded(noise("RGBA")), {"filename": "ho.png", "type": "input"}
        for data in (b"", b"zz", good[:len(good) // 2], bomb(60000, 60000), encoded(noise("RGBA", (16, 13))),
                     b"<svg/>"):
            status, _ = await mask(c, "hm.png", data, ref)
            assert status == 400, data[:20]
        for name in ("text.png", "bomb.png"):
            assert (await mask(c, "hm.png", good, {"filename": name, "type": "input"}))[0] == 400
        for ref in ("", "xx", "[]", "{}", "null", '{"filename": 5}', '{"filename": "a' + "b" * 70000 + '"}'):
            assert (await mask(c, "hm.png", good, ref))[0] == 400, ref[:30]
        assert (await send(c, "/upload/mask", ("image", good, "hm.png")))[0] == 400
        assert (await view(c, "hm.png", type="input"))[0] == 404
        assert (await mask(c, "hm.png", good, {"filename": "ho.png", "type": "input"}))[0] == 200

    run(shared, flow)


# ---- what comes over the socket, what moves, what stops ------------------------------------------------------------


def test_a_picture_that_came_over_the_socket_outlives_its_server():
    with plant() as (p, s):

        async def flow(c):
            prompt_id = await c.submit(graphs.websocket_image(color=0x112233))
            record = await c.until_state(prompt_id)
            assert record["state"] == "succeeded", record
            (output,) = record["outputs"]
            name = "%s/%s [temp]" % (prompt_id, output["filename"])
            assert name[:-7] in await c.get("/internal/files/temp")
            _, loaded = await one_image(c, graphs.load(name))
            for process in s.processes:
                process.kill()
            status, data = await view(c, output["filename"], type="temp", subfolder=prompt_id)
            assert status == 200 and decoded(data).convert("RGB").getpixel((3, 3)) == (0x11, 0x22, 0x33)
            assert decoded(await c.view(loaded)).size == (16, 16)

        run(p, flow)


def test_films_and_sounds_are_read_in_pieces(shared):
    async def flow(c):
        for name, kind in (("f.mp4", "video/mp4"), ("f.webm", "video/webm"), ("s.flac", "audio/flac"), ("s.mp3", "audio/mpeg"),
                           ("m.glb", "model/gltf-binary")):
            data = os.urandom(300000)
            await c.upload(name, data)
            async with c.http.get(c.url + "/view", params={"filename": name, "type": "input"},
                                  headers={"Range": "bytes=100000-"}) as r:
                assert r.status == 206 and r.content_type == kind and r.headers["Accept-Ranges"] == "bytes"
                assert r.headers["Content-Range"] == "bytes 100000-299999/300000"
                etag = r.headers["ETag"]
                assert await r.read() == data[100000:]
            assert (await view(c, name, type="input", headers={"If-None-Match": etag}))[0] == 304
            await c.upload(name, data[::-1], overwrite="true")
            status, now = await view(c, name, type="input", headers={"If-Range": etag, "Range": "bytes=0-9"})
            assert (status, now) == (200, data[::-1])  # another file by now: whole

    run(shared, flow)


def test_a_stop_in_the_middle_of_everything():
    """Whatever is under way when the gateway is told to stop: it ends well, and what was answered is kept."""
    with plant(2) as (p, s):

        async def busy(c, told, i):
            with contextlib.suppress(aiohttp.ClientError, OSError, AssertionError, asyncio.TimeoutError):
                await c.upload("stop.png", encoded(noise()), overwrite="true")
                for k in range(10000):
                    name = "stop%d_%d" % (i, k)
                    async with c.http.post(c.url + "/userdata/" + name, data=name) as r:
                        assert r.status == 200
                    told.append(name)
                    async with c.http.post(c.url + "/settings/" + name, json=k) as r:
                        assert r.status == 200
                    await mask(c, "m.png", encoded(noise("RGBA")), {"filename": "stop.png", "type": "input"})
                    await view(c, "nobody%d_00001_.png" % k)
                    await c.get("/object_info")
                    await c.upload("u%d.bin" % i, os.urandom(200000))

        async def flow():
            told = []
            async with contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(Client(p.url)) for _ in range(8)]
                tasks = [asyncio.create_task(busy(c, told, i)) for i, c in enumerate(clients)]
                while len(told) < 30:
                    await asyncio.sleep(0.01)
                assert await asyncio.to_thread(p.stop) == 0
                await asyncio.gather(*tasks)
            p.start()
            await asyncio.to_thread(p.wait_ready)
            async with Client(p.url) as c:
                settings = await c.get("/settings")
                for name in told:
                    async with c.http.get(c.url + "/userdata/" + name) as r:
                        assert r.status == 200 and await r.text() == name
                assert len(settings) >= len(told) - 8

        asyncio.run(flow())


# ---- files that are older than the gateway's knowledge of a server -------------------------------------------------


async def made_behind_our_back(url, prefix, color):
    async with Client(url) as c:
        prompt_id = await c.submit(graphs.save(prefix=prefix, color=color))
        while not (entry := await c.history(prompt_id)):
            await asyncio.sleep(0.02)
        (image,) = images(entry)
        return image["filename"], await c.view(image)


def test_a_file_that_exactly_one_server_has():
    with plant(2, ["--name", ""]) as (p, s):

        async def flow(c):
            await c.until_all_up()
            name, data = await made_behind_our_back(s.urls[1], "old", 1)
            assert await view(c, name) == (200, data)
            status, part = await view(c, name, headers={"Range": "bytes=8-15"})
            assert (status, part) == (206, data[8:16])
            assert (await view(c, name, method="HEAD"))[0] == 200
            assert (await view(c, name, preview="jpeg;50"))[0] == 200
            assert (await view(c, name, type="temp"))[0] == 404
            async with Client(s.urls[1]) as there:
                for evil in ("x.html", "x.svg", "x.png"):
                    await there.upload(evil, b"<script>", type="output")
            for evil in ("x.html", "x.svg", "x.png"):
                async with c.http.get(c.url + "/view", params={"filename": evil}) as r:
                    assert r.status == 200 and await r.read() == b"<script>"
                    assert r.headers.getall("X-Content-Type-Options") == ["nosniff"]
                    assert r.content_type == ("image/png" if evil == "x.png" else "application/octet-stream")
                    (disposition,) = r.headers.getall("Content-Disposition")
                    assert disposition.startswith("attachment") == (evil != "x.png")
            assert (await view(c, "other_00001_.png"))[0] == 404
            # two have it: nobody knows which is meant
            twins = [await made_behind_our_back(url, "twin", i) for i, url in enumerate(s.urls)]
            assert twins[0][0] == twins[1][0] and twins[0][1] != twins[1][1]
            assert (await view(c, twins[0][0]))[0] == 404
            # what was found is remembered, and so stays what it was
            assert (await made_behind_our_back(s.urls[0], "old", 2))[0] == name
            assert await view(c, name) == (200, data)
            late, _ = await made_behind_our_back(s.urls[0], "late", 3)
            s.processes[1].kill()
            await c.until_server("s1", "down")
            assert (await view(c, late))[0] == 404  # the one that is away may have it too
            assert (await view(c, name))[0] in (404, 502)
            s.processes[1].start()
            s.processes[1].wait_ready()
            await c.until_all_up()
            assert (await view(c, late))[0] == 200

        run(p, flow)


def test_a_name_that_two_jobs_gave_is_not_looked_for_elsewhere():
    with plant(2, ["--name", ""]) as (p, s):

        async def flow(c):
            await c.until_all_up()
            taken = set()
            for name in await c.servers():
                for other in await c.servers():
                    await c.post("/mux/v1/servers/%s/%s" % (other, "resume" if other == name else "drain"), None)
                await c.until_server(name, "up")
                _, image = await one_image(c, graphs.save(prefix="both", color=len(taken)))
                taken.add(image["filename"])
            assert len(taken) == 1
            assert (await view(c, taken.pop()))[0] == 404

        run(p, flow)
