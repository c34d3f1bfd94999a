"""The page of the made-up product, in a browser."""

from tests.browser.conftest import press
from tests.product.test_sandbox import instruction


def test_it_fits_each_screen_and_its_faults_can_be_chosen(page, desk, settings, sandbox, on_each_screen):
    settings.TRIAL = True
    page.goto(f"{desk}/trial/product/")
    on_each_screen(page)
    first = instruction("20261124-INV")
    sandbox.carry_out([first, first, instruction("20261122-PAY", "lock")])
    for how in ("exported", "later"):
        sandbox.behave(how, calls=1, seconds=60)
        sandbox.carry_out([instruction("20261120-INS")])
    page.get_by_label("Takes a while before it does it").check()
    page.get_by_label("For how many calls").fill("3")
    page.get_by_label("How many seconds a while is").fill("100")
    press(page.get_by_role("button", name="Let it behave like this"))
    assert page.locator("#problems").inner_text().startswith("1 answer needs your attention")
    on_each_screen(page)
    page.get_by_label("How many seconds a while is").fill("5")
    press(page.get_by_role("button", name="Let it behave like this"))
    assert page.get_by_text("(5 seconds), for 3 more calls.").is_visible()
    on_each_screen(page)
