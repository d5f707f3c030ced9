"""What other systems' senders speak, and how each of their events becomes one of ours.

A module a format; `members` reads what they have in common: how much was used, of what, by whom.
Mappings are pure, and depend on nothing but the event and the address it was sent to: the same
event sent again must be the same usage, whatever prices were approved in between.
"""
