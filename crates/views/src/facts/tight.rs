//! Long vectors without the slack of doubling.

/// Appends, growing by an eighth: at ten million rows a doubled vector would waste gigabytes.
pub(crate) fn push_tight<T>(rows: &mut Vec<T>, row: T) {
    if rows.len() == rows.capacity() {
        rows.reserve_exact((rows.len() / 8).max(64));
    }
    rows.push(row);
}

/// The index of a row as it is stored.
///
/// # Panics
/// When a table holds 2^32 rows; their memory would have run out long before.
pub(crate) fn index_of(length: usize) -> u32 {
    u32::try_from(length).expect("a table of facts holds fewer than 2^32 rows")
}

/// Stands where there is no row.
pub(crate) const NONE: u32 = u32::MAX;
