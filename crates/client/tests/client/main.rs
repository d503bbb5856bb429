//! The client against a ledger that is busy, breaks off and forgets to answer whenever a test wants it to.
#[cfg(test)]
mod emit;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod tail;
