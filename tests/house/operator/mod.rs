//! What an operator sees and orders.

mod a_broken_file_changes_nothing;
mod a_message_waits_for_its_time;
mod explain_tells_the_whole_story;
mod a_lane_goes_on_when_told_to;
mod a_reply_is_explained;
mod the_queue_takes_orders;
mod what_is_no_http_is_counted;
