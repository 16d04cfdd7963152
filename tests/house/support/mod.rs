//! What do the tests of the whole house stand on? The real binary, providers that do what they are told, and plain clients.
//!
//! Nothing here sleeps for a time that was guessed: everything waits for a condition, with a deadline that only a fault reaches.

pub mod certificate;
pub mod disk;
pub mod house;
pub mod installation;
pub mod memory;
pub mod load;
pub mod names;
pub mod oracle;
#[path = "../../../crates/control/tests/support/postgres.rs"]
pub mod postgres;
pub mod provider;
pub mod submitter;
pub mod target;
pub mod tenants;
pub mod town;

pub use house::{House, Plan};
pub use memory::MemoryLimit;
pub use names::NameServer;
pub use provider::{FakeProvider, Manner, Received};
pub use submitter::{Message, Smtp};
pub use town::Town;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// A condition that is not met by then will never be.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until there is something, and says what was waited for when there never is.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, look).unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain until {what}"))
}

/// Waits until it holds.
pub fn until_true(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || holds().then_some(()));
}

/// The same with a deadline of its own and without a fault at its end.
pub fn within<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if began.elapsed() > deadline {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

static MACHINE: RwLock<()> = RwLock::new(());

/// Held by every test that minds no neighbour.
pub fn among_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held by a test that measures, or that loads the machine so much that others would measure it.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// A test that this machine cannot carry out says so.
pub fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// A generator for tests (SplitMix64): the seed in a failure's words repeats it.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    /// A seed from the clock, or the one given in `WEIR_SEED` to repeat a failure.
    pub fn seed() -> u64 {
        let given = std::env::var("WEIR_SEED").ok().and_then(|text| text.parse().ok());
        given.unwrap_or_else(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            since.as_nanos() as u64
        })
    }
}
