//! What the remote side may do to us.

mod a_connection_carries_more_than_one_message;
mod answers_are_heeded_for_each_recipient;
mod hosts_that_fail_are_passed_over;
mod silence_after_the_dot_is_not_a_refusal;
mod the_sender_hears_of_it;
mod tls_is_never_less_than_promised;
