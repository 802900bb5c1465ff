//! Clicks on their way: one queue of records per incarnation and partition, and which segments they came from.
//!
//! A lane has at most one record on its way, and gives up its place only when that is acknowledged, so the numbers of an
//! incarnation reach a partition in order. A segment is done with when every click in it is acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;
use bytes::BytesMut;
use uuid::Uuid;

use crate::clicks;
use crate::clicks::CLICKS_MAX;
use crate::record::Record;
use crate::spool::frame::Frame;
use crate::spool::ledger::Segment;

/// The most bytes of clicks in a record, but for the last one.
const RECORD_VALUE_BYTES_MAX: usize = 256 * 1024;
const _: () =
    assert!(RECORD_VALUE_BYTES_MAX + 2 * crate::spool::CLICK_BYTES_MAX < crate::RECORD_BYTES_MAX);

/// All lanes.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// By incarnation, oldest first; only the last one grows.
    generations: VecDeque<Generation>,
    /// Begun and not done with, in order.
    segments: VecDeque<Tracked>,
    /// In all queues and on their way.
    bytes: usize,
    /// What happened and was not asked for yet.
    events: Events,
}

/// What the lanes' owner must act on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Events {
    /// Segments whose clicks are all acknowledged, by sequence.
    pub(crate) done: Vec<u64>,
    /// Clicks of leftover segments that nobody had counted as unshipped.
    pub(crate) found: u64,
    /// Clicks that damage took, counted as unshipped before.
    pub(crate) lost: u64,
    /// Clicks that damage took, in leftover segments.
    pub(crate) lost_leftover: u64,
}

#[derive(Debug)]
struct Generation {
    incarnation: Uuid,
    /// By partition.
    lanes: Vec<Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    /// The last number that was added; 0 before any.
    last: u64,
    queue: VecDeque<Batch>,
    under_way: bool,
}

/// Consecutive clicks.
#[derive(Debug)]
struct Batch {
    first: u64,
    count: u32,
    value: BytesMut,
    /// How many clicks came from which segment.
    sources: Vec<(u64, u32)>,
}

#[derive(Debug)]
struct Tracked {
    sequence: u64,
    unacknowledged: u64,
    ended: bool,
}

/// A record to be sent until it is acknowledged, and given back then.
#[derive(Debug)]
pub(crate) struct Shipment {
    pub(crate) partition: u32,
    incarnation: Uuid,
    first: u64,
    pub(crate) count: u32,
    value: Bytes,
    sources: Vec<(u64, u32)>,
}

impl Shipment {
    pub(crate) fn record(&self) -> Record {
        clicks::record(self.incarnation, self.first, self.count, self.value.clone())
    }
}

impl Lanes {
    /// The bytes of all values that are not acknowledged.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> Events {
        std::mem::take(&mut self.events)
    }

    /// A segment is read from now on.
    pub(crate) fn begin(&mut self, segment: &Segment) {
        let sequence = segment.sequence;
        self.segments.push_back(Tracked { sequence, unacknowledged: 0, ended: false });
        let last = self.generations.back();
        if last.is_none_or(|generation| generation.incarnation != segment.incarnation) {
            self.generations.retain(|generation| !generation.is_idle());
            let incarnation = segment.incarnation;
            self.generations.push_back(Generation { incarnation, lanes: Vec::new() });
        }
    }

    /// A click of the segment that was begun last.
    pub(crate) fn add(&mut self, segment: &Segment, frame: &Frame<'_>) {
        let generation = self.generations.back_mut().expect("a segment was begun");
        let tracked = self.segments.back_mut().expect("a segment was begun");
        debug_assert_eq!(
            (generation.incarnation, tracked.sequence),
            (segment.incarnation, segment.sequence)
        );
        let index = frame.partition as usize;
        if generation.lanes.len() <= index {
            generation.lanes.resize_with(index + 1, Lane::default);
        }
        let lane = &mut generation.lanes[index];
        if lane.last > 0 && frame.number <= lane.last {
            let (partition, number) = (frame.partition, frame.number);
            tracing::error!(partition, number, "spool holds a click twice, the second is left out");
            return;
        }
        let missing = if lane.last == 0 { 0 } else { frame.number - lane.last - 1 };
        let lost =
            if segment.leftover { &mut self.events.lost_leftover } else { &mut self.events.lost };
        *lost += missing;
        self.events.found += u64::from(segment.leftover);
        self.bytes += lane.push(segment.sequence, frame);
        tracked.unacknowledged += 1;
    }

    /// The segment was read to its end.
    pub(crate) fn end(&mut self, sequence: u64) {
        if let Some(tracked) = self.segments.iter_mut().find(|tracked| tracked.sequence == sequence)
        {
            tracked.ended = true;
        }
        self.collect_done();
    }

    /// Marks the next record of every lane that has none on its way, and hands it out.
    pub(crate) fn take_ready(&mut self) -> Vec<Shipment> {
        let mut ready = Vec::new();
        for generation in &mut self.generations {
            for (partition, lane) in generation.lanes.iter_mut().enumerate() {
                if lane.under_way {
                    continue;
                }
                let Some(batch) = lane.queue.pop_front() else { continue };
                lane.under_way = true;
                ready.push(Shipment {
                    partition: u32::try_from(partition).expect("frames name it as u32"),
                    incarnation: generation.incarnation,
                    first: batch.first,
                    count: batch.count,
                    value: batch.value.freeze(),
                    sources: batch.sources,
                });
            }
        }
        ready
    }

    /// Whether anything waits behind the records on their way.
    pub(crate) fn has_ready(&self) -> bool {
        let ready = |lane: &Lane| !lane.under_way && !lane.queue.is_empty();
        self.generations.iter().any(|generation| generation.lanes.iter().any(ready))
    }

    /// The record is in the log.
    pub(crate) fn acknowledge(&mut self, shipment: &Shipment) {
        let generation = self
            .generations
            .iter_mut()
            .find(|generation| generation.incarnation == shipment.incarnation)
            .expect("a generation stays while it has a record on its way");
        let lane = &mut generation.lanes[shipment.partition as usize];
        assert!(lane.under_way, "a record is acknowledged once");
        lane.under_way = false;
        for (sequence, count) in &shipment.sources {
            let tracked = self.segments.iter_mut().find(|tracked| tracked.sequence == *sequence);
            tracked.expect("a segment stays while it has clicks under way").unacknowledged -=
                u64::from(*count);
        }
        self.bytes -= shipment.value.len();
        self.collect_done();
    }

    fn collect_done(&mut self) {
        let events = &mut self.events;
        self.segments.retain(|tracked| {
            let done = tracked.ended && tracked.unacknowledged == 0;
            if done {
                events.done.push(tracked.sequence);
            }
            !done
        });
    }
}

impl Generation {
    fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| !lane.under_way && lane.queue.is_empty())
    }
}

impl Lane {
    /// Puts the click into the last record, or into a new one if that is full or the numbers have a hole. How many bytes
    /// the values grew by.
    fn push(&mut self, sequence: u64, frame: &Frame<'_>) -> usize {
        let fits = |batch: &Batch| {
            batch.first + u64::from(batch.count) == frame.number
                && batch.count < CLICKS_MAX
                && batch.value.len() < RECORD_VALUE_BYTES_MAX
        };
        if !self.queue.back().is_some_and(fits) {
            let (first, value) = (frame.number, BytesMut::new());
            self.queue.push_back(Batch { first, count: 0, value, sources: Vec::new() });
        }
        let batch = self.queue.back_mut().expect("one was just pushed");
        let before = batch.value.len();
        clicks::push(&mut batch.value, frame.payload);
        batch.count += 1;
        match batch.sources.last_mut() {
            Some((last, count)) if *last == sequence => *count += 1,
            _ => batch.sources.push((sequence, 1)),
        }
        self.last = frame.number;
        batch.value.len() - before
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn segment(sequence: u64, incarnation: u128) -> Segment {
        Segment::new(sequence, Uuid::from_u128(incarnation), PathBuf::new(), 0)
    }

    fn frame(partition: u32, number: u64) -> Frame<'static> {
        Frame { partition, number, payload: b"click" }
    }

    #[test]
    fn a_lane_has_one_record_on_its_way_and_the_next_follows_its_acknowledgement() {
        let (mut lanes, segment) = (Lanes::default(), segment(1, 1));
        lanes.begin(&segment);
        lanes.add(&segment, &frame(0, 1));
        let first = lanes.take_ready().pop().unwrap();
        lanes.add(&segment, &frame(0, 2));
        lanes.add(&segment, &frame(0, 3));
        assert!(lanes.take_ready().is_empty());
        assert!(!lanes.has_ready());
        lanes.acknowledge(&first);
        assert!(lanes.has_ready());
        let second = lanes.take_ready().pop().unwrap();
        assert_eq!((first.first, first.count, second.first, second.count), (1, 1, 2, 2));
    }

    #[test]
    fn a_segment_is_done_with_when_it_was_read_and_all_of_it_is_acknowledged() {
        let (mut lanes, one, two) = (Lanes::default(), segment(1, 1), segment(2, 1));
        lanes.begin(&one);
        lanes.add(&one, &frame(0, 1));
        lanes.add(&one, &frame(1, 1));
        lanes.end(1);
        lanes.begin(&two);
        lanes.add(&two, &frame(0, 2));
        lanes.end(2);
        let ready = lanes.take_ready();
        assert_eq!(ready.len(), 2, "the click of the second segment joined the first's record");
        lanes.acknowledge(&ready[0]);
        assert_eq!(lanes.take_events().done, [2]);
        lanes.acknowledge(&ready[1]);
        assert_eq!(lanes.take_events().done, [1]);
        assert_eq!(lanes.bytes(), 0);
    }

    #[test]
    fn a_hole_in_the_numbers_is_counted_and_never_inside_a_record() {
        let (mut lanes, segment) = (Lanes::default(), segment(1, 1));
        lanes.begin(&segment);
        lanes.add(&segment, &frame(0, 5));
        lanes.add(&segment, &frame(0, 8));
        lanes.add(&segment, &frame(0, 8));
        let events = lanes.take_events();
        assert_eq!((events.lost, events.lost_leftover), (2, 0));
        let first = lanes.take_ready().pop().unwrap();
        assert_eq!((first.first, first.count), (5, 1));
        lanes.acknowledge(&first);
        let second = lanes.take_ready().pop().unwrap();
        assert_eq!((second.first, second.count), (8, 1));
    }

    #[test]
    fn another_incarnation_does_not_wait_for_the_one_before() {
        let (mut lanes, old, new) = (Lanes::default(), segment(1, 1), segment(2, 2));
        lanes.begin(&old);
        lanes.add(&old, &frame(0, 7));
        lanes.end(1);
        let first = lanes.take_ready().pop().unwrap();
        lanes.begin(&new);
        lanes.add(&new, &frame(0, 1));
        let second = lanes.take_ready().pop().unwrap();
        assert_eq!((first.incarnation, second.incarnation), (old.incarnation, new.incarnation));
        lanes.acknowledge(&second);
        lanes.acknowledge(&first);
        assert_eq!(lanes.take_events().done, [1]);
    }

    #[test]
    fn records_are_bounded_by_count_and_by_bytes() {
        let (mut lanes, segment) = (Lanes::default(), segment(1, 1));
        lanes.begin(&segment);
        for number in 1..=u64::from(CLICKS_MAX) + 1 {
            lanes.add(&segment, &frame(0, number));
        }
        let big = vec![0; crate::spool::CLICK_BYTES_MAX];
        for number in 1..=100 {
            lanes.add(&segment, &Frame { partition: 1, number, payload: &big });
        }
        let ready = lanes.take_ready();
        assert_eq!(ready[0].count, CLICKS_MAX);
        assert!(ready[1].count < 100);
        assert!(ready[1].record().bytes() <= crate::RECORD_BYTES_MAX);
    }
}
