//! Brokers that forget: noticed, frozen, decided by the command that the ledger names, and nothing old is changed.
use waybill_fixture::nats::binaries;
use waybill_tests::stream::forgetting::{Forgetting, cycle};

use super::told;

fn check(what: Forgetting, accept: bool) {
    for binary in binaries() {
        let outcome = told(cycle(&binary, what, accept)).unwrap();
        let found = (outcome.violations, binary);
        assert_eq!(
            found.0,
            Vec::<String>::new(),
            "{what:?} {}",
            found.1.display()
        );
    }
}

#[test]
fn a_store_that_was_rolled_back_under_load_is_noticed_and_mended() {
    check(Forgetting::RolledBack, false);
}

#[test]
fn a_wiped_store_is_noticed_and_mended() {
    check(Forgetting::Wiped, false);
}

#[test]
fn a_stream_made_anew_with_as_many_messages_is_noticed_and_mended() {
    check(Forgetting::Remade, false);
}

#[test]
fn a_stream_made_anew_can_be_accepted_as_it_is() {
    check(Forgetting::Remade, true);
}

#[test]
fn messages_purged_before_they_were_recorded_are_a_gap_that_is_accepted() {
    check(Forgetting::Purged, true);
}

#[test]
fn a_lost_tail_is_noticed_while_nobody_publishes() {
    check(Forgetting::TailLost, false);
}
