"""Pictures of every view of the page, in light and dark, wide and on a phone (./dev screenshots):

    python test/browser/screenshots.py [--keep] [VIEW...]     into build/screenshots; with --keep the best into docs/img too

The fleet in them is lively.py's."""
import argparse
import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "test" / f) for f in ("lib", "real", "e2e", "browser")]
from PIL import Image  # noqa: E402

import browser  # noqa: E402
import lively  # noqa: E402
import targets  # noqa: E402

OUT = ROOT / "build" / "screenshots"
IMG = ROOT / "docs" / "img"
SIZES = {"wide": (1280, 800), "phone": (390, 844)}
THEMES = ("light", "dark")
BEST = {"jobs-light-wide": "jobs.png", "gallery-dark-wide": "gallery.png"}


def first_picture(page):
    page.locator(".tile[data-key]").first.click()
    page.locator(".lightbox-picture").wait_for()
    page.wait_for_function("document.querySelector('img.lightbox-picture').naturalWidth > 0")
    page.locator(".lightbox-facts[aria-busy=false]").wait_for()


def add_server(page):
    page.get_by_role("button", name="Add a server").click()
    page.get_by_label("Address").fill("10.0.0.9:8188")
    page.get_by_role("button", name="Add it").click()
    page.locator(".field-fault").wait_for()


# name: (where, what must be there before it is looked at, what is done first)
def views(f):
    return {
        "jobs": ("jobs", ".job .bar", None),
        "job": ("jobs/" + f.job, ".output img", None),
        "failed": ("jobs/" + f.failed, ".trouble", None),
        "gallery": ("gallery", ".tile img", None),
        "picture": ("gallery", ".tile img", first_picture),
        "servers": ("servers", ".server .bar", None),
        "server": ("servers/" + lively.NAMES[0], ".last-jobs .job", None),
        "add": ("servers", ".server", add_server),
        "windows": ("windows", ".window-jobs .badge", None),
        "run": ("run", "main > *", None),
    }


PICTURES_THERE = """() => [...document.querySelectorAll('img')].every(i => {
    const r = i.getBoundingClientRect()
    return i.complete || r.top > innerHeight || r.bottom < 0
})"""


def show(page, f, name):
    """This view of the fleet, drawn with all that is in sight."""
    where, there, first = views(f)[name]
    page.goto("about:blank")  # so that the page begins anew
    page.goto(f.url + "/mux/#/" + where)
    page.locator(there).first.wait_for()
    page.locator(".health .is-good").wait_for()
    if first:
        first(page)
    page.wait_for_function(PICTURES_THERE)


def context(chromium, theme, size, **more):
    return chromium.new_context(viewport=dict(zip(("width", "height"), SIZES[size])), color_scheme=theme, locale="en-GB",
                                reduced_motion="reduce", has_touch=size == "phone", **more)


def draw(chromium, f, only=()):
    """Every view as OUT/VIEW-THEME-SIZE.png; returns their names."""
    OUT.mkdir(parents=True, exist_ok=True)
    names = []
    for size in SIZES:
        for theme in THEMES:
            c = context(chromium, theme, size)
            page = c.new_page()
            for name in views(f):
                if only and name not in only:
                    continue
                show(page, f, name)
                names.append("%s-%s-%s" % (name, theme, size))
                page.screenshot(path=OUT / (names[-1] + ".png"))
            c.close()
    return names


def keep():
    """The best of them, with few colours so that they are small, for README.md."""
    IMG.mkdir(parents=True, exist_ok=True)
    for name, file in BEST.items():
        picture = Image.open(OUT / (name + ".png")).convert("RGB")
        colours = picture.quantize(256, Image.Quantize.MEDIANCUT, kmeans=2)
        picture.quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG).save(IMG / file, optimize=True)
        print("docs/img/%s %d KiB" % (file, (IMG / file).stat().st_size / 1024))


def main():
    p = argparse.ArgumentParser(description="Draws every view of the page.")
    p.add_argument("--keep", action="store_true", help="the best go to docs/img, for README.md")
    p.add_argument("view", nargs="*", help="only these")
    args = p.parse_args()
    shutil.rmtree(targets.LOGS, ignore_errors=True)
    with browser.chromium() as chromium, lively.fleet() as f:
        names = draw(chromium, f, args.view)
    print("%d pictures in %s" % (len(names), OUT.relative_to(ROOT)))
    if args.keep:
        keep()


if __name__ == "__main__":
    main()
