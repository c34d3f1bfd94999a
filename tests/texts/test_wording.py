import pytest

from unlocks.models import Account, ConsentTerms
from unlocks.texts import first_terms, wording

ALLOWED = "Use braces only for {vendor} and {accounting_software}."


def filled(text, software="sage_intacct"):
    return wording.terms_text(ConsentTerms(text=text), Account(accounting_software=software))


@pytest.mark.parametrize(
    ("software", "read"),
    [
        ("quickbooks_online", "QuickBooks Online"),
        ("quickbooks_desktop", "QuickBooks Desktop"),
        ("sage_intacct", "Sage Intacct"),
        ("none", "your accounting software"),
    ],
)
def test_placeholders_are_filled_in_for_the_account(software, read):
    assert filled("{vendor} does nothing in {accounting_software}. {vendor}!", software) == (
        f"ServiceTitan does nothing in {read}. ServiceTitan!"
    )


def test_version_1_stays_word_for_word():
    assert filled(first_terms.TEXT) == first_terms.TEXT


def test_what_is_filled_in_is_not_filled_in_again(settings):
    settings.VENDOR_NAME = "{accounting_software} {vendor} \\1 & Co"
    assert filled("By {vendor} for {accounting_software}") == (
        "By {accounting_software} {vendor} \\1 & Co for Sage Intacct"
    )


def test_other_braces_stay_as_they_are():
    assert filled("{} {0} {VENDOR} {vendor!r} {{vendor}} {") == "{} {0} {VENDOR} {vendor!r} {ServiceTitan} {"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ""),
        ("No placeholder at all.", ""),
        ("{vendor} and {accounting_software}, {vendor}", ""),
        ("Dear {customer},", f"{{customer}} is not a placeholder. {ALLOWED}"),
        ("{customer} {vendor} {} {customer}", f"{{customer}}, {{}} are not placeholders. {ALLOWED}"),
        ("{ vendor }", f"{{ vendor }} is not a placeholder. {ALLOWED}"),
        ("{Vendor}", f"{{Vendor}} is not a placeholder. {ALLOWED}"),
        ("{vendor!r}", f"{{vendor!r}} is not a placeholder. {ALLOWED}"),
        ("changes made by {vendor", f"The brace {{ near “hanges made by {{vendor” has no matching brace. {ALLOWED}"),
        ("{vendor}} is unable", f"The brace }} near “{{vendor}}}} is unable” has no matching brace. {ALLOWED}"),
    ],
)
def test_names_what_is_wrong_with_the_placeholders(text, problem):
    assert wording.terms_problem(text) == problem
