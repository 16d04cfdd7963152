//! Those who read: what is heard of them, and what they can be led to.

mod links_lead_where_they_led;
mod readers_are_a_new_ips_first;
mod what_comes_back_is_heard;
mod each_path_is_told_everywhere;
