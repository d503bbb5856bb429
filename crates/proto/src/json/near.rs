//! The word that somebody probably meant.

/// Gives the candidate that the fewest changed letters turn into `word`, where they are few.
pub(super) fn nearest<'c>(word: &str, candidates: &'c [String]) -> Option<&'c str> {
    let word = plain(word);
    let changes_max = word.len() / 3 + 1;
    candidates
        .iter()
        .map(|candidate| (changes(&word, &plain(candidate)), candidate.as_str()))
        .filter(|(changes, _)| *changes <= changes_max)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters only, so that `deploy_id` and `deployId` are the same. Cut, because the cost is quadratic.
fn plain(word: &str) -> Vec<u8> {
    word.bytes()
        .filter(u8::is_ascii_alphanumeric)
        .map(|byte| byte.to_ascii_lowercase())
        .take(64)
        .collect()
}

/// Levenshtein's distance, one row at a time.
fn changes(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let words = ["occurTime", "deploymentId", "service"].map(str::to_owned);
        assert_eq!(nearest("occured_time", &words), Some("occurTime"));
        assert_eq!(nearest("deployId", &words), None);
        assert_eq!(nearest("servcie", &words), Some("service"));
        assert_eq!(nearest("zzz", &words), None);
    }
}
