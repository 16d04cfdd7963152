//! Is the whole house within reach of who types? Commands alone, as a person or a script would.

mod an_installation_is_begun_by_commands_alone;
mod the_procedures_of_others;
