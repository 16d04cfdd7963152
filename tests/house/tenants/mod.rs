//! Does a house keep its promises to tenants who share it, and to the operator who lets them in?

mod a_new_installation_sends;
mod nobody_is_written_to_in_vain;
mod the_pool_is_chosen_by_the_rules;
mod queued_mail_leaves_from_its_ip;
mod a_scheduled_message_takes_the_route_of_its_time;
mod nobody_sees_anothers_addresses;
mod what_is_taken_back_is_good_no_more;
mod the_database_goes_away;
mod a_backup_is_whole;
mod guessing_is_slow;
mod a_new_ip_warms_up;
mod what_has_no_place_leaves_by_a_relay;
mod a_quota_holds;
mod the_simulator_answers;
mod a_test_drive_splits_mail;
mod a_paused_account_sends_nothing;
mod bad_figures_stop_an_account;
