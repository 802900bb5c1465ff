//! When signing keys come and go: each is published before it signs, and until the last token that it signed has expired.

use jiff::{SignedDuration, Timestamp};

/// How long a key is published before it signs: far longer than any edge takes to read the set again.
pub(crate) const PUBLISHED_AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// The times of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyTimes {
    /// From when on it signs.
    pub sign: Timestamp,
    /// From when on the next one does.
    pub retire: Timestamp,
    /// From when on it is not published.
    pub drop: Timestamp,
}

/// The times of the key that has to be made now, if one has.
pub(crate) fn key_to_make(
    keys: &[KeyTimes],
    now: Timestamp,
    key_life: SignedDuration,
    token_life: SignedDuration,
) -> Option<KeyTimes> {
    let last_retires = keys.iter().map(|key| key.retire).max();
    let sign = match last_retires {
        // None signs now: the new one must at once, published or not.
        None => now,
        Some(retires) if retires <= now => now,
        Some(retires) if retires - PUBLISHED_AHEAD <= now => retires,
        Some(_) => return None,
    };
    let retire = sign + key_life;
    // Twice the clocks' difference that verifiers accept, on top.
    let drop = retire + token_life + SignedDuration::from_mins(2);
    Some(KeyTimes { sign, retire, drop })
}

/// Which of the keys signs now: the newest that may.
pub(crate) fn signs_now(keys: &[KeyTimes], now: Timestamp) -> Option<usize> {
    let may = keys.iter().enumerate().filter(|(_, key)| key.sign <= now && now < key.drop);
    may.max_by_key(|(_, key)| key.sign).map(|(nth, _)| nth)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: SignedDuration = SignedDuration::from_hours(24);
    const TOKEN: SignedDuration = SignedDuration::from_mins(10);

    #[test]
    fn through_a_hundred_days_every_token_is_signed_by_a_key_that_is_published_while_it_lives() {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let mut keys: Vec<(KeyTimes, Timestamp)> = Vec::new();
        for minute in 0..100 * 24 * 60 {
            let now = start + SignedDuration::from_mins(minute);
            let times: Vec<KeyTimes> = keys.iter().map(|(times, _)| *times).collect();
            if let Some(new) = key_to_make(&times, now, LIFE, TOKEN) {
                keys.push((new, now));
            }
            let times: Vec<KeyTimes> = keys.iter().map(|(times, _)| *times).collect();
            let signer = times[signs_now(&times, now).expect("one always signs")];
            assert!(now < signer.retire, "{now}");
            assert!(now + TOKEN < signer.drop, "{now}: a token outlives its key");
        }
        assert_eq!(keys.len(), 101, "one a day, and the next one");
        for (times, made) in &keys[1..] {
            assert!(*made <= times.sign - PUBLISHED_AHEAD, "{times:?} was made at {made}");
        }
    }

    #[test]
    fn after_an_outage_longer_than_a_key_a_new_one_signs_at_once() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let old = key_to_make(&[], now, LIFE, TOKEN).unwrap();
        let later = now + SignedDuration::from_hours(1_000);
        assert_eq!(signs_now(&[old], later), None);
        let new = key_to_make(&[old], later, LIFE, TOKEN).unwrap();
        assert_eq!(new.sign, later);
        assert_eq!(signs_now(&[old, new], later), Some(1));
    }
}
