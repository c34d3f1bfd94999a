"""Sample data for the trial run: accounts, batches and cases in every state, each made by the verbs."""

from datetime import timedelta
from decimal import Decimal
from random import Random

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from ... import history, operations, pins
from ...actors import Actor
from ...digest import canonical
from ...ledger import chain, events
from ...models import Account, Batch, BatchItem, Contact, UnlockRequest
from ...outbox import worker
from ...product.sandbox import Sandbox
from ...texts.shown import shown_text, text_to_read_out

USERS = {
    "agent": ("Agent", "unlock-as-agent"),
    "agent2": ("Agent", "unlock-as-agent2"),
    "manager": ("Manager", "unlock-as-manager"),
    "auditor": ("Auditor", "unlock-as-auditor"),
}
ACCOUNTS = [
    ("4711", "Northwind Heating", "quickbooks_online", "Dana Whitfield", "d.whitfield@northwind.example", "482915"),
    ("4802", "Blue Ridge Plumbing", "quickbooks_desktop", "Omar Haddad", "omar@blueridge.example", "730264"),
    ("4950", "Harbor Electric", "quickbooks_online", "Lena Fischer", "lena@harbor-electric.example", "195538"),
    ("5013", "Summit Air Conditioning", "sage_intacct", "Priya Nair", "priya@summit-air.example", "604817"),
    ("5120", "Cedar Grove Drains", "quickbooks_online", "Tom Baker", "tom@cedargrove.example", "358291"),
    ("5244", "Lakeside Garage Doors", "quickbooks_online", "Ines Duarte", "ines@lakeside.example", ""),
]
KINDS = [
    ("INV", "Invoices, Service dept.", BatchItem.Kind.INVOICE),
    ("PAY", "Payments, cards", BatchItem.Kind.PAYMENT),
    ("INS", "Invoices, Install dept.", BatchItem.Kind.INVOICE),
    ("BIL", "Vendor bills, Warehouse", BatchItem.Kind.VENDOR_BILL),
    ("ADJ", "Inventory adjustments, Trucks", BatchItem.Kind.INVENTORY_ADJUSTMENT),
]
CUSTOMERS = [
    "R. Alvarez",
    "K. Brandt",
    "Oakview Dental",
    "Mill Street Bakery",
    "J. Okafor",
    "St. Anne's School",
    "P. Lindqvist",
]


class Command(BaseCommand):
    help = "Load the trial run's sample data into an empty database, and say where to go and who to log in as."

    def add_arguments(self, parser):
        parser.add_argument("--who", action="store_true", help="only say it again, with a fresh consent link")

    def handle(self, *args, **options):
        try:
            self._handle()
        except chain.WrongKey as wrong:
            raise CommandError(f"Nothing was recorded. {wrong}") from wrong

    def _handle(self):
        if not settings.TRIAL:
            raise CommandError(
                "Sample data has passwords that everybody knows: it is for the trial run only (make run)."
            )
        if settings.PRODUCT != "sandbox":
            raise CommandError("Sample data needs the made-up product: set PRODUCT=sandbox, as make run does.")
        if not get_user_model().objects.exists() and not Account.objects.exists():
            self._load()
        elif not get_user_model().objects.filter(username="agent").exists():
            raise CommandError("The database holds data of another origin, so no sample data was loaded into it.")
        elif not UnlockRequest.objects.filter(status=UnlockRequest.Status.CLOSED).exists():
            raise CommandError("An earlier load stopped half-way. Delete the trial's database (var/) and start again.")
        operations.record_certificate_key(by=Actor.desk())
        self._say()

    def _load(self):
        Sandbox().forget()  # what an earlier trial asked of it
        self.draw, self.desk = Random(20261101), Actor.desk()  # noqa: S311
        with transaction.atomic():
            for username, (group, password) in USERS.items():
                user = get_user_model().objects.create_user(username, password=password, is_staff=True)
                user.groups.add(Group.objects.get(name=group))
                operations.record_staff(user, by=self.desk)
            admin = get_user_model().objects.create_superuser("admin", password="unlock-as-admin")  # noqa: S106
            operations.record_staff(admin, by=self.desk)
            accounts = [self._account(*row) for row in ACCOUNTS]
            operations.learn_words(Account.objects.all())
            chain.append(events.Imported(source="the sample data"), by=self.desk)
            for account in accounts:
                if account.pin_hash:
                    chain.append(events.PinIssued.of(account, to=[]), by=self.desk, account=account)
        operations.record_certificate_key(by=self.desk)  # receipts go out with a certificate
        self._cases(accounts)

    def _save(self, row):
        return history.save(row, by=self.desk, why="Sample data")

    def _account(self, number, name, software, admin, email, pin):
        account = Account(number=number, name=name, accounting_software=software)
        if pin:
            account.pin_hash, account.pin_issued_at = pins.hashed(pin), self.desk.act.at
        self._save(account)
        office = f"office@{email.partition('@')[2]}"
        for contact, address, is_admin in [(admin, email, True), ("Front Desk", office, False)]:
            phone = "(555) 010-0100"
            self._save(Contact(account=account, name=contact, email=address, phone=phone, is_admin=is_admin))
        statuses = ["bypassed"] * 8 + ["exported", "posted", "bypassed", "pending"]
        for index, status in enumerate(statuses):
            code, kind_name, kind = KINDS[index % len(KINDS)]
            day = timezone.localdate() - timedelta(days=3 + index * 2)
            self._batch(account, f"{day:%Y%m%d}-{code}", kind_name, kind, status, day, period_closed=index == 10)
        return account

    def _batch(self, account, number, name, kind, status, day, *, period_closed):
        draw = self.draw
        items = [Decimal(draw.randint(4_500, 190_000)) / 100 for _ in range(draw.randint(3, 14))]
        batch = self._save(
            Batch(
                account=account,
                number=number,
                name=name,
                status=status,
                total=sum(items),
                item_count=len(items),
                posted_on=None if status == "pending" else day,
                bypassed_on=day + timedelta(days=1) if status == "bypassed" else None,
                exported_on=day + timedelta(days=1) if status == "exported" else None,
                period_closed=period_closed,
            )
        )
        for position, amount in enumerate(items, start=1):
            line = {"sku": "SVC", "description": "Service call", "quantity": "1", "total": str(amount)}
            self._save(
                BatchItem(
                    batch=batch,
                    kind=kind,
                    number=f"{number[2:8]}{position:03d}",
                    date=day - timedelta(days=1),
                    customer=draw.choice(CUSTOMERS),
                    amount=amount,
                    memo="",
                    export_id=f"QBO-{draw.randint(1000, 9999)}" if draw.random() < 0.02 else "",
                    lines=canonical([line]),
                )
            )

    def _cases(self, accounts):
        agent, manager = (
            Actor.staff(get_user_model().objects.get(username=username)) for username in ("agent", "manager")
        )
        northwind, blue_ridge, harbor, summit, cedar, _ = accounts

        # Opened this minute; duplicates are likely.
        self._open(
            cedar, 2, agent, "already_entered", "Entered by hand last week, now they want it exported after all."
        )
        # Waits for the customer.
        waiting = self._open(
            northwind, 3, agent, "by_mistake", "Bypassed while clearing the list; none is in QuickBooks."
        )
        self._ask(waiting, agent)
        # Ready to unlock.
        ready = self._open(blue_ridge, 4, agent, "by_mistake", "Bypassed by a new bookkeeper.")
        self._agree(ready, self._ask(ready, agent), "730264", "Controller")
        # Ready too, on a consent that the agent recorded by phone: another person has to unlock.
        if settings.PHONE_CONSENT:
            phoned = self._open(cedar, 2, agent, "by_mistake", "On the road, without email; calls from the van.")
            operations.record_advice(phoned, advice=UnlockRequest.Advice.WANTS_EXPORT, by=agent)
            self._record_by_phone(phoned, agent, "358291", "Owner")
        # Unlocked, to be exported by the customer.
        unlocked = self._open(harbor, 2, manager, "no_integration", "QuickBooks is connected since Monday.")
        self._agree(unlocked, self._ask(unlocked, manager), "195538", "Owner")
        self._unlock(unlocked, agent)
        # Done and closed.
        closed = self._open(summit, 2, agent, "by_mistake", "Wrong filter on the export screen.")
        self._agree(closed, self._ask(closed, agent), "604817", "Accounting manager")
        self._unlock(closed, manager)
        operations.mark_re_exported(Batch.objects.filter(lines__unlock_request=closed), by=agent)
        # An Admin whom the manager typed in: someone else has to confirm the address.
        typed = {"name": "Marco Silva", "email": "marco@summit-air.example", "phone": "(555) 010-0142"}
        operations.save_record(Contact(account=summit, **typed, is_admin=True), by=manager)

    def _open(self, account, count, by, bypass_reason, reason):
        free = account.batches.filter(status="bypassed", period_closed=False, lines=None).order_by("number")[:count]
        return operations.open_request(
            account=account,
            requester=account.contacts.get(is_admin=True),
            channel="phone",
            bypass_reason=bypass_reason,
            reason=reason,
            batches=Batch.objects.filter(pk__in=[batch.pk for batch in free]),
            by=by,
        )

    def _ask(self, request, by):
        operations.record_advice(request, advice=UnlockRequest.Advice.WANTS_EXPORT, by=by)
        url = operations.send_consent_link(request, contact=request.requester, by=by).url
        worker.send_due()  # before it is used
        return url

    def _agree(self, request, url, pin, role):
        link = operations.link_for(url.rstrip("/").rsplit("/", 1)[-1])
        customer = Actor(name=Actor.customer(link.sent_to).name, ip="203.0.113.7", browser="Sample browser")
        operations.open_consent_link(link, by=customer)
        operations.verify_customer_pin(link, pin=pin, by=customer)
        link = operations.link_for(url.rstrip("/").rsplit("/", 1)[-1])
        operations.give_consent(link, name=link.sent_to.name, role=role, shown=shown_text(link), by=customer)

    def _unlock(self, request, by):
        operations.unlock(Batch.objects.filter(lines__unlock_request=request), by=by)
        worker.send_due()  # which asks the product as well

    def _record_by_phone(self, request, by, pin, role):
        operations.verify_pin(request, pin=pin, by=by)
        request.refresh_from_db()
        operations.record_phone_consent(
            request,
            contact=request.requester,
            name=request.requester.name,
            role=role,
            shown=text_to_read_out(request),
            by=by,
        )

    def _say(self):
        say, (number, name, *_, pin) = self.stdout.write, ACCOUNTS[0]
        say("\n  TRIAL RUN: sample data, passwords that everybody knows, one machine. Not for real customers.")
        say(f"\n  The desk        {settings.PUBLIC_URL}{reverse('admin:index')}")
        for username, (group, password) in USERS.items():
            say(f"  {group:<14}  {username} / {password}")
        say("  Administrator   admin / unlock-as-admin")
        if url := self._fresh_link(number):
            say("\n  As the customer, in another browser or a private window:")
            say(f"  {url}")
            say(f"  The account PIN of {name} is {pin}.")
        say(f"\n  Account PINs    {', '.join(f'{row[1]} {row[5]}' for row in ACCOUNTS if row[5])}")
        say(f"  Emails          {settings.PUBLIC_URL}{reverse('trial_emails')} (files in {settings.EMAIL_FILE_PATH})")
        if settings.PRODUCT == "sandbox":
            say(f"  Product         {settings.PUBLIC_URL}{reverse('trial_product')} (made up: it holds the batches)")
        say("")

    def _fresh_link(self, number):
        """Send the waiting sample case a new link: the address of the old one was not stored."""
        waiting = UnlockRequest.objects.filter(
            account__number=number, status=UnlockRequest.Status.AWAITING_CONSENT
        ).first()
        if waiting is None:
            return ""
        agent = Actor.staff(get_user_model().objects.get(username="agent"))
        return operations.send_consent_link(waiting, contact=waiting.requester, by=agent).url
