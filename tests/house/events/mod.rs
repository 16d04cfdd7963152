//! Is everything that happens told: to who asks, who counts, and who is to be called?

mod what_happens_is_told_everywhere;
mod targets_that_misbehave_harm_nobody;
mod no_event_is_lost_or_told_twice;
mod a_messages_way_is_traced;
