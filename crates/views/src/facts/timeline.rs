//! Which position was the last one recorded by a moment.
use waybill_core::Time;

use super::{
    column::push_tight,
    text::{read_varint, write_varint},
};

/// One landmark for this many runs.
const RUNS_PER_LANDMARK: u64 = 64;

/// Record times, as runs of positions that share one. About six bytes for each run.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// The last run: its record time in nanoseconds and its last position.
    pub(super) open: (u64, u64),
    pub(super) any: bool,
    /// (time, position, offset) of every 64th closed run.
    pub(super) landmarks: Vec<(u64, u64, u64)>,
    /// (time step, position step) of the other closed runs, as varints.
    pub(super) steps: Vec<u8>,
    pub(super) closed: u64,
    pub(super) last_closed: (u64, u64),
}

impl Timeline {
    /// Notes that `position` was recorded at `time`. An earlier time than the last one counts as the last one.
    pub(crate) fn push(&mut self, position: u64, time: Time) {
        let time = u64::try_from(time.nanos()).unwrap_or(0);
        if self.any && time > self.open.0 {
            self.close();
        }
        self.open = (self.open.0.max(time), position);
        self.any = true;
    }

    /// The last position and its record time.
    pub(crate) fn head(&self) -> (u64, Option<Time>) {
        let time = Time::from_nanos_clamped(i128::from(self.open.0));
        (self.open.1, self.any.then_some(time))
    }

    /// The last position recorded at or before `time`; zero when there is none.
    pub(crate) fn position_at(&self, time: Time) -> u64 {
        let time = u64::try_from(time.nanos()).unwrap_or(0);
        if self.any && self.open.0 <= time {
            return self.open.1;
        }
        let after = self.landmarks.partition_point(|mark| mark.0 <= time);
        let Some((mut at, mut position, offset)) = after.checked_sub(1).map(|i| self.landmarks[i])
        else {
            return 0;
        };
        let end = self.landmarks.get(after).map(|mark| mark.2);
        let end = end.unwrap_or(self.steps.len() as u64);
        let range = usize::try_from(offset).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
        let mut steps = &self.steps[range];
        while let (Some(later), Some(further)) = (read_varint(&mut steps), read_varint(&mut steps))
        {
            at += later;
            if at > time {
                break;
            }
            position += further;
        }
        position
    }

    fn close(&mut self) {
        let (time, position) = self.open;
        if self.closed.is_multiple_of(RUNS_PER_LANDMARK) {
            push_tight(
                &mut self.landmarks,
                (time, position, self.steps.len() as u64),
            );
        } else {
            write_varint(time - self.last_closed.0, &mut self.steps);
            write_varint(position - self.last_closed.1, &mut self.steps);
        }
        self.closed += 1;
        self.last_closed = self.open;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_last_position_by_a_moment() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.position_at(Time::default()), 0);
        let time = |n: i64| Time::from_nanos_clamped(i128::from(n));
        // Three positions share each time; times are 10 apart.
        for position in 1..=1000_i64 {
            timeline.push(position.unsigned_abs(), time((position - 1) / 3 * 10 + 5));
        }
        for moment in 0..3400_i64 {
            let runs = if moment < 5 { 0 } else { (moment - 5) / 10 + 1 };
            let expected = (runs * 3).min(1000).unsigned_abs();
            assert_eq!(timeline.position_at(time(moment)), expected, "{moment}");
        }
        assert_eq!(timeline.head(), (1000, Some(time(3335))));
    }
}
