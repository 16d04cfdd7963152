//! What if something runs short: disk, memory, descriptors, addresses, patience?

mod a_full_disk_refuses_and_recovers;
mod a_long_queue_costs_little_memory;
mod little_memory_pushes_back;
mod few_descriptors_lose_nothing;
mod one_account_does_not_delay_another;
mod the_source_address_is_missing;
