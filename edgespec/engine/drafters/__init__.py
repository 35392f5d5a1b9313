"""Whatever proposes tokens: one file a drafter."""
