//! What emitters did against what the ledger holds afterwards: the judge of every crash test.
//!
//! Acknowledged events must be there, once, where the receipt said, in their emitter's order; an event whose answer never
//! came may or may not be there; nothing else may be there; positions are contiguous.
use std::{collections::BTreeMap, fmt};

/// What one emitter saw: it sends `0, 1, 2, …` and waits for each answer before it sends the next batch.
#[derive(Clone, Debug, Default)]
pub struct Emitter {
    /// Numbers sent so far: `0..sent`.
    pub sent: u64,
    /// Receipts, by number.
    pub acked: BTreeMap<u64, u64>,
}

/// What the ledger holds at one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// The ledger's own event.
    Own,
    /// Number of an emitter.
    Event {
        /// Which emitter.
        emitter: usize,
        /// Its number.
        number: u64,
    },
    /// Something nobody sent.
    Strange(String),
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `lost`, `moved`, `doubled`, `phantom`, `disordered` or `gap`.
    pub kind: &'static str,
    /// Which event, where.
    pub text: String,
}

impl Violation {
    fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.text)
    }
}

/// Compares what emitters saw with what the ledger holds, from position 1 on, in order.
#[must_use]
pub fn judge(emitters: &[Emitter], held: &[(u64, Held)]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut places: Vec<BTreeMap<u64, u64>> = vec![BTreeMap::new(); emitters.len()];
    for (index, (position, what)) in held.iter().enumerate() {
        let wanted = index as u64 + 1;
        if *position != wanted {
            let text = format!("position {wanted} is wanted, {position} is there");
            violations.push(Violation::new("gap", text));
        }
        match what {
            Held::Own => {}
            Held::Strange(what) => {
                let text = format!("{what} at position {position}");
                violations.push(Violation::new("phantom", text));
            }
            Held::Event { emitter, number } => {
                let found = place(emitters, &mut places, *emitter, *number, *position);
                violations.extend(found);
            }
        }
    }
    violations.extend(unkept(emitters, &places));
    violations
}

/// Puts one event in its place; what is wrong with it, if anything.
fn place(
    emitters: &[Emitter],
    places: &mut [BTreeMap<u64, u64>],
    emitter: usize,
    number: u64,
    position: u64,
) -> Option<Violation> {
    let what = format!("{emitter}/{number} at position {position}");
    if emitters.get(emitter).is_none_or(|it| number >= it.sent) {
        return Some(Violation::new("phantom", format!("{what} was never sent")));
    }
    let placed = &mut places[emitter];
    if let Some(first) = placed.get(&number) {
        return Some(Violation::new(
            "doubled",
            format!("{what}, first at {first}"),
        ));
    }
    let newest = placed.last_key_value().map(|(newest, _)| *newest);
    placed.insert(number, position);
    let later = newest.filter(|newest| *newest > number)?;
    Some(Violation::new(
        "disordered",
        format!("{what} comes after {emitter}/{later}"),
    ))
}

/// Receipts that the ledger does not keep.
fn unkept(emitters: &[Emitter], places: &[BTreeMap<u64, u64>]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (emitter, (state, places)) in emitters.iter().zip(places).enumerate() {
        for (number, receipt) in &state.acked {
            match places.get(number) {
                Some(held) if held == receipt => {}
                Some(held) => {
                    let text = format!("{emitter}/{number} from {receipt} to {held}");
                    violations.push(Violation::new("moved", text));
                }
                None => {
                    let text = format!("{emitter}/{number}, receipt for {receipt}");
                    violations.push(Violation::new("lost", text));
                }
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(emitter: usize, number: u64) -> Held {
        Held::Event { emitter, number }
    }

    /// Two emitters; the first has three receipts and one event in flight, the second one receipt.
    fn honest() -> (Vec<Emitter>, Vec<(u64, Held)>) {
        let first = Emitter {
            sent: 4,
            acked: [(0, 2), (1, 3), (2, 5)].into(),
        };
        let second = Emitter {
            sent: 1,
            acked: [(0, 4)].into(),
        };
        let held = vec![
            (1, Held::Own),
            (2, event(0, 0)),
            (3, event(0, 1)),
            (4, event(1, 0)),
            (5, event(0, 2)),
        ];
        (vec![first, second], held)
    }

    #[test]
    fn an_honest_history_passes_with_and_without_what_was_in_flight() {
        let (emitters, mut held) = honest();
        assert_eq!(judge(&emitters, &held), []);
        held.push((6, event(0, 3)));
        assert_eq!(judge(&emitters, &held), []);
    }

    #[test]
    fn every_forged_history_is_caught() {
        type Forge = fn(&mut Vec<(u64, Held)>);
        let forgeries: &[(&str, Forge)] = &[
            ("lost", |held| drop(held.pop())),
            ("lost", |held| held[2].1 = Held::Own),
            ("gap", |held| drop(held.remove(2))),
            ("gap", |held| held[4].0 = 7),
            ("gap", |held| held[3].0 = 3),
            ("doubled", |held| held.push((6, event(0, 0)))),
            ("doubled", |held| held[3].1 = event(0, 1)),
            ("phantom", |held| held.push((6, event(0, 4)))),
            ("phantom", |held| held.push((6, event(2, 0)))),
            ("phantom", |held| {
                held.push((6, Held::Strange("hello".into())))
            }),
            ("moved", |held| held.swap_contents(1, 3)),
            ("disordered", |held| held.swap_contents(1, 2)),
            // The content of another event under a position that has a receipt.
            ("lost", |held| held[1].1 = Held::Strange("hello".into())),
            ("phantom", |held| held[1].1 = Held::Strange("hello".into())),
            // A whole emitter, and everything.
            ("lost", |held| held[3].1 = Held::Own),
            ("lost", |held| held.clear()),
            // The second emitter's event under the first one's name.
            ("doubled", |held| held[3].1 = event(0, 0)),
            ("lost", |held| held[3].1 = event(0, 3)),
            // One position twice, and a history that begins late.
            ("gap", |held| held.insert(3, held[2].clone())),
            ("gap", |held| held.iter_mut().for_each(|it| it.0 += 1)),
            ("moved", |held| {
                held.insert(1, (2, Held::Own));
                (1..).zip(held).for_each(|(position, it)| it.0 = position);
            }),
        ];
        for (index, (kind, forge)) in forgeries.iter().enumerate() {
            let (emitters, mut held) = honest();
            forge(&mut held);
            let found = judge(&emitters, &held);
            assert!(
                found.iter().any(|it| it.kind == *kind),
                "forgery {index} should be {kind}, found {found:?}"
            );
        }
    }

    trait SwapContents {
        fn swap_contents(&mut self, a: usize, b: usize);
    }

    impl SwapContents for Vec<(u64, Held)> {
        fn swap_contents(&mut self, a: usize, b: usize) {
            let first = self[a].1.clone();
            self[a].1 = std::mem::replace(&mut self[b].1, first);
        }
    }
}
