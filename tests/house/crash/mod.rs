//! What is left when the process ends, by force or by wish?

mod survives_kill_under_load;
