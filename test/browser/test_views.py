"""Every view of the page in the middle of its work, in light and dark, wide and on a phone: it is drawn (build/screenshots has the
pictures), nothing sticks out at the side, and axe-core finds nothing serious in it."""
import pytest

import browser
import lively
import screenshots

AXE = screenshots.ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations
    .filter(v => v.impact === 'serious' || v.impact === 'critical')
    .map(v => `${v.id}: ${v.help}: ${v.nodes.slice(0, 4).map(n => n.html.slice(0, 160)).join(' | ')}`)"""


@pytest.fixture(scope="module")
def fleet(chromium):
    with lively.fleet(24) as f:
        yield f


@pytest.mark.parametrize("size", screenshots.SIZES)
@pytest.mark.parametrize("theme", screenshots.THEMES)
def test_views(chromium, fleet, theme, size):
    if not AXE.exists():
        browser.missing("no axe-core: web/node_modules is missing (./dev setup)")
    context = screenshots.context(chromium, theme, size, bypass_csp=True)
    context.set_default_timeout(browser.SECONDS * 1000)
    page = context.new_page()
    said = []
    page.on("pageerror", lambda e: said.append(str(e)))
    screenshots.OUT.mkdir(parents=True, exist_ok=True)
    wrong = []
    for name in screenshots.views(fleet):
        screenshots.show(page, fleet, name)
        page.screenshot(path=screenshots.OUT / ("%s-%s-%s.png" % (name, theme, size)))
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append("%s: wider than the window" % name)
        page.add_script_tag(path=AXE)
        wrong += ["%s: %s" % (name, v) for v in page.evaluate(SERIOUS)]
    context.close()
    assert not wrong and not said, "\n".join(wrong + said)
