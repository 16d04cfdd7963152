//! What waits, why, and what may be done about it?
