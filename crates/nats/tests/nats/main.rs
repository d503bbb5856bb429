//! The wire against real servers, of every version that this machine has.
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod poison;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod security;
