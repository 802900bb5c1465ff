//! Clicks folded in any split, order or memory give the same counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::agent::Agent;
use super::super::agent::BotReason;
use super::super::agent::Device;
use super::super::counts::Counts;
use super::super::packed::read_dimensions;
use super::super::packed::unpack_minutes;
use super::super::rollup::VALUES_MAX;
use super::super::rollup::WHOLE_WORKSPACE;
use super::super::visitors::DayVisitors;
use super::*;

type Stored = BTreeMap<Key, PackedRollup>;

fn click(seconds: i64, link: u8, city: &str, bot: bool, visitor: u64) -> Click {
    Click {
        workspace: [9; 16],
        link: [link; 16],
        time_micros: seconds * 1_000_000,
        bot: bot.then_some(BotReason::Head),
        visitor: Some(visitor),
        country: "SE".to_owned(),
        city: city.to_owned(),
        agent: Arc::new(Agent {
            device: Device::Desktop,
            os: "Linux".to_owned(),
            browser: "Firefox".to_owned(),
            bot: None,
        }),
        referrer: String::new(),
        utm: Default::default(),
    }
}

fn fold(hot: &mut Hot, stored: &mut Stored, clicks: &[Click]) {
    let missing = hot.missing(clicks.iter());
    let found = missing.iter().filter_map(|key| Some((*key, stored.get(key)?.clone()))).collect();
    hot.load(missing, found).unwrap();
    let written = hot.count(clicks.iter());
    let touched: Vec<Key> = written.iter().map(|(key, _)| *key).collect();
    stored.extend(written);
    hot.settle(&touched);
}

/// Total, minutes, values by dimension, visitors.
type Meaning = (Counts, Vec<Counts>, BTreeMap<(usize, String), Counts>, u64);

/// A stored rollup without the order of its bytes.
fn meaning(packed: &PackedRollup) -> Meaning {
    let mut values = BTreeMap::new();
    read_dimensions(&packed.dimensions, None, |dimension, value, counts| {
        assert!(values.insert((dimension.index(), value.to_owned()), counts).is_none());
    })
    .unwrap();
    let mut day = DayVisitors::default();
    if let Some(visitors) = &packed.visitors {
        day.merge(visitors).unwrap();
    }
    let minutes = unpack_minutes(&packed.minutes).unwrap().to_vec();
    (packed.counts, minutes, values, day.estimate())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn folds_of_any_size_and_memory_store_the_same(
        clicks in proptest::collection::vec((0i64..4000, 0u8..4, 0u8..30, any::<bool>(), 0u64..50), 1..200),
        split in 1usize..50,
        bytes_max in prop_oneof![Just(0usize), Just(20_000), Just(1 << 30)],
    ) {
        let clicks: Vec<Click> = clicks.into_iter()
            .map(|(seconds, link, city, bot, visitor)| click(seconds, link + 1, &city.to_string(), bot, visitor))
            .collect();
        let (mut whole, mut parts) = (Stored::new(), Stored::new());
        fold(&mut Hot::new(1 << 30), &mut whole, &clicks);
        let mut hot = Hot::new(bytes_max);
        for part in clicks.chunks(split) {
            fold(&mut hot, &mut parts, part);
        }
        prop_assert_eq!(whole.keys().collect::<Vec<_>>(), parts.keys().collect::<Vec<_>>());
        for (key, packed) in &whole {
            prop_assert_eq!(meaning(packed), meaning(&parts[key]));
        }
        let total: u64 = whole.iter()
            .filter(|(key, _)| key.link == WHOLE_WORKSPACE)
            .map(|(_, packed)| packed.counts.weight())
            .sum();
        prop_assert_eq!(total, clicks.len() as u64);
    }
}

#[test]
fn the_thousand_and_first_value_is_counted_as_other_and_nothing_is_lost() {
    let clicks: Vec<Click> =
        (0..VALUES_MAX + 50).map(|city| click(1, 1, &city.to_string(), false, 1)).collect();
    let mut stored = Stored::new();
    let mut hot = Hot::new(1 << 30);
    fold(&mut hot, &mut stored, &clicks);
    fold(&mut hot, &mut stored, &clicks[..1]);
    let (counts, _, values, _) = meaning(stored.values().next().unwrap());
    let city = super::super::click::Dimension::City.index();
    assert_eq!(counts.clicks, 1_051);
    assert_eq!(values[&(city, "(other)".to_owned())].clicks, 50);
    assert_eq!(values[&(city, "0".to_owned())].clicks, 2, "a known value keeps its place");
    assert_eq!(values.keys().filter(|(of, _)| *of == city).count(), VALUES_MAX + 1);
}

#[test]
fn bots_are_counted_apart_and_are_no_visitors() {
    let mut stored = Stored::new();
    let clicks = [click(61, 1, "", false, 1), click(62, 1, "", true, 2), click(63, 1, "", true, 3)];
    fold(&mut Hot::new(0), &mut stored, &clicks);
    for packed in stored.values() {
        let (counts, minutes, values, visitors) = meaning(packed);
        assert_eq!(counts, Counts { clicks: 1, bot_clicks: 2 });
        assert_eq!(minutes[1], counts);
        assert_eq!(visitors, 1);
        let reason = super::super::click::Dimension::BotReason.index();
        assert_eq!(values[&(reason, "head".to_owned())], Counts { clicks: 0, bot_clicks: 2 });
        assert_eq!(values.keys().filter(|(of, _)| *of == reason).count(), 1);
    }
}
