"""The words that accounts are found by: of their numbers and names, and of their contacts."""

from collections import defaultdict

from django.db.models import QuerySet

from .. import history
from ..models import Account, Contact, SearchWord
from ..texts import normalize


def learn_words(accounts: QuerySet[Account]) -> None:
    """Write again what accounts are found by, inside the act that wrote them or their contacts.

    The accounts are locked: two acts that each wrote what they see would leave out what the other one changed.
    """
    history.lock(accounts)
    keys, words = accounts.order_by().values("pk"), defaultdict[int, set[str]](set)
    for pk, *texts in accounts.order_by().values_list("pk", "number", "name"):
        words[pk] |= words_of(*texts)
    contacts = Contact.objects.filter(account__in=keys).order_by()
    for pk, phone, *texts in contacts.values_list("account", "phone", "name", "email"):
        words[pk] |= words_of(*texts, phone=phone)
    SearchWord.objects.filter(account__in=keys).delete()
    history.copy(SearchWord, ["account", "word"], [(pk, word) for pk, found in words.items() for word in sorted(found)])


def words_of(*texts: str, phone: str = "") -> set[str]:
    """Return the words of the number and name of an account, or of the name, email and phone of a contact."""
    return {*normalize.phone(phone)}.union(*(normalize.words(text, SearchWord.LONGEST) for text in texts))
