//! When to try again: exponential backoff with jitter, and never sooner than the ledger asks.
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use crate::error::{Error, Verdict, judge, shown};

/// How long to wait between tries, and for one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The longest pause after the first failure; it doubles with each further one.
    pub first: Duration,
    /// No pause is longer, unless the ledger asks for it.
    pub most: Duration,
    /// A try without an answer is given up after this time and made again.
    pub each: Duration,
}

impl Default for Retry {
    /// 100 ms, 10 s, 10 s.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            most: Duration::from_secs(10),
            each: Duration::from_secs(10),
        }
    }
}

impl Retry {
    /// The pause after a number of failures in a row.
    ///
    /// Somewhere in the upper half of `first · 2^(failures − 1)`, capped at `most`, so that clients that failed together
    /// do not come back together. Where the ledger asked for a delay: that delay and up to half of it more.
    #[must_use]
    pub fn pause(&self, failures: u32, asked: Option<Duration>, random: u64) -> Duration {
        let doubled = 1_u32
            .checked_shl(failures.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let (least, spread) = match asked {
            Some(asked) => (asked, asked / 2),
            None => {
                let whole = self.first.saturating_mul(doubled).min(self.most);
                (whole / 2, whole / 2)
            }
        };
        // A fraction of 2^32 parts is fine enough, and needs no floating point.
        let part = (u128::from(random >> 32) * spread.as_nanos()) >> 32;
        least.saturating_add(Duration::from_nanos(
            u64::try_from(part).unwrap_or(u64::MAX),
        ))
    }

    /// Tries until there is an answer, the answer cannot change, or `within` has passed.
    pub(crate) async fn run<T>(
        &self,
        within: Duration,
        mut attempt: impl AsyncFnMut(Duration) -> Result<T, Status>,
    ) -> Result<T, Error> {
        let (started, mut tries) = (Instant::now(), 0);
        loop {
            let limit = within.saturating_sub(started.elapsed()).min(self.each);
            let outcome = timeout(limit, attempt(limit))
                .await
                .unwrap_or_else(|_| Err(slow(limit)));
            tries += 1;
            let status = match outcome {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            let pause = match judge(&status) {
                Verdict::Final(error) => return Err(error),
                Verdict::Again(asked) => self.pause(tries, asked, random()),
            };
            if started.elapsed().saturating_add(pause) >= within {
                let (waited, last) = (started.elapsed(), shown(&status));
                return Err(Error::Unavailable {
                    tries,
                    waited,
                    last,
                });
            }
            sleep(pause).await;
        }
    }
}

pub(crate) fn slow(limit: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {limit:.1?}"))
}

/// For jitter only: without randomness everyone waits the shortest pause.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry = Retry {
        first: Duration::from_millis(100),
        most: Duration::from_secs(2),
        each: Duration::from_secs(1),
    };

    fn pause_ms(failures: u32, asked: Option<u64>, random: u64) -> u128 {
        RETRY
            .pause(failures, asked.map(Duration::from_millis), random)
            .as_millis()
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_spread_over_their_upper_half() {
        let shortest: Vec<_> = (1..=7)
            .map(|failures| pause_ms(failures, None, 0))
            .collect();
        assert_eq!(shortest, [50, 100, 200, 400, 800, 1000, 1000]);
        let longest: Vec<_> = (1..=7)
            .map(|failures| pause_ms(failures, None, u64::MAX))
            .collect();
        assert_eq!(longest, [99, 199, 399, 799, 1599, 1999, 1999]);
        assert_eq!(pause_ms(1, None, 1 << 63), 75);
        assert_eq!(pause_ms(u32::MAX, None, 0), 1000);
    }

    #[test]
    fn a_delay_that_was_asked_for_is_the_least() {
        assert_eq!(pause_ms(1, Some(300), 0), 300);
        assert_eq!(pause_ms(9, Some(300), u64::MAX), 449);
        assert_eq!(pause_ms(1, Some(0), u64::MAX), 0);
    }

    /// Runs on tokio's paused clock: nothing here waits in earnest.
    async fn run(within: u64, answers: &[Result<u32, Status>]) -> (Result<u32, Error>, usize) {
        let mut made = 0;
        let result = RETRY
            .run(Duration::from_millis(within), async |_| {
                made += 1;
                answers[(made - 1).min(answers.len() - 1)].clone()
            })
            .await;
        (result, made)
    }

    #[tokio::test(start_paused = true)]
    async fn tries_until_there_is_an_answer_and_not_after_a_refusal() {
        let away = || Err(Status::unavailable("away"));
        let (answer, tries) = run(60_000, &[away(), away(), Ok(7)]).await;
        assert_eq!((answer.unwrap(), tries), (7, 3));
        let (answer, tries) = run(60_000, &[away(), Err(Status::not_found("x")), Ok(7)]).await;
        assert!(matches!(answer, Err(Error::NotFound { .. })));
        assert_eq!(tries, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_before_the_time_is_over() {
        let started = Instant::now();
        let (answer, tries) = run(1_000, &[Err(Status::unavailable("away"))]).await;
        let Err(Error::Unavailable {
            tries: said,
            waited,
            last,
        }) = answer
        else {
            panic!("gave no answer");
        };
        assert_eq!(usize::try_from(said).unwrap(), tries);
        assert!(tries >= 3 && waited <= started.elapsed() && waited < Duration::from_secs(1));
        assert!(last.contains("away"), "{last}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_hangs_is_made_again() {
        let mut tries = 0;
        let answer = RETRY
            .run(Duration::from_secs(60), async |limit| {
                tries += 1;
                assert_eq!(limit, RETRY.each);
                if tries == 1 {
                    std::future::pending::<()>().await;
                }
                Ok(tries)
            })
            .await;
        assert_eq!(answer.unwrap(), 2);
    }
}
