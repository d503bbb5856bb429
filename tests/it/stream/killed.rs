//! Ledger and broker killed under load of emitters that publish and emitters that call, each with an outbox.
use waybill_fixture::nats::binaries;
use waybill_tests::stream::kills::{Victim, kills};

use super::told;

fn check(victim: Victim, count: u32) {
    for binary in binaries() {
        let mut receipts = [40, 3, 90].into_iter().cycle();
        let between = || receipts.next().unwrap_or_default();
        let outcome = told(kills(&binary, victim, count, between)).unwrap();
        assert_eq!(
            outcome.violations,
            Vec::<String>::new(),
            "{}",
            binary.display()
        );
        assert!(outcome.receipts >= 40, "{outcome:?}");
    }
}

#[test]
fn a_ledger_killed_under_load_loses_and_doubles_nothing() {
    check(Victim::Ledger, 15);
}

#[test]
fn a_broker_killed_under_load_loses_and_doubles_nothing() {
    check(Victim::Broker, 8);
}
