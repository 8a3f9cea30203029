"""What the pages of the console are made of: their base, the asking before what can't be undone, the noting of it."""
