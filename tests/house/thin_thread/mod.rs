//! What goes in comes out, as it should and from where it should.

mod a_password_counts_only_under_tls;
mod http_and_command_line_come_in_by_the_same_door;
mod smtp_in_leaves_from_the_right_address;
