"""The guardrail: the filter of packages (``filter``), and what it looks for (``findings``)."""
