//! Index pages: for 512 positions, which words occur in which sixteenth of them, and when they happened.
//!
//! Kind 0. Body: `spans u8 | occur min, max i64 | record min, max i64 | words u32` (spans: 1 there is an occur time, 2 there
//! is a record time; a page without events has neither), then the words: all hashes (u32,
//! sorted), then all masks (u16), where bit n stands for positions 32n to 32n + 31 of the page. A word's hash is CRC32C
//! of its UTF-8. A hit is a hint; the caller compares the event itself.
use waybill_core::Time;

use super::{
    keys::{self, Full, Key, Writes},
    pages::PAGE_EVENTS,
    value,
};
use crate::record::{Keys, Word};

/// 1: as above.
const VERSION: u8 = 1;
/// Positions that one bit of a mask stands for.
const GROUP_EVENTS: u64 = 32;
const ALL_GROUPS: u16 = u16::MAX;

/// What the index keeps of one event.
pub(crate) struct Entry<W> {
    pub(crate) record_time: i64,
    pub(crate) occur_time: Option<i64>,
    pub(crate) words: W,
}

/// The entry of an event with these keys.
pub(crate) fn entry(record_time: Time, keys: &Keys) -> Entry<impl Iterator<Item = u32>> {
    Entry {
        record_time: record_time.nanos(),
        occur_time: keys.occur_time.map(Time::nanos),
        words: keys.words.iter().map(|word| word.0),
    }
}

/// Lowest and highest, in nanoseconds; `None` when there is none.
type Span = Option<(i64, i64)>;

/// The page that is not full yet.
#[derive(Clone, Default)]
pub(crate) struct OpenIndex {
    pub(crate) page: u64,
    count: u64,
    occur: Span,
    record: Span,
    /// Hash and group, as they came.
    words: Vec<(u32, u8)>,
}

impl OpenIndex {
    /// How many events there are, over all pages.
    pub(crate) fn count(&self) -> u64 {
        self.page * PAGE_EVENTS + self.count
    }

    /// An empty page.
    pub(crate) fn starting_at(page: u64) -> Self {
        Self {
            page,
            ..Self::default()
        }
    }

    /// Adds an event to a page that has room for it.
    pub(crate) fn add(&mut self, entry: Entry<impl Iterator<Item = u32>>) {
        let group = u8::try_from(self.count / GROUP_EVENTS).expect("a page has 16 groups");
        self.words.extend(entry.words.map(|word| (word, group)));
        self.record = widen(self.record, entry.record_time);
        if let Some(occur) = entry.occur_time {
            self.occur = widen(self.occur, occur);
        }
        self.count += 1;
    }

    /// Adds an event and puts the page when it is full. Says whether it was.
    pub(crate) fn push(
        &mut self,
        entry: Entry<impl Iterator<Item = u32>>,
        writes: &mut Writes,
    ) -> bool {
        self.add(entry);
        let full = self.count == PAGE_EVENTS;
        if full {
            self.page().put(Full::Index.key(self.page), writes);
            *self = Self::starting_at(self.page + 1);
        }
        full
    }

    /// The page as it stands.
    pub(crate) fn page(&self) -> Page {
        let mut words = self.words.clone();
        words.sort_unstable();
        let mut page = Page {
            occur: self.occur,
            record: self.record,
            words: Vec::new(),
            masks: Vec::new(),
        };
        for (word, group) in words {
            if page.words.last() != Some(&word) {
                page.words.push(word);
                page.masks.push(0);
            }
            if let Some(mask) = page.masks.last_mut() {
                *mask |= 1 << group;
            }
        }
        page
    }

    pub(crate) fn put_open(&self, writes: &mut Writes) {
        self.page().put(keys::open_index(), writes);
    }

    /// Goes on with a page that holds positions up to `position`.
    pub(crate) fn resume(page: &Page, position: u64) -> Self {
        let groups = |mask: u16| (0..16u8).filter(move |group| mask & 1 << group != 0);
        let words = page.words.iter().zip(&page.masks);
        Self {
            page: position / PAGE_EVENTS,
            count: position % PAGE_EVENTS,
            occur: page.occur,
            record: page.record,
            words: words
                .flat_map(|(&word, &mask)| groups(mask).map(move |group| (word, group)))
                .collect(),
        }
    }
}

fn widen(span: Span, time: i64) -> Span {
    Some(span.map_or((time, time), |(min, max)| (min.min(time), max.max(time))))
}

/// A page, whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    occur: Span,
    record: Span,
    words: Vec<u32>,
    masks: Vec<u16>,
}

impl Page {
    pub(crate) fn put(&self, key: Key, writes: &mut Writes) {
        let mut value = value::begin(VERSION, 0, 37 + self.words.len() * 6);
        value.push(u8::from(self.occur.is_some()) | u8::from(self.record.is_some()) << 1);
        for (min, max) in [
            self.occur.unwrap_or_default(),
            self.record.unwrap_or_default(),
        ] {
            value.extend_from_slice(&min.to_le_bytes());
            value.extend_from_slice(&max.to_le_bytes());
        }
        let count = u32::try_from(self.words.len()).expect("a page has far fewer words");
        value.extend_from_slice(&count.to_le_bytes());
        value.extend(self.words.iter().flat_map(|word| word.to_le_bytes()));
        value.extend(self.masks.iter().flat_map(|mask| mask.to_le_bytes()));
        value::put(key, value, writes);
    }

    pub(crate) fn read(whole: &[u8]) -> Result<Self, String> {
        let (_, mut body) = value::open(whole, VERSION, "an index page")?;
        let spans = body.u8()?;
        let occur = (body.i64()?, body.i64()?);
        let record = (body.i64()?, body.i64()?);
        let count = usize::try_from(body.u32()?).unwrap_or(usize::MAX);
        let words = body.bytes(count.saturating_mul(4))?.as_chunks().0;
        let masks = body.bytes(count.saturating_mul(2))?.as_chunks().0;
        Ok(Self {
            occur: (spans & 1 != 0).then_some(occur),
            record: (spans & 2 != 0).then_some(record),
            words: words.iter().copied().map(u32::from_le_bytes).collect(),
            masks: masks.iter().copied().map(u16::from_le_bytes).collect(),
        })
    }

    fn mask(&self, word: u32) -> u16 {
        self.words
            .binary_search(&word)
            .map_or(0, |at| self.masks[at])
    }
}

/// Which events a list is to hold. Everything given must hold at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Words that the event must all have.
    pub all: Vec<Word>,
    /// Words of which it must have one; empty asks for none.
    pub any: Vec<Word>,
    /// From and until, half-open, on occur time. An event without one is left out as soon as either is given.
    pub occur: (Option<Time>, Option<Time>),
    /// From and until, half-open, on record time.
    pub record: (Option<Time>, Option<Time>),
    /// First position, inclusive; 0 is the same as 1.
    pub first: u64,
    /// Last position, inclusive; beyond the end means the end.
    pub last: u64,
    /// From the last to the first.
    pub descending: bool,
}

/// A [`Selection`] as pages are asked.
pub(crate) struct Wanted {
    all: Vec<u32>,
    any: Vec<u32>,
    occur: (Option<Time>, Option<Time>),
    record: (Option<Time>, Option<Time>),
}

impl Wanted {
    pub(crate) fn new(selection: &Selection) -> Self {
        let words = |words: &[Word]| words.iter().map(|word| word.0).collect();
        Self {
            all: words(&selection.all),
            any: words(&selection.any),
            occur: selection.occur,
            record: selection.record,
        }
    }

    /// Whether every position will do, whatever its page says.
    pub(crate) fn is_everything(&self) -> bool {
        let none = (None, None);
        self.all.is_empty() && self.any.is_empty() && self.occur == none && self.record == none
    }

    /// Which groups of a page may hold matches.
    pub(crate) fn groups(&self, page: &Page) -> u16 {
        if !overlaps(page.occur, self.occur) || !overlaps(page.record, self.record) {
            return 0;
        }
        let any = match &self.any[..] {
            [] => ALL_GROUPS,
            any => any.iter().fold(0, |groups, &word| groups | page.mask(word)),
        };
        self.all
            .iter()
            .fold(any, |groups, &word| groups & page.mask(word))
    }
}

fn overlaps(span: Span, (from, until): (Option<Time>, Option<Time>)) -> bool {
    if from.is_none() && until.is_none() {
        return true;
    }
    span.is_some_and(|(min, max)| {
        from.is_none_or(|from| max >= from.nanos()) && until.is_none_or(|until| min < until.nanos())
    })
}

/// The positions of the groups of a page that lie in `first..=last`, in the order asked for.
pub(crate) fn positions(
    page: u64,
    groups: u16,
    first: u64,
    last: u64,
    descending: bool,
) -> Vec<u64> {
    let span = keys::page_span(page);
    let start = span.start;
    let within = span.filter(|position| (first..=last).contains(position));
    let chosen = within.filter(|position| groups & 1 << ((position - start) / GROUP_EVENTS) != 0);
    if descending {
        chosen.rev().collect()
    } else {
        chosen.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_comes_back_from_its_chunks_and_resumes_where_it_was() {
        let mut open = OpenIndex::starting_at(3);
        for n in 0..400u32 {
            let words = (0..9).map(|m| n * 7 + m * 1_000_003);
            open.add(Entry {
                record_time: i64::from(n),
                occur_time: Some(i64::from(n) - 9),
                words,
            });
        }
        let mut writes = Writes::default();
        open.put_open(&mut writes);
        assert!(writes.put.len() > 1);
        let whole: Vec<u8> = writes
            .put
            .iter()
            .flat_map(|(_, value)| value.clone())
            .collect();
        let page = Page::read(&whole).unwrap();
        assert_eq!(page, open.page());
        let resumed = OpenIndex::resume(&page, 3 * PAGE_EVENTS + 400);
        assert_eq!(resumed.count(), open.count());
        assert_eq!(resumed.page(), page);
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let mut writes = Writes::default();
        OpenIndex::default()
            .page()
            .put(Full::Index.key(0), &mut writes);
        let (_, value) = writes.put.pop().unwrap();
        for bit in 0..value.len() * 8 {
            let mut value = value.clone();
            value[bit / 8] ^= 1 << (bit % 8);
            let chunks = (16..32).contains(&bit);
            assert_eq!(Page::read(&value).is_ok(), chunks, "bit {bit}");
        }
    }
}
