//! What time does to mail, and what it must not do.

mod a_wall_clock_that_is_set_changes_nothing;
