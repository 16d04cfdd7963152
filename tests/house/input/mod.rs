//! What may come in through the doors, and what never does.

mod content_arrives_as_it_was_sent;
mod line_ends_smuggle_nothing;
mod limits_hold_and_the_door_stays_open;
mod no_field_makes_a_header_line;
mod tls_begins_with_a_clean_slate;
