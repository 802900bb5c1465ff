//! What is kept of the clicks of one link (or one whole workspace) in one quarter hour.

use std::collections::HashMap;

use super::click::Click;
use super::click::DIMENSIONS;
use super::counts::Counts;
use super::packed::Damaged;
use super::packed::DimensionsWriter;
use super::packed::pack_minutes;
use super::packed::read_dimensions;
use super::packed::unpack_minutes;
use super::quarter::MINUTES;
use super::quarter::Quarter;
use super::quarter::minute_of;
use super::values::OTHER_ID;
use super::values::ValueId;
use super::values::Values;
use super::visitors::Visitors;

/// Values that are told apart for each dimension of a rollup; what comes after is `(other)`.
pub const VALUES_MAX: usize = 1_000;

/// Stands for all links of a workspace together.
pub const WHOLE_WORKSPACE: [u8; 16] = [0; 16];

/// Which clicks a rollup holds. Its partition belongs to the key too, but who folds has one partition only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The workspace.
    pub workspace: [u8; 16],
    /// The link, or [`WHOLE_WORKSPACE`].
    pub link: [u8; 16],
    /// The quarter hour.
    pub quarter: Quarter,
}

impl Key {
    /// The two rollups that a click is counted in: its link's and its workspace's.
    pub fn of(click: &Click) -> [Key; 2] {
        let quarter = click.quarter();
        [click.link, WHOLE_WORKSPACE].map(|link| Key { workspace: click.workspace, link, quarter })
    }
}

/// A rollup as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedRollup {
    /// Clicks and bots' clicks.
    pub counts: Counts,
    /// See [`super::packed`].
    pub minutes: Vec<u8>,
    /// See [`super::packed`].
    pub dimensions: Vec<u8>,
    /// See [`super::visitors`]; absent when nobody was seen.
    pub visitors: Option<Vec<u8>>,
}

/// The values of a click's dimensions as numbers, by the dimensions' indices.
pub type ClickValues = [Option<ValueId>; DIMENSIONS.len()];

type ValueCounts = HashMap<ValueId, Counts, rapidhash::fast::RandomState>;

/// A rollup that clicks are being added to.
#[derive(Clone, Debug, Default)]
pub struct Rollup {
    counts: Counts,
    minutes: [Counts; MINUTES],
    dimensions: [ValueCounts; DIMENSIONS.len()],
    visitors: Visitors,
}

impl Rollup {
    /// Counts one click. `values` are its values, numbered by the same [`Values`] as ever.
    pub fn count(&mut self, click: &Click, values: &ClickValues) {
        let bot = click.bot.is_some();
        self.counts.count(bot);
        self.minutes[minute_of(click.time_micros)].count(bot);
        for (dimension, value) in self.dimensions.iter_mut().zip(values) {
            if let Some(value) = value {
                slot(dimension, *value).count(bot);
            }
        }
        // Visitors are people: a bot's hash tells nothing.
        if let (Some(visitor), false) = (click.visitor, bot) {
            self.visitors.see(visitor);
        }
    }

    /// The stored form.
    pub fn pack(&self, values: &Values) -> PackedRollup {
        let mut writer = DimensionsWriter::default();
        for (dimension, counted) in DIMENSIONS.into_iter().zip(&self.dimensions) {
            let texts = counted.iter().map(|(value, counts)| (values.text(*value), *counts));
            writer.dimension(dimension, texts);
        }
        PackedRollup {
            counts: self.counts,
            minutes: pack_minutes(&self.minutes),
            dimensions: writer.finish(),
            visitors: self.visitors.pack(),
        }
    }

    /// Reads the stored form, and checks that its parts agree.
    pub fn unpack(packed: &PackedRollup, values: &mut Values) -> Result<Rollup, Damaged> {
        let minutes = unpack_minutes(&packed.minutes)?;
        let mut sum = Counts::default();
        minutes.iter().for_each(|minute| sum.add(*minute));
        if sum != packed.counts {
            return Err(Damaged("the minutes do not add up to the total"));
        }
        let mut dimensions: [ValueCounts; DIMENSIONS.len()] = Default::default();
        read_dimensions(&packed.dimensions, None, |dimension, value, counts| {
            dimensions[dimension.index()].entry(values.id(value)).or_default().add(counts);
        })?;
        let visitors = packed.visitors.as_deref().map(Visitors::unpack).transpose()?;
        let visitors = visitors.unwrap_or_default();
        Ok(Rollup { counts: packed.counts, minutes, dimensions, visitors })
    }

    /// About how much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        let values: usize = self.dimensions.iter().map(HashMap::capacity).sum();
        size_of::<Rollup>() + values * (size_of::<(ValueId, Counts)>() + 1) + self.visitors.bytes()
    }
}

/// Where a value is counted: its own place, or `(other)`'s once there are too many.
fn slot(dimension: &mut ValueCounts, value: ValueId) -> &mut Counts {
    let full = dimension.len() >= VALUES_MAX && !dimension.contains_key(&value);
    dimension.entry(if full { OTHER_ID } else { value }).or_default()
}
