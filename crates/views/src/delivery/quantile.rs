//! Quantiles of whole numbers.

/// The quantile `numerator / denominator` of `sorted`, by linear interpolation between the closest ranks
/// (Hyndman and Fan's type 7, the default of R, NumPy and spreadsheets), rounded down. None when empty.
///
/// Whole numbers only, so that every machine agrees to the nanosecond.
pub(super) fn quantile(sorted: &[i64], numerator: u32, denominator: u32) -> Option<i64> {
    let last = i128::try_from(sorted.len().checked_sub(1)?).ok()?;
    let (scaled, denominator) = (last * i128::from(numerator), i128::from(denominator));
    let rank = usize::try_from(scaled / denominator).ok()?;
    let low = i128::from(*sorted.get(rank)?);
    let high = sorted.get(rank + 1).map_or(low, |high| i128::from(*high));
    let between = (high - low) * (scaled % denominator);
    i64::try_from(low + between.div_euclid(denominator)).ok()
}

pub(super) fn median(sorted: &[i64]) -> Option<i64> {
    quantile(sorted, 1, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are NumPy's `quantile` (method `linear`), rounded down.
    #[test]
    fn agrees_with_type_seven() {
        let nine: Vec<i64> = (1..=9).map(|n| n * n).collect();
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7]), Some(7));
        assert_eq!(median(&[10, 21]), Some(15));
        assert_eq!(median(&nine), Some(25));
        assert_eq!(quantile(&nine, 9, 10), Some(67));
        assert_eq!(quantile(&[10, 20, 30, 40], 9, 10), Some(37));
        assert_eq!(quantile(&[-3, 0], 1, 2), Some(-2));
    }
}
