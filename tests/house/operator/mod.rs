//! What an operator sees and orders.

mod a_broken_file_changes_nothing;
mod a_message_waits_for_its_time;
mod explain_tells_the_whole_story;
mod the_queue_takes_orders;
