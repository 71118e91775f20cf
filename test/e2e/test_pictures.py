"""Previews, channels and thumbnails: as ComfyUI and Pillow make them, and hostile files cost nothing but themselves."""
import array
import asyncio
import contextlib
import io
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import zlib

import pytest
from PIL import Image, ImageChops, ImageStat

import graphs
import targets
from comfy_client import Client


@contextlib.contextmanager
def gateway(data, sim_args=()):
    try:
        with targets.sims(1, sim_args) as s:
            p = targets.serve_process(s.urls, data)
            with targets.running([p]):
                yield p
    except targets.Missing as e:
        targets.skip_or_fail(e)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("pictures")) as p:
        yield p


def run(p, flow):
    async def go():
        async with Client(p.url) as c:
            return await flow(c)

    return asyncio.run(go())


async def view(c, method="GET", headers=None, **query):
    """(status, headers, bytes)"""
    query.setdefault("type", "input")
    async with c.http.request(method, c.url + "/view", params=query, headers=headers or {}) as r:
        return r.status, r.headers, await r.read()


# ---- pictures ----------------------------------------------------------------------------------------------------


def encoded(im, kind, **how):
    out = io.BytesIO()
    im.save(out, kind, **how)
    return out.getvalue()


def decoded(data):
    im = Image.open(io.BytesIO(data))
    im.load()
    return im


def sources():
    grey = Image.radial_gradient("L").resize((100, 60))
    rgb = Image.merge("RGB", (grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
                              Image.linear_gradient("L").resize((100, 60))))
    rgba = rgb.copy()
    rgba.putalpha(grey)
    frames = [rgb.rotate(90 * i) for i in range(1, 4)]
    return {
        "rgb.png": encoded(rgb, "PNG"),
        "rgba.png": encoded(rgba, "PNG"),
        "grey.png": encoded(grey, "PNG"),
        "grey_alpha.png": encoded(Image.merge("LA", (grey, grey.rotate(180))), "PNG"),
        "palette.png": encoded(rgb.quantize(16), "PNG"),
        "one_bit.png": encoded(grey.convert("1"), "PNG"),
        "one_colour_transparent.png": encoded(rgb, "PNG", transparency=(0, 0, 0)),
        "rgb.jpg": encoded(rgb, "JPEG"),
        "grey.jpg": encoded(grey, "JPEG"),
        "cmyk.jpg": encoded(rgb.convert("CMYK"), "JPEG"),
        "rgb.webp": encoded(rgb, "WEBP"),
        "rgba.webp": encoded(rgba, "WEBP", lossless=True),
        "moving.webp": encoded(rgba, "WEBP", save_all=True, append_images=[f.convert("RGBA") for f in frames]),
        "rgb.gif": encoded(rgb, "GIF"),
        "moving.gif": encoded(rgb, "GIF", save_all=True, append_images=frames),
        "rgb.tif": encoded(rgb, "TIFF"),
        "rgba.tif": encoded(rgba, "TIFF", compression="tiff_lzw"),
        "named_wrongly.jpg": encoded(rgb, "PNG"),
    }


def as_comfyui(data, preview=None, channel=None):
    """What ComfyUI 0.3.75 makes: (content type, bytes)."""
    with Image.open(io.BytesIO(data)) as im:
        if preview is not None:
            words = preview.split(";")
            kind = words[0] if words[0] in ("webp", "jpeg") and "a" not in (channel or "") else "webp"
            quality = int(words[-1]) if words[-1].isdigit() else 90
            if kind == "jpeg" or channel == "rgb":
                im = im.convert("RGB")
            return "image/" + kind, encoded(im, kind, quality=quality)
        if channel == "rgb":
            made = Image.merge("RGB", im.split()[:3]) if im.mode == "RGBA" else im.convert("RGB")
        else:
            made = Image.new("RGBA", im.size)
            made.putalpha(im.getchannel("A") if im.mode == "RGBA" else Image.new("L", im.size, 255))
        return "image/png", encoded(made, "PNG")


WISHES = [{"preview": "webp;90"}, {"preview": "webp"}, {"preview": "jpeg;50"}, {"preview": "jpeg"}, {"preview": "png"},
          {"preview": "webp;abc"}, {"preview": "webp;0"}, {"preview": ""}, {"preview": "jpeg;0"}, {"preview": "80"},
          {"preview": "webp;40;"}, {"preview": "webp;40;60"}, {"preview": "jpeg;500"}, {"preview": "jpegs;70"},
          {"channel": "rgb"}, {"channel": "a"}, {"channel": "rgb", "preview": "jpeg;80"},
          {"channel": "rgb", "preview": "webp;80"}, {"channel": "a", "preview": "webp;90"},
          {"channel": "rgba", "preview": "jpeg;90"}, {"channel": "zz", "preview": "jpeg;90"}]


def assert_same_picture(got, want, what):
    got, want = decoded(got), decoded(want)
    assert (got.format, got.mode, got.size) == (want.format, want.mode, want.size), what
    difference = ImageChops.difference(got.convert("RGBA"), want.convert("RGBA"))
    if want.format == "PNG":
        assert difference.getbbox(alpha_only=False) is None, what
    else:  # encoders of different versions need not agree to the last bit
        assert max(ImageStat.Stat(difference).mean) < 2, (what, ImageStat.Stat(difference).mean)


@pytest.mark.parametrize("name,data", sources().items(), ids=lambda v: v if isinstance(v, str) else "")
def test_as_comfyui_makes_them(shared, name, data):
    async def flow(c):
        await c.upload(name, data)
        for wish in WISHES:
            status, headers, body = await view(c, filename=name, **wish)
            kind, want = as_comfyui(data, **wish)
            assert status == 200 and headers["Content-Type"] == kind, (name, wish, body[:200])
            assert headers["Content-Disposition"] == 'filename="%s"' % name
            assert headers["X-Content-Type-Options"] == "nosniff"
            for absent in ("ETag", "Last-Modified", "Accept-Ranges"):
                assert absent not in headers
            assert_same_picture(body, want, (name, wish))

    run(shared, flow)


def test_requests(shared):
    """HEAD and ranges as on a stock server; what is no wish sends the file; what cannot be done is said."""
    data = sources()["rgba.png"]

    async def flow(c):
        await c.upload("r.png", data)
        status, headers, body = await view(c, filename="r.png", preview="webp;80")
        assert status == 200
        length = headers["Content-Length"]
        status, headers, _ = await view(c, "HEAD", filename="r.png", preview="webp;80")
        assert status == 200 and headers["Content-Length"] == length and headers["Content-Type"] == "image/webp"
        status, _, part = await view(c, filename="r.png", preview="webp;80", headers={"Range": "bytes=0-3"})
        assert status == 200 and part == body
        for channel in ("rgba", "", "x", "RGB"):
            status, headers, whole = await view(c, filename="r.png", channel=channel)
            assert status == 200 and whole == data and "ETag" in headers, channel
        status, _, why = await view(c, filename="r.png", preview="webp;101")
        assert status == 500 and b"quality" in why
        assert (await view(c, filename="none.png", preview="webp;101"))[0] == 404
        assert (await view(c, filename="../r.png", preview="webp"))[0] == 400
        assert (await view(c, filename="", channel="a"))[0] == 400
        status, headers, body = await view(c, filename="r.png [input]", type="output", preview="webp", subfolder="")
        assert status == 200 and headers["Content-Type"] == "image/webp"
        async with c.http.get(c.url + "/api/view?filename=r.png&type=input&channel=a&rand=0.5") as r:
            assert r.status == 200 and r.content_type == "image/png"

    run(shared, flow)


def test_no_metadata_is_repeated(shared):
    """The prompt in a PNG and the place in a JPEG are not in what is made of them; a colour profile is."""
    from PIL import ImageCms, PngImagePlugin

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "a secret fox")
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    im = decoded(sources()["rgb.png"])
    files = {"m.png": encoded(im, "PNG", pnginfo=text, icc_profile=profile),
             "m.jpg": encoded(im, "JPEG", exif=exif, icc_profile=profile)}

    async def flow(c):
        for name, data in files.items():
            assert b"secret" in data
            await c.upload(name, data)
            for wish in ({"preview": "webp"}, {"preview": "jpeg"}, {"channel": "rgb"}):
                _, _, body = await view(c, filename=name, **wish)
                assert b"secret" not in body, (name, wish)
                assert decoded(body).info.get("icc_profile") == profile, (name, wish)

    run(shared, flow)


def test_of_an_output(tmp_path):
    """Stored: from here. Before it is stored: from the server that made it, which makes the preview too."""
    with gateway(tmp_path, ["--fault", "view-slow=4s:1"]) as p:

        async def flow(c):
            async with c.socket() as ws:
                prompt_id = await c.submit(graphs.save(color=0x204060, size=32))
                (image,) = (await ws.until("executed", prompt_id=prompt_id))["output"]["images"]
                query = {k: image[k] for k in ("filename", "subfolder", "type")}
                status, headers, early = await view(c, preview="jpeg;90", **query)
                assert status == 200 and headers["Content-Type"] == "image/jpeg", status
                assert (await c.record(prompt_id))["state"] not in ("succeeded", "failed")
                assert decoded(early).format == "JPEG" and not p.said("image_helper_started")
                await c.until_state(prompt_id, "succeeded")
            for wish in ({"preview": "jpeg;90"}, {"preview": "webp;90"}, {"channel": "rgb"}):
                status, _, body = await view(c, **query, **wish)
                assert status == 200
                pixel = decoded(body).convert("RGB").getpixel((5, 5))
                assert all(abs(a - b) < 6 for a, b in zip(pixel, (0x20, 0x40, 0x60))), (wish, pixel)
            assert p.said("image_helper_started")

        run(p, flow)


# ---- thumbnails --------------------------------------------------------------------------------------------------


def test_thumbnails(shared):
    async def flow(c):
        record = await c.until_state(await c.submit(graphs.save(color=0xff8000, size=600)))
        (output,) = record["outputs"]
        for query, side in (("", 256), ("?size=", 256), ("?size=1", 64), ("?size=64", 64), ("?size=65", 128),
                            ("?size=500", 512), ("?size=1000", 600), ("?size=99999999999", 600)):
            async with c.http.get(c.url + output["url"] + "/thumb" + query) as r:
                im = decoded(await r.read())
                assert r.status == 200 and r.content_type == "image/webp", query
                assert im.format == "WEBP" and im.size == (side, side), (query, im.size)
                assert all(abs(a - b) < 8 for a, b in zip(im.convert("RGB").getpixel((9, 9)), (255, 128, 0)))
                etag = r.headers["ETag"]
        for method in ("GET", "HEAD"):
            async with c.http.request(method, c.url + output["url"] + "/thumb?size=2000",
                                      headers={"If-None-Match": etag}) as r:
                assert r.status == 304 and r.headers["ETag"] == etag and await r.read() == b""
        for path, status, code in ((output["url"] + "/thumb?size=0", 400, "bad_request"),
                                   (output["url"] + "/thumb?size=big", 400, "bad_request"),
                                   (output["url"][:-1] + "7/thumb", 404, "not_found"),
                                   ("/mux/v1/jobs/nobody/outputs/0/thumb", 404, "not_found")):
            async with c.http.get(c.url + path) as r:
                assert (r.status, (await r.json())["error"]["code"]) == (status, code), path
        record = await c.until_state(await c.submit(graphs.text_only("no picture at all")))
        async with c.http.get(c.url + record["outputs"][0]["url"] + "/thumb") as r:
            body = await r.json()
            assert r.status == 415 and body["error"]["code"] == "no_image_output", body
            assert "PNG" in body["error"]["message"]

    run(shared, flow)


# ---- hostile files -----------------------------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, pixels, colour=2, interlaced=0):
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, interlaced)) +
            chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def zeros(n):
    z = zlib.compressobj(9)
    parts = [z.compress(bytes(1 << 20)) for _ in range(n >> 20)]
    return b"".join([*parts, z.compress(bytes(n & 0xfffff)), z.flush()])


def gif(width, height, frames):
    frame = b"\x21\xf9\x04\0\0\0\0\0," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + frame * frames + b";"


def hostile():
    s = sources()
    jpeg = encoded(Image.new("L", (8, 8)), "JPEG")
    return {
        "huge.png": png(2**31 - 1, 2**31 - 1, zlib.compress(b"")),
        "wide.png": png(2**24, 4, zlib.compress(bytes(100))),
        "square.png": png(60000, 60000, zlib.compress(bytes(100))),
        "interlaced.png": png(9000, 9000, zlib.compress(bytes(100)), 6, 1),
        "huge.jpg": jpeg.replace(struct.pack(">HH", 8, 8), struct.pack(">HH", 65500, 65500), 1),
        "huge.gif": gif(65535, 65535, 1),
        "cut.png": s["rgb.png"][:len(s["rgb.png"]) // 2],
        "cut.jpg": s["rgb.jpg"][:len(s["rgb.jpg"]) // 2],
        "cut.gif": s["rgb.gif"][:len(s["rgb.gif"]) // 2],
        "cut.webp": s["rgb.webp"][:len(s["rgb.webp"]) // 2],
        "cut.tif": s["rgb.tif"][:len(s["rgb.tif"]) // 2],
        "head.png": s["rgb.png"][:40],
        "magic.jpg": b"\xff\xd8\xff" + bytes(1000),
        "magic.tif": b"II*\0" + b"\xff" * 1000,
        "empty.png": b"",
        "text.png": b"hello text",
        "vector.svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
        "vector.png": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "page.png": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n",
        "script.png": b"push graphic-context\nviewbox 0 0 9 9\nimage over 0,0 0,0 '/etc/passwd'\n",
        "map.png": b"/* XPM */\nstatic char *x[] = {\"1 1 1 1\", \"a c #000\", \"a\"};\n",
    }


def memory(pid):
    """Bytes of resident memory at the highest."""
    for line in pathlib.Path("/proc/%d/status" % pid).read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


def helpers(pid):
    """The processes that the gateway has started."""
    found = []
    for folder in pathlib.Path("/proc/%d/task" % pid).iterdir():
        with contextlib.suppress(OSError):
            found += [int(n) for n in (folder / "children").read_text().split()]
    return found


def test_hostile_files(tmp_path):
    """Each is refused for a reason of its own, whatever is asked; honest ones are served all the while; the gateway's
    memory does not know of it."""
    honest = sources()["rgb.png"]
    with gateway(tmp_path) as p:

        async def flow(c):
            files = hostile()
            for name, data in files.items():
                await c.upload(name, data)
            await c.upload("honest.png", honest)
            before = memory(p.pid)
            for i, name in enumerate(files):
                for wish in ({"preview": "webp;90"}, {"preview": "jpeg"}, {"channel": "a"}, {"channel": "rgb"}):
                    status, _, why = await view(c, filename=name, **wish)
                    assert status == 500 and why.startswith(b"no picture can be made of this file: "), (name, wish, why)
                status, _, body = await view(c, filename="honest.png", preview="webp;%d" % i)
                assert status == 200 and decoded(body).size == (100, 60), name
                assert (await view(c, filename=name))[2] == files[name]
            assert memory(p.pid) - before < 64 << 20
            assert (await c.fetch("/readyz"))[0] == 200

        run(p, flow)
        assert not p.said("event=image_helper_ended"), "a helper died of something that it could have refused"


def test_bombs_that_are_pictures(tmp_path):
    """Many pixels or frames in few bytes: within the limits they are made, and only the helper pays."""
    files = {"pixels.png": png(9000, 9000, zeros((9000 * 3 + 1) * 9000)), "frames.gif": gif(100, 100, 50000)}
    with gateway(tmp_path) as p:

        async def flow(c):
            for name, data in files.items():
                assert len(data) < 2 << 20
                await c.upload(name, data)
            before = memory(p.pid)
            status, _, body = await view(c, filename="frames.gif", preview="webp;50")
            assert status == 200 and decoded(body).size == (100, 100) and getattr(decoded(body), "n_frames", 1) == 1
            status, _, body = await view(c, filename="pixels.png", channel="rgb")
            assert status == 200 and struct.unpack(">II", body[16:24]) == (9000, 9000)
            assert memory(p.pid) - before < 64 << 20

        run(p, flow)


def until(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("op", [1, 2, 3, 4, 5], ids=["webp", "jpeg", "rgb", "alpha", "thumb"])
def test_a_full_disk_is_not_the_pictures_fault(op):
    """The helper alone, as the gateway speaks to it (image_wire.h): what is remembered of a broken picture for ever must
    not be remembered of one that could not be written."""
    try:
        program = targets.comfymux("serve").parent / "comfymux-image"
    except targets.Missing as e:
        targets.skip_or_fail(e)
    noise = encoded(Image.effect_noise((1500, 1500), 80).convert("RGB"), "PNG")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, tempfile.TemporaryFile() as picture, open("/dev/full", "wb") as full:
        picture.write(noise)
        picture.flush()
        child = subprocess.Popen(["bash", "-c", 'exec "$0" 3<&%d' % theirs.fileno(), program],
                                 pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        ours.settimeout(60)
        magic = struct.unpack("I", ours.recv(512)[:4])[0]
        ours.sendmsg([struct.pack("IIBBHI", magic, 1, op, 0, 0 if op > 2 else 90, 1024 if op == 5 else 0)],
                     [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [picture.fileno(), full.fileno()]))])
        status, = struct.unpack("I", ours.recv(512)[8:12])
    assert child.wait(60) == 0
    assert status == 4, "IMAGE_NO_SPACE"


def test_a_folder_that_cannot_be_used(tmp_path):
    """The gateway starts all the same."""
    (tmp_path / "pictures" / "not-ours").mkdir(parents=True)
    with gateway(tmp_path) as p:

        async def flow(c):
            await c.upload("f.png", sources()["rgb.png"])
            status, headers, body = await view(c, filename="f.png", preview="webp")
            assert status == 200 and body == sources()["rgb.png"]

        run(p, flow)
        assert p.said("event=pictures_off reason=.*not-ours")
    assert (tmp_path / "pictures" / "not-ours").is_dir()


def test_a_helper_that_is_killed(shared):
    """The next picture has a new one."""
    async def flow(c):
        await c.upload("k.png", sources()["rgb.png"])
        for i in range(3):
            status, _, _ = await view(c, filename="k.png", preview="webp;%d" % (10 + i))
            assert status == 200
            (child,) = helpers(shared.pid)[:1]
            os.kill(child, signal.SIGKILL)
            until(lambda: child not in helpers(shared.pid))

    run(shared, flow)
    assert shared.said("event=image_helper_ended reason=.*signal 9")
    assert b"comfymux_image_helpers_died_total 3" in run(shared, lambda c: c.fetch("/metrics"))[1]


def test_what_a_helper_may_do(shared):
    """No new rights, nothing open but its pair of sockets; system calls limited where it says so."""
    async def flow(c):
        await c.upload("w.png", sources()["rgb.png"])
        assert (await view(c, filename="w.png", preview="webp;33"))[0] == 200

    run(shared, flow)
    child = helpers(shared.pid)[0]
    status = pathlib.Path("/proc/%d/status" % child).read_text()
    assert "NoNewPrivs:\t1" in status
    limits = pathlib.Path("/proc/%d/limits" % child).read_text()
    assert "Max open files            32 " in limits
    confined = shared.said("helper=%d event=image_helper_started confined=(yes|no)" % child)[0].endswith("yes")
    assert ("Seccomp:\t2" in status) == confined
    if confined:
        assert "Max address space         2147483648 " in limits
    with contextlib.suppress(PermissionError):  # it does not let itself be looked at, but by root
        assert {int(n) for n in os.listdir("/proc/%d/fd" % child)} <= {0, 1, 2, 3}
        assert os.readlink("/proc/%d/cwd" % child) == "/"


def test_a_stop_in_the_middle(tmp_path):
    """The gateway ends with status 0 (running() looks), and no helper is left."""
    with gateway(tmp_path) as p:

        async def flow(c):
            await c.upload("big.png", png(9000, 9000, zeros((9000 * 3 + 1) * 9000)))
            asking = asyncio.create_task(view(c, filename="big.png", preview="webp;90"))
            while not p.said("image_helper_started"):
                await asyncio.sleep(0.02)
            left = helpers(p.pid)
            assert p.stop() == 0
            with contextlib.suppress(Exception):
                await asking
            return left

        for child in run(p, flow):
            until(lambda: not os.path.exists("/proc/%d" % child))


def test_without_a_helper(tmp_path):
    """Files are sent as they are; thumbnails too, of what calls itself a picture. One line says why."""
    data = sources()["rgb.png"]
    try:
        with targets.sims(1) as s:
            p = targets.serve_process(s.urls, tmp_path / "data")
            p.command[0] = str(shutil.copy(p.command[0], tmp_path / "comfymux"))
            with targets.running([p]):

                async def flow(c):
                    await c.upload("n.png", data)
                    for wish in ({"preview": "webp;90"}, {"channel": "a"}, {"preview": "webp;101"}):
                        status, headers, body = await view(c, filename="n.png", **wish)
                        assert status == 200 and body == data and headers["Content-Type"] == "image/png"
                    record = await c.until_state(await c.submit(graphs.save(color=7)))
                    url = record["outputs"][0]["url"]
                    status, body = await c.fetch(url + "/thumb")
                    assert status == 200 and body == (await c.fetch(url))[1]
                    record = await c.until_state(await c.submit(graphs.text_only()))
                    assert (await c.fetch(record["outputs"][0]["url"] + "/thumb"))[0] == 415

                run(p, flow)
                assert len(p.said("event=image_helper_missing")) == 1
    except targets.Missing as e:
        targets.skip_or_fail(e)
