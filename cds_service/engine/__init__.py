"""From a chart to cards: facts, the case, rendering. No network and no clock."""
