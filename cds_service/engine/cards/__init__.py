"""One module for each kind of card: what a card of that kind says, and what it offers."""
