//! Under what name a method is counted and logged.
//!
//! A label is `'static`: nothing a client sends can become one, and a series of metrics, once there, stays. So the names of methods
//! are kept for as long as the process runs, each once, however often descriptors that have them are read; and there is a bound.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Names that are kept. Ten times what a large API has.
const LABELS_MAX: usize = 10_000;
/// What is counted together beyond.
const OTHER: &str = "other";

static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The label of the method with this path. For tables that are made of descriptors, not for requests.
pub(crate) fn of(path: &str) -> &'static str {
    // A panic leaves the set whole.
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    label(&mut kept, path, LABELS_MAX)
}

fn label(kept: &mut BTreeSet<&'static str>, path: &str, labels_max: usize) -> &'static str {
    if let Some(known) = kept.get(path) {
        return known;
    }
    if kept.len() >= labels_max {
        return OTHER;
    }
    let new = Box::leak(path.to_owned().into_boxed_str());
    kept.insert(new);
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_those_beyond_the_bound_share_one() {
        let mut kept = BTreeSet::new();
        let first = label(&mut kept, "/a.B/C", 1);
        assert!(std::ptr::eq(first, label(&mut kept, "/a.B/C", 1)));
        assert_eq!((first, label(&mut kept, "/a.B/D", 1)), ("/a.B/C", OTHER));
        assert_eq!(kept.len(), 1);
    }
}
