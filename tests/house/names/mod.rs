//! What names, and their absence, do to mail.

mod dns_decides_where_mail_may_go;
mod dns_trouble_is_waited_out;
