//! Ports for daemons that can't be told to take any free one.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};

/// Below those that outgoing connections get, so that a daemon that is started again finds its port free.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Those of this process's clusters, started or about to be.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Ports that nobody listened on, and that no other cluster of this process gets.
///
/// Another process may still take one before the daemon does: whoever starts daemons tries again with others.
pub(crate) struct Ports(Vec<u16>);

impl Ports {
    pub(crate) fn take(count: usize) -> Result<Self> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        // Processes that start at the same moment should not try the same ones.
        let start = (RandomState::new().hash_one(0) % u64::from(COUNT)) as u16;
        let free = |port: &u16| !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let ports: Vec<_> = (0..COUNT).map(|step| FIRST + (start + step) % COUNT).filter(free).take(count).collect();
        ensure!(ports.len() == count, "there are no {count} free ports from {FIRST} on");
        taken.extend(&ports);
        Ok(Self(ports))
    }

    pub(crate) fn get(&self) -> &[u16] {
        &self.0
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|port| !self.0.contains(port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_until_it_is_given_back() {
        let held = [Ports::take(20).unwrap(), Ports::take(20).unwrap()];
        let all: BTreeSet<_> = held.iter().flat_map(Ports::get).copied().collect();
        assert_eq!(all.len(), 40);
        drop(held);
        let taken = TAKEN.lock().unwrap();
        assert!(all.iter().all(|port| !taken.contains(port)));
    }
}
