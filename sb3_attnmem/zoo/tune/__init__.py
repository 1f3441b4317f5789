"""``sb3-attnmem tune``: searches by several processes, on one machine or many."""
