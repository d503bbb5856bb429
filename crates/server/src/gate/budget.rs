//! How often an address may send what is no token before it is told to wait.
//!
//! A token of 256 bits cannot be guessed; this keeps a flood out of the log and slows a client that does not know that its
//! token has ended. Whoever shares the address and has a token is let in all the same.
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered at once; beyond, the one that began longest ago is forgotten.
const PEERS_MAX: usize = 4096;

pub(super) struct Budget {
    failures_per_window: u32,
    peers: HashMap<IpAddr, Failures>,
}

struct Failures {
    since: Instant,
    count: u32,
}

/// What a failure did to a budget.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spent {
    Within,
    Beyond {
        /// Until the budget is whole again.
        wait: Duration,
        /// Whether it is the first beyond.
        first: bool,
    },
}

impl Budget {
    pub(super) fn new(failures_per_window: u32) -> Self {
        Self {
            failures_per_window,
            peers: HashMap::new(),
        }
    }

    /// Counts a failure of an address.
    pub(super) fn spend(&mut self, peer: IpAddr, now: Instant) -> Spent {
        let peer = network(peer);
        self.make_room(peer, now);
        let failures = self.peers.entry(peer).or_insert(Failures {
            since: now,
            count: 0,
        });
        if now.duration_since(failures.since) >= WINDOW {
            *failures = Failures {
                since: now,
                count: 0,
            };
        }
        failures.count = failures.count.saturating_add(1);
        if failures.count <= self.failures_per_window {
            return Spent::Within;
        }
        Spent::Beyond {
            wait: WINDOW - now.duration_since(failures.since),
            first: failures.count == self.failures_per_window + 1,
        }
    }

    fn make_room(&mut self, peer: IpAddr, now: Instant) {
        if self.peers.len() < PEERS_MAX || self.peers.contains_key(&peer) {
            return;
        }
        self.peers
            .retain(|_, it| now.duration_since(it.since) < WINDOW);
        if self.peers.len() < PEERS_MAX {
            return;
        }
        let oldest = self.peers.iter().min_by_key(|(_, it)| it.since);
        if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
            self.peers.remove(&oldest);
        }
    }
}

/// One machine may have all the addresses of an IPv6 network.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_and_comes_back() {
        let mut budget = Budget::new(2);
        let (start, peer) = (Instant::now(), "192.0.2.1".parse().unwrap());
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(budget.spend(peer, start), Spent::Within);
        assert_eq!(budget.spend(peer, start), Spent::Within);
        let beyond = |wait, first| Spent::Beyond {
            wait: Duration::from_secs(wait),
            first,
        };
        assert_eq!(budget.spend(peer, later(20)), beyond(40, true));
        assert_eq!(budget.spend(peer, later(59)), beyond(1, false));
        let other = "192.0.2.2".parse().unwrap();
        assert_eq!(budget.spend(other, later(59)), Spent::Within);
        assert_eq!(budget.spend(peer, later(60)), Spent::Within);
    }

    #[test]
    fn the_addresses_of_one_network_are_one() {
        let mut budget = Budget::new(1);
        let now = Instant::now();
        let of = |text: &str| text.parse().unwrap();
        assert_eq!(budget.spend(of("2001:db8::1"), now), Spent::Within);
        assert_ne!(budget.spend(of("2001:db8::2"), now), Spent::Within);
        assert_eq!(budget.spend(of("2001:db8:0:1::2"), now), Spent::Within);
    }

    #[test]
    fn no_flood_of_addresses_makes_it_grow() {
        let mut budget = Budget::new(1);
        let now = Instant::now();
        for number in 0..10_000 {
            budget.spend(IpAddr::V4(number.into()), now);
        }
        assert_eq!(budget.peers.len(), PEERS_MAX);
    }
}
