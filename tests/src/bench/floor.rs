//! The floor: what this disk does with one bare append and one fdatasync.
use std::{fs::OpenOptions, io::Write, path::Path, time::Instant};

use super::{quantile, text};

/// Appends so many times.
const ROUNDS: usize = 2000;

/// Median of one append of 400 bytes plus fdatasync, in milliseconds.
pub(crate) fn append_and_sync_ms(directory: &Path) -> Result<f64, String> {
    let path = directory.join("floor");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(text)?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        file.write_all(&[7; 400]).map_err(text)?;
        file.sync_data().map_err(text)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    std::fs::remove_file(path).map_err(text)?;
    Ok(quantile(&mut times, 0.5))
}
