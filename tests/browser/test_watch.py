"""The watch over every browser test sees what it is there for."""

import pytest


@pytest.fixture
def sign_in_page(page, desk):
    page.goto(f"{desk}/staff/sign-in/")
    return page


def heard(page, troubles):
    page.evaluate("1")
    told = list(troubles)
    troubles.clear()
    return "\n".join(told)


def test_a_quiet_page_is_quiet(sign_in_page, troubles, axe):
    axe(sign_in_page)
    assert heard(sign_in_page, troubles) == ""


@pytest.mark.parametrize(
    ("done", "told"),
    [
        ("document.body.innerHTML = '<p style=\"color: red\">'", "policy: style-src-attr"),
        (
            "document.body.append(Object.assign(document.createElement('script'), {text: '1'}))",
            "policy: script-src-elem",
        ),
        ("fetch('https://elsewhere.example/').catch(() => 1)", "policy: connect-src"),
        ("fetch('/nothing-is-here')", "404 (Not Found)"),
        ("console.error('that was wrong')", "that was wrong"),
        ("setTimeout(() => { throw new Error('that was worse') })", "that was worse"),
    ],
)
def test_trouble_is_heard(sign_in_page, troubles, done, told):
    sign_in_page.evaluate(done)
    sign_in_page.wait_for_timeout(200)
    assert told in heard(sign_in_page, troubles)


def test_axe_finds(sign_in_page, troubles, axe):
    sign_in_page.evaluate("document.body.innerHTML = '<input type=text>'")
    with pytest.raises(AssertionError, match="label"):
        axe(sign_in_page)
