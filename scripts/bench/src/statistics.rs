//! The middle of what runs found, and how sure it is.

/// Below so many values no two of them enclose the median with 95 %.
const VALUES_MIN: usize = 6;
/// What may lie outside of an interval, at either end.
const TAIL: f64 = 0.025;

/// The middle one, or the mean of the two in the middle; NaN of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => f64::NAN,
        (Some(upper), 0) => f64::midpoint(values[middle - 1], *upper),
        (Some(value), _) => *value,
    }
}

/// The 95 % interval of the median by order statistics: it assumes nothing of how the values are distributed. None of fewer
/// than six.
pub(crate) fn interval(mut values: Vec<f64>) -> Option<[f64; 2]> {
    if values.len() < VALUES_MIN {
        return None;
    }
    values.sort_by(f64::total_cmp);
    // How many values lie below the median is binomial: the lowest `rank` of them go as long as that is rare enough.
    let count = values.len();
    let mut chance = 0.5_f64.powi(i32::try_from(count).ok()?);
    let mut below = chance;
    let mut rank = 0;
    while below <= TAIL {
        rank += 1;
        chance *= (count + 1 - rank) as f64 / rank as f64;
        below += chance;
    }
    // `rank` is now the first that would be too many; the one before bounds the interval.
    let low = rank - 1;
    Some([values[low], values[count - 1 - low]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_has_the_ranks_of_the_tables() {
        let of = |count: u32| interval((1..=count).map(f64::from).collect());
        assert_eq!(of(5), None);
        assert_eq!(of(6), Some([1.0, 6.0]));
        assert_eq!(of(15), Some([4.0, 12.0]));
        assert_eq!(of(20), Some([6.0, 15.0]));
        assert_eq!(of(25), Some([8.0, 18.0]));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
    }
}
