//! What becomes of mail to an address that is there to try things out? (R7.1)
//!
//! Applications test what they do with deliveries, bounces and complaints by writing to such addresses. Nothing of it leaves this
//! installation, no IP has a part in it, and it counts for nobody's figures. The domains are those that vendors give out for it, so that
//! what was written for them goes on working, and one that can never be anybody's (RFC 6761).

use crate::classify::{Class, Meaning, Subtype};
use mail::reply::Reply;

/// As which provider it is told.
pub const PROVIDER: &str = "simulator";

const DOMAINS: [&str; 3] = ["simulator.invalid", "simulator.amazonses.com", "resend.dev"];

/// What such an address does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Simulated {
    Delivered,
    Bounced,
    /// Delivered, and a program of the recipient's answers.
    Answered,
    /// Delivered, and its reader complains.
    Complained,
    /// As if it stood on the account's list.
    Suppressed,
    /// The simulator has no such address.
    Unknown,
}

/// None: it is not one of the simulator's.
#[must_use]
pub fn simulated(address: &str) -> Option<Simulated> {
    let (local, domain) = address.rsplit_once('@')?;
    simulated_at(local, domain)
}

/// The same of its parts. What follows a + is a label.
#[must_use]
pub fn simulated_at(local: &str, domain: &str) -> Option<Simulated> {
    if !DOMAINS.iter().any(|own| domain.eq_ignore_ascii_case(own)) {
        return None;
    }
    let name = local.split('+').next().unwrap_or_default().to_ascii_lowercase();
    Some(match name.as_str() {
        "success" | "delivered" => Simulated::Delivered,
        "bounce" | "bounced" => Simulated::Bounced,
        "ooto" => Simulated::Answered,
        "complaint" | "complained" => Simulated::Complained,
        "suppressionlist" | "suppressed" => Simulated::Suppressed,
        _ => Simulated::Unknown,
    })
}

impl Simulated {
    /// What is answered to the mail itself, and what that means where it is no yes.
    #[must_use]
    pub fn reply(self) -> (Reply, Option<Meaning>) {
        let no = |text: &str| (Reply::new(550, (5, 1, 1), text), Some(Meaning::own(Class::Hard, Subtype::UnknownUser)));
        match self {
            Simulated::Delivered | Simulated::Answered | Simulated::Complained => {
                (Reply::new(250, (2, 0, 0), "Taken by the simulator; nothing was sent"), None)
            }
            Simulated::Bounced => no("No such mailbox, says the simulator; nothing was sent"),
            Simulated::Suppressed => no("The address takes no mail, says the simulator; nothing was sent"),
            Simulated::Unknown => {
                no("The simulator has success, bounce, ooto, complaint and suppressionlist, and no other address")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Simulated, simulated};

    // R7.1: by the names that two vendors gave them, with labels and in any case; and nobody else's.
    #[test]
    fn the_simulators_addresses_are_known() {
        for (address, does) in [
            ("success@simulator.invalid", Simulated::Delivered),
            ("Success@Simulator.AmazonSES.com", Simulated::Delivered),
            ("bounce+order-7@simulator.amazonses.com", Simulated::Bounced),
            ("ooto@simulator.amazonses.com", Simulated::Answered),
            ("complaint@simulator.amazonses.com", Simulated::Complained),
            ("suppressionlist@simulator.amazonses.com", Simulated::Suppressed),
            ("delivered+7@resend.dev", Simulated::Delivered),
            ("bounced@resend.dev", Simulated::Bounced),
            ("complained@resend.dev", Simulated::Complained),
            ("suppressed@resend.dev", Simulated::Suppressed),
            ("ann@simulator.invalid", Simulated::Unknown),
            ("+bounce@simulator.invalid", Simulated::Unknown),
        ] {
            assert_eq!(simulated(address), Some(does), "{address}");
        }
        for address in ["success@example.com", "bounce@sub.simulator.amazonses.com", "simulator.invalid", ""] {
            assert_eq!(simulated(address), None, "{address}");
        }
    }
}
