"""Version 1 of the consent terms: the text of the vendor's article of 12 May 2023, word for word."""

TITLE = "Unlocking bypassed batches"
TEXT = (
    "We are confirming that this action is being taken at your direction and that you have sole responsibility for "
    "ensuring that the appropriate financial changes are being made in QuickBooks. ServiceTitan is unable to assist "
    "with or verify that these changes are made in QuickBooks, and therefore assumes no liability."
)
