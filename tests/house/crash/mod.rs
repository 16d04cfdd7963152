//! What is left when the process ends, by force or by wish?

mod a_damaged_message_is_ours_to_tell;
mod a_damaged_tail_is_told_and_costs_nothing;
mod a_notice_that_is_owed_is_sent;
mod survives_kill_under_load;
