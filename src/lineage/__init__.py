"""From the record: does it hold, how do models differ, and what were they made of."""
