"""/mux/client.js in a browser: the module that a page takes to use the whole fleet."""
from browser import insecure


def test_the_module_is_served_to_a_page(fleet, tabs):
    page = tabs.open(fleet.url + "/healthz")
    assert page.evaluate("async () => Object.keys(await import('/mux/client.js'))")
    assert page.evaluate("isSecureContext")
    assert not tabs.open(insecure(fleet.url) + "/healthz").evaluate("isSecureContext")
