//! Named definitions of the delivery figures. A released one is never edited; a new version is (LEDGER K2).

/// What a delivery figure means.
#[derive(Debug, PartialEq, Eq)]
pub struct Definition {
    /// `dora/2025`.
    pub id: &'static str,
    /// Counts up with every change to the meaning.
    pub version: u32,
    /// One sentence for each figure. Its SHA-256 is the definition's digest.
    pub text: &'static str,
}

/// Everything that is defined.
pub const DEFINITIONS: [&Definition; 1] = [&DORA_2025];

/// DORA's throughput figures as its guide of 2025 has them, with what the guide leaves open decided.
pub const DORA_2025: Definition = Definition {
    id: "dora/2025",
    version: 1,
    text: "\
deployment frequency: deployments of one service to one environment whose first successful finish lies in the window, \
divided by the days of the window up to the evaluated time. A deployment is one (service, deployment id): attempts \
and witnesses count once. Rollbacks count; removals and deployments of configuration, data or infrastructure alone do \
not. Inferred deployments count and are told apart.
change lead time: for each commit that a deployment of the window was the first to carry (reachable from its head, \
and from no earlier successful head of the same service, environment and repository), the time from author time \
(else commit time, else occur time) to the first successful finish. Merge commits do not count; a squash commit \
stands for the commits of its change where these are recorded. A deployment whose previous head is not known carries \
an unknown set, and none of it counts. Median and 90th percentile by linear interpolation between closest ranks \
(Hyndman and Fan type 7), rounded down to the nanosecond.
pending: commits of changes that were merged in the window and that no successful deployment has carried by the \
evaluated time.
production: where no environment is asked, environments named production, prod or live in any case, and those that \
are declared to be production.
windows are half open on occur time; the previous value is that of the window of equal length before.
",
};

impl Definition {
    /// The definition of this id; an empty id is [`DORA_2025`].
    #[must_use]
    pub fn find(id: &str) -> Option<&'static Self> {
        match id {
            "" => Some(&DORA_2025),
            id => DEFINITIONS
                .into_iter()
                .find(|definition| definition.id == id),
        }
    }
}
